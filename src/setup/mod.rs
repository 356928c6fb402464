//! `outbox-relay setup`: makes what the relay needs in PostgreSQL and is not there, and says what it found.
//!
//! In go a server, as whom to work there, and the names; out comes a [`Report`]. Each part is looked at, made if it is
//! missing, and looked at again: what is reported is what is there afterwards. Nothing is ever dropped or altered.
//! The SQL is that of `sql/`, which [`whole`] prints; what is seen is judged by pure functions.

mod backfill;
mod judge;
mod look;
mod make;
mod poller;
mod published;
mod report;
mod rows;
mod script;
mod shards;
mod table;
mod target;

pub use make::make;
pub use report::{Kind, Part, Report, State};
pub use rows::Rows;
pub use script::{DEFAULT_ROLE, Objects, whole};
pub use shards::change;
pub use target::{Target, TargetError, administrator, role, target};
