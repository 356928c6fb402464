//! All shards of a layout, as the catalog has them: what one of them leaves out, another one must have.

use std::collections::BTreeMap;

use super::control::{Catalog, Table, table, wrong};
use super::error::Error;

/// The publication and the slot of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSeen {
    /// The publication's name.
    pub publication: String,
    /// The tables in it, each with its row filter; `None`: there is no such publication.
    pub filters: Option<Vec<(Table, Option<String>)>>,
    /// The slot's name.
    pub slot: String,
    /// Whether there is such a slot.
    pub has_slot: bool,
}

impl Catalog {
    /// Looks at all shards of a layout, which are these publications and slots. Needs PostgreSQL 15.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn shards(&self, parts: &[(String, String)]) -> Result<Vec<ShardSeen>, Error> {
        const ACTION: &str = "look at the shards";
        let (publications, slots): (Vec<_>, Vec<_>) =
            parts.iter().map(|(p, s)| (p.as_str(), s.as_str())).unzip();
        let sql = "SELECT c.oid, t.schemaname::text, t.tablename::text, t.rowfilter, p.pubname::text \
                     FROM pg_publication p \
                     LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname \
                     LEFT JOIN pg_namespace n ON n.nspname = t.schemaname \
                     LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
                    WHERE p.pubname::text = ANY($1)";
        let rows = self.query(ACTION, sql, &[&publications]).await?;
        let mut filters: BTreeMap<String, Vec<(Table, Option<String>)>> = BTreeMap::new();
        for row in &rows {
            let table = table(row).map_err(wrong(ACTION))?;
            let filter: Option<String> = row.try_get(3).map_err(wrong(ACTION))?;
            let tables = filters.entry(row.try_get(4).map_err(wrong(ACTION))?).or_default();
            tables.extend(table.map(|table| (table, filter)));
        }
        let sql = "SELECT slot_name::text FROM pg_replication_slots WHERE slot_name::text = ANY($1)";
        let rows = self.query(ACTION, sql, &[&slots]).await?;
        let there = rows.iter().map(|row| row.try_get(0));
        let there: Vec<String> = there.collect::<Result<_, _>>().map_err(wrong(ACTION))?;
        let seen = parts.iter().map(|(publication, slot)| ShardSeen {
            filters: filters.remove(publication),
            has_slot: there.contains(slot),
            publication: publication.clone(),
            slot: slot.clone(),
        });
        Ok(seen.collect())
    }
}
