//! The SQL by which a poller ends rows that Kafka has.

use super::Polling;
use crate::config::{Action, AfterPublish};
use crate::postgres::sql::{self, identifier, literal};
use crate::rows::RowTable;

/// Ends the rows with the ids `$1` in the versions (`xmin`) `$2`, and gives the numbers, from 1, of those that it could: not one
/// that somebody has changed since it was read, which is another event now, and not one that somebody has locked.
pub(super) fn finish(table: &RowTable, polling: &Polling) -> String {
    let (id, kind) = (identifier(&table.id_column().name), &table.id_column().type_name);
    let (name, pending) = (sql::table(table.name()), polling.after.pending());
    let confirmed = format!(
        "WITH confirmed AS (\
           SELECT t.tableoid AS part, t.ctid AS place, sent.number \
             FROM unnest($1::text[]::{kind}[], $2::text[]) WITH ORDINALITY AS sent(id, version, number) \
             JOIN {name} t ON t.{id} = sent.id AND t.xmin::text = sent.version \
            WHERE t.{pending} ORDER BY t.{id} FOR UPDATE OF t SKIP LOCKED)"
    );
    let chosen = "t.ctid = c.place AND t.tableoid = c.part RETURNING c.number";
    if polling.after.action == Action::Delete {
        return format!("{confirmed} DELETE FROM {name} t USING confirmed c WHERE {chosen}");
    }
    let AfterPublish { status_column, published_value, published_at_column, .. } = &polling.after;
    let at = published_at_column.as_ref();
    let at = at.map(|column| format!(", {} = clock_timestamp()", identifier(column))).unwrap_or_default();
    let (status, value) = (identifier(status_column), literal(published_value));
    format!("{confirmed} UPDATE {name} t SET {status} = {value}{at} FROM confirmed c WHERE {chosen}")
}
