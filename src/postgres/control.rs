//! The control connection: an ordinary session beside the replication connection, for what the catalog knows.
//!
//! The replication connection can do nothing else while it streams. Positions that are read here are for display, with
//! one exception: the slot's `confirmed_flush_lsn`, read while the session owns the slot, is what it has confirmed
//! already.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage, SimpleQueryStream};

use super::conninfo::{ConnInfo, Host};
use super::error::Error;
use super::startup::{UNLIMITED, UNLIMITED_TRANSACTION};
use crate::ack::ConfirmedLsn;
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

/// A table, as the catalog has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its object id: kept when it is renamed, another one when it is dropped and made again.
    pub id: RelationId,
    /// Its name.
    pub name: TableName,
}

impl Table {
    /// Whether the two are one table, which may have been renamed, or dropped and made again.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id || self.name == other.name
    }
}

/// A table, and what is a part of what: partitions, and tables that inherit in the old way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kin {
    /// The table and all that it is a part of.
    pub above: Vec<Table>,
    /// All that are parts of it.
    pub below: Vec<Table>,
}

/// A transaction that keeps a new slot waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The backend's process id.
    pub pid: i32,
    /// How long it has been open; `None` where the role may not see it.
    pub age: Option<Duration>,
}

/// `pid 4711 (open for 12 s)`.
impl fmt::Display for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.age {
            Some(age) => write!(f, "pid {} (open for {} s)", self.pid, age.as_secs()),
            None => write!(f, "pid {}", self.pid),
        }
    }
}

/// The catalog answers in milliseconds, and questions that read rows are limited to 5 s on the server. One that takes this
/// long is frozen, or the way to it is cut, which ends no connection by itself.
const ANSWER: Duration = Duration::from_secs(10);

/// The server itself ends a question before that: one that waits for a lock on the outbox (VACUUM FULL, for example)
/// would go on waiting after we have left, and each further try would take one more connection.
const QUESTION: &str = "-c statement_timeout=8s";

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

    /// Ready with the reason when the connection has ended; not to be polled again then.
    pub fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        Pin::new(&mut self.connection).poll(context).map(|ended| match ended {
            Ok(Err(error)) => Error::from_control("control connection", error),
            Ok(Ok(())) | Err(_) => Error::Closed { action: "control connection".into() },
        })
    }
}

/// Connects and logs in. The driver keeps to the time-out only until the connection is open; a server that is frozen
/// accepts it and never answers.
async fn connect(info: &ConnInfo, host: &Host) -> Result<Control, Error> {
    let action = format!("connect to {host}");
    let opened = match info.connect_timeout {
        Some(limit) => match tokio::time::timeout(limit, open(info)).await {
            Ok(opened) => opened,
            Err(_) => return Err(Error::Timeout { action: action.into(), limit }),
        },
        None => open(info).await,
    };
    opened.map_err(|error| match lacks_password(&error) {
        true => Error::PasswordMissing { user: info.user.clone() },
        false => Error::from_control(action, error),
    })
}

/// Opens a session with limits of its own, not those that somebody may have set for the role.
async fn open(info: &ConnInfo) -> Result<Control, tokio_postgres::Error> {
    let mut config = info.control_config();
    let unlimited = UNLIMITED.map(|(name, value)| format!("-c {name}={value}")).join(" ");
    config.options(format!("{} {unlimited} {QUESTION}", info.options.as_deref().unwrap_or_default()));
    let (client, connection) = config.connect(NoTls).await?;
    let version = connection.parameter("server_version").unwrap_or_default().to_owned();
    let control = Control { client: Arc::new(client), connection: tokio::spawn(connection) };
    let (since, sql) = UNLIMITED_TRANSACTION;
    if major(&version).is_some_and(|major| major >= since) {
        control.client.batch_execute(sql).await?;
    }
    Ok(control)
}

/// Whether the server asks for a password and there is none; the driver has no other sign for it.
fn lacks_password(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string() == "password missing")
}

/// The first number of `server_version`: 17 of "17.11 (Debian …)", 18 of "18beta1".
fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl Drop for Control {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Catalog {
    /// Table `id` with those that it is a part of, and those that are parts of it; `None` if it is not in the catalog any
    /// more.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn kin(&self, id: RelationId) -> Result<Option<Kin>, Error> {
        const ACTION: &str = "look at the partitions of a table";
        let sql = "WITH RECURSIVE \
                       above(oid) AS (SELECT $1::oid UNION \
                           SELECT i.inhparent FROM pg_inherits i JOIN above ON i.inhrelid = above.oid), \
                       below(oid) AS (SELECT $1::oid UNION \
                           SELECT i.inhrelid FROM pg_inherits i JOIN below ON i.inhparent = below.oid) \
                   SELECT c.oid, n.nspname::text, c.relname::text, c.oid IN (SELECT oid FROM above) \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE c.oid IN (SELECT oid FROM above UNION SELECT oid FROM below)";
        let rows = self.query(ACTION, sql, &[&id.0]).await?;
        let mut kin = Kin::default();
        for row in &rows {
            let is_above = row.try_get(3).map_err(wrong(ACTION))?;
            let side = if is_above { &mut kin.above } else { &mut kin.below };
            side.extend(table(row).map_err(wrong(ACTION))?);
        }
        Ok((!rows.is_empty()).then_some(kin))
    }

    /// Those of `tables` that are not in the catalog any more.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn dropped(&self, tables: &[RelationId]) -> Result<Vec<RelationId>, Error> {
        const ACTION: &str = "look for the outbox tables";
        let tables: Vec<u32> = tables.iter().map(|table| table.0).collect();
        let sql = "SELECT oid FROM unnest($1::oid[]) AS oid WHERE oid NOT IN (SELECT oid FROM pg_class)";
        let rows = self.query(ACTION, sql, &[&tables]).await?;
        let ids = rows.iter().map(|row| row.try_get(0).map(RelationId));
        ids.collect::<Result<_, _>>().map_err(wrong(ACTION))
    }

    /// Tells the server by SQL that everything up to `confirmed` is done with, for a slot that nobody uses.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn confirm(&self, slot: &str, confirmed: ConfirmedLsn) -> Result<(), Error> {
        const ACTION: &str = "advance the slot";
        // Never back, and not by nothing: a slot that has confirmed that much already is an error there.
        let sql = "SELECT pg_replication_slot_advance(slot_name, $2::text::pg_lsn) FROM pg_replication_slots \
                    WHERE slot_name = $1::text::name AND confirmed_flush_lsn < $2::text::pg_lsn";
        self.query(ACTION, sql, &[&slot, &confirmed.lsn().to_string()]).await.map(drop)
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

    /// Takes the advisory lock `key` for as long as this connection lives; false if somebody else has it.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn try_lock(&self, key: i64) -> Result<bool, Error> {
        const ACTION: &str = "take the lock of the one active poller";
        let rows = self.query(ACTION, "SELECT pg_try_advisory_lock($1)", &[&key]).await?;
        rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(wrong(ACTION))
    }

    /// The server's process that has the advisory lock `key`.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn lock_holder(&self, key: i64) -> Result<Option<i32>, Error> {
        const ACTION: &str = "look for the active poller";
        let sql = "SELECT pid FROM pg_locks \
                    WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                      AND (classid::int8 << 32) | objid::int8 = $1";
        let rows = self.query(ACTION, sql, &[&key]).await?;
        rows.first().map(|row| row.try_get(0)).transpose().map_err(wrong(ACTION))
    }

    /// Ends the server's process `pid`, if this role may: it may end its own.
    ///
    /// # Errors
    /// If it may not.
    pub async fn end_process(&self, pid: i32) -> Result<(), Error> {
        self.query("end a lost connection", "SELECT pg_terminate_backend($1)", &[&pid]).await.map(drop)
    }

    /// Runs `sql`, which may be several statements: they are one transaction.
    ///
    /// # Errors
    /// If one of them fails.
    pub(crate) async fn execute(&self, action: &'static str, sql: &str) -> Result<(), Error> {
        self.0.batch_execute(sql).await.map_err(wrong(action))
    }

    /// Runs one statement; how many rows it has changed.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) async fn changed(&self, action: &'static str, sql: &str) -> Result<u64, Error> {
        let messages = self.0.simple_query(sql).await.map_err(wrong(action))?;
        let count = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(*count),
            _ => None,
        });
        Ok(count.unwrap_or(0))
    }

    pub(crate) async fn query(
        &self,
        action: &'static str,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        match tokio::time::timeout(ANSWER, self.0.query(sql, parameters)).await {
            Ok(rows) => rows.map_err(wrong(action)),
            Err(_) => Err(Error::Timeout { action: action.into(), limit: ANSWER }),
        }
    }
}

impl Catalog {
    /// The rows of `sql` one after the other, each value as its type's output function prints it. What is not taken waits on the
    /// server.
    ///
    /// # Errors
    /// If the connection is gone. What the server refuses comes with the first row.
    pub(crate) async fn stream(&self, action: &'static str, sql: &str) -> Result<SimpleQueryStream, Error> {
        self.0.simple_query_raw(sql).await.map_err(wrong(action))
    }

    /// The same, all at once.
    ///
    /// # Errors
    /// If the server refuses.
    pub(crate) async fn texts(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<Bytes>>>, Error> {
        let messages = self.0.simple_query(sql).await.map_err(wrong(action))?;
        let text = |value: Option<&str>| value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|index| text(row.get(index))).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }
}

pub(crate) fn wrong(action: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |error| Error::from_control(action, error)
}

/// Object id, schema and name; `None` where an outer join found no table.
pub(super) fn table(row: &Row) -> Result<Option<Table>, tokio_postgres::Error> {
    let (id, schema, name): (Option<u32>, _, _) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let name = Option::zip(schema, name).map(|(schema, name)| TableName { schema, name });
    Ok(id.zip(name).map(|(id, name)| Table { id: RelationId(id), name }))
}
