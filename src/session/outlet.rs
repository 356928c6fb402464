//! The way into Kafka: one record at a time, in order, and only into topics that exist.
//!
//! A record that cannot go in now is held here, and the session reads nothing more until it has gone. An unknown topic
//! would fail inside librdkafka after `topic.metadata.propagation.max.ms` (30 s), whatever `message.timeout.ms` says; so
//! a topic's metadata is awaited before its first record.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::reach::{ASK_AGAIN, Next, PROBE, Reach};
use crate::clock;
use crate::config::Properties;
use crate::kafka;
use crate::kafka::{Ask, Event, Limit, Lookup, NewTopic, Producer, SendError, TopicState};
use crate::outbox::{Record, Rejection, RejectionReason, Topic};
use crate::status::On;
use crate::suspects::Suspects;

/// A producer and what is known of its cluster. It outlives sessions.
pub struct Outlet {
    properties: Properties,
    /// What a topic that does not exist is made with; `None`: it is waited for.
    new_topic: Option<Arc<NewTopic>>,
    producer: Producer,
    /// Topics that exist, with their number of partitions.
    topics: HashMap<Topic, usize>,
    held: Option<Held>,
    reach: Reach,
    /// The question whether Kafka is there, or the pause before it.
    probe: Wait,
    /// A record was reported since the last tick.
    moved: bool,
    /// Who may be the one that Kafka refuses.
    pub(super) suspects: Suspects,
    /// The producer waits for no batch to fill, because there are suspects.
    careful: bool,
    /// Bytes of a batch at most, if larger ones were refused as a whole; `None`: as configured.
    batch_size: Option<usize>,
    /// Topics that Kafka did not let us write to, when it was tried last.
    denied: HashSet<String>,
    /// When Kafka refused the producer an id, for want of a right.
    no_producer_id: Option<Instant>,
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Kafka can never take it.
    Rejected(Box<Record>, Rejection),
    /// The producer failed.
    Failed(kafka::Error),
}

struct Held {
    record: Record,
    wait: Wait,
    /// Why it is held, once that is known to last.
    reason: Option<(On, String)>,
}

enum Wait {
    /// For nothing.
    Off,
    /// For an answer.
    Answer(Lookup),
    /// For the time to ask, or to try, again.
    Until(Instant),
}

/// Since Kafka 2.8 Write on any topic is enough; before, it took IdempotentWrite.
const NO_PRODUCER_ID: &str =
    "Kafka gives the relay no producer id: grant it Write on its topics, or IdempotentWrite on the cluster";

/// librdkafka's `RD_KAFKA_IDEMP_MAX_INFLIGHT`: with so many records of one partition on the wire an idempotent producer sends no
/// further batch of it. If it holds one that need not linger, its thread spins until it may (`rd_kafka_toppar_producer_serve`).
const IN_FLIGHT: usize = 5;

/// librdkafka's default of `batch.size`.
const BATCH_SIZE: usize = 1_000_000;

/// Pause before a record is offered again to a full queue. It empties as fast as the brokers confirm.
const QUEUE_FULL: Duration = Duration::from_millis(5);

impl Outlet {
    /// Starts a producer with librdkafka's `properties`. Kafka counts as away until it has answered once. A topic that
    /// does not exist becomes `new_topic`.
    ///
    /// # Errors
    /// If the producer cannot be made.
    pub fn new(properties: Properties, new_topic: Option<NewTopic>) -> Result<Self, kafka::Error> {
        let producer = Producer::new(&properties.iter().collect::<Vec<_>>())?;
        Ok(Self::over(producer, properties, new_topic))
    }

    /// The same over a `producer` that was just started with `properties`.
    #[must_use]
    pub fn over(producer: Producer, properties: Properties, new_topic: Option<NewTopic>) -> Self {
        let probe = Wait::Answer(producer.probe(false));
        Self {
            properties,
            new_topic: new_topic.map(Arc::new),
            producer,
            topics: HashMap::new(),
            held: None,
            reach: Reach::new(clock::now()),
            probe,
            moved: false,
            suspects: Suspects::default(),
            careful: false,
            batch_size: None,
            denied: HashSet::new(),
            no_producer_id: None,
        }
    }

    /// Starts over with a new producer. What the old one had in flight is given up: those events come again from the
    /// slot. What was known to keep Kafka away is kept until the new one has an answer.
    ///
    /// # Errors
    /// If the producer cannot be made.
    pub fn renew(&mut self) -> Result<(), kafka::Error> {
        self.replace_producer()?;
        self.reach.is_doubted();
        Ok(())
    }

    /// The same when nothing is in flight and Kafka has just answered. As long as there are suspects, the new producer
    /// waits for no batch to fill.
    ///
    /// # Errors
    /// If the producer cannot be made.
    pub(super) fn replace_producer(&mut self) -> Result<(), kafka::Error> {
        let suspects = self.suspects.len();
        if suspects > 0 && !self.careful {
            tracing::info!(
                suspects,
                "looking for the record that Kafka refuses: suspects are sent one at a time"
            );
        }
        self.careful = suspects > 0;
        let size = self.batch_size.map(|bytes| bytes.to_string());
        let size = size.iter().map(|bytes| ("batch.size", bytes.as_str()));
        // A suspect is alone in its batch because nothing else is in flight: it need not wait for company.
        let at_once = self.careful.then_some(("linger.ms", "0"));
        let properties: Vec<_> = self.properties.iter().chain(size).chain(at_once).collect();
        self.producer = self.producer.another(&properties)?;
        self.probe = Wait::Answer(self.producer.probe(false));
        self.reach.starts_over(clock::now());
        self.topics.clear();
        self.held = None;
        Ok(())
    }

    /// Nobody is suspected any more, but the producer is still the one for suspects: nothing is read until all that is in
    /// flight is reported, and [`Outlet::recover`] replaces it.
    #[must_use]
    pub(super) fn is_recovering(&self) -> bool {
        self.careful && self.suspects.is_empty()
    }

    /// Goes back to the configured producer, if it is time. Ones that were refused although Kafka took each of their records are made
    /// smaller from now on.
    ///
    /// # Errors
    /// If the producer cannot be made.
    pub(super) fn recover(&mut self) -> Result<(), kafka::Error> {
        if !self.is_recovering() || self.unreported() > 0 || self.is_holding() {
            return Ok(());
        }
        if let Some(bytes) = self.suspects.take_too_large_together() {
            let configured = self.properties.get("batch.size").and_then(|size| size.parse().ok());
            let before = self.batch_size.or(configured).unwrap_or(BATCH_SIZE);
            let size = before.min(bytes).div_euclid(2).max(1);
            self.batch_size = Some(size);
            tracing::warn!(
                "Kafka refused a batch as too large, and took each of its records: batches have at most {size} bytes from \
                 now on\n\nhint: set kafka.\"batch.size\" below the smallest max.message.bytes of the topics, or raise that"
            );
        }
        self.replace_producer()
    }

    /// Gives up all that is not on the wire yet: a record has failed. It is reported.
    pub(super) fn give_up(&self) {
        self.producer.give_up();
    }

    /// Kafka does not let us write to `topic`: before the next record goes there, it is asked whether that has changed.
    pub(super) fn deny(&mut self, topic: &str) {
        self.denied.insert(topic.to_owned());
    }

    /// Asks for the largest batch that `topic` takes.
    pub(super) fn limit(&self, topic: &str) -> Limit {
        self.producer.limit(&self.properties.iter().collect::<Vec<_>>(), topic)
    }

    /// librdkafka's properties.
    pub(super) fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Produces `record`, or holds it until that is possible. Nothing may be offered while a record is held.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) fn offer(&mut self, record: Record) -> Result<(), Refused> {
        match self.topics.get(&record.topic) {
            Some(partitions) if fits(&record, *partitions) => self.produce(record),
            // The topic is new to us, or may have been given more partitions since it was asked for.
            _ => {
                let wait = Wait::Answer(self.look_up(&record.topic));
                self.held = Some(Held { record, wait, reason: None });
                Ok(())
            }
        }
    }

    fn look_up(&self, topic: &Topic) -> Lookup {
        let may_write = self.denied.contains(topic.as_str());
        self.producer.look_up(topic, Ask { create: self.new_topic.clone(), may_write, ..Ask::default() })
    }

    fn produce(&mut self, record: Record) -> Result<(), Refused> {
        match self.producer.send(&record) {
            Ok(()) => Ok(()),
            Err(SendError::QueueFull) => {
                let wait = Wait::Until(after(QUEUE_FULL));
                self.held = Some(Held { record, wait, reason: None });
                Ok(())
            }
            Err(SendError::Rejected(rejection)) => Err(Refused::Rejected(Box::new(record), rejection)),
            Err(SendError::Failed(error)) => Err(Refused::Failed(error)),
        }
    }

    /// Nothing more is to be expected soon: what was produced goes out now.
    pub(crate) fn hurry(&mut self) {
        self.producer.hurry();
    }

    /// Waits until something happens: events from librdkafka (appended to `events`), or a step of a held record.
    ///
    /// # Cancel safety
    /// Safe: what it waits for is kept in `self`.
    ///
    /// # Errors
    /// See [`Refused`]: the held record was offered again and was not taken.
    pub(crate) async fn wait(&mut self, events: &mut Vec<Event>) -> Result<(), Refused> {
        let held = match &mut self.held {
            Some(held) => &mut held.wait,
            None => &mut Wait::Off,
        };
        tokio::select! {
            biased;
            () = self.producer.events(events) => {
                self.learn(events);
                Ok(())
            }
            answer = held.over() => self.held_answer(answer),
            answer = self.probe.over() => self.probe_answer(answer),
        }
    }

    /// Forgets the held record: its session is over, and it will come again.
    pub(super) fn release(&mut self) {
        self.held = None;
    }

    /// A record is held.
    #[must_use]
    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Records that librdkafka has taken and not reported on.
    #[must_use]
    pub fn unreported(&self) -> usize {
        self.producer.unreported()
    }

    /// Kafka has not confirmed what it got last, and one record more might only wait in librdkafka's queue.
    #[must_use]
    pub(super) fn is_busy(&self) -> bool {
        self.producer.hurried() >= IN_FLIGHT
    }

    /// Something is known to keep records from moving.
    #[must_use]
    pub(super) fn is_blocked(&self) -> bool {
        self.no_producer_id.is_some()
            || self.reach.is_away()
            || self.held.as_ref().is_some_and(|held| held.reason.is_some())
    }

    /// What keeps records from moving, as far as is known here.
    #[must_use]
    pub(crate) fn blocked(&self) -> Option<(On, String)> {
        let held = self.held.as_ref().and_then(|held| held.reason.clone());
        let away = self.reach.reason().filter(|_| self.reach.is_away());
        let no_id = self.no_producer_id.map(|_| (On::Kafka, NO_PRODUCER_ID.to_owned()));
        held.or_else(|| away.map(|reason| (On::Kafka, reason.clone()))).or(no_id)
    }

    fn learn(&mut self, events: &[Event]) {
        let now = clock::now();
        for event in events {
            match event {
                Event::Delivered(_) => {
                    self.no_producer_id = None;
                    self.reach.answers(now);
                    self.moved = true;
                }
                // The producer got no id, and will never send anything; librdkafka says so only here.
                Event::Trouble(RDKafkaErrorCode::ClusterAuthorizationFailed, _) => {
                    self.no_producer_id = Some(now);
                }
                Event::Trouble(RDKafkaErrorCode::AllBrokersDown, reason) => {
                    self.reach.has_lost_all(reason);
                    self.probe_now(false);
                }
                // With nothing to send, librdkafka does not look whether a broker that hung up comes back.
                Event::Trouble(_, reason) => {
                    self.reach.has_trouble(reason);
                    self.probe_now(false);
                }
                Event::Undelivered(_) | Event::Fatal(..) => {}
            }
        }
    }

    /// To be called once a second. Records that wait, while none moves, are the first to tell that the producer has forgotten
    /// its brokers.
    pub(super) fn tick(&mut self) {
        if self.unreported() > 0 && !self.moved {
            self.probe_now(true);
        }
        self.moved = false;
    }

    /// While another client asks, it is the one that hears first.
    fn probe_now(&mut self, brief: bool) {
        if !matches!(self.probe, Wait::Answer(_)) && self.reach.asks_producer() {
            self.probe = Wait::Answer(self.producer.probe(brief));
        }
    }

    /// A producer that got no id is of no use: another one tries, while there is nothing to lose. If it hears no refusal
    /// until the next time, it has one.
    fn ask_for_an_id(&mut self) {
        if let Some(refused) = self.no_producer_id
            && self.unreported() == 0
            && !self.is_holding()
        {
            if clock::since(refused) > PROBE.saturating_add(ASK_AGAIN) {
                self.no_producer_id = None;
            } else if let Err(error) = self.replace_producer() {
                tracing::debug!("{error}");
            }
        }
    }

    fn held_answer(&mut self, answer: Option<TopicState>) -> Result<(), Refused> {
        let Some(mut held) = self.held.take() else {
            return Ok(());
        };
        let topic = &held.record.topic;
        held.reason = match answer {
            // The time has come to try again.
            None if self.topics.contains_key(topic) => return self.offer(held.record),
            None => {
                held.wait = Wait::Answer(self.look_up(topic));
                self.held = Some(held);
                return Ok(());
            }
            Some(TopicState::Exists { partitions }) => {
                self.reach.answers(clock::now());
                self.topics.insert(topic.clone(), partitions);
                self.denied.remove(topic.as_str());
                if fits(&held.record, partitions) {
                    return self.produce(held.record);
                }
                let rejection = no_such_partition(&held.record, partitions);
                return Err(Refused::Rejected(Box::new(held.record), rejection));
            }
            Some(TopicState::Missing) => Some((
                On::Topic,
                format!("topic \"{topic}\" does not exist: make it, or set topics.create = true"),
            )),
            Some(TopicState::NotCreated(reason)) => Some((On::Topic, reason)),
            Some(TopicState::Denied) => Some((
                On::Kafka,
                format!("Kafka denies topic \"{topic}\": grant Describe and Write on it to the relay's user"),
            )),
            Some(TopicState::Unreachable(reason)) => {
                Some((On::Kafka, self.reach.reason().cloned().unwrap_or(reason)))
            }
        };
        held.wait = Wait::Until(after(ASK_AGAIN));
        self.held = Some(held);
        Ok(())
    }

    fn probe_answer(&mut self, answer: Option<TopicState>) -> Result<(), Refused> {
        let now = clock::now();
        let next = match answer {
            Some(answer) => self.reach.answered(answer, now),
            None => {
                let next = self.reach.pause_is_over(now);
                if next == Next::AskProducer {
                    self.ask_for_an_id();
                }
                next
            }
        };
        self.probe = match next {
            Next::AskProducer => Wait::Answer(self.producer.probe(false)),
            Next::Remind => {
                let servers = self.properties.get("bootstrap.servers").unwrap_or_default();
                Wait::Answer(self.producer.remind(servers))
            }
            Next::AskAnother => {
                let properties: Vec<_> = self.properties.iter().collect();
                Wait::Answer(self.producer.probe_anew(&properties))
            }
            Next::Pause(until) => Wait::Until(until),
            Next::Replace => {
                self.probe = Wait::Until(after(ASK_AGAIN));
                return Err(Refused::Failed(kafka::Error::Forgotten));
            }
        };
        Ok(())
    }
}

impl Wait {
    /// Waits for what is waited for: an answer, or (`None`) the time.
    ///
    /// # Cancel safety
    /// Safe: question and time are kept.
    async fn over(&mut self) -> Option<TopicState> {
        match self {
            Self::Off => std::future::pending().await,
            Self::Answer(lookup) => Some(lookup.await),
            Self::Until(time) => {
                tokio::time::sleep_until((*time).into()).await;
                None
            }
        }
    }
}

/// Whether the record's partition, if it names one, is among the topic's.
fn fits(record: &Record, partitions: usize) -> bool {
    record.partition.is_none_or(|number| usize::try_from(number).is_ok_and(|number| number < partitions))
}

fn no_such_partition(record: &Record, partitions: usize) -> Rejection {
    let number = record.partition.unwrap_or_default();
    let detail = format!("topic \"{}\" has {partitions} partitions, none with number {number}", record.topic);
    Rejection { event_id: record.event_id(), reason: RejectionReason::InvalidPartition, detail }
}

fn after(pause: Duration) -> Instant {
    let now = clock::now();
    now.checked_add(pause).unwrap_or(now)
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
