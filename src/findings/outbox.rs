//! An outbox table: is it there, is it in the write-ahead log, and has it, as published, the columns that are mapped.

use super::publication::publish_whole;
use super::{Finding, Wanted};
use crate::outbox::{Mapping, Shape};
use crate::postgres::outboxes::Meant;
use crate::postgres::publication::{Publication, Published};
use crate::postgres::sql::{self, identifier};
use crate::postgres::survey::{Outbox, Settings};

/// Since then generated columns can be published.
const PUBLISHES_GENERATED: u32 = 18;

/// An entry of `outbox.tables` that means nothing.
pub(super) fn meant(Meant { entry, found }: &Meant, wanted: &Wanted<'_>) -> Option<Finding> {
    let database = wanted.database;
    match entry.exact() {
        _ if !found.is_empty() => None,
        Some(name) => Some(Finding::stop(
            "table_missing",
            format!("table \"{name}\" does not exist in database \"{database}\""),
            "create it (outbox-relay setup does), or name the right one in outbox.tables",
        )),
        None => Some(Finding::warn(
            "tables_none",
            format!(
                "no table of database \"{database}\" is meant by \"{}\" of outbox.tables yet",
                sql::tables(entry)
            ),
            "nothing to do if there will be some: each has to be put into the publication in the transaction that makes it. Else \
             correct outbox.tables",
        )),
    }
}

pub(super) fn table(
    outbox: &Outbox,
    publication: Option<&Publication>,
    server: &Settings,
    wanted: &Wanted<'_>,
) -> Vec<Finding> {
    let name = &outbox.table.name;
    if let Some(what) = outbox.kind.unfit() {
        return vec![Finding::stop(
            "table_kind",
            format!("\"{name}\" is {what}, expected a table"),
            "name the table that the services write to in outbox.tables",
        )];
    }
    let mut findings = Vec::new();
    if outbox.unlogged {
        findings.push(Finding::stop(
            "table_unlogged",
            format!("table \"{name}\" is UNLOGGED: its rows are not in the write-ahead log"),
            format!("ALTER TABLE {} SET LOGGED", sql::table(name)),
        ));
    }
    let published = publication.and_then(|publication| publication.of(outbox));
    let shape = wanted.outbox.of(name);
    for (column, keys) in shape.mapped_columns() {
        findings.extend(mapped(&column, &keys.join(" and "), outbox, published, wanted, server));
    }
    findings.extend(wrong_types(outbox, shape));
    findings
}

/// A mapped column must be there, and come in the stream.
fn mapped(
    name: &str,
    keys: &str,
    outbox: &Outbox,
    published: Option<&Published>,
    wanted: &Wanted<'_>,
    server: &Settings,
) -> Option<Finding> {
    let table = &outbox.table.name;
    let Some(column) = outbox.columns.iter().find(|column| column.name == name) else {
        let columns: Vec<_> = outbox.columns.iter().map(|column| column.name.as_str()).collect();
        return Some(Finding::stop(
            "column_missing",
            format!(
                "table \"{table}\" has no column \"{name}\", which {keys} names; it has {}",
                columns.join(", ")
            ),
            format!(
                "name one of its columns in {keys}, or: ALTER TABLE {} ADD COLUMN {} …",
                sql::table(table),
                identifier(name)
            ),
        ));
    };
    let listed = published.and_then(|published| published.columns.as_ref());
    let hidden = listed.is_some_and(|columns| !columns.iter().any(|listed| listed == name));
    let publication = wanted.publication;
    if column.generated && (hidden || server.major() < PUBLISHES_GENERATED) {
        let fix = if server.major() < PUBLISHES_GENERATED {
            "map a column that the services write; PostgreSQL publishes generated columns since 18".to_owned()
        } else {
            format!("ALTER PUBLICATION {} SET (publish_generated_columns = stored)", identifier(publication))
        };
        return Some(Finding::stop(
            "column_generated",
            format!(
                "column \"{name}\" of table \"{table}\", which {keys} names, is generated, and not in the stream"
            ),
            fix,
        ));
    }
    hidden.then(|| {
        Finding::stop(
            "publication_columns",
            format!(
                "publication \"{publication}\" leaves out column \"{name}\" of table \"{table}\", which {keys} names; it has {}",
                listed.map(|columns| columns.join(", ")).unwrap_or_default()
            ),
            format!("{}; or name one of its columns in {keys}", publish_whole(publication, table)),
        )
    })
}

/// Columns whose types cannot serve, or may not.
fn wrong_types(outbox: &Outbox, shape: &Shape) -> Vec<Finding> {
    let found = |name: &Option<String>| {
        let name = name.as_ref()?;
        outbox.columns.iter().find(|column| column.name == *name)
    };
    let mut findings = Vec::new();
    if let Some(column) = found(&shape.columns.timestamp)
        && let Err(error) =
            Mapping::check_timestamp(shape, &outbox.table.name, &column.name, column.base_type)
    {
        findings.push(Finding::stop(
            "column_type",
            error.to_string(),
            format!(
                "it is {}: name a timestamptz, timestamp or bigint column, or set {} = \"\"",
                column.type_name,
                shape.key("outbox.columns.timestamp")
            ),
        ));
    }
    if let Some(column) = found(&shape.route.partition)
        && !INTEGERS.contains(&column.base_type)
    {
        findings.push(Finding::warn(
            "partition_column_type",
            format!(
                "column \"{}\" of table \"{}\", which {} names, is {}: a row in which it is no number of a \
                 partition is rejected",
                column.name,
                outbox.table.name,
                shape.key("route.partition"),
                column.type_name
            ),
            format!("name an integer column, or set {} = \"\"", shape.key("route.partition")),
        ));
    }
    findings
}

/// Object ids of smallint, integer and bigint (src/include/catalog/pg_type.dat).
const INTEGERS: [u32; 3] = [21, 23, 20];
