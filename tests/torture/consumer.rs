//! The consumer: reads everything that can be read, and compares it all the time with what the slot has confirmed.
//!
//! It goes past the proxies, so it sees what is stored while the relay does not hear of it. The order is what makes the
//! comparison fair: first the slot's position, then the ends of all partitions, then everything before these ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use outbox_relay::postgres::conninfo::ConnInfo;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::cleaning;
use crate::mode::Mode;
use crate::oracle::{Committed, Id, Oracle, Partition, Position, Record, fingerprint};
use crate::plan::{TOPICS, topic};
use crate::server::client;
use crate::writers::PROBE;

/// The consumer, at work on a thread of its own.
pub(crate) struct Consumer {
    thread: JoinHandle<Result<Oracle>>,
    stop: Arc<AtomicBool>,
    /// The number of the last probe that was read.
    pub(crate) probe: watch::Receiver<u32>,
    /// How often the slot was compared with Kafka.
    pub(crate) comparisons: Arc<AtomicU64>,
}

/// One question to the broker, or to PostgreSQL.
const ANSWER: Duration = Duration::from_secs(1);

/// How long to go on at the end of a run that failed, if Kafka is away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the topics. Kafka keeps only what was written last, so that a long run needs no large disk; the consumer is
/// never so far behind.
pub(crate) async fn make_topics(broker: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker).create()?;
    let names: Vec<_> = TOPICS.iter().map(|(name, partitions)| (topic(name), *partitions)).collect();
    let topics: Vec<_> = names
        .iter()
        .map(|(name, partitions)| {
            NewTopic::new(name, *partitions, TopicReplication::Fixed(1))
                .set("segment.bytes", "8388608")
                .set("retention.bytes", "50331648")
                .set("file.delete.delay.ms", "1000")
        })
        .collect();
    for made in admin.create_topics(&topics, &AdminOptions::new()).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("make topic {topic}: {code}"))?;
    }
    Ok(())
}

impl Consumer {
    /// Starts to read. What writers have committed comes by `told`.
    pub(crate) fn start(
        broker: &str,
        superuser: ConnInfo,
        mode: Mode,
        start: Instant,
        told: Receiver<Committed>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let comparisons = Arc::new(AtomicU64::new(0));
        let (probe, seen) = watch::channel(0);
        let mut reader = Reader::new(broker, Oracle::of(!mode.reads_the_table()), start, probe, told)?;
        let (stopped, compared, runtime) = (Arc::clone(&stop), Arc::clone(&comparisons), Handle::current());
        let thread = std::thread::Builder::new().name("consumer".to_owned()).spawn(move || {
            let mut slot = Slot { info: superuser, mode, client: None };
            let (mut stopping, mut gone) = (None, Vec::new());
            loop {
                // Asked for before the last round, so that this round reads everything.
                let last = stopped.load(Ordering::Relaxed);
                let confirmed = runtime.block_on(slot.confirmed());
                if mode.swept().is_some() {
                    gone.extend(runtime.block_on(slot.cleaned()));
                }
                let complete = reader.read_to_end();
                if complete {
                    gone.drain(..).for_each(|id| reader.oracle.cleaned(id, start.elapsed()));
                }
                if let (Some(confirmed), true) = (confirmed, complete) {
                    match confirmed {
                        Confirmed::Position(lsn) => reader.oracle.acknowledged(lsn),
                        Confirmed::Rows(ids) => reader.oracle.published(&ids, start.elapsed()),
                    }
                    compared.fetch_add(1, Ordering::Relaxed);
                }
                reader.oracle_hears();
                if reader.thrown_away {
                    bail!("Kafka threw records away before they were read: the test is too slow, or Kafka is wrong");
                }
                if let Some(offsets) = &reader.passed_over {
                    bail!("the consumer was not given {offsets}, so this test is wrong, or Kafka is");
                }
                if last && (complete || stopping.get_or_insert_with(Instant::now).elapsed() > PATIENCE) {
                    return Ok(reader.oracle);
                }
            }
        })?;
        Ok(Self { thread, stop, probe: seen, comparisons })
    }

    /// Reads what is left; everything that was told and read.
    pub(crate) fn finish(self) -> Result<Oracle> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the consumer panicked"))?
    }
}

/// Everything that lies in Kafka now, from its beginning.
///
/// # Errors
/// If Kafka is not there.
pub(crate) fn read_anew(broker: &str) -> Result<Oracle> {
    let (_, told) = std::sync::mpsc::channel();
    let mut reader = Reader::new(broker, Oracle::default(), Instant::now(), watch::channel(0).0, told)?;
    while !reader.read_to_end() {
        if reader.start.elapsed() > PATIENCE {
            bail!("Kafka cannot be read any more");
        }
    }
    Ok(reader.oracle)
}

struct Reader {
    consumer: BaseConsumer,
    /// The next offset of each partition.
    next: HashMap<Partition, i64>,
    oracle: Oracle,
    start: Instant,
    probe: watch::Sender<u32>,
    told: Receiver<Committed>,
    /// Kafka does not have the next offset of a partition.
    thrown_away: bool,
    /// Offsets that the consumer was not given: nothing can be said of the events in them.
    passed_over: Option<String>,
}

fn assigned(broker: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "torture")
        .set("enable.auto.commit", "false")
        // What Kafka has thrown away before it was read would look as if it had been lost.
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.error.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        // Brokers that are away are expected here.
        .set("log_level", "0")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for (name, partitions) in TOPICS {
        for partition in 0..partitions {
            assignment.add_partition_offset(&topic(name), partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

impl Reader {
    fn new(
        broker: &str,
        oracle: Oracle,
        start: Instant,
        probe: watch::Sender<u32>,
        told: Receiver<Committed>,
    ) -> Result<Self> {
        Ok(Self {
            consumer: assigned(broker)?,
            next: HashMap::new(),
            oracle,
            start,
            probe,
            told,
            thrown_away: false,
            passed_over: None,
        })
    }

    /// Reads everything that lies before the ends of this moment. False if the broker did not say where they are.
    fn read_to_end(&mut self) -> bool {
        let Some(ends) = self.ends() else {
            // Whatever comes meanwhile is read all the same.
            self.poll();
            return false;
        };
        let asked = Instant::now();
        while ends.iter().any(|(partition, end)| self.next.get(partition).copied().unwrap_or(0) < *end) {
            self.poll();
            if asked.elapsed() > PATIENCE {
                return false;
            }
        }
        true
    }

    fn ends(&self) -> Option<Vec<(Partition, i64)>> {
        let mut ends = Vec::new();
        for (index, (name, partitions)) in TOPICS.iter().enumerate() {
            for partition in 0..*partitions {
                let (_, end) = self.consumer.fetch_watermarks(&topic(name), partition, ANSWER).ok()?;
                ends.push(((index, partition), end));
            }
        }
        Some(ends)
    }

    fn poll(&mut self) {
        let mut wait = Duration::from_millis(20);
        while let Some(message) = self.consumer.poll(wait) {
            wait = Duration::ZERO;
            let message = match message {
                Ok(message) => message,
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)) => {
                    self.thrown_away = true;
                    return;
                }
                // An error tells of a broker that is away; librdkafka goes on by itself.
                Err(_) => continue,
            };
            let record = record(&message, self.start.elapsed());
            if message.key() == Some(PROBE.as_bytes()) {
                let number =
                    message.payload().and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
                self.probe.send_if_modified(|last| {
                    let news = number.is_some_and(|number| number > *last);
                    *last = number.unwrap_or(0).max(*last);
                    news
                });
            }
            // There are no transactions, so each offset is a record.
            let expected = self.next.insert(record.partition, record.offset + 1).unwrap_or(0);
            if record.offset > expected {
                let (topic, partition) = record.partition;
                let text = format!(
                    "offsets {expected} to {} of topic {topic}, partition {partition}",
                    record.offset - 1
                );
                self.passed_over.get_or_insert(text);
            }
            self.oracle.record(record);
        }
    }

    fn oracle_hears(&mut self) {
        for event in self.told.try_iter() {
            self.oracle.committed(event);
        }
    }
}

fn record(message: &BorrowedMessage<'_>, at: Duration) -> Record {
    let header = |name: &str| {
        let mut headers = message.headers()?.iter();
        headers.find(|header| header.key == name).and_then(|header| header.value)
    };
    let text = |name: &str| header(name).and_then(|value| std::str::from_utf8(value).ok());
    let index = TOPICS.iter().position(|(name, _)| topic(name) == message.topic()).unwrap_or(usize::MAX);
    Record {
        id: text("id").ok_or_else(|| "no header id".to_owned()).and_then(Id::parse),
        partition: (index, message.partition()),
        offset: message.offset(),
        content: [
            fingerprint(Some(message.topic().as_bytes())),
            fingerprint(message.key()),
            fingerprint(message.payload()),
            fingerprint(header("event_type")),
        ],
        position: text("position")
            .and_then(Position::parse)
            .map(|position| (fingerprint(header("source")), position)),
        at,
    }
}

/// The slot, as PostgreSQL shows it.
struct Slot {
    info: ConnInfo,
    mode: Mode,
    client: Option<Client>,
}

impl Slot {
    /// What it has confirmed; `None` while PostgreSQL is away.
    async fn confirmed(&mut self) -> Option<Confirmed> {
        let confirmed = tokio::time::timeout(ANSWER, self.ask()).await.ok().and_then(Result::ok);
        if confirmed.is_none() {
            self.client = None;
        }
        confirmed
    }

    /// Whose rows the relay has removed since the last time; nobody's while PostgreSQL is away.
    async fn cleaned(&mut self) -> Vec<Id> {
        let Some(client) = &self.client else { return Vec::new() };
        let noted = tokio::time::timeout(ANSWER, cleaning::noted(client)).await.ok().and_then(Result::ok);
        noted.unwrap_or_default()
    }

    async fn ask(&mut self) -> Result<Confirmed> {
        if self.client.is_none() {
            self.client = Some(client(&self.info).await?);
        }
        let client = self.client.as_ref().context("no client")?;
        if !self.mode.polls() {
            return confirmed(client).await.map(Confirmed::Position);
        }
        let rows = client.query("SELECT id::text FROM outbox WHERE status = 'PUBLISHED'", &[]).await?;
        Ok(Confirmed::Rows(rows.iter().filter_map(|row| Id::parse(row.get(0)).ok()).collect()))
    }
}

/// What PostgreSQL was told.
enum Confirmed {
    Position(u64),
    /// The rows that are marked.
    Rows(Vec<Id>),
}

/// Whether PostgreSQL was told of everything up to `end`.
pub(crate) async fn is_done(client: &Client, mode: Mode, end: u64) -> Result<bool> {
    if !mode.polls() {
        // A backfill may not have made the slot yet.
        return Ok(confirmed(client).await.is_ok_and(|confirmed| confirmed >= end));
    }
    let sql = "SELECT count(*) FROM outbox WHERE status = 'PENDING'";
    Ok(client.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
}

/// The slot's `confirmed_flush_lsn`, as a number; of several shards, the lowest.
pub(crate) async fn confirmed(client: &Client) -> Result<u64> {
    let sql = "SELECT (min(confirmed_flush_lsn) - '0/0')::int8 FROM pg_replication_slots \
                WHERE slot_name ~ '^outbox_relay(_[0-9]+_[0-9]+)?$'";
    let row = client.query_one(sql, &[]).await?;
    Ok(row.get::<_, Option<i64>>(0).context("there is no slot")?.try_into()?)
}
