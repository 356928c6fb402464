//! The relay without Kafka: its whole way, with a client at the end that counts each record, drops it, and confirms it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use outbox_relay::config;
use outbox_relay::kafka::{Ask, Client, Error, Event, Limit, Lookup, Producer, TopicState};
use outbox_relay::metrics::Metrics;
use outbox_relay::outbox::Record;
use outbox_relay::postgres::conninfo::ConnInfo;
use outbox_relay::session::{Known, Outlet, Session};
use outbox_relay::status::Status;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{mpsc, watch};

use crate::case::PARTITIONS;
use crate::role::{Read, stay};

/// Relays from `slot` until `rows` records have been counted; says how long that took.
pub(crate) fn relay(url: &str, slot: &str, topic: &str, rows: u64) -> Result<()> {
    let set = [
        ("postgres.url", url),
        ("postgres.slot", slot),
        ("route.topic", topic),
        ("kafka.bootstrap.servers", "nobody:9092"),
    ];
    let set = set.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = config::load(None, [], &set)?;
    let info = ConnInfo::parse(url, &|_| None, &|_| None)?;
    let count = Arc::new(Count { seen: AtomicU64::new(0), rows, done: watch::channel(false).0 });

    // As `main` has it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let properties: Vec<_> = config.kafka.iter().collect();
        let producer = Producer::over(&properties, |events| {
            Ok(Box::new(Counting { events, count: Arc::clone(&count), first: Default::default() }))
        })?;
        let mut outlet = Outlet::over(producer, config.kafka.clone(), None);
        let (status, metrics) = (Status::new(Instant::now(), std::time::SystemTime::now()), Metrics::new());
        let mut known = Known::default();
        let session = Session::start(&config, &info, &mut known, &mut outlet, &status, &metrics).await?;
        let mut shutdown = count.done.subscribe();
        // It ends when all are counted, but not before the parent has seen what it has used.
        session.run(&mut shutdown).await?;
        anyhow::Ok(())
    })
}

struct Count {
    seen: AtomicU64,
    rows: u64,
    done: watch::Sender<bool>,
}

/// Takes every record, and confirms it at once.
struct Counting {
    events: mpsc::UnboundedSender<Event>,
    count: Arc<Count>,
    first: std::sync::OnceLock<Instant>,
}

impl Client for Counting {
    fn send(&mut self, record: &Record) -> Result<(), RDKafkaErrorCode> {
        let first = *self.first.get_or_init(Instant::now);
        // Whoever listens has ended only when the session has.
        let _ = self.events.send(Event::Delivered(record.token));
        let seen = self.count.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen == self.count.rows {
            Read { rows: seen, took: first.elapsed() }.say();
            let count = Arc::clone(&self.count);
            std::thread::spawn(move || {
                let _ = stay();
                count.done.send_replace(true);
            });
        }
        Ok(())
    }

    fn hurry(&self) -> bool {
        false
    }

    fn give_up(&self) {}

    fn look_up(&self, _: &str, _: Ask) -> Lookup {
        let partitions = usize::try_from(PARTITIONS).unwrap_or(1);
        Lookup::of(tokio::spawn(async move { TopicState::Exists { partitions } }))
    }

    fn probe_anew(&self, _: &[(&str, &str)], topic: &str) -> Lookup {
        self.look_up(topic, Ask::default())
    }

    fn limit(&self, _: &[(&str, &str)], _: &str) -> Limit {
        Limit::of(tokio::spawn(async { None }))
    }

    fn another(
        &self,
        _: &[(&str, &str)],
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Box<dyn Client>, Error> {
        Ok(Box::new(Self { events, count: Arc::clone(&self.count), first: Default::default() }))
    }
}
