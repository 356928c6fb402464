//! Services that write to the outbox while everything around them fails.
//!
//! An event is told to the oracle only when its COMMIT has returned. A COMMIT whose answer was lost is looked up in a
//! ledger: a table in which every transaction leaves a row.

use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use outbox_relay::outbox::Shard;
use outbox_relay::postgres::conninfo::ConnInfo;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::cleaning::Action;
use crate::dice::Dice;
use crate::mode::Mode;
use crate::oracle::{Committed, Id};
use crate::partitions;
use crate::plan::{Event, Plan, Step, Transaction};
use crate::server::{client, patient_client};

/// The writers, at work.
pub(crate) struct Writers {
    tasks: Vec<JoinHandle<Result<()>>>,
    stop: Arc<AtomicBool>,
    pub(crate) count: Arc<Count>,
}

/// What they have done.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) transactions: AtomicU64,
    pub(crate) rolled_back: AtomicU64,
    /// Commits whose answer was lost.
    pub(crate) looked_up: AtomicU64,
    /// Partitions that were replaced.
    pub(crate) partitions: Arc<AtomicU64>,
}

/// How many write at once; each has keys of its own.
const WRITERS: usize = 6;
const KEYS: u64 = 50;

/// Rows that are older than this are removed, as a service does it.
const KEPT: &str = "20 seconds";

/// Makes everything that the files of `sql/` make, and what is the torture's own; PostgreSQL's version.
pub(crate) async fn prepare(superuser: &ConnInfo, mode: Mode, shards: u32) -> Result<String> {
    let client = client(superuser).await?;
    let swept = mode.swept();
    for sql in [
        // Its functions are for the role.
        include_str!("../../sql/02_role.sql"),
        swept.map_or(include_str!("../../sql/01_table.sql"), Action::table),
        if mode == Mode::Partitions {
            partitions::PREPARE
        } else {
            "ALTER TABLE outbox ALTER aggregate_id DROP NOT NULL"
        },
        "CREATE TABLE ledger (transaction uuid PRIMARY KEY)",
        mode.sql(),
        &swept.map(Action::preparation).unwrap_or_default(),
    ] {
        client.batch_execute(sql).await.context("prepare the database")?;
    }
    // A statement that makes a slot may not have written anything before.
    for sql in publications_and_slots(shards) {
        client.batch_execute(&sql).await.context("prepare the database")?;
    }
    Ok(client.query_one("SHOW server_version", &[]).await?.get(0))
}

/// Those of all shards: all publications first.
fn publications_and_slots(shards: u32) -> Vec<String> {
    let (publication, slot) =
        (include_str!("../../sql/03_publication.sql"), include_str!("../../sql/04_slot.sql"));
    if shards == 1 {
        return vec![publication.to_owned(), slot.to_owned()];
    }
    let filtered = |shard: Shard| {
        let filter = shard.filter("aggregate_id", "text").unwrap_or_default();
        let (own, table) = (shard.name("outbox_relay"), "FOR TABLE public.outbox");
        publication.replace("outbox_relay", &own).replace(table, &format!("{table} WHERE {filter}"))
    };
    let slots = Shard::all(shards).map(|shard| slot.replace("outbox_relay", &shard.name("outbox_relay")));
    Shard::all(shards).map(filtered).chain(slots).collect()
}

impl Writers {
    /// Starts them. What is committed goes to `told`, with the time since `start`.
    pub(crate) fn start(
        superuser: &ConnInfo,
        seed: u64,
        mode: Mode,
        start: Instant,
        told: &Sender<Committed>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(Count::default());
        let writer = |number: usize| {
            let dice = |stream| Dice::new(seed, 2 * u64::try_from(number).unwrap_or(0) + stream);
            let mut writer = Writer {
                info: superuser.clone(),
                mode,
                plan: Plan::new(dice(100), number, KEYS),
                names: dice(101),
                start,
                told: told.clone(),
                count: Arc::clone(&count),
            };
            let stop = Arc::clone(&stop);
            tokio::spawn(async move { writer.write(&stop).await })
        };
        let mut tasks: Vec<_> = (0..WRITERS).map(writer).collect();
        tasks.push(tokio::spawn(clean(superuser.clone(), mode, Arc::clone(&stop))));
        if mode == Mode::Partitions {
            let (info, dice, counted) =
                (superuser.clone(), Dice::new(seed, 99), Arc::clone(&count.partitions));
            tasks.push(tokio::spawn(partitions::come_and_go(info, dice, Arc::clone(&stop), counted)));
        }
        Self { tasks, stop, count }
    }

    /// Waits until one of them ends, which without an order to stop it does for an error only.
    pub(crate) async fn failed(&mut self) -> Result<()> {
        let ended = std::future::poll_fn(|context| {
            let mut tasks = self.tasks.iter_mut().enumerate();
            tasks
                .find_map(|(index, task)| match std::pin::Pin::new(task).poll(context) {
                    std::task::Poll::Ready(ended) => Some((index, ended)),
                    std::task::Poll::Pending => None,
                })
                .map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        });
        let (index, ended) = ended.await;
        drop(self.tasks.swap_remove(index));
        ended?.context("a writer failed")
    }

    /// Waits until each has ended its transaction.
    pub(crate) async fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

struct Writer {
    info: ConnInfo,
    mode: Mode,
    plan: Plan,
    names: Dice,
    start: Instant,
    told: Sender<Committed>,
    count: Arc<Count>,
}

/// How a transaction ended.
enum End {
    Committed,
    RolledBack,
    /// The connection broke before COMMIT was sent.
    Broken,
    /// The connection broke when COMMIT had been sent.
    Unknown,
}

impl Writer {
    async fn write(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut client = patient_client(&self.info).await?;
        while !stop.load(Ordering::Relaxed) {
            let transaction = self.plan.transaction();
            let name = Id((u128::from(self.names.bits()) << 64) | u128::from(self.names.bits()));
            let mut end = perform(&client, self.mode, &transaction, name).await?;
            if matches!(end, End::Broken | End::Unknown) {
                client = patient_client(&self.info).await?;
            }
            if matches!(end, End::Unknown) {
                self.count.looked_up.fetch_add(1, Ordering::Relaxed);
                if is_in_ledger(&mut client, &self.info, name).await? {
                    end = End::Committed;
                }
            }
            if matches!(end, End::Committed) {
                self.count.transactions.fetch_add(1, Ordering::Relaxed);
                for event in self.plan.committed(transaction, self.start.elapsed()) {
                    self.told.send(event)?;
                }
            } else {
                self.count.rolled_back.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(self.plan.rest()).await;
        }
        Ok(())
    }
}

/// Errors only if PostgreSQL refuses what it must take.
async fn perform(client: &Client, mode: Mode, transaction: &Transaction, name: Id) -> Result<End> {
    let written = async {
        client.batch_execute("BEGIN").await?;
        for step in &transaction.steps {
            match step {
                Step::Insert(events) => insert(client, mode, events).await?,
                Step::TakenBack(events) => {
                    client.batch_execute("SAVEPOINT s").await?;
                    insert(client, mode, events).await?;
                    client.batch_execute("ROLLBACK TO SAVEPOINT s; RELEASE SAVEPOINT s").await?;
                }
                Step::DeleteOwn if mode.reads_the_table() => {}
                Step::DeleteOwn => {
                    let inserted = transaction.steps.iter().filter_map(|step| match step {
                        Step::Insert(events) => Some(events),
                        _ => None,
                    });
                    let ids: Vec<_> = inserted.flatten().map(|event| event.id.to_string()).collect();
                    client.execute("DELETE FROM outbox WHERE id = ANY ($1::text[]::uuid[])", &[&ids]).await?;
                }
                Step::Pause(pause) => tokio::time::sleep(*pause).await,
            }
        }
        client.batch_execute(&format!("INSERT INTO ledger VALUES ('{name}')")).await
    };
    if let Err(error) = written.await {
        return broken(client, error, End::Broken);
    }
    if !transaction.commits {
        return match client.batch_execute("ROLLBACK").await {
            Ok(()) => Ok(End::RolledBack),
            Err(error) => broken(client, error, End::Broken),
        };
    }
    match client.batch_execute("COMMIT").await {
        Ok(()) => Ok(End::Committed),
        Err(error) => broken(client, error, End::Unknown),
    }
}

/// `end`, if it is the connection that broke: `57P01` and its like come with its end. A full disk counts as well.
fn broken(client: &Client, error: Error, end: End) -> Result<End> {
    let going = error
        .as_db_error()
        .is_some_and(|error| error.code().code().starts_with("57P") || *error.code() == SqlState::DISK_FULL);
    if client.is_closed() || error.is_closed() || going || error.as_db_error().is_none() {
        return Ok(end);
    }
    Err(error).context("a writer's statement failed")
}

/// Writes events as rows or, all of them, as messages.
async fn insert(client: &Client, mode: Mode, events: &[Event]) -> Result<(), Error> {
    let ids: Vec<_> = events.iter().map(|event| event.id.to_string()).collect();
    let types: Vec<_> = events.iter().map(|event| event.aggregate_type).collect();
    let keys: Vec<_> = events.iter().map(|event| event.aggregate_id.as_deref()).collect();
    let event_types: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
    let payloads: Vec<_> = events.iter().map(|event| event.payload.as_deref()).collect();
    let rows = "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
                SELECT id::uuid, type, key, event_type, payload::jsonb FROM event";
    let messages = "SELECT count(pg_logical_emit_message(true, 'outbox', jsonb_build_object(
                        'id', id, 'aggregate_type', type, 'aggregate_id', key, 'event_type', event_type,
                        'payload', payload::jsonb)::text)) FROM event";
    let as_messages =
        !mode.reads_the_table() && events.first().is_some_and(|event| event.id.0.is_multiple_of(4));
    let sql = format!(
        "WITH event AS MATERIALIZED (
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
                 AS row (id, type, key, event_type, payload, number)
             ORDER BY number)
         {}",
        if as_messages { messages } else { rows }
    );
    client.execute(&sql, &[&ids, &types, &keys, &event_types, &payloads]).await.map(drop)
}

async fn is_in_ledger(client: &mut Client, info: &ConnInfo, name: Id) -> Result<bool> {
    let sql = format!("SELECT FROM ledger WHERE transaction = '{name}'");
    loop {
        match client.query(&sql, &[]).await {
            Ok(rows) => return Ok(!rows.is_empty()),
            // The server goes down once more.
            Err(_) => *client = patient_client(info).await?,
        }
    }
}

/// Removes old rows now and then, as sql/01_table.sql allows it.
async fn clean(info: ConnInfo, mode: Mode, stop: Arc<AtomicBool>) -> Result<()> {
    let Some(sql) = mode.clean(KEPT) else {
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        return Ok(());
    };
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if last.elapsed() > Duration::from_secs(10) {
            last = Instant::now();
            if let Ok(client) = client(&info).await {
                // If the server goes down meanwhile, the next time will do.
                let _ = client.batch_execute(&sql).await;
            }
        }
    }
    Ok(())
}

/// Commits single events that tell when an interruption is over.
pub(crate) struct Probes {
    info: ConnInfo,
    mode: Mode,
    ids: Dice,
    start: Instant,
    told: Sender<Committed>,
    last: u32,
}

/// Their key, which nobody else uses.
pub(crate) const PROBE: &str = "probe";

impl Probes {
    pub(crate) fn new(
        info: ConnInfo,
        mode: Mode,
        ids: Dice,
        start: Instant,
        told: Sender<Committed>,
    ) -> Self {
        Self { info, mode, ids, start, told, last: 0 }
    }

    /// Commits one, as soon as PostgreSQL lets us; its number, and a position behind it.
    pub(crate) async fn commit(&mut self) -> Result<(u32, u64)> {
        let mut client = patient_client(&self.info).await?;
        let number = self.last + 1;
        let event = Event {
            id: Id((u128::from(self.ids.bits()) << 64) | u128::from(self.ids.bits())),
            aggregate_type: "order",
            aggregate_id: Some(PROBE.to_owned()),
            event_type: "Probe".to_owned(),
            payload: Some(number.to_string()),
            number,
        };
        let steps = vec![Step::Insert(vec![event.clone()])];
        let transaction = Transaction { steps, commits: true };
        loop {
            let committed = match perform(&client, self.mode, &transaction, event.id).await? {
                End::Committed => true,
                End::Unknown => is_in_ledger(&mut client, &self.info, event.id).await?,
                End::Broken | End::RolledBack => false,
            };
            if committed {
                self.last = number;
                self.told.send(event.committed(self.start.elapsed()))?;
                // PostgreSQL may be about to go down.
                loop {
                    match end(&client).await {
                        Ok(end) => return Ok((number, end)),
                        Err(_) => client = patient_client(&self.info).await?,
                    }
                }
            }
            client = patient_client(&self.info).await?;
        }
    }
}

/// The end of the write-ahead log, as a number.
pub(crate) async fn end(client: &Client) -> Result<u64> {
    let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
    Ok(client.query_one(sql, &[]).await?.get::<_, i64>(0).try_into()?)
}
