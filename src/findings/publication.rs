//! The publication: rows that it leaves out are never seen, so it must hold every outbox table and publish INSERTs.

use super::{Finding, Wanted, shards};
use crate::outbox::{TableName, TablePattern};
use crate::postgres::publication::{Publication, Published};
use crate::postgres::sql::{self, identifier};
use crate::postgres::survey::{Kind, Outbox};
use crate::wal::pgoutput::RelationId;

/// What is wrong with the publication that is wanted, for the `outboxes` that exist. Also looked at while streaming: then
/// those of the `dropped` tables may be gone.
#[must_use]
pub fn publication(
    found: Option<&Publication>,
    outboxes: &[&Outbox],
    dropped: &[RelationId],
    wanted: &Wanted<'_>,
) -> Vec<Finding> {
    let Wanted { publication: name, database, .. } = *wanted;
    let Some(publication) = found else {
        let named = wanted.outbox.tables.iter().filter_map(TablePattern::exact);
        let mut tables: Vec<_> = named.map(|name| sql::table(&name)).collect();
        let fitting = outboxes.iter().map(|outbox| sql::table(&outbox.table.name));
        tables.extend(fitting.filter(|name| !tables.contains(name)).collect::<Vec<_>>());
        let tables =
            if tables.is_empty() { String::new() } else { format!("FOR TABLE {} ", tables.join(", ")) };
        return vec![Finding::stop(
            "publication_missing",
            format!("publication \"{name}\" does not exist in database \"{database}\""),
            match wanted.sharding {
                Some(sharding) => {
                    format!("as the table's owner: outbox-relay setup --shards {}", sharding.shard.count)
                }
                None => format!(
                    "as the table's owner: CREATE PUBLICATION {} {tables}WITH (publish = 'insert', \
                     publish_via_partition_root = true)",
                    identifier(name)
                ),
            },
        )];
    };
    let mut findings = Vec::new();
    if !publication.inserts {
        findings.push(Finding::stop(
            "publication_without_inserts",
            format!("publication \"{name}\" does not publish INSERTs"),
            format!("ALTER PUBLICATION {} SET (publish = 'insert')", identifier(name)),
        ));
    }
    for outbox in outboxes {
        match publication.of(outbox) {
            Some(published) if wanted.sharding.is_some() => {
                findings.extend(shards::filter(outbox, published, wanted));
            }
            Some(published) => findings.extend(row_filter(published, name)),
            None if dropped.contains(&outbox.table.id) => findings.push(table_dropped(outbox, name)),
            None => findings.push(unpublished(publication, name, outbox)),
        }
    }
    findings.extend(publication.warnings(name));
    findings
}

fn table_dropped(outbox: &Outbox, publication: &str) -> Finding {
    let table = &outbox.table.name;
    Finding::stop(
        "table_dropped",
        format!("table \"{table}\" was dropped"),
        format!(
            "make it again (outbox-relay setup --print shows how) and, in one transaction with that, ALTER PUBLICATION {} ADD \
             TABLE {}, so that no row falls between. Then start the relay",
            identifier(publication),
            sql::table(table)
        ),
    )
}

fn row_filter(published: &Published, publication: &str) -> Option<Finding> {
    let table = &published.table.name;
    let filter = published.row_filter.as_ref()?;
    Some(Finding::warn(
        "publication_row_filter",
        format!(
            "publication \"{publication}\" sends only those rows of \"{table}\" that match {filter}: others are never sent"
        ),
        format!("if every row shall be sent: {}", publish_whole(publication, table)),
    ))
}

/// SQL that takes a column list and a row filter away. In one transaction, so that no row falls between.
pub(super) fn publish_whole(publication: &str, table: &TableName) -> String {
    let (publication, table) = (identifier(publication), sql::table(table));
    format!(
        "BEGIN; ALTER PUBLICATION {publication} DROP TABLE {table}; ALTER PUBLICATION {publication} ADD TABLE {table}; COMMIT"
    )
}

/// A table that it leaves out.
#[must_use]
pub fn unpublished(publication: &Publication, name: &str, outbox: &Outbox) -> Finding {
    let table = &outbox.table.name;
    let listed = publication.all_tables || publication.listed.contains(&outbox.table.id);
    if outbox.kind == Kind::Partitioned && listed && !publication.via_root {
        return Finding::stop(
            "publication_without_root",
            format!("publication \"{name}\" sends the rows of \"{table}\" under the names of its partitions"),
            format!("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", identifier(name)),
        );
    }
    Finding::stop(
        "publication_without_table",
        format!("publication \"{name}\" does not publish table \"{table}\""),
        format!(
            "ALTER PUBLICATION {} ADD TABLE {}; for a partitioned table also SET (publish_via_partition_root = true). Rows \
             that were written meanwhile will not be sent",
            identifier(name),
            sql::table(table)
        ),
    )
}

impl Publication {
    /// What costs something, or may surprise, and loses nothing.
    fn warnings(&self, name: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.all_tables {
            findings.push(Finding::warn(
                "publication_all_tables",
                format!(
                    "publication \"{name}\" is FOR ALL TABLES: the server decodes and sends the INSERTs of every table, \
                     and the relay stops at a row of a table that is dropped before it was read"
                ),
                "make a publication of the outbox alone (outbox-relay setup --print shows the SQL), then a new slot",
            ));
        }
        if self.inserts && !self.further.is_empty() {
            findings.push(Finding::warn(
                "publication_further_operations",
                format!(
                    "publication \"{name}\" also publishes {}: they are sent, counted and ignored",
                    self.further.join(", ")
                ),
                format!("ALTER PUBLICATION {} SET (publish = 'insert')", identifier(name)),
            ));
        }
        findings
    }
}
