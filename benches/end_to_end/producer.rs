//! The reference for sending: the same records from a producer with the relay's own properties, and no PostgreSQL.

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use outbox_relay::config;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::case::{EVENT_TYPE, KEYS};
use crate::role::stay;

/// Sends `rows` records with payloads of `bytes`, as fast as it can.
pub(crate) fn flood(broker: &str, topic: &str, rows: u64, bytes: usize) -> Result<()> {
    /// Delivery reports are taken now and then: many at once cost least.
    const REPORTS: u64 = 1_000;
    let producer = producer(broker, &[])?;
    let mut record = Record::of(bytes);
    for n in 0..rows {
        record.fill(n, 0)?;
        record.send(&producer, topic)?;
        if n % REPORTS == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(60))?;
    stay()
}

/// Sends `rate` records a second, one by one and at once, for so many `seconds`.
pub(crate) fn pace(broker: &str, topic: &str, rate: u32, seconds: u32) -> Result<()> {
    const BYTES: usize = 240;
    let producer = producer(broker, &[("linger.ms", "0")])?;
    let mut record = Record::of(BYTES);
    let start = Instant::now();
    for n in 0..u64::from(rate) * u64::from(seconds) {
        let due = start + Duration::from_nanos(n * 1_000_000_000 / u64::from(rate));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        record.fill(n, now())?;
        record.send(&producer, topic)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60))?;
    stay()
}

/// Nanoseconds of the wall clock, which all processes of a machine share.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn producer(broker: &str, over: &[(&str, &str)]) -> Result<BaseProducer> {
    let set = [("postgres.url", "postgres://nobody@nowhere/nothing"), ("kafka.bootstrap.servers", broker)];
    let set = set.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let properties = config::load(None, [], &set)?.kafka;
    let mut config = ClientConfig::new();
    for (name, value) in properties.iter().chain(over.iter().copied()) {
        config.set(name, value);
    }
    Ok(config.create()?)
}

/// A record like the relay's: its key, headers and value have the same lengths.
struct Record {
    key: Vec<u8>,
    id: Vec<u8>,
    position: Vec<u8>,
    value: Vec<u8>,
    bytes: usize,
    note: Vec<u8>,
}

impl Record {
    fn of(bytes: usize) -> Self {
        let empty = Vec::new;
        Self {
            key: empty(),
            id: empty(),
            position: empty(),
            value: empty(),
            bytes,
            note: b"0123456789abcdef".iter().copied().cycle().take(bytes).collect(),
        }
    }

    /// The record of event `n`, sent at `sent` if that is not 0.
    fn fill(&mut self, n: u64, sent: u64) -> Result<()> {
        let Self { key, id, position, value, bytes, note } = self;
        for part in [&mut *key, id, position, value] {
            part.clear();
        }
        write!(key, "{}", n % KEYS)?;
        write!(id, "6f9619ff-8b86-4011-b42d-{n:012x}")?;
        write!(position, "00000001-{n:016X}-{n:08X}")?;
        write!(value, "{{\"n\": {n}, ")?;
        if sent > 0 {
            write!(value, "\"sent\": {sent}, ")?;
        }
        write!(value, "\"note\": \"")?;
        let rest = bytes.saturating_sub(value.len() + 2);
        value.extend_from_slice(note.get(..rest).unwrap_or_default());
        value.extend_from_slice(b"\"}");
        Ok(())
    }

    fn send(&self, producer: &BaseProducer, topic: &str) -> Result<()> {
        const SOURCE: &str = "7575757575757575757/bench_100";
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: "id", value: Some(&self.id) })
            .insert(Header { key: "source", value: Some(SOURCE) })
            .insert(Header { key: "position", value: Some(&self.position) })
            .insert(Header { key: "event_type", value: Some(EVENT_TYPE) });
        let mut record = BaseRecord::to(topic).key(&self.key).payload(&self.value).headers(headers);
        while let Err((error, back)) = producer.send(record) {
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                    producer.poll(Duration::from_millis(10));
                    record = back;
                }
                error => bail!(error),
            }
        }
        Ok(())
    }
}
