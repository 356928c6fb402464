//! From a row of an outbox table to a Kafka record.
//!
//! In go an [`crate::wal::pgoutput::Insert`] and what earlier `Relation` messages said of its table; out comes an
//! [`Event`] (the mapped columns) and, routed, a [`Record`] or the [`Rejection`] of an event that Kafka can never take.
//! Values stay slices of the bytes that PostgreSQL sent: nothing is parsed or encoded again; only `bytea` is decoded.

mod dead_letter;
mod event;
mod function;
mod mapping;
mod message;
mod pattern;
mod record;
mod relations;
mod route;
mod shard;
mod spec;
mod template;
mod timestamp;
mod unpacked;
mod zone;

pub use event::{Event, RowError, TimestampReplaced};
pub use function::Function;
pub use mapping::{Mapping, MappingError};
pub use message::Messages;
pub use pattern::{NamePattern, TablePattern};
pub use record::{Header, OWN_HEADERS, RECORD_OVERHEAD, Record, Rejection, RejectionReason, Token, Topic};
pub use relations::{Relations, TableError};
pub use route::{Rejected, Router};
pub use shard::{KeyType, NOTHING, Shard, key_column};
pub use spec::{Columns, Route, Shape, Spec, TableName};
pub use template::{OWN_NAMES, Template, TemplateError};
pub use zone::Zone;
