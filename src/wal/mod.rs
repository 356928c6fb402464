//! The wire formats of a logical replication stream, as values.
//!
//! In goes the body of one `CopyData` message; out comes an [`Envelope`] and, inside its `XLogData`, one
//! [`pgoutput::Message`]. Nothing here reads a socket or a clock. Every message is checked to its last byte: input that
//! is too short, too long or unknown is a [`DecodeError`] that names the message, the field and the byte.
//!
//! Sources: PostgreSQL documentation, chapters "Streaming Replication Protocol" and "Logical Replication Message
//! Formats".

mod envelope;
pub mod pgoutput;
mod reader;
mod timeline;
mod timestamp;

pub use envelope::{Envelope, Keepalive, STATUS_UPDATE_LEN, XLogData, status_update};
pub use reader::{DecodeError, Problem};
pub use timeline::{TimelineHistoryError, Timelines};
pub use timestamp::{PgTimestamp, UnixMillis};
