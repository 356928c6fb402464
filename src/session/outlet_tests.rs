//! What is done about a producer that has lost its cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::*;
use crate::kafka::Client;

/// A cluster that a new client reaches or not, and a producer that has forgotten it.
#[derive(Clone, Default)]
struct Forgetful {
    /// Of the latest producer.
    events: Arc<Mutex<Option<mpsc::UnboundedSender<Event>>>>,
    /// Records need not linger.
    hurries: bool,
    reachable: Arc<AtomicBool>,
    remembers: Arc<AtomicBool>,
    /// What it was told of its servers again.
    reminded: Arc<Mutex<Vec<String>>>,
    /// It finds its cluster then.
    listens: bool,
}

fn answer(there: bool) -> Lookup {
    let state = match there {
        true => TopicState::Exists { partitions: 1 },
        false => TopicState::Unreachable("no broker answers".to_owned()),
    };
    Lookup::of(tokio::spawn(async { state }))
}

impl Client for Forgetful {
    fn send(&mut self, _: &Record) -> Result<(), RDKafkaErrorCode> {
        Ok(())
    }

    fn hurry(&self) -> bool {
        self.hurries
    }

    fn give_up(&self) {}

    fn look_up(&self, _: &str, ask: Ask) -> Lookup {
        if let Some(servers) = ask.remind {
            self.reminded.lock().unwrap().push(servers);
            self.remembers.fetch_or(self.listens, Ordering::Relaxed);
        }
        answer(self.remembers.load(Ordering::Relaxed))
    }

    fn probe_anew(&self, _: &[(&str, &str)], _: &str) -> Lookup {
        answer(self.reachable.load(Ordering::Relaxed))
    }

    fn limit(&self, _: &[(&str, &str)], _: &str) -> Limit {
        Limit::of(tokio::spawn(async { None }))
    }

    fn another(
        &self,
        _: &[(&str, &str)],
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Box<dyn Client>, kafka::Error> {
        *self.events.lock().unwrap() = Some(events);
        Ok(Box::new(self.clone()))
    }
}

fn outlet(client: &Forgetful) -> Outlet {
    let producer = Producer::over(&[], |events| client.another(&[], events)).unwrap();
    let needed =
        [("postgres.url", "postgres://outbox_relay@db/shop"), ("kafka.bootstrap.servers", "kafka:9092")];
    let needed = needed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = crate::config::load(None, std::iter::empty(), &needed).unwrap();
    Outlet::over(producer, config.kafka, None)
}

/// What the outlet says within two minutes.
async fn says(outlet: &mut Outlet) -> Option<Refused> {
    let says = async {
        loop {
            if let Err(refused) = outlet.wait(&mut Vec::new()).await {
                return refused;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), says).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_finds_nobody_is_kept_while_nobody_else_finds_a_broker_either() {
    let client = Forgetful::default();
    let mut outlet = outlet(&client);
    assert!(says(&mut outlet).await.is_none());
    assert!(outlet.is_blocked());
    // The cluster is back, and the producer finds it.
    client.reachable.store(true, Ordering::Relaxed);
    client.remembers.store(true, Ordering::Relaxed);
    assert!(says(&mut outlet).await.is_none());
    assert!(!outlet.is_blocked());
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_has_forgotten_its_servers_is_told_of_them_once_somebody_answers() {
    let client = Forgetful { listens: true, ..Forgetful::default() };
    let mut outlet = outlet(&client);
    assert!(says(&mut outlet).await.is_none());
    assert!(client.reminded.lock().unwrap().is_empty());
    client.reachable.store(true, Ordering::Relaxed);
    assert!(says(&mut outlet).await.is_none());
    assert!(!outlet.is_blocked());
    // librdkafka keeps each reminder for good, so it gets no more than it needs.
    assert_eq!(*client.reminded.lock().unwrap(), ["kafka:9092"]);
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_finds_nobody_where_a_new_client_does_is_of_no_use() {
    let client = Forgetful::default();
    let mut outlet = outlet(&client);
    assert!(says(&mut outlet).await.is_none());
    client.reachable.store(true, Ordering::Relaxed);
    assert!(matches!(says(&mut outlet).await, Some(Refused::Failed(kafka::Error::Forgotten))));
    // A new one would do; the supervisor makes it.
    client.remembers.store(true, Ordering::Relaxed);
    outlet.renew().unwrap();
    assert!(says(&mut outlet).await.is_none());
    assert!(!outlet.is_blocked());
}

/// A record for a topic that is there.
fn record(token: usize) -> Record {
    Record {
        token: crate::outbox::Token(token),
        topic: Topic::new(b"order").unwrap(),
        partition: None,
        key: None,
        value: None,
        timestamp: crate::wal::UnixMillis(1),
        headers: Vec::new(),
    }
}

/// An outlet that has taken so many records.
async fn full(client: &Forgetful, records: usize) -> Outlet {
    client.remembers.store(true, Ordering::Relaxed);
    let mut outlet = outlet(client);
    for token in 0..records {
        outlet.offer(record(token)).unwrap();
        // The first one asks for its topic.
        while outlet.is_holding() {
            outlet.wait(&mut Vec::new()).await.unwrap();
        }
    }
    outlet
}

#[tokio::test(start_paused = true)]
async fn kafka_is_busy_with_what_was_hurried_until_it_is_reported() {
    let client = Forgetful { hurries: true, ..Forgetful::default() };
    let mut outlet = full(&client, IN_FLIGHT).await;
    assert!(!outlet.is_busy(), "what may still linger is not on its way");
    outlet.hurry();
    assert!(outlet.is_busy());
    let report = Event::Delivered(crate::outbox::Token(0));
    client.events.lock().unwrap().as_ref().unwrap().send(report).unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        outlet.wait(&mut events).await.unwrap();
    }
    assert!(!outlet.is_busy());
}

#[tokio::test(start_paused = true)]
async fn whoever_sets_linger_ms_is_not_waited_for() {
    let mut outlet = full(&Forgetful::default(), IN_FLIGHT).await;
    outlet.hurry();
    assert!(!outlet.is_busy());
}
