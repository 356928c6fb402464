//! What a table and a role need for it: as SQL, for `setup` to run and for `check` to name. Pure.

use crate::config::{Action, AfterPublish};
use crate::outbox::{Columns, TableName};
use crate::postgres::cleaning::{detaching, dropping};
use crate::postgres::sql::{self, identifier, literal};

/// The rights of `role` on `table`; nothing if rows are kept.
///
/// To lock a row takes UPDATE on a column of it, be it only to delete the row.
#[must_use]
pub fn grant(after: &AfterPublish, columns: &Columns, table: &TableName, role: &str) -> Option<String> {
    let (role, shown) = (identifier(role), sql::table(table));
    match after.action {
        Action::Keep => None,
        Action::Delete => {
            Some(format!("GRANT SELECT, DELETE, UPDATE ({}) ON {shown} TO {role}", identifier(&columns.id)))
        }
        Action::Mark => {
            Some(format!("GRANT SELECT, UPDATE ({}) ON {shown} TO {role}", marked(after).join(", ")))
        }
        Action::DropPartitions => Some(format!(
            "GRANT EXECUTE ON FUNCTION {}(interval), {}(oid) TO {role}",
            detaching(table),
            dropping(table)
        )),
    }
}

/// The columns that are changed, as SQL writes them.
#[must_use]
pub fn marked(after: &AfterPublish) -> Vec<String> {
    std::iter::once(&after.status_column)
        .chain(&after.published_at_column)
        .map(|name| identifier(name))
        .collect()
}

/// The index by which rows are found; nothing where none is needed. `name`: as setup makes it, once; without: as a person does
/// beside a service that writes.
#[must_use]
pub fn index(
    after: &AfterPublish,
    columns: &Columns,
    table: &TableName,
    partitioned: bool,
    name: Option<&str>,
) -> Option<String> {
    let condition = match after.action {
        Action::Mark => {
            format!(" WHERE {} = {}", identifier(&after.status_column), literal(&after.pending_value))
        }
        Action::Delete if !after.retention.is_zero() => String::new(),
        Action::Keep | Action::Delete | Action::DropPartitions => return None,
    };
    let beginning = match name {
        Some(name) => format!("IF NOT EXISTS {} ", identifier(name)),
        // A partitioned table's cannot be made so.
        None if partitioned => String::new(),
        None => "CONCURRENTLY ".to_owned(),
    };
    let (shown, column) = (sql::table(table), identifier(columns.age()));
    Some(format!("CREATE INDEX {beginning}ON {shown} ({column}){condition}"))
}
