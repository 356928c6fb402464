//! What shows only while rows come.

use super::Finding;
use crate::outbox::TableName;
use crate::postgres::error::ServerError;

/// What to do where rows were written before the publication held their table.
pub(super) const NEW_PUBLICATION: &str = "the publication was made, or made again, after the slot's position, or is gone. Make it, if it is gone; then drop \
     the slot, let the relay make a new one, and send the rows that were written before that from the table";

/// The server passes over a publication that it cannot find at the slot's position. PostgreSQL 18 only warns.
#[must_use]
pub fn publication_skipped(notice: &ServerError) -> Finding {
    Finding::stop(
        "publication_skipped",
        format!("PostgreSQL skips rows of the outbox: {notice}"),
        NEW_PUBLICATION,
    )
}

/// A partition came by itself, not as its root.
#[must_use]
pub fn partition_leaf(partition: &TableName) -> Finding {
    Finding::stop(
        "publication_without_root",
        format!("rows of partition \"{partition}\" are published under its own name, not that of its table"),
        "ALTER PUBLICATION … SET (publish_via_partition_root = true)",
    )
}

/// A published table that is gone from the catalog: it may have been an outbox.
#[must_use]
pub fn table_gone(table: &TableName) -> Finding {
    Finding::stop(
        "table_gone",
        format!("rows of table \"{table}\" are in the stream, but the table is not in the catalog any more"),
        "if it was no outbox, take it out of the publication and make a new slot; if it was one, its last events are in \
         the WAL that this slot holds",
    )
}
