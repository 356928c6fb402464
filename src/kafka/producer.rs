//! The one place where records enter Kafka's client library, and the way their delivery reports come back.
//!
//! What librdkafka does is behind [`Client`], so that the simulation of the session can run without it.

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::mpsc;

use super::error::{Error, Undelivered};
use super::librdkafka::Librdkafka;
use super::lookup::{Ask, Limit, Lookup};
use crate::outbox::{Record, Rejection, RejectionReason, Token, Topic};

/// A producer. It outlives replication sessions: while one is made anew, what is in flight stays in flight.
pub struct Producer {
    client: Box<dyn Client>,
    events: mpsc::UnboundedReceiver<Event>,
    unreported: usize,
    /// So many of them do not wait for company: they were sent before the last [`Producer::hurry`].
    hurried: usize,
    /// `message.max.bytes`.
    largest: String,
}

/// What the client library does for a producer: librdkafka, or what stands in for it in the simulation and
/// in the benchmark.
pub trait Client: Send + Sync {
    /// Takes `record`, and reports on it some time later, as an [`Event`].
    ///
    /// # Errors
    /// If it does not take it.
    fn send(&mut self, record: &Record) -> Result<(), RDKafkaErrorCode>;

    /// See [`Producer::hurry`]. Whether it does.
    fn hurry(&self) -> bool;

    /// See [`Producer::give_up`].
    fn give_up(&self);

    /// See [`Producer::look_up`].
    fn look_up(&self, topic: &str, ask: Ask) -> Lookup;

    /// See [`Producer::probe_anew`].
    fn probe_anew(&self, properties: &[(&str, &str)], topic: &str) -> Lookup;

    /// See [`Producer::limit`].
    fn limit(&self, properties: &[(&str, &str)], topic: &str) -> Limit;

    /// Another client of the same cluster, with `properties`, which tells its `events` there.
    ///
    /// # Errors
    /// If it cannot be made.
    fn another(
        &self,
        properties: &[(&str, &str)],
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Box<dyn Client>, Error>;
}

/// What librdkafka has to say.
#[derive(Debug)]
pub enum Event {
    /// A record is stored: on all in-sync replicas, as `acks=all` asks for.
    Delivered(Token),
    /// A record is not stored, and librdkafka will not try again.
    Undelivered(Box<Undelivered>),
    /// All brokers are out of reach, or the like. librdkafka goes on trying.
    Trouble(RDKafkaErrorCode, String),
    /// The producer is of no use any more.
    Fatal(RDKafkaErrorCode, String),
}

/// Why a record did not enter librdkafka's queue.
#[derive(Debug)]
pub enum SendError {
    /// The queue is full: hold this record, and send no other, until there is room.
    QueueFull,
    /// Kafka can never take it.
    Rejected(Rejection),
    /// The producer failed.
    Failed(Error),
}

/// librdkafka's default of `message.max.bytes`.
const LARGEST: &str = "1000000";

impl Producer {
    /// Starts a producer with librdkafka's `properties`. It connects in the background.
    ///
    /// # Errors
    /// If librdkafka refuses the properties, or no thread can be started.
    pub fn new(properties: &[(&str, &str)]) -> Result<Self, Error> {
        Self::over(properties, |events| Ok(Box::new(Librdkafka::start(properties, events)?)))
    }

    /// Starts another one of the same cluster.
    ///
    /// # Errors
    /// As [`Producer::new`].
    pub fn another(&self, properties: &[(&str, &str)]) -> Result<Self, Error> {
        Self::over(properties, |events| self.client.another(properties, events))
    }

    /// One over a `client`, which tells its events to the sender it is given: for what stands in for librdkafka.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub fn over(
        properties: &[(&str, &str)],
        client: impl FnOnce(mpsc::UnboundedSender<Event>) -> Result<Box<dyn Client>, Error>,
    ) -> Result<Self, Error> {
        let (sender, events) = mpsc::unbounded_channel();
        let largest = properties.iter().rfind(|(name, _)| *name == "message.max.bytes");
        let largest = largest.map_or(LARGEST, |(_, bytes)| bytes).to_owned();
        Ok(Self { client: client(sender)?, events, unreported: 0, hurried: 0, largest })
    }

    /// Hands `record` to librdkafka, which takes the one copy of its bytes.
    ///
    /// # Errors
    /// See [`SendError`]; the record has then not entered the queue.
    pub fn send(&mut self, record: &Record) -> Result<(), SendError> {
        self.client.send(record).map_err(|code| refusal(record, code, &self.largest))?;
        self.unreported = self.unreported.saturating_add(1);
        Ok(())
    }

    /// Waits for the next events and appends them to `events`, as many as there are.
    ///
    /// # Cancel safety
    /// Nothing is taken from the queue unless this returns.
    pub async fn events(&mut self, events: &mut Vec<Event>) {
        let before = events.len();
        // The sender lives in the client, as long as `self.client`: the channel does not close.
        self.events.recv_many(events, EVENTS_AT_ONCE).await;
        let reports = events.iter().skip(before).filter(|event| event.is_report()).count();
        self.unreported = self.unreported.saturating_sub(reports);
        self.hurried = self.hurried.saturating_sub(reports);
    }

    /// The records that were sent so far do not wait for company any more: there is none to come. For a producer whose
    /// `linger.ms` is set this does nothing.
    pub fn hurry(&mut self) {
        if self.hurried < self.unreported && self.client.hurry() {
            self.hurried = self.unreported;
        }
    }

    /// Records on their way because of [`Producer::hurry`].
    #[must_use]
    pub fn hurried(&self) -> usize {
        self.hurried
    }

    /// Records that librdkafka has taken and not reported on.
    #[must_use]
    pub fn unreported(&self) -> usize {
        self.unreported
    }

    /// Gives up what is in the queue and not on the wire: of a partition in which a record has failed nothing later must
    /// be stored. All of it is reported. Does not wait.
    pub fn give_up(&self) {
        self.client.give_up();
    }

    /// Asks the cluster for `topic`.
    #[must_use]
    pub fn look_up(&self, topic: &Topic, ask: Ask) -> Lookup {
        self.client.look_up(topic.as_str(), ask)
    }

    /// Asks the cluster for a topic that nearly every cluster has; any answer tells that it is there. Asking for no topic
    /// in particular would list them all. `brief`: without an answer in a second, others are asked.
    #[must_use]
    pub fn probe(&self, brief: bool) -> Lookup {
        self.client.look_up(PROBED, Ask { brief, ..Ask::default() })
    }

    /// The same, by a client that may have forgotten its `servers`, and is told of them again.
    #[must_use]
    pub fn remind(&self, servers: &str) -> Lookup {
        self.client.look_up(PROBED, Ask { remind: Some(servers.to_owned()), ..Ask::default() })
    }

    /// The same with a client of its own, made of `properties`, which knows no brokers but those.
    #[must_use]
    pub fn probe_anew(&self, properties: &[(&str, &str)]) -> Lookup {
        self.client.probe_anew(properties, PROBED)
    }

    /// Asks the cluster for the largest batch that `topic` takes, with a client of its own, made of `properties`.
    #[must_use]
    pub fn limit(&self, properties: &[(&str, &str)], topic: &str) -> Limit {
        self.client.limit(properties, topic)
    }
}

/// A topic that nearly every cluster has.
const PROBED: &str = "__consumer_offsets";

/// Enough to amortise a wake-up, few enough to come back to the session's other duties.
const EVENTS_AT_ONCE: usize = 1024;

impl Event {
    fn is_report(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::Undelivered(_))
    }
}

fn refusal(record: &Record, code: RDKafkaErrorCode, largest: &str) -> SendError {
    let reject =
        |reason, detail| SendError::Rejected(Rejection { event_id: record.event_id(), reason, detail });
    match code {
        RDKafkaErrorCode::QueueFull => SendError::QueueFull,
        RDKafkaErrorCode::MessageSizeTooLarge => reject(
            RejectionReason::TooLarge,
            format!(
                "its key and value have {} bytes, and with its headers it is larger than kafka.\"message.max.bytes\" = \
                 {largest}",
                record.payload_size()
            ),
        ),
        RDKafkaErrorCode::UnknownPartition => reject(
            RejectionReason::InvalidPartition,
            format!("topic \"{}\" has no partition {}", record.topic, record.partition.unwrap_or_default()),
        ),
        code => SendError::Failed(Error::Produce { topic: record.topic.as_str().to_owned(), code }),
    }
}
