//! What shows only while rows come.

use super::Finding;
use crate::outbox::TableName;
use crate::postgres::error::ServerError;
use crate::postgres::sql::literal;

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
        "name the partitions in outbox.tables, and start the relay: rows that are written already come under these names. For \
         later ones ALTER PUBLICATION … SET (publish_via_partition_root = true); when the relay stops at the first of them, \
         name the table again",
    )
}

/// A table came under the name of one that it is a part of.
#[must_use]
pub fn partition_root(root: &TableName, outbox: &TableName) -> Finding {
    Finding::stop(
        "publication_via_root",
        format!(
            "rows of \"{outbox}\" may be among those that come under the name of \"{root}\", of which it is a part"
        ),
        format!(
            "name \"{root}\" in outbox.tables, or ALTER PUBLICATION … SET (publish_via_partition_root = false); rows that were \
             written before come as they were published then"
        ),
    )
}

/// What to do about a value that has no UTF-8. `place` is where the server found it, as its error's context says: `slot
/// "outbox_relay", output plugin "pgoutput", in the change callback, associated LSN 16/B374D848`.
pub(super) fn not_convertible(place: &str) -> String {
    let slot = place.split('"').nth(1).unwrap_or_default();
    let lsn = place.rsplit(' ').next().unwrap_or_default();
    let slot = literal(slot);
    // All publications: the name of the one in question is not known here, and what others publish does no harm.
    let changes = format!(
        "pg_logical_slot_peek_binary_changes({slot}, NULL, NULL, 'proto_version', '1', 'publication_names', \
         (SELECT string_agg(quote_ident(pubname), ',') FROM pg_publication))"
    );
    format!(
        "that row, at {lsn}, cannot be sent in UTF-8, and its transaction must be passed over; all before it is in Kafka. As a \
         role with REPLICATION, in the database: SELECT set_config('client_encoding', getdatabaseencoding(), false); SELECT \
         pg_replication_slot_advance({slot}, (SELECT max(lsn) FROM {changes} WHERE xid::text IN (SELECT xid::text FROM {changes} \
         WHERE lsn = {}))); then write the events of that transaction again, with characters that Unicode has",
        literal(lsn)
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
