//! An idempotent producer in librdkafka's manner: a queue and batches on their way for each partition, reports in order
//! within a partition and in any order between them, and the end of it all when a batch is refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::kafka::{Act, Cluster, Due, Kafka, lane_of, size};
use crate::kafka::{Ask, Client, Error, Event, Limit, Lookup, Producer, Undelivered};
use crate::outbox::Record;

/// What the cluster knows of a client.
pub(super) struct Simulated {
    /// `None`: it was dropped. What it had on its way may still arrive.
    events: Option<mpsc::UnboundedSender<Event>>,
    lanes: Vec<Lane>,
    queued: usize,
    failed: bool,
    batch: usize,
    linger: u64,
    largest: usize,
}

/// What is under way to one partition.
pub(super) struct Lane {
    pub(super) topic: String,
    pub(super) partition: usize,
    queue: VecDeque<(Record, u32)>,
    batches: VecDeque<Batch>,
    flush: bool,
    /// A batch was refused: those behind it have a gap before them, and are refused as well.
    gap: bool,
    last: Option<Instant>,
}

struct Batch {
    records: Vec<(Record, u32)>,
    outcome: Option<Result<(), RDKafkaErrorCode>>,
}

/// Batches that may be on their way to one partition together, as librdkafka's idempotent producer has it.
const ON_THE_WAY: usize = 5;

/// A producer's handle on its client.
pub(super) struct Handle {
    kafka: Arc<Kafka>,
    number: usize,
}

impl Handle {
    /// A producer with `properties`.
    pub(super) fn producer(kafka: &Arc<Kafka>, properties: &[(&str, &str)]) -> Result<Producer, Error> {
        Producer::over(properties, |events| Ok(Box::new(Self::new(kafka, properties, events))))
    }

    fn new(kafka: &Arc<Kafka>, properties: &[(&str, &str)], events: mpsc::UnboundedSender<Event>) -> Self {
        let number = kafka.connect(properties, events);
        Self { kafka: Arc::clone(kafka), number }
    }
}

impl Client for Handle {
    fn send(&mut self, record: &Record) -> Result<(), RDKafkaErrorCode> {
        let mut cluster = self.kafka.cluster();
        let (session, queue) = (cluster.session, cluster.queue);
        let partition = cluster.partition(record);
        let client = &mut cluster.clients[self.number];
        if client.failed {
            return Err(RDKafkaErrorCode::Fatal);
        }
        if record.payload_size() > client.largest {
            return Err(RDKafkaErrorCode::MessageSizeTooLarge);
        }
        if client.queued >= queue {
            return Err(RDKafkaErrorCode::QueueFull);
        }
        client.queued += 1;
        let lane = lane_of(&mut client.lanes, record.topic.as_str(), partition);
        let linger = client.linger;
        let waiting = &mut client.lanes[lane];
        waiting.queue.push_back((record.clone(), session));
        if !std::mem::replace(&mut waiting.flush, true) {
            let due = Due { client: self.number, lane, act: Act::Flush };
            cluster.decide(Instant::now() + Duration::from_millis(linger), due);
            self.kafka.stir();
        }
        self.kafka.witness.note(|| {
            format!(
                "client {} takes event {} for {} {partition}",
                self.number,
                record.event_id(),
                record.topic
            )
        });
        Ok(())
    }

    /// Its batches are never worth hurrying; what the session makes of that is part of the simulation.
    fn hurry(&self) -> bool {
        true
    }

    fn give_up(&self) {
        self.kafka.cluster().clients[self.number].give_up();
    }

    fn look_up(&self, topic: &str, ask: Ask) -> Lookup {
        let (kafka, topic) = (Arc::clone(&self.kafka), topic.to_owned());
        Lookup::of(tokio::spawn(async move { kafka.answer(topic, ask).await }))
    }

    fn probe_anew(&self, _: &[(&str, &str)], topic: &str) -> Lookup {
        self.look_up(topic, Ask::default())
    }

    fn limit(&self, _: &[(&str, &str)], _: &str) -> Limit {
        let limit = u64::try_from(self.kafka.plan.largest_batch).ok();
        Limit::of(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            limit
        }))
    }

    fn another(
        &self,
        properties: &[(&str, &str)],
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Box<dyn Client>, Error> {
        Ok(Box::new(Self::new(&self.kafka, properties, events)))
    }
}

/// What it has queued is gone. Of what is on its way to a partition the first batches arrive, if any does.
impl Drop for Handle {
    fn drop(&mut self) {
        let mut cluster = self.kafka.cluster();
        let Cluster { clients, dice, .. } = &mut *cluster;
        let client = &mut clients[self.number];
        client.events = None;
        for lane in &mut client.lanes {
            lane.queue.clear();
            let arrived = lane.batches.iter().filter(|batch| batch.outcome.is_some()).count();
            let arrive = dice.between(0, u64::try_from(lane.batches.len() - arrived).unwrap());
            lane.batches.truncate(arrived + usize::try_from(arrive).unwrap());
        }
    }
}

impl Simulated {
    pub(super) fn new(properties: &[(&str, &str)], events: mpsc::UnboundedSender<Event>) -> Self {
        let number = |wanted: &str, default: usize| {
            let last = properties.iter().rfind(|(name, _)| *name == wanted);
            last.and_then(|(_, value)| value.parse().ok()).unwrap_or(default)
        };
        Self {
            events: Some(events),
            lanes: Vec::new(),
            queued: 0,
            failed: false,
            batch: number("batch.size", 1_000_000),
            linger: u64::try_from(number("linger.ms", 5)).unwrap(),
            largest: number("message.max.bytes", 1_000_000),
        }
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    /// Reports all that is queued and not on its way.
    fn give_up(&mut self) {
        for lane in 0..self.lanes.len() {
            let queued = std::mem::take(&mut self.lanes[lane].queue);
            for (record, _) in queued {
                self.report(&record, Err(RDKafkaErrorCode::PurgeQueue));
            }
        }
    }

    fn report(&mut self, record: &Record, outcome: Result<(), RDKafkaErrorCode>) {
        self.queued -= 1;
        self.tell(match outcome {
            Ok(()) => Event::Delivered(record.token),
            Err(code) => Event::Undelivered(Box::new(Undelivered {
                token: record.token,
                code,
                event_id: record.event_id(),
                topic: record.topic.as_str().to_owned(),
                payload_size: record.payload_size(),
            })),
        });
    }

    /// Nothing more is sent: the end of a producer with `enable.gapless.guarantee`.
    pub(super) fn fail(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.failed, true) {
            self.tell(Event::Fatal(RDKafkaErrorCode::Fatal, reason.to_owned()));
            self.give_up();
        }
    }
}

impl Lane {
    pub(super) fn new(topic: String, partition: usize) -> Self {
        let (queue, batches) = (VecDeque::new(), VecDeque::new());
        Self { topic, partition, queue, batches, flush: false, gap: false, last: None }
    }

    /// The next batch of at most `most` bytes.
    fn cut(&mut self, most: usize) -> Batch {
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some((record, _)) = self.queue.front() {
            bytes += size(record);
            if !records.is_empty() && bytes > most {
                break;
            }
            records.extend(self.queue.pop_front());
        }
        Batch { records, outcome: None }
    }
}

impl Kafka {
    pub(super) fn happen(&self, cluster: &mut Cluster, due: Due) {
        match due.act {
            Act::Flush => self.flush(cluster, due),
            Act::Arrive => self.arrive(cluster, due),
            Act::Answer => self.tell(cluster, due),
            Act::Down => {
                if cluster.away_until > Instant::now() {
                    let down = "all brokers are down".to_owned();
                    let event = Event::Trouble(RDKafkaErrorCode::AllBrokersDown, down);
                    cluster.clients[due.client].tell(event);
                }
            }
        }
    }

    fn flush(&self, cluster: &mut Cluster, due: Due) {
        let now = Instant::now();
        let client = &mut cluster.clients[due.client];
        let (most, failed) = (client.batch, client.failed);
        let lane = &mut client.lanes[due.lane];
        lane.flush = false;
        let mut sent = 0;
        while !failed && !lane.queue.is_empty() && lane.batches.len() < ON_THE_WAY {
            let batch = lane.cut(most);
            lane.batches.push_back(batch);
            sent += 1;
        }
        let mut last = lane.last.unwrap_or(now);
        for _ in 0..sent {
            last = cluster.way(last);
            cluster.decide(last, Due { act: Act::Arrive, ..due });
        }
        cluster.clients[due.client].lanes[due.lane].last = Some(last);
    }

    fn arrive(&self, cluster: &mut Cluster, due: Due) {
        if cluster.away_until > Instant::now() {
            // Nobody is there: it is tried again, in the same order.
            let again = cluster.way(Instant::now());
            return cluster.decide(again, due);
        }
        let lane = &mut cluster.clients[due.client].lanes[due.lane];
        let Some(at) = lane.batches.iter().position(|batch| batch.outcome.is_none()) else {
            return;
        };
        let records = std::mem::take(&mut lane.batches[at].records);
        let (topic, partition, gap) = (lane.topic.clone(), lane.partition, lane.gap);
        let outcome = match gap {
            true => Err(RDKafkaErrorCode::OutOfOrderSequenceNumber),
            false => self.store(cluster, (&topic, partition), &records),
        };
        self.witness.note(|| {
            let ids: Vec<_> = records.iter().map(|(record, _)| record.event_id()).collect();
            let result = outcome.map_or_else(|code| format!("refused ({code:?})"), |()| "stored".to_owned());
            format!("kafka: client {}, {topic} {partition}: {} {result}", due.client, ids.join(" "))
        });
        let lane = &mut cluster.clients[due.client].lanes[due.lane];
        lane.gap |= outcome.is_err();
        lane.batches[at].records = records;
        lane.batches[at].outcome = Some(outcome);
        let answered = cluster.way(Instant::now());
        cluster.decide(answered, Due { act: Act::Answer, ..due });
    }

    fn tell(&self, cluster: &mut Cluster, due: Due) {
        if cluster.away_until > Instant::now() {
            // The answer is lost; the client asks again, and hears that it is stored.
            let again = cluster.way(Instant::now());
            return cluster.decide(again, due);
        }
        let first = cluster.dice.once_in(2);
        let client = &mut cluster.clients[due.client];
        let lane = &mut client.lanes[due.lane];
        // Reports come in order, whatever way the answers have gone.
        let answered = lane.batches.front().and_then(|batch| batch.outcome);
        if let Some(outcome) = answered
            && let Some(batch) = lane.batches.pop_front()
        {
            if outcome.is_err() && first {
                client.fail("a batch was refused");
            }
            for (record, _) in batch.records {
                client.report(&record, outcome);
            }
            if outcome.is_err() {
                client.fail("a batch was refused");
            }
            self.flush(cluster, due);
        }
    }
}
