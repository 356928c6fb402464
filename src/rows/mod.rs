//! Rows that are read by a query, made into the stream of a walsender: for the rows that are in a table already
//! (`backfill`), and for servers without logical replication (`poll`).
//!
//! A session takes them as it takes WAL, with the same mapping, back-pressure, rejections and acknowledgement; only where
//! the stream comes from differs:
//!
//! ```text
//!  table ──SELECT──▶ backfill or poll ──▶ RowStream ══pipe══ Connection ──▶ the session, as ever
//!                          ▲                                    │
//!                          └────── number of the last row that is in Kafka ◀┘
//! ```

mod encode;
mod stream;
mod table;
#[cfg(test)]
mod tests;

pub use stream::{Gone, Numbers, Row, RowStream};
pub use table::{Read, RowTable, Version};
