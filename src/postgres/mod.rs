//! The PostgreSQL side: where the server is, the replication connection to it, and what can go wrong on the way.
//!
//! In comes a libpq connection string; out come the bodies of the CopyData messages of a logical replication stream,
//! as slices of the socket buffer. What the bodies mean is not known here (that is `wal`), and neither is when a
//! position may be confirmed: the caller queues finished status updates.

pub mod chosen;
pub mod cleaning;
pub mod connection;
pub mod conninfo;
pub mod control;
pub mod error;
pub mod listener;
pub mod outboxes;
pub mod publication;
pub mod rows;
pub mod shards;
pub mod slot_wait;
pub mod sql;
pub mod survey;
pub mod synchronous;

mod auth;
mod commands;
mod messages;
mod server_error;
mod slot;
mod startup;
mod wire;
