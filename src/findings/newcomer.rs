//! A table that a pattern of `outbox.tables` means, and that was made while the relay streams. Rows that were committed before it
//! was in the publication are not in the stream.

use super::Finding;
use crate::outbox::TableName;
use crate::postgres::sql::{self, identifier, literal};

/// It is not in the publication, which somebody may be about to change.
#[must_use]
pub fn unpublished_yet(table: &TableName, publication: &str, patience: std::time::Duration) -> Finding {
    let seconds = patience.as_secs();
    Finding::warn(
        "table_unpublished",
        format!(
            "table \"{table}\" is new, and outbox.tables means it, but publication \"{publication}\" does not publish it: rows \
             committed before it does are not sent"
        ),
        format!(
            "ALTER PUBLICATION {} ADD TABLE {}; best in the transaction that makes the table. The relay stops if that is not \
             done {seconds} s from now",
            identifier(publication),
            sql::table(table)
        ),
    )
}

/// It was put in by a later transaction than the one that made it, and rows may have been committed in between.
#[must_use]
pub fn published_late(table: &TableName, publication: &str) -> Finding {
    Finding::warn(
        "table_published_late",
        format!(
            "table \"{table}\" was put into publication \"{publication}\" after it was made: rows committed in between are not in \
             the stream"
        ),
        format!(
            "{}. Put a table into the publication in the transaction that makes it",
            look_for(table, publication)
        ),
    )
}

/// The same, and rows were committed in between, or a server that has seen one then goes on passing over the table.
#[must_use]
pub fn published_too_late(table: &TableName, publication: &str) -> Finding {
    Finding::stop(
        "table_published_late",
        format!(
            "table \"{table}\" was put into publication \"{publication}\" after it was made, and rows were written into it \
             before the relay saw that: they are not in the stream"
        ),
        format!("{}. Then start the relay: it goes on where it is", look_for(table, publication)),
    )
}

fn look_for(table: &TableName, publication: &str) -> String {
    let shown = sql::table(table);
    format!(
        "which they are, but for transactions that were open then: SELECT * FROM {shown} WHERE age(xmin) > (SELECT age(r.xmin) FROM pg_publication_rel r JOIN \
         pg_publication p ON p.oid = r.prpubid WHERE p.pubname = {} AND r.prrelid = {}::regclass); send them again with \
         outbox-relay republish --id …",
        literal(publication),
        literal(&shown)
    )
}
