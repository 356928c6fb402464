//! The control connection: an ordinary session beside the replication connection, for what the catalog knows.
//!
//! The replication connection can do nothing else while it streams. Positions that are read here are for display, with
//! one exception: the slot's `confirmed_flush_lsn`, read while the session owns the slot, is what it has confirmed
//! already.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Row};

use super::conninfo::{ConnInfo, Host};
use super::error::Error;
use crate::outbox::TableName;
use crate::wal::pgoutput::RelationId;

pub use super::slot::{Server, Slot};

/// A control connection. Its queries may run while the session does other things.
pub struct Control {
    client: Arc<Client>,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

/// The handle for queries; it outlives no [`Control`], but may be moved into a future of its own.
#[derive(Clone)]
pub struct Catalog(Arc<Client>);

/// A publication, as the catalog has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Whether it publishes INSERTs.
    pub inserts: bool,
    /// Its tables; with `publish_via_partition_root`, the roots.
    pub tables: Vec<Table>,
}

/// A table, as the catalog has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its object id: kept when it is renamed, another one when it is dropped and made again.
    pub id: RelationId,
    /// Its name.
    pub name: TableName,
}

/// A transaction that keeps a new slot waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The backend's process id.
    pub pid: i32,
    /// How long it has been open; `None` where the role may not see it.
    pub age: Option<Duration>,
}

impl Control {
    /// Connects to the first host of `info` that can be had; also gives `info` for that host alone, so that the
    /// replication connection goes to the same server.
    ///
    /// # Errors
    /// The one host's error, or [`Error::NoHost`] with those of all.
    pub async fn connect(info: &ConnInfo) -> Result<(Self, ConnInfo), Error> {
        let mut errors = Vec::new();
        for host in &info.hosts {
            let info = info.at(host);
            match connect(&info, host).await {
                Ok(control) => return Ok((control, info)),
                Err(error) => errors.push(error),
            }
        }
        match errors.pop() {
            Some(error) if errors.is_empty() => Err(error),
            last => Err(Error::NoHost(errors.into_iter().chain(last).collect())),
        }
    }

    /// A handle for queries.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        Catalog(Arc::clone(&self.client))
    }

    /// Waits for the connection's end, and tells it.
    ///
    /// # Cancel safety
    /// It may be polled, left, and polled again until it has returned once.
    pub async fn ended(&mut self) -> Error {
        match (&mut self.connection).await {
            Ok(Err(error)) => Error::from_control("control connection", error),
            Ok(Ok(())) | Err(_) => Error::Closed { action: "control connection".into() },
        }
    }
}

/// Connects and logs in. tokio-postgres keeps to the time-out only until the connection is open; a server that is frozen
/// accepts it and never answers.
async fn connect(info: &ConnInfo, host: &Host) -> Result<Control, Error> {
    let action = format!("connect to {host}");
    let config = info.control_config();
    let connected = config.connect(NoTls);
    let connected = match info.connect_timeout {
        Some(limit) => match tokio::time::timeout(limit, connected).await {
            Ok(connected) => connected,
            Err(_) => return Err(Error::Timeout { action: action.into(), limit }),
        },
        None => connected.await,
    };
    let (client, connection) = connected.map_err(|error| Error::from_control(action, error))?;
    Ok(Control { client: Arc::new(client), connection: tokio::spawn(connection) })
}

impl Drop for Control {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Catalog {
    /// `wal_sender_timeout`; zero: none.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn wal_sender_timeout(&self) -> Result<Duration, Error> {
        let sql = "SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'";
        let rows = self.query("read wal_sender_timeout", sql, &[]).await?;
        let millis: i64 =
            rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(wrong("read wal_sender_timeout"))?;
        Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// `synchronous_standby_names`; empty: no commit waits for a standby.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn synchronous_standby_names(&self) -> Result<String, Error> {
        const ACTION: &str = "read synchronous_standby_names";
        let rows = self.query(ACTION, "SELECT current_setting('synchronous_standby_names')", &[]).await?;
        rows.first().map_or(Ok(String::new()), |row| row.try_get(0)).map_err(wrong(ACTION))
    }

    /// The publication `name`; `None` if there is none.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn publication(&self, name: &str) -> Result<Option<Publication>, Error> {
        const ACTION: &str = "look at the publication";
        let sql = "SELECT c.oid, t.schemaname::text, t.tablename::text, p.pubinsert \
                     FROM pg_publication p LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname \
                     LEFT JOIN pg_namespace n ON n.nspname = t.schemaname \
                     LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
                    WHERE p.pubname = $1::text::name";
        let rows = self.query(ACTION, sql, &[&name]).await?;
        publication(&rows).map_err(wrong(ACTION))
    }

    /// The object id of `table`; `None` if there is no such table.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn table(&self, table: &TableName) -> Result<Option<RelationId>, Error> {
        const ACTION: &str = "look at the table";
        let sql = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE n.nspname = $1::text::name AND c.relname = $2::text::name AND c.relkind IN ('r', 'p')";
        let rows = self.query(ACTION, sql, &[&table.schema, &table.name]).await?;
        rows.first().map(|row| row.try_get(0).map(RelationId)).transpose().map_err(wrong(ACTION))
    }

    /// The tables that table `id` is a partition of, and itself; empty if it is not in the catalog any more.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn ancestors(&self, id: RelationId) -> Result<Vec<Table>, Error> {
        const ACTION: &str = "look at the partitions of a table";
        let sql = "SELECT c.oid, n.nspname::text, c.relname::text \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_ancestors($1::oid::regclass))";
        let rows = self.query(ACTION, sql, &[&id.0]).await?;
        rows.iter().filter_map(|row| table(row).transpose()).collect::<Result<_, _>>().map_err(wrong(ACTION))
    }

    /// The transactions that write and are open: a new slot waits for each of them.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn open_transactions(&self) -> Result<Vec<OpenTransaction>, Error> {
        const ACTION: &str = "look at open transactions";
        let sql = "SELECT l.pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 \
                     FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
                    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted \
                    ORDER BY a.xact_start";
        let rows = self.query(ACTION, sql, &[]).await?;
        let open = rows.iter().map(|row| {
            let seconds: Option<f64> = row.try_get(1)?;
            let age = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            Ok(OpenTransaction { pid: row.try_get(0)?, age })
        });
        open.collect::<Result<_, _>>().map_err(wrong(ACTION))
    }

    pub(super) async fn query(
        &self,
        action: &'static str,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.0.query(sql, parameters).await.map_err(wrong(action))
    }
}

pub(super) fn wrong(action: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |error| Error::from_control(action, error)
}

fn publication(rows: &[Row]) -> Result<Option<Publication>, tokio_postgres::Error> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let tables = rows.iter().filter_map(|row| table(row).transpose()).collect::<Result<_, _>>()?;
    Ok(Some(Publication { inserts: first.try_get(3)?, tables }))
}

/// Object id, schema and name; `None` where an outer join found no table.
fn table(row: &Row) -> Result<Option<Table>, tokio_postgres::Error> {
    let (id, schema, name): (Option<u32>, _, _) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let name = Option::zip(schema, name).map(|(schema, name)| TableName { schema, name });
    Ok(id.zip(name).map(|(id, name)| Table { id: RelationId(id), name }))
}
