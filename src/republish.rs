//! `republish`: rows of the outbox are sent again, in the order of their time and id, beside a relay that may be running.
//!
//! The rows are those that the table has now; no slot is touched. A record says that it comes again (`republished`), and has
//! neither `source` nor `position`: it has no place in the stream.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::kafka::{self, Event as Told};
use crate::outbox::{
    Event, Header, Mapping, MappingError, Record, Rejected, Router, RowError, Shape, TableName, Token,
};
use crate::postgres::chosen::Texts;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control};
use crate::postgres::error::Error as PostgresError;
use crate::postgres::outboxes::Meant;
use crate::postgres::sql::{self, identifier, literal};
use crate::postgres::survey::Outbox;
use crate::session::{Outlet, Refused};
use crate::wal::PgTimestamp;

/// Which rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Choice {
    /// With these ids; empty: with any.
    pub ids: Vec<String>,
    /// Not older than this point in time, as PostgreSQL reads it.
    pub since: Option<String>,
    /// Older than this one.
    pub until: Option<String>,
    /// With this status.
    pub status: Option<String>,
    /// Of this aggregate type, and of this id if it is given.
    pub aggregate: Option<(String, Option<String>)>,
}

/// What has been found of a choice.
pub struct Found {
    control: Control,
    tables: Vec<Chosen>,
}

/// The rows of one table.
#[derive(Debug)]
struct Chosen {
    name: TableName,
    columns: Vec<String>,
    condition: String,
    order: Vec<String>,
    mapping: Mapping,
    count: u64,
}

/// What became of the rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Confirmed by Kafka.
    pub sent: u64,
    /// Not taken by Kafka: id and reason.
    pub rejected: Vec<(String, String)>,
}

/// It cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL, or the way to it.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A table of `outbox.tables` is not there.
    #[error("table \"{0}\" does not exist\n\nhint: correct outbox.tables, or make it: outbox-relay setup")]
    NoTable(TableName),
    /// The role may not read the table.
    #[error("role \"{role}\" may not read table \"{table}\"\n\nhint: GRANT SELECT ON {} TO {}", sql::table(.table), identifier(.role))]
    MayNotRead {
        /// The table.
        table: TableName,
        /// The role.
        role: String,
    },
    /// A row cannot be chosen by something that the table has not.
    #[error("table \"{table}\" has no column \"{column}\", by which {option} chooses\n\nhint: {hint}")]
    NoColumn {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// The option.
        option: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The table does not fit the configuration.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A value that is not what was asked for.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Kafka, or the way to it.
    #[error("{error}\n\nhint: {sent} events were confirmed before; run it again for the rest")]
    Kafka {
        /// What happened.
        error: kafka::Error,
        /// Confirmed before.
        sent: u64,
    },
    /// Kafka's client has given up.
    #[error("{reason}\n\nhint: {sent} events were confirmed before; run it again for the rest")]
    Stopped {
        /// What it says.
        reason: String,
        /// Confirmed before.
        sent: u64,
    },
    /// Nothing was confirmed for too long.
    #[error("no event was confirmed for {} s: {reason}\n\nhint: {sent} events were confirmed before; run it again for the rest", STILL.as_secs())]
    Still {
        /// As far as is known.
        reason: String,
        /// Confirmed before.
        sent: u64,
    },
}

/// The header of what comes again.
const REPUBLISHED: &str = "republished";
/// Without a confirmation for so long somebody has to look.
const STILL: Duration = Duration::from_secs(60);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(500);
/// Rows shown of a dry run.
const SAMPLE: usize = 5;

impl Choice {
    /// It as an expression of SQL, over `outbox`, with columns as `shape` has them.
    fn condition(&self, outbox: &Outbox, shape: &Shape, status_column: &str) -> Result<String, Error> {
        let has = |column: &str| outbox.columns.iter().any(|found| found.name == column);
        let column = |column: &str, option, hint| match has(column) {
            true => Ok(identifier(column)),
            false => Err(Error::NoColumn {
                table: outbox.table.name.clone(),
                column: column.to_owned(),
                option,
                hint,
            }),
        };
        let time = |option| {
            let hint = "set outbox.columns.timestamp, or choose by --id, --status or --aggregate";
            column(shape.columns.age(), option, hint)
        };
        let mapped = "correct outbox.columns";
        let mut conditions = Vec::new();
        if !self.ids.is_empty() {
            let ids: Vec<_> = self.ids.iter().map(|id| literal(id)).collect();
            conditions.push(format!(
                "{} IN ({})",
                column(&shape.columns.id, "--id", mapped)?,
                ids.join(", ")
            ));
        }
        if let Some(since) = &self.since {
            conditions.push(format!("{} >= {}", time("--since")?, literal(since)));
        }
        if let Some(until) = &self.until {
            conditions.push(format!("{} < {}", time("--until")?, literal(until)));
        }
        if let Some(status) = &self.status {
            let hint = "set after_publish.status_column, or choose by --id, --since or --aggregate";
            let status_column = column(status_column, "--status", hint)?;
            conditions.push(format!("{status_column} = {}", literal(status)));
        }
        if let Some((kind, id)) = &self.aggregate {
            let kind_column = column(&shape.columns.aggregate_type, "--aggregate", mapped)?;
            conditions.push(format!("{kind_column} = {}", literal(kind)));
            if let Some(id) = id {
                let id_column = column(&shape.columns.aggregate_id, "--aggregate", mapped)?;
                conditions.push(format!("{id_column} = {}", literal(id)));
            }
        }
        Ok(conditions.join(" AND "))
    }
}

impl Found {
    /// Looks for the rows of `choice`, and counts them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn look(config: &Config, info: &ConnInfo, choice: &Choice) -> Result<Self, Error> {
        let (control, _) = Control::connect(info).await?;
        let catalog = control.catalog();
        let mut tables = Vec::new();
        for Meant { entry, found } in catalog.meant(&config.outbox.tables).await? {
            if let (Some(name), true) = (entry.exact(), found.is_empty()) {
                return Err(Error::NoTable(name));
            }
            for outbox in found {
                tables.push(chosen(&catalog, outbox, config, choice, info).await?);
            }
        }
        Ok(Self { control, tables })
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.tables.iter().map(|table| table.count).sum()
    }

    /// The first records that would be sent, and what of them cannot be.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sample(&self) -> Result<Vec<Result<Record, String>>, Error> {
        let catalog = self.control.catalog();
        let mut sample = Vec::new();
        for table in &self.tables {
            catalog.choose(&table.name, &table.columns, &table.condition, &table.order).await?;
            let mut router = Router::new(None);
            let now = server_clock(&catalog).await?;
            for row in catalog.chosen().await?.into_iter().take(SAMPLE.saturating_sub(sample.len())) {
                let record = record(table, &mut router, row, now, Token(0))?;
                sample.push(record.map_err(|rejected| rejected.rejection.to_string()));
            }
            catalog.forget_chosen().await?;
        }
        Ok(sample)
    }

    /// Sends all rows, `rate` a second at most, and tells `progress` how many are confirmed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(
        &self,
        config: &Config,
        rate: Option<u32>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Sent, Error> {
        let outlet = Outlet::new(config.kafka.clone(), config.topics.clone())
            .map_err(|error| Error::Kafka { error, sent: 0 })?;
        let mut sender = Sender {
            outlet,
            limit: usize::try_from(config.delivery.max_in_flight).unwrap_or(usize::MAX),
            in_flight: HashMap::new(),
            bytes: 0,
            done: Sent::default(),
            moved: Instant::now(),
            progress,
        };
        let catalog = self.control.catalog();
        let (start, mut number) = (Instant::now(), 0_usize);
        for table in &self.tables {
            let mut router = Router::new(None);
            catalog.choose(&table.name, &table.columns, &table.condition, &table.order).await?;
            loop {
                let rows = catalog.chosen().await?;
                if rows.is_empty() {
                    break;
                }
                let now = server_clock(&catalog).await?;
                for row in rows {
                    number = number.saturating_add(1);
                    match record(table, &mut router, row, now, Token(number))? {
                        Ok(record) => sender.send(record).await?,
                        Err(Rejected { rejection, .. }) => {
                            sender.reject(rejection.event_id, rejection.detail)
                        }
                    }
                    if let Some(rate) = rate {
                        let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
                        sender.until(start.checked_add(due).unwrap_or(start)).await?;
                    }
                }
            }
            catalog.forget_chosen().await?;
        }
        sender.finish().await
    }
}

/// What is chosen of one table.
async fn chosen(
    catalog: &Catalog,
    outbox: Outbox,
    config: &Config,
    choice: &Choice,
    info: &ConnInfo,
) -> Result<Chosen, Error> {
    let shape = config.outbox.of(&outbox.table.name);
    let name = outbox.table.name.clone();
    if !outbox.readable {
        return Err(Error::MayNotRead { table: name, role: info.user.clone() });
    }
    let condition = choice.condition(&outbox, shape, &config.after_publish.status_column)?;
    let found: Vec<_> = shape
        .mapped_columns()
        .into_iter()
        .filter_map(|(name, _)| outbox.columns.iter().find(|column| column.name == name))
        .map(|column| (column.name.clone(), column.base_type))
        .collect();
    let mapping = Mapping::of_columns(shape, name.clone(), found.iter().cloned())?;
    let time = shape.columns.age();
    let has_time = outbox.columns.iter().any(|column| column.name == time);
    let order = has_time.then_some(time).into_iter().chain([shape.columns.id.as_str()]);
    let order = order.map(str::to_owned).collect();
    let count = catalog.count(&name, &condition).await?;
    Ok(Chosen {
        name,
        columns: found.into_iter().map(|(name, _)| name).collect(),
        condition,
        order,
        mapping,
        count,
    })
}

async fn server_clock(catalog: &Catalog) -> Result<PgTimestamp, Error> {
    Ok(PgTimestamp::from_unix_micros(catalog.clock().await?))
}

/// The record of a row. What has no timestamp column is stamped `now`.
fn record(
    table: &Chosen,
    router: &mut Router,
    row: Texts,
    now: PgTimestamp,
    token: Token,
) -> Result<Result<Record, Rejected>, RowError> {
    let event = Event::read(&table.mapping, row.into_iter().collect(), now, now)?;
    let routed = router.route(event, token, [])?;
    Ok(routed.map(|mut record| {
        record.headers.push(Header { name: REPUBLISHED.into(), value: Some("true".into()) });
        record
    }))
}

/// The way to Kafka.
struct Sender<'a> {
    outlet: Outlet,
    /// Bytes in flight at most.
    limit: usize,
    /// Their sizes.
    in_flight: HashMap<Token, usize>,
    bytes: usize,
    done: Sent,
    /// When something was confirmed last, or nothing was open.
    moved: Instant,
    progress: &'a mut dyn FnMut(u64),
}

impl Sender<'_> {
    async fn send(&mut self, record: Record) -> Result<(), Error> {
        while self.outlet.is_holding() || self.bytes >= self.limit {
            self.wait(Instant::now() + LOOK).await?;
        }
        let (token, size) = (record.token, record.size());
        self.in_flight.insert(token, size);
        self.bytes = self.bytes.saturating_add(size);
        let offered = self.outlet.offer(record);
        self.taken(offered)
    }

    /// Takes in what is confirmed until `then`.
    async fn until(&mut self, then: Instant) -> Result<(), Error> {
        while Instant::now() < then {
            self.outlet.hurry();
            self.wait(then).await?;
        }
        Ok(())
    }

    /// Waits until everything is confirmed.
    async fn finish(mut self) -> Result<Sent, Error> {
        while self.outlet.is_holding() || self.outlet.unreported() > 0 {
            self.outlet.hurry();
            self.wait(Instant::now() + LOOK).await?;
        }
        (self.progress)(self.done.sent);
        Ok(self.done)
    }

    /// Waits for Kafka, but not longer than until `then`.
    async fn wait(&mut self, then: Instant) -> Result<(), Error> {
        let mut told = Vec::new();
        let waited = tokio::time::timeout_at(then, self.outlet.wait(&mut told)).await;
        if let Ok(offered) = waited {
            self.taken(offered)?;
        }
        let sent = self.done.sent;
        for told in told {
            match told {
                Told::Delivered(token) => {
                    self.settle(token);
                    self.done.sent = self.done.sent.saturating_add(1);
                }
                Told::Undelivered(undelivered) => {
                    self.settle(undelivered.token);
                    self.reject(undelivered.event_id.clone(), undelivered.code.to_string());
                }
                Told::Fatal(code, reason) => {
                    return Err(Error::Stopped {
                        reason: format!("{reason} ({code})"),
                        sent: self.done.sent,
                    });
                }
                Told::Trouble(..) => {}
            }
        }
        let now = Instant::now();
        if self.done.sent > sent || (self.outlet.unreported() == 0 && !self.outlet.is_holding()) {
            self.moved = now;
            (self.progress)(self.done.sent);
        } else if now.duration_since(self.moved) > STILL {
            let reason =
                self.outlet.blocked().map_or("Kafka does not answer".to_owned(), |(_, reason)| reason);
            return Err(Error::Still { reason, sent: self.done.sent });
        }
        Ok(())
    }

    fn taken(&mut self, offered: Result<(), Refused>) -> Result<(), Error> {
        match offered {
            Ok(()) => Ok(()),
            Err(Refused::Rejected(record, rejection)) => {
                self.settle(record.token);
                self.reject(rejection.event_id, rejection.detail);
                Ok(())
            }
            Err(Refused::Failed(error)) => Err(Error::Kafka { error, sent: self.done.sent }),
        }
    }

    fn settle(&mut self, token: Token) {
        let size = self.in_flight.remove(&token).unwrap_or(0);
        self.bytes = self.bytes.saturating_sub(size);
    }

    fn reject(&mut self, id: String, reason: String) {
        self.done.rejected.push((id, reason));
    }
}

/// How often each reason occurs, for people.
#[must_use]
pub fn reasons(rejected: &[(String, String)]) -> BTreeMap<&str, usize> {
    let mut reasons = BTreeMap::new();
    for (_, reason) in rejected {
        let count: &mut usize = reasons.entry(reason.as_str()).or_default();
        *count = count.saturating_add(1);
    }
    reasons
}
