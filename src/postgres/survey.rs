//! What a server has for the relay, asked all at once: before a session streams, and for `check`.
//!
//! Everything here can be read by any role: catalogs, settings, sizes. What it means is not decided here.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Row;

use super::cleaning::Cleaning;
use super::control::{Catalog, Slot, Table, wrong};
use super::error::Error;
use super::outboxes::{self, Meant};
use super::publication::{LISTS_FILTERS, Publication};
use super::shards::ShardSeen;
use crate::config::AfterPublish;
use crate::outbox::{Spec, TableName, TablePattern};
use crate::wal::pgoutput::RelationId;

/// Everything that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The server.
    pub server: Settings,
    /// Who the relay is there.
    pub role: Role,
    /// The tables that were asked for, in that order.
    pub tables: Vec<Meant>,
    /// The publication; `None`: there is none of that name.
    pub publication: Option<Publication>,
    /// The slot; `None`: there is none of that name.
    pub slot: Option<Slot>,
    /// What may be done with published rows, for each table that is there; nothing if they are kept.
    pub cleaning: Vec<Cleaning>,
    /// All shards of the layout; none if there is only one relay.
    pub shards: Vec<ShardSeen>,
}

/// A server: its version, and what it is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `server_version_num`: 170011.
    pub version_num: u32,
    /// `server_version`, as people know it.
    pub version: String,
    /// `wal_level`.
    pub wal_level: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Replication slots there are.
    pub slots: u32,
    /// `max_replication_slots`.
    pub max_slots: u32,
    /// `synchronous_standby_names`.
    pub synchronous_standby_names: String,
    /// `synchronized_standby_slots`; `None` before PostgreSQL 17.
    pub synchronized_standby_slots: Option<String>,
    /// Standbys that stream from it with a slot.
    pub standbys: u32,
    /// `wal_sender_timeout`; zero: none.
    pub wal_sender_timeout: Duration,
}

/// The role of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Time-outs that somebody has set for it or its database, as `name=value`.
    pub limits: Vec<String>,
}

/// A configured table, as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// Its object id and name.
    pub table: Table,
    /// What it is.
    pub kind: Kind,
    /// Whether it leaves no traces in the write-ahead log.
    pub unlogged: bool,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Whether it takes room on disk, and so has, or has had, rows. Asked only while there is no slot, because it waits
    /// for a lock on the table.
    pub has_rows: bool,
    /// Whether the role may read it. The relay needs not.
    pub readable: bool,
    /// Whether a table that is no partition has, or had, others that inherit from it (`relhassubclass`).
    pub inherited: bool,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A table.
    Plain,
    /// A partitioned table.
    Partitioned,
    /// Something whose rows are not in the write-ahead log as its own: a view, for example.
    Other(&'static str),
}

/// A column of an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Object id of its type; of a domain, that of what it is based on.
    pub base_type: u32,
    /// The type's name.
    pub type_name: String,
    /// Whether the server computes it.
    pub generated: bool,
}

impl Settings {
    /// 17 of 17.11.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.version_num / 10_000
    }
}

impl Survey {
    /// All tables that were found.
    pub fn outboxes(&self) -> impl Iterator<Item = &Outbox> {
        self.tables.iter().flat_map(|meant| &meant.found)
    }
}

impl Kind {
    /// Why it cannot be an outbox.
    #[must_use]
    pub const fn unfit(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Partitioned => None,
            Self::Other(what) => Some(what),
        }
    }
}

impl Catalog {
    /// Looks at everything.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn survey(
        &self,
        tables: &[TablePattern],
        publication: &str,
        slot_name: &str,
    ) -> Result<Survey, Error> {
        let server = self.settings().await?;
        let slot = self.slot(slot_name).await?;
        let mut tables = self.meant(tables).await?;
        if slot.is_none() {
            for outbox in tables.iter_mut().flat_map(|meant| &mut meant.found) {
                outbox.has_rows = self.has_rows(outbox.table.id).await?;
            }
        }
        Ok(Survey {
            shards: Vec::new(),
            role: self.role().await?,
            publication: self.publication(publication, slot_name, server.version_num).await?,
            slot,
            tables,
            server,
            cleaning: Vec::new(),
        })
    }

    /// The same, and what may be done with published rows.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn survey_for(
        &self,
        outbox: &Spec,
        after: &AfterPublish,
        publication: &str,
        slot_name: &str,
    ) -> Result<Survey, Error> {
        let mut survey = self.survey(&outbox.tables, publication, slot_name).await?;
        survey.cleaning = self.cleanings(&survey, after, outbox, None).await?;
        Ok(survey)
    }

    /// `survey` with what is seen of all shards of a layout, which are these publications and slots.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn with_shards(&self, survey: Survey, parts: &[(String, String)]) -> Result<Survey, Error> {
        if parts.is_empty() || survey.server.version_num < LISTS_FILTERS {
            return Ok(survey);
        }
        Ok(Survey { shards: self.shards(parts).await?, ..survey })
    }

    async fn settings(&self) -> Result<Settings, Error> {
        const ACTION: &str = "look at the server's settings";
        let sql = "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
                          current_setting('wal_level'), pg_is_in_recovery(), \
                          (SELECT count(*) FROM pg_replication_slots)::int4, \
                          current_setting('max_replication_slots')::int4, \
                          current_setting('synchronous_standby_names'), \
                          current_setting('synchronized_standby_slots', true), \
                          (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical' AND active)::int4, \
                          (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout')";
        let rows = self.query(ACTION, sql, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::Closed { action: ACTION.into() })?;
        settings(row).map_err(wrong(ACTION))
    }

    async fn role(&self) -> Result<Role, Error> {
        const ACTION: &str = "look at the role";
        let sql = "SELECT current_user::text, ARRAY( \
                       SELECT DISTINCT setting FROM pg_db_role_setting, unnest(setconfig) AS setting \
                        WHERE setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)) \
                          AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
                          AND split_part(setting, '=', 1) IN ('statement_timeout', 'lock_timeout', \
                              'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout') \
                          AND split_part(setting, '=', 2) NOT IN ('0', '') \
                        ORDER BY setting)";
        let rows = self.query(ACTION, sql, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::Closed { action: ACTION.into() })?;
        let role = || Ok(Role { name: row.try_get(0)?, limits: row.try_get(1)? });
        role().map_err(wrong(ACTION))
    }

    /// The table `name`, or something of that name; `None` if there is nothing.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn outbox(&self, name: &TableName) -> Result<Option<Outbox>, Error> {
        const ACTION: &str = "look at the outbox table";
        let sql = "SELECT c.oid, c.relkind::text, c.relpersistence = 'u', has_table_privilege(c.oid, 'SELECT'), \
                          c.relhassubclass \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE n.nspname = $1::text::name AND c.relname = $2::text::name";
        let rows = self.query(ACTION, sql, &[&name.schema, &name.name]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let id: u32 = row.try_get(0).map_err(wrong(ACTION))?;
        let table = Table { id: RelationId(id), name: name.clone() };
        let mut found = [outboxes::outbox(row, table).map_err(wrong(ACTION))?];
        self.with_columns(&mut found).await?;
        let [outbox] = found;
        Ok(Some(outbox))
    }

    async fn has_rows(&self, table: RelationId) -> Result<bool, Error> {
        const ACTION: &str = "look at the outbox table's size";
        // A partitioned table has no rows of its own; a plain one is no partition tree.
        let sql = "SELECT coalesce(sum(pg_relation_size(oid)), 0) > 0 \
                     FROM (SELECT $1::oid AS oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass)) AS tables";
        let rows = self.query(ACTION, sql, &[&table.0]).await?;
        rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(wrong(ACTION))
    }

    /// Looks up the columns of `outboxes`.
    pub(super) async fn with_columns(&self, outboxes: &mut [Outbox]) -> Result<(), Error> {
        const ACTION: &str = "look at the outbox table's columns";
        let sql = "WITH RECURSIVE base(type, oid, below) AS ( \
                       SELECT t.oid, t.oid, t.typbasetype FROM pg_type t \
                        WHERE t.oid IN (SELECT atttypid FROM pg_attribute WHERE attrelid = ANY($1)) \
                       UNION ALL SELECT b.type, t.oid, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.below) \
                   SELECT a.attname::text, b.oid, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', a.attrelid \
                     FROM pg_attribute a JOIN base b ON b.type = a.atttypid AND b.below = 0 \
                    WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
        let ids: Vec<u32> = outboxes.iter().map(|outbox| outbox.table.id.0).collect();
        let rows = self.query(ACTION, sql, &[&ids]).await?;
        let mut columns: HashMap<u32, Vec<Column>> = HashMap::new();
        for row in &rows {
            let column = || {
                Ok(Column {
                    name: row.try_get(0)?,
                    base_type: row.try_get(1)?,
                    type_name: row.try_get(2)?,
                    generated: row.try_get(3)?,
                })
            };
            let table: u32 = row.try_get(4).map_err(wrong(ACTION))?;
            columns.entry(table).or_default().push(column().map_err(wrong(ACTION))?);
        }
        for outbox in outboxes {
            outbox.columns = columns.remove(&outbox.table.id.0).unwrap_or_default();
        }
        Ok(())
    }
}

fn settings(row: &Row) -> Result<Settings, tokio_postgres::Error> {
    let number = |index: usize| row.try_get::<_, i32>(index).map(|number| u32::try_from(number).unwrap_or(0));
    let millis: i64 = row.try_get(9)?;
    Ok(Settings {
        version_num: number(0)?,
        version: row.try_get(1)?,
        wal_level: row.try_get(2)?,
        in_recovery: row.try_get(3)?,
        slots: number(4)?,
        max_slots: number(5)?,
        synchronous_standby_names: row.try_get(6)?,
        synchronized_standby_slots: row.try_get(7)?,
        standbys: number(8)?,
        wal_sender_timeout: Duration::from_millis(u64::try_from(millis).unwrap_or(0)),
    })
}
