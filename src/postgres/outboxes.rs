//! Which tables `outbox.tables` means on this server: those that it names, and those whose names fit a pattern.

use tokio_postgres::Row;

use super::control::{Catalog, Table, wrong};
use super::error::Error;
use super::sql::like;
use super::survey::{Kind, Outbox};
use crate::outbox::{TableName, TablePattern};
use crate::wal::pgoutput::RelationId;

/// An entry of `outbox.tables`, and what is there of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// The entry.
    pub entry: TablePattern,
    /// Its tables. None, or one, if it is a name; then the one may also be something else than a table.
    pub found: Vec<Outbox>,
}

/// A table that a pattern means, and that was not there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// The table.
    pub outbox: Outbox,
    /// Whether rows were written into it, be they still there or not.
    pub written: bool,
}

const ACTION: &str = "look for the outbox tables";

impl Catalog {
    /// The tables that each of `entries` means. A table that two of them mean is there once.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn meant(&self, entries: &[TablePattern]) -> Result<Vec<Meant>, Error> {
        let mut meant: Vec<Meant> = Vec::with_capacity(entries.len());
        let mut taken: Vec<RelationId> = Vec::new();
        for entry in entries {
            let found = match entry.exact() {
                Some(name) => self.outbox(&name).await?.into_iter().collect(),
                None => {
                    let mut found = self.fitting(entry, entries).await?;
                    found.retain(|outbox| !taken.contains(&outbox.table.id));
                    self.with_columns(&mut found).await?;
                    found
                }
            };
            taken.extend(found.iter().map(|outbox| outbox.table.id));
            meant.push(Meant { entry: entry.clone(), found });
        }
        Ok(meant)
    }

    /// The tables that patterns of `entries` mean, without their columns.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn meant_by_patterns(&self, entries: &[TablePattern]) -> Result<Vec<Outbox>, Error> {
        let mut found: Vec<Outbox> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.exact().is_none()) {
            for outbox in self.fitting(entry, entries).await? {
                if found.iter().all(|known| known.table.id != outbox.table.id) {
                    found.push(outbox);
                }
            }
        }
        Ok(found)
    }

    /// The tables that patterns of `entries` mean, but for those that are `known`.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn newcomers(
        &self,
        entries: &[TablePattern],
        known: &[RelationId],
    ) -> Result<Vec<Newcomer>, Error> {
        let mut found = self.meant_by_patterns(entries).await?;
        found.retain(|outbox| !known.contains(&outbox.table.id));
        if !found.is_empty() {
            self.with_columns(&mut found).await?;
        }
        let mut newcomers = Vec::new();
        for outbox in found {
            let written = self.written(outbox.table.id).await?;
            newcomers.push(Newcomer { outbox, written });
        }
        Ok(newcomers)
    }

    /// Whether rows were written into `table` or its partitions. The server's statistics tell: to ask for the size would wait for
    /// whoever alters the table.
    async fn written(&self, table: RelationId) -> Result<bool, Error> {
        let sql = "WITH RECURSIVE below(oid) AS (SELECT $1::oid UNION \
                       SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid) \
                   SELECT coalesce(sum(pg_stat_get_tuples_inserted(oid)), 0) > 0 FROM below";
        let rows = self.query(ACTION, sql, &[&table.0]).await?;
        rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(wrong(ACTION))
    }

    /// The tables whose names fit `pattern`, without their columns; not those that `entries` name, nor partitions of a table
    /// that `entries` mean.
    async fn fitting(&self, pattern: &TablePattern, entries: &[TablePattern]) -> Result<Vec<Outbox>, Error> {
        // Anything else than a table is passed over: nobody has named it.
        let sql = "SELECT c.oid, c.relkind::text, c.relpersistence = 'u', \
                          coalesce(has_table_privilege(c.oid, 'SELECT'), false), \
                          c.relhassubclass, n.nspname::text, c.relname::text, \
                          ARRAY(SELECT s.nspname::text FROM pg_partition_ancestors(c.oid) p \
                                  JOIN pg_class a ON a.oid = p.relid JOIN pg_namespace s ON s.oid = a.relnamespace \
                                 WHERE c.relispartition AND a.oid <> c.oid ORDER BY a.oid), \
                          ARRAY(SELECT a.relname::text FROM pg_partition_ancestors(c.oid) p \
                                  JOIN pg_class a ON a.oid = p.relid \
                                 WHERE c.relispartition AND a.oid <> c.oid ORDER BY a.oid) \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE n.nspname::text LIKE $1 AND c.relname::text LIKE $2 \
                      AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
                    ORDER BY n.nspname, c.relname";
        let rows = self.query(ACTION, sql, &[&like(&pattern.schema), &like(&pattern.name)]).await?;
        let mut found = Vec::new();
        for row in &rows {
            let (outbox, above) = fitting(row).map_err(wrong(ACTION))?;
            let name = &outbox.table.name;
            let named = entries.iter().any(|entry| entry.exact().as_ref() == Some(name));
            let part = above.iter().any(|above| entries.iter().any(|entry| entry.matches(above)));
            // LIKE knows nothing of the system's schemas.
            if pattern.matches(name) && !named && !part {
                found.push(outbox);
            }
        }
        Ok(found)
    }
}

/// A table, and what it is a partition of.
fn fitting(row: &Row) -> Result<(Outbox, Vec<TableName>), tokio_postgres::Error> {
    let name = TableName { schema: row.try_get(5)?, name: row.try_get(6)? };
    let (schemas, names): (Vec<String>, Vec<String>) = (row.try_get(7)?, row.try_get(8)?);
    let above = schemas.into_iter().zip(names).map(|(schema, name)| TableName { schema, name });
    let table = Table { id: RelationId(row.try_get(0)?), name };
    Ok((outbox(row, table)?, above.collect()))
}

/// What the first columns of a row say of `table`, without its columns.
pub(super) fn outbox(row: &Row, table: Table) -> Result<Outbox, tokio_postgres::Error> {
    let kind: &str = row.try_get(1)?;
    let kind = match kind {
        "r" => Kind::Plain,
        "p" => Kind::Partitioned,
        "v" => Kind::Other("a view"),
        "m" => Kind::Other("a materialized view"),
        "f" => Kind::Other("a foreign table"),
        _ => Kind::Other("no table"),
    };
    Ok(Outbox {
        table,
        unlogged: row.try_get(2)?,
        readable: row.try_get(3)?,
        inherited: kind == Kind::Plain && row.try_get(4)?,
        kind,
        has_rows: false,
        columns: Vec::new(),
    })
}
