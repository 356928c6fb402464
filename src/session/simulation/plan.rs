//! What a seed makes of a world before it begins: what is written when, and how the two sides are set up.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::dice::Dice;
use super::oracle::{Committed, Id, fingerprint};
use super::wire::stream::{COMMIT_RECORD, Transaction, table};
use super::wire::{Message, text};
use crate::lsn::Lsn;
use crate::wal::PgTimestamp;
use crate::wal::pgoutput::{Relation, RelationId, Value};

/// Where the slot begins.
pub(super) const FIRST: u64 = 0x10_0000;

/// The configured outboxes, and a table that is published and none.
pub(super) const OUTBOXES: [(u32, &str); 2] = [(10, "public"), (11, "audit")];
pub(super) const ELSEWHERE: RelationId = RelationId(40);

/// Topics. The last one is that of dead letters.
pub(super) const TOPICS: [&str; 4] =
    ["outbox.event.order", "outbox.event.user", "outbox.event.invoice", "outbox.dead-letter"];
pub(super) const DEAD_LETTERS: &str = TOPICS[3];

/// A value that begins like this is one that brokers refuse, wherever it is no dead letter.
pub(super) const POISON: &[u8] = b"poison";

/// A world to be.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) transactions: Vec<Written>,
    /// Whether rejected events become dead letters; otherwise reading stops at them, until somebody has them passed over.
    pub(super) dead_letters: bool,
    /// `message.max.bytes` of the client.
    pub(super) largest_message: usize,
    /// `max.message.bytes` of the topics; that of dead letters takes anything.
    pub(super) largest_batch: usize,
    pub(super) max_in_flight: u64,
    /// Whether missing topics are made by the relay.
    pub(super) create_topics: bool,
    pub(super) wal_sender_timeout: Duration,
    pub(super) drain_timeout: Duration,
    /// When each topic is there.
    pub(super) topics_from: [Duration; TOPICS.len()],
    /// Milliseconds that a way to a broker takes at most, while it is not slow.
    pub(super) latency: u64,
    /// What goes wrong: when, what, and for how many milliseconds; `None`: what the seed says.
    pub(super) faults: Option<Vec<(u64, super::faults::Fault, u64)>>,
    /// How long there are writers and faults.
    pub(super) length: Duration,
}

/// A transaction and what it wrote into the outboxes.
pub(super) struct Written {
    /// When it was committed.
    pub(super) at: Duration,
    /// Where its first row lies: transactions are open beside each other, so other commits may lie behind it.
    began: u64,
    pub(super) transaction: Transaction,
    pub(super) events: Vec<Event>,
}

/// A row of an outbox.
pub(super) struct Event {
    pub(super) id: Id,
    topic: &'static str,
    key: Option<String>,
    value: Option<Bytes>,
    event_type: Option<String>,
    pub(super) fault: Option<Fault>,
}

/// Why Kafka never takes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its topic's name.
    Topic,
    /// A broker refuses it, with its batch.
    Poison,
    /// It is larger than its topic takes.
    TooLarge,
    /// It is larger than the client takes; so is its dead letter.
    FarTooLarge,
}

impl Plan {
    /// The world of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 0);
        let tight = dice.once_in(3);
        let longest = if dice.once_in(12) { 90_000 } else { 5_000 };
        let length = Duration::from_millis(dice.between(200, longest));
        let faulty = if dice.once_in(3) { 12 } else { u64::MAX };
        let mut plan = Self {
            seed,
            transactions: Vec::new(),
            dead_letters: dice.once_in(2),
            largest_message: if tight { 4_000 } else { 1_000_000 },
            largest_batch: if tight { 2_500 } else { 1_000_000 },
            max_in_flight: [1, 2_000, 10_000, 16 << 20][dice.below(4)],
            create_topics: dice.once_in(3),
            wal_sender_timeout: Duration::from_secs([3, 10, 60][dice.below(3)]),
            drain_timeout: Duration::from_secs([1, 20][dice.below(2)]),
            topics_from: [Duration::ZERO; TOPICS.len()],
            faults: None,
            latency: [3, 3, 30, 300][dice.below(4)],
            length,
        };
        if plan.max_in_flight == 1 {
            // One event after the other: it would take minutes.
            plan.latency = 3;
        }
        for from in &mut plan.topics_from {
            if dice.once_in(8) {
                *from = Duration::from_millis(dice.between(0, millis(length)));
            }
        }
        let mut lsn = FIRST;
        let most = if dice.once_in(12) { 100 } else { 12 };
        let count = dice.between(1, most);
        let mut times: Vec<u64> = (0..count).map(|_| dice.between(0, millis(length))).collect();
        times.sort_unstable();
        let mut number = 0;
        for at in times {
            lsn += dice.between(1, 5_000);
            let commit_lsn = lsn;
            lsn += COMMIT_RECORD;
            let written = written(&mut dice, Lsn::new(commit_lsn), at, &mut number, (tight, faulty));
            plan.transactions.push(written);
        }
        plan
    }

    /// Behind the last transaction.
    pub(super) fn end(&self) -> u64 {
        self.transactions.last().map_or(FIRST, |written| written.transaction.end_lsn().as_u64())
    }

    /// Ids of the events that Kafka never takes and that get no dead letter.
    pub(super) fn hopeless(&self) -> Vec<String> {
        let events = self.transactions.iter().flat_map(|written| &written.events);
        let hopeless = events.filter(|event| match event.fault {
            None => false,
            Some(Fault::FarTooLarge) => true,
            Some(_) => !self.dead_letters,
        });
        hopeless.map(|event| event.id.to_string()).collect()
    }

    /// The topic in which an event must come to lie, unless it is passed over.
    pub(super) fn topic_of(&self, event: &Event) -> &'static str {
        if event.fault.is_some() { DEAD_LETTERS } else { event.topic }
    }

    /// What must come to lie in Kafka, if `passed_over` need not.
    pub(super) fn expected(&self, passed_over: &[String]) -> Vec<Committed> {
        let mut numbers: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let mut expected = Vec::new();
        for written in &self.transactions {
            for event in &written.events {
                if passed_over.contains(&event.id.to_string()) {
                    continue;
                }
                let topic = self.topic_of(event);
                let number = event.key.as_deref().map_or(0, |key| {
                    let number = numbers.entry((topic, key)).or_default();
                    *number += 1;
                    *number
                });
                let parts = [
                    Some(topic.as_bytes()),
                    event.key.as_deref().map(str::as_bytes),
                    event.value.as_deref(),
                    event.event_type.as_deref().map(str::as_bytes),
                ];
                expected.push(Committed {
                    id: event.id,
                    key: event.key.as_deref().map(|key| format!("{topic}/{key}")),
                    number,
                    content: parts.map(fingerprint),
                    at: written.at,
                });
            }
        }
        expected
    }
}

/// The description of an outbox.
fn outbox((id, schema): (u32, &str)) -> Relation {
    let columns =
        [("id", 2950), ("aggregate_type", 25), ("aggregate_id", 25), ("event_type", 25), ("payload", 25)];
    table(id, schema, "outbox", &columns)
}

fn written(
    dice: &mut Dice,
    commit_lsn: Lsn,
    at: u64,
    number: &mut u64,
    (tight, faulty): (bool, u64),
) -> Written {
    let commit_time = PgTimestamp::from_micros(i64::try_from(at * 1_000).unwrap());
    let mut transaction = Transaction::new(commit_lsn, commit_time);
    let mut events = Vec::new();
    let rows = if dice.once_in(30) { dice.between(20, 60) } else { dice.between(0, 3) };
    for _ in 0..rows {
        if dice.once_in(8) {
            let elsewhere = table(ELSEWHERE.0, "public", "orders", &[("id", 20)]);
            transaction.insert(&elsewhere, vec![text("1")]);
            continue;
        }
        let of = outbox(OUTBOXES[dice.below(2)]);
        if dice.once_in(20) {
            transaction.change(&of, Message::Update(of.id, None, vec![Value::Null; 5]));
            continue;
        }
        *number += 1;
        let event = event(dice, *number, tight, faulty);
        let column = |value: Option<&str>| value.map_or(Value::Null, |value| text(value.to_owned()));
        let kind = event.topic.strip_prefix("outbox.event.").unwrap();
        let kind = if event.fault == Some(Fault::Topic) { "no topic" } else { kind };
        let row = vec![
            column(Some(&event.id.to_string())),
            column(Some(kind)),
            column(event.key.as_deref()),
            column(event.event_type.as_deref()),
            event.value.clone().map_or(Value::Null, text),
        ];
        transaction.insert(&of, row);
        events.push(event);
    }
    let back = dice.between(1, 20_000);
    let began = commit_lsn.as_u64().saturating_sub(back).max(FIRST);
    Written { at: Duration::from_millis(at), began, transaction, events }
}

impl Written {
    /// Where message `number` of `count` lies, in the order in which they are sent: the last one is the commit record.
    pub(super) fn place(&self, number: usize, count: usize) -> Lsn {
        let length = self.transaction.commit_lsn.as_u64().saturating_sub(self.began);
        let (number, count) = (u64::try_from(number + 1).unwrap(), u64::try_from(count).unwrap());
        Lsn::new(self.began + length * number / count)
    }
}

fn event(dice: &mut Dice, number: u64, tight: bool, faulty: u64) -> Event {
    let fault = if faulty != u64::MAX && dice.once_in(faulty) {
        Some(match dice.below(4) {
            0 => Fault::Topic,
            1 if tight => Fault::TooLarge,
            2 if tight => Fault::FarTooLarge,
            _ => Fault::Poison,
        })
    } else {
        None
    };
    let len = match fault {
        Some(Fault::TooLarge) => 2_600,
        Some(Fault::FarTooLarge) => 4_100,
        _ if dice.once_in(4) => dice.between(0, 1_500),
        _ => dice.between(0, 60),
    };
    let mut value = vec![b'a' + u8::try_from(number % 26).unwrap(); usize::try_from(len).unwrap()];
    if fault == Some(Fault::Poison) {
        value.splice(0..0, POISON.iter().copied());
    }
    Event {
        id: Id(u128::from(number)),
        topic: TOPICS[dice.below(3)],
        key: (!dice.once_in(10)).then(|| format!("key-{}", dice.below(5))),
        value: (fault.is_some() || !dice.once_in(20)).then(|| Bytes::from(value)),
        event_type: (!dice.once_in(10)).then(|| "happened".to_owned()),
        fault,
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
