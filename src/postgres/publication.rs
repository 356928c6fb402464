//! The publication, as the catalog has it: what it sends, and how to tell that somebody has changed it meanwhile.
//!
//! Rows that are committed while a publication leaves them out are not in the stream, and nothing in the stream says so. So
//! the catalog is asked for what only such a change changes: object ids and row versions.

use tokio_postgres::Row;

use super::control::{Catalog, Table, wrong};
use super::error::Error;
use super::survey::Outbox;
use crate::outbox::TableName;
use crate::wal::pgoutput::RelationId;

/// A publication, as the catalog has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its object id: another one when it is dropped and made again.
    pub id: u32,
    /// The version of its row (`xmin`): another one after every ALTER PUBLICATION … SET (…), whatever it set.
    pub version: u32,
    /// Object id of its owner.
    pub owner: u32,
    /// Whether it publishes INSERTs.
    pub inserts: bool,
    /// What else it publishes: `UPDATE`, …
    pub further: Vec<&'static str>,
    /// `publish_via_partition_root`.
    pub via_root: bool,
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// The tables that were named, before partitions are resolved.
    pub listed: Vec<RelationId>,
    /// The tables whose rows it sends, under these names; with `publish_via_partition_root`, the roots.
    pub tables: Vec<Published>,
    /// It was made or altered by a transaction that the slot may have begun before.
    pub perhaps_newer: bool,
}

/// The version of a publication's row in the catalog: the transaction that made or altered it, but for its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u32);

impl Version {
    /// Whether transaction `xid` began to write after the one that it came with. (One that was open all that time, as the other
    /// was, may have committed before it.)
    #[must_use]
    pub const fn is_older_than(self, xid: u32) -> bool {
        // Transaction ids are compared modulo 2^32 (PostgreSQL documentation, "Preventing Transaction ID Wraparound Failures").
        xid.wrapping_sub(self.0).cast_signed() > 0
    }
}

/// A table of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The table.
    pub table: Table,
    /// Its published columns; `None` before PostgreSQL 15, which publishes all.
    pub columns: Option<Vec<String>>,
    /// Which rows it sends; `None`: all.
    pub row_filter: Option<String>,
    /// How it came into the publication; `None` where it was not named itself.
    pub listed: Option<Listed>,
}

/// The entry of a table that a publication names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its object id: another one when the table is taken out and put back.
    pub id: u32,
    /// The transaction that made the table also put it in, so no row of it can be missing.
    pub from_the_first: bool,
    /// It was put in by a transaction that the slot may have begun before, and that did not make the publication.
    pub perhaps_newer: bool,
}

impl Publication {
    /// What it publishes of `outbox`, which may have been renamed, or dropped and made again, since it was looked at.
    #[must_use]
    pub fn of(&self, outbox: &Outbox) -> Option<&Published> {
        self.tables.iter().find(|published| published.table.is_same(&outbox.table))
    }
}

/// The first release whose publications can leave out columns and rows.
pub(super) const LISTS_FILTERS: u32 = 150_000;

impl Catalog {
    /// The publication `name`; `None` if there is none. It, or a table in it, may be newer than `slot` if the transaction
    /// that made it is not older than all that the slot has to decode (`catalog_xmin`).
    ///
    /// # Errors
    /// If a query fails.
    pub async fn publication(
        &self,
        name: &str,
        slot: &str,
        version_num: u32,
    ) -> Result<Option<Publication>, Error> {
        const ACTION: &str = "look at the publication";
        let sql = "SELECT p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, p.puballtables, \
                          ARRAY(SELECT prrelid FROM pg_publication_rel WHERE prpubid = p.oid), \
                          coalesce((SELECT age(p.xmin) <= age(s.catalog_xmin) \
                                      FROM pg_replication_slots s WHERE s.slot_name = $2::text::name), false), \
                          p.oid, p.xmin::text::int8, p.pubowner \
                     FROM pg_publication p WHERE p.pubname = $1::text::name";
        let rows = self.query(ACTION, sql, &[&name, &slot]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let details = if version_num >= LISTS_FILTERS {
            "t.attnames::text[], t.rowfilter"
        } else {
            "NULL::text[], NULL::text"
        };
        // A table's system columns are as old as the table, and nothing changes them.
        let sql = format!(
            "SELECT c.oid, t.schemaname::text, t.tablename::text, {details}, r.oid, \
                    r.xmin = (SELECT a.xmin FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = -1), \
                    (SELECT age(r.xmin) <= age(s.catalog_xmin) AND r.xmin <> p.xmin \
                       FROM pg_replication_slots s WHERE s.slot_name = $2::text::name) \
               FROM pg_publication_tables t \
               JOIN pg_publication p ON p.pubname = t.pubname \
               JOIN pg_namespace n ON n.nspname = t.schemaname \
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
               LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid \
              WHERE t.pubname = $1::text::name"
        );
        let tables = self.query(ACTION, &sql, &[&name, &slot]).await?;
        publication(row, &tables).map(Some).map_err(wrong(ACTION))
    }

    /// Its version, if it sends the rows of partitions under the names of their roots.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn of_roots(&self, name: &str) -> Result<Option<Version>, Error> {
        const ACTION: &str = "look at the publication";
        let sql = "SELECT xmin::text::int8 FROM pg_publication WHERE pubname = $1::text::name AND pubviaroot";
        let rows = self.query(ACTION, sql, &[&name]).await?;
        let version = |row: &Row| {
            let version: i64 = row.try_get(0)?;
            Ok(Version(u32::try_from(version).unwrap_or(0)))
        };
        rows.first().map(version).transpose().map_err(wrong(ACTION))
    }
}

fn publication(row: &Row, tables: &[Row]) -> Result<Publication, tokio_postgres::Error> {
    let mut further = Vec::new();
    for (index, operation) in [(1, "UPDATE"), (2, "DELETE"), (3, "TRUNCATE")] {
        if row.try_get(index)? {
            further.push(operation);
        }
    }
    let listed: Vec<u32> = row.try_get(6)?;
    let version: i64 = row.try_get(9)?;
    Ok(Publication {
        id: row.try_get(8)?,
        version: u32::try_from(version).unwrap_or(0),
        owner: row.try_get(10)?,
        inserts: row.try_get(0)?,
        further,
        via_root: row.try_get(4)?,
        all_tables: row.try_get(5)?,
        listed: listed.into_iter().map(RelationId).collect(),
        tables: tables.iter().map(published).collect::<Result<_, _>>()?,
        perhaps_newer: row.try_get(7)?,
    })
}

fn published(row: &Row) -> Result<Published, tokio_postgres::Error> {
    let name = TableName { schema: row.try_get(1)?, name: row.try_get(2)? };
    let table = Table { id: RelationId(row.try_get(0)?), name };
    let (from_the_first, perhaps_newer): (Option<bool>, Option<bool>) = (row.try_get(6)?, row.try_get(7)?);
    let listed = row.try_get::<_, Option<u32>>(5)?.map(|id| Listed {
        id,
        from_the_first: from_the_first.unwrap_or(false),
        perhaps_newer: perhaps_newer.unwrap_or(false),
    });
    Ok(Published { table, columns: row.try_get(3)?, row_filter: row.try_get(4)?, listed })
}
