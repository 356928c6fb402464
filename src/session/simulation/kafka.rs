//! Brokers, as a client sees them: topics, what is stored in them, and whether they answer.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::client::{Lane, Simulated};
use super::dice::Dice;
use super::plan::{DEAD_LETTERS, POISON, Plan, TOPICS};
use super::witness::Witness;
use crate::kafka::{Ask, Event, TopicState};
use crate::outbox::Record;

/// The cluster. Clients and those who disturb it share it.
pub(super) struct Kafka {
    pub(super) plan: Arc<Plan>,
    pub(super) witness: Arc<Witness>,
    state: Mutex<Cluster>,
    /// Something is due sooner than it was.
    stirred: Notify,
}

pub(super) struct Cluster {
    pub(super) dice: Dice,
    topics: BTreeMap<&'static str, Topic>,
    pub(super) clients: Vec<Simulated>,
    /// What is due, and of which client's lane; by time, then in the order in which it was decided.
    agenda: BTreeMap<(Instant, u64), Due>,
    decided: u64,
    /// Nobody answers before then.
    pub(super) away_until: Instant,
    /// How long a way takes.
    pub(super) latency: u64,
    /// How long a look-up takes.
    pub(super) lookup: u64,
    /// Records that a client's queue takes.
    pub(super) queue: usize,
    /// The topics that the relay may not write to.
    pub(super) denied: Vec<&'static str>,
    /// The session that hands records on now.
    pub(super) session: u32,
}

struct Topic {
    number: usize,
    from: Instant,
    /// The next offsets.
    partitions: [i64; PARTITIONS],
}

const PARTITIONS: usize = 3;

/// librdkafka gives up a question to the cluster after this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happens next to a lane of a client.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) client: usize,
    pub(super) lane: usize,
    pub(super) act: Act,
}

#[derive(Clone, Copy)]
pub(super) enum Act {
    /// What waits in the queue is sent.
    Flush,
    /// The first batch that is on its way arrives.
    Arrive,
    /// The answer to the first batch arrives.
    Answer,
    /// The client notices that nobody answers.
    Down,
}

impl Kafka {
    pub(super) fn new(plan: Arc<Plan>, witness: Arc<Witness>) -> Self {
        let mut topics = BTreeMap::new();
        for (number, (name, from)) in TOPICS.iter().zip(plan.topics_from).enumerate() {
            topics.insert(*name, Topic { number, from: witness.at(from), partitions: [0; PARTITIONS] });
        }
        let cluster = Cluster {
            dice: Dice::new(plan.seed, 2),
            topics,
            clients: Vec::new(),
            agenda: BTreeMap::new(),
            decided: 0,
            away_until: Instant::now(),
            latency: plan.latency,
            lookup: 3,
            queue: 100_000,
            denied: Vec::new(),
            session: 0,
        };
        Self { plan, witness, state: Mutex::new(cluster), stirred: Notify::new() }
    }

    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets happen what is due, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let next = {
                let mut cluster = self.cluster();
                loop {
                    match cluster.agenda.first_key_value() {
                        Some(((at, _), _)) if *at <= Instant::now() => {}
                        next => break next.map(|((at, _), _)| *at),
                    }
                    if let Some((_, due)) = cluster.agenda.pop_first() {
                        self.happen(&mut cluster, due);
                    }
                }
            };
            tokio::select! {
                biased;
                () = self.stirred.notified() => {}
                () = until(next) => {}
            }
        }
    }

    /// Something was decided that may be due soon.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// A new client with `properties`, which tells its `events` there.
    pub(super) fn connect(&self, properties: &[(&str, &str)], events: mpsc::UnboundedSender<Event>) -> usize {
        let mut cluster = self.cluster();
        let client = cluster.clients.len();
        self.witness.note(|| format!("kafka: client {client} is started"));
        cluster.clients.push(Simulated::new(properties, events));
        if cluster.away_until > Instant::now() {
            cluster
                .decide(Instant::now() + Duration::from_millis(200), Due { client, lane: 0, act: Act::Down });
            self.stir();
        }
        client
    }

    /// Nobody answers for so long. The clients notice it some time later.
    pub(super) fn go_away(&self, length: Duration) {
        let mut cluster = self.cluster();
        let now = Instant::now();
        cluster.away_until = cluster.away_until.max(now + length);
        for client in 0..cluster.clients.len() {
            let noticed = now + Duration::from_millis(cluster.dice.between(1, 2_000));
            cluster.decide(noticed, Due { client, lane: 0, act: Act::Down });
        }
        self.stir();
    }

    /// What the cluster says of a topic, after the time that it takes.
    pub(super) async fn answer(&self, topic: String, ask: Ask) -> TopicState {
        let (wait, away) = {
            let mut cluster = self.cluster();
            let most = cluster.lookup;
            let wait = Duration::from_millis(cluster.dice.between(1, most));
            (wait, cluster.away_until.saturating_duration_since(Instant::now()))
        };
        let in_vain = away >= PATIENCE;
        tokio::time::sleep(if in_vain { PATIENCE } else { away + wait }).await;
        let mut cluster = self.cluster();
        if in_vain || cluster.away_until > Instant::now() {
            return TopicState::Unreachable("no broker answers".to_owned());
        }
        let denied = cluster.denied.contains(&topic.as_str());
        let now = Instant::now();
        match cluster.topics.get_mut(topic.as_str()) {
            None => TopicState::Exists { partitions: 50 },
            Some(found) => {
                if found.from > now && ask.create.is_some() {
                    found.from = now;
                }
                match found.from <= now {
                    true if denied && ask.may_write => TopicState::Denied,
                    true => TopicState::Exists { partitions: PARTITIONS },
                    false => TopicState::Missing,
                }
            }
        }
    }

    /// Stores a batch, or refuses it.
    pub(super) fn store(
        &self,
        cluster: &mut Cluster,
        (topic, partition): (&str, usize),
        batch: &[(Record, u32)],
    ) -> Result<(), RDKafkaErrorCode> {
        let letters = topic == DEAD_LETTERS;
        if cluster.denied.contains(&topic) {
            return Err(RDKafkaErrorCode::TopicAuthorizationFailed);
        }
        let Some(found) = cluster.topics.get_mut(topic).filter(|topic| topic.from <= Instant::now()) else {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        };
        let size: usize = batch.iter().map(|(record, _)| size(record)).sum();
        if !letters && size > self.plan.largest_batch {
            return Err(RDKafkaErrorCode::MessageSizeTooLarge);
        }
        let poisoned = |record: &Record| record.value.as_ref().is_some_and(|value| value.starts_with(POISON));
        if !letters && batch.iter().any(|(record, _)| poisoned(record)) {
            return Err(RDKafkaErrorCode::InvalidRecord);
        }
        for (record, session) in batch {
            let offset = &mut found.partitions[partition];
            let place = (found.number, i32::try_from(partition).unwrap());
            self.witness.stored(record, *session, place, *offset);
            *offset += 1;
        }
        Ok(())
    }
}

impl Cluster {
    pub(super) fn decide(&mut self, at: Instant, due: Due) {
        self.decided += 1;
        self.agenda.insert((at, self.decided), due);
    }

    /// The partition in which `record` must lie.
    pub(super) fn partition(&mut self, record: &Record) -> usize {
        let Some(key) = &record.key else {
            return self.dice.below(PARTITIONS);
        };
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        usize::try_from(hasher.finish() % 3).unwrap()
    }

    /// A time for a way, never before `after`.
    pub(super) fn way(&mut self, after: Instant) -> Instant {
        let most = self.latency;
        let now = Instant::now().max(self.away_until);
        after.max(now + Duration::from_millis(self.dice.between(1, most)))
    }
}

/// What a record takes of a batch.
pub(super) fn size(record: &Record) -> usize {
    let headers = record
        .headers
        .iter()
        .map(|header| header.name.len() + header.value.as_ref().map_or(0, bytes::Bytes::len) + 2);
    record.payload_size() + headers.sum::<usize>() + 10
}

/// The number of a lane that is for `topic` and `partition`.
pub(super) fn lane_of(lanes: &mut Vec<Lane>, topic: &str, partition: usize) -> usize {
    let found = lanes.iter().position(|lane| lane.topic == topic && lane.partition == partition);
    found.unwrap_or_else(|| {
        lanes.push(Lane::new(topic.to_owned(), partition));
        lanes.len() - 1
    })
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
