//! What the server says about the replication slot, and about itself: for decisions at the start, and to be shown.

use std::time::Duration;

use tokio_postgres::Row;

use super::control::{Catalog, wrong};
use super::error::Error;
use crate::lsn::Lsn;

/// A replication slot, as `pg_replication_slots` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// Its database; `None` for a physical slot.
    pub database: Option<String>,
    /// The walsender that uses it.
    pub active_pid: Option<i32>,
    /// What it was told last.
    pub confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL between its restart position and the server's present position.
    pub retained_bytes: Option<i64>,
    /// Where the server starts to read for it.
    pub restart: Option<Lsn>,
    /// WAL between what it was told last and the server's present position.
    pub lag_bytes: Option<i64>,
    /// WAL that may still be written before the server drops what the slot needs; `None` without a limit.
    pub safe_wal_bytes: Option<i64>,
    /// Whether it conflicts with recovery (PostgreSQL 16 or newer).
    pub conflicting: Option<bool>,
    /// Why it cannot be used any more (17 or newer).
    pub invalidation_reason: Option<String>,
    /// How long nobody has used it (17 or newer).
    pub inactive: Option<Duration>,
    /// Whether it is a standby's copy of its primary's (17 or newer): of no use before a promotion.
    pub synced: bool,
    /// The user's application_name, where the role may see it.
    pub application_name: Option<String>,
    /// How long its user has been connected, where the role may see it.
    pub connected: Option<Duration>,
    /// Whether its walsender has nothing to do but to hear from its client; false where the role may not see it.
    pub walsender_waits: bool,
}

/// A server, as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `server_version`.
    pub version: String,
    /// The cluster's identity, which outlives restarts and promotions; `None` where the role may not ask.
    pub system_identifier: Option<String>,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// `wal_level`.
    pub wal_level: String,
    /// Its present position: written, or on a standby replayed.
    pub current: Option<Lsn>,
}

/// A column that not all versions have is taken out of the row as JSON, where it is simply absent: one text for all.
const SLOT: &str = "
SELECT s.plugin::text, s.database::text, s.active_pid, s.confirmed_flush_lsn::text, s.wal_status, s.restart_lsn::text,
       pg_wal_lsn_diff(now.lsn, s.restart_lsn)::int8,
       greatest(pg_wal_lsn_diff(now.lsn, s.confirmed_flush_lsn), 0)::int8,
       s.safe_wal_size,
       (to_jsonb(s) ->> 'conflicting')::bool,
       to_jsonb(s) ->> 'invalidation_reason',
       extract(epoch FROM clock_timestamp() - (to_jsonb(s) ->> 'inactive_since')::timestamptz)::float8,
       coalesce((to_jsonb(s) ->> 'synced')::bool, false),
       r.application_name,
       extract(epoch FROM clock_timestamp() - r.backend_start)::float8,
       coalesce((SELECT a.wait_event_type IN ('Activity', 'Client') FROM pg_stat_activity a WHERE a.pid = s.active_pid), false)
  FROM pg_replication_slots s
       CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END) now(lsn)
       LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
 WHERE s.slot_name = $1::text::name";

const SERVER: &str = "
SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('wal_level'),
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text";

impl Catalog {
    /// The slot `name`; `None` if there is none.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn slot(&self, name: &str) -> Result<Option<Slot>, Error> {
        const ACTION: &str = "look at the replication slot";
        let rows = self.query(ACTION, SLOT, &[&name]).await?;
        rows.first().map(slot).transpose().map_err(wrong(ACTION))
    }

    /// Ends the walsender `pid`, if it is the one that uses the slot `name`. A role may end its own processes. It goes as
    /// soon as it can: one that is frozen, or whose client does not read, stays.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn end_walsender(&self, name: &str, pid: i32) -> Result<(), Error> {
        let sql = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                    WHERE slot_name = $1::text::name AND active_pid = $2";
        self.query("end the walsender of a lost connection", sql, &[&name, &pid]).await.map(drop)
    }

    /// The server.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn server(&self) -> Result<Server, Error> {
        const ACTION: &str = "look at the server";
        let rows = self.query(ACTION, SERVER, &[]).await?;
        let mut server = rows.first().map(server).transpose().map_err(wrong(ACTION))?.unwrap_or_default();
        // An administrator may have taken this function away from the public; the rest is worth showing all the same.
        let identifier = "SELECT system_identifier::text FROM pg_control_system()";
        if let Ok(rows) = self.query("ask for the system identifier", identifier, &[]).await {
            server.system_identifier = rows.first().and_then(|row| row.try_get(0).ok());
        }
        Ok(server)
    }
}

fn slot(row: &Row) -> Result<Slot, tokio_postgres::Error> {
    Ok(Slot {
        plugin: row.try_get(0)?,
        database: row.try_get(1)?,
        active_pid: row.try_get(2)?,
        confirmed_flush: lsn(row, 3)?,
        wal_status: row.try_get(4)?,
        restart: lsn(row, 5)?,
        retained_bytes: row.try_get(6)?,
        lag_bytes: row.try_get(7)?,
        safe_wal_bytes: row.try_get(8)?,
        conflicting: row.try_get(9)?,
        invalidation_reason: row.try_get(10)?,
        inactive: seconds(row, 11)?,
        synced: row.try_get(12)?,
        application_name: row.try_get(13)?,
        connected: seconds(row, 14)?,
        walsender_waits: row.try_get(15)?,
    })
}

fn server(row: &Row) -> Result<Server, tokio_postgres::Error> {
    Ok(Server {
        version: row.try_get(0)?,
        system_identifier: None,
        in_recovery: row.try_get(1)?,
        wal_level: row.try_get(2)?,
        current: lsn(row, 3)?,
    })
}

fn lsn(row: &Row, index: usize) -> Result<Option<Lsn>, tokio_postgres::Error> {
    let text: Option<String> = row.try_get(index)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// A time that a clock which was set back has made negative is none.
fn seconds(row: &Row, index: usize) -> Result<Option<Duration>, tokio_postgres::Error> {
    let seconds: Option<f64> = row.try_get(index)?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}
