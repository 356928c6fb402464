//! What a writer writes: transactions made of a seed. Pure.
//!
//! Each writer has keys of its own, so the order of its commits is the order of each key. The payload is built as
//! PostgreSQL prints jsonb, so what Kafka must hold is known without asking the database.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::dice::Dice;
use crate::oracle::{Committed, Fingerprint, Id, fingerprint};

/// A row of the outbox that a writer is about to insert.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: Id,
    /// "order" or "payment": the end of the topic's name.
    pub(crate) aggregate_type: &'static str,
    pub(crate) aggregate_id: Option<String>,
    pub(crate) event_type: String,
    pub(crate) payload: Option<String>,
    /// 1 for the first committed event of its key, and so on.
    pub(crate) number: u32,
}

/// A part of a transaction.
#[derive(Debug)]
pub(crate) enum Step {
    /// One INSERT of these rows.
    Insert(Vec<Event>),
    /// One INSERT within a savepoint that is taken back.
    TakenBack(Vec<Event>),
    /// Rows of this transaction are deleted again: their events are sent all the same.
    DeleteOwn,
    /// Other transactions go on meanwhile.
    Pause(Duration),
}

/// A transaction, and how it ends.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) steps: Vec<Step>,
    pub(crate) commits: bool,
}

/// One writer's source of transactions.
pub(crate) struct Plan {
    dice: Dice,
    writer: usize,
    keys: u64,
    /// The number of the last committed event of each key.
    numbers: HashMap<String, u32>,
}

/// The topics, by aggregate type, with their partitions.
pub(crate) const TOPICS: [(&str, i32); 2] = [("order", 4), ("payment", 2)];

/// The topic of an aggregate type, as the relay's default configuration has it.
pub(crate) fn topic(aggregate_type: &str) -> String {
    format!("outbox.event.{aggregate_type}")
}

impl Plan {
    /// The plan of writer number `writer`, which owns `keys` keys.
    pub(crate) fn new(dice: Dice, writer: usize, keys: u64) -> Self {
        Self { dice, writer, keys, numbers: HashMap::new() }
    }

    /// The next transaction. Numbers go on from those of [`Plan::committed`].
    pub(crate) fn transaction(&mut self) -> Transaction {
        let mut numbers = self.numbers.clone();
        let statements = match self.dice.between(0, 99) {
            0..=79 => vec![1],
            80..=93 => (0..self.dice.between(2, 12)).map(|_| self.dice.between(1, 4)).collect(),
            94..=98 => vec![self.dice.between(1, 3), self.dice.between(10, 60)],
            _ => vec![self.dice.between(150, 400), 1],
        };
        let long = self.dice.once_in(40);
        let mut steps = Vec::new();
        for rows in &statements {
            if self.dice.once_in(8) {
                // They take numbers of their own, which nobody shall see.
                let mut lost = numbers.clone();
                let events = (0..self.dice.between(1, 5)).map(|_| self.event(&mut lost, false)).collect();
                steps.push(Step::TakenBack(events));
            }
            let bulk = *rows > 5;
            steps.push(Step::Insert((0..*rows).map(|_| self.event(&mut numbers, bulk)).collect()));
            if long {
                let pause = self.dice.between(50, 600 / u64::try_from(statements.len()).unwrap_or(1) + 60);
                steps.push(Step::Pause(Duration::from_millis(pause)));
            }
        }
        if self.dice.once_in(10) {
            steps.push(Step::DeleteOwn);
        }
        Transaction { steps, commits: !self.dice.once_in(12) }
    }

    /// The transaction was committed at `at`: its numbers are taken. What the oracle must know of it.
    pub(crate) fn committed(&mut self, transaction: Transaction, at: Duration) -> Vec<Committed> {
        let mut committed = Vec::new();
        for step in transaction.steps {
            let Step::Insert(events) = step else { continue };
            for event in events {
                if let Some(key) = &event.aggregate_id {
                    self.numbers.insert(key.clone(), event.number);
                }
                committed.push(event.committed(at));
            }
        }
        committed
    }

    /// How long to rest before the next transaction.
    pub(crate) fn rest(&mut self) -> Duration {
        Duration::from_millis(self.dice.between(0, 40))
    }

    fn event(&mut self, numbers: &mut HashMap<String, u32>, small: bool) -> Event {
        let key = self.dice.between(1, self.keys);
        let [(order, _), (payment, _)] = TOPICS;
        let aggregate_type = if key.is_multiple_of(3) { payment } else { order };
        let name = match key % 5 {
            0 => format!("žluťoučký-{}-{key}", self.writer),
            1 => format!("馬🐎 {}/{key}", self.writer),
            _ => format!("{}-{key}", self.writer),
        };
        let number = numbers.get(&name).map_or(1, |last| last + 1);
        let aggregate_id = (!self.dice.once_in(50)).then_some(name);
        if let Some(key) = &aggregate_id {
            numbers.insert(key.clone(), number);
        }
        Event {
            id: Id((u128::from(self.dice.bits()) << 64) | u128::from(self.dice.bits())),
            aggregate_type,
            event_type: if self.dice.once_in(2) { "Placed" } else { "Změněno" }.to_owned(),
            payload: self.payload(aggregate_id.as_deref(), number, small),
            aggregate_id,
            number,
        }
    }

    /// 20 bytes to 200 kB of JSON, as `jsonb` is printed: shorter keys first, equally long ones by their letters.
    fn payload(&mut self, key: Option<&str>, number: u32, small: bool) -> Option<String> {
        let pad = match self.dice.between(0, 999) {
            0..=29 => return None,
            30..=329 => return Some(format!("{{\"number\": {number}}}")),
            330..=899 => self.dice.between(0, 300),
            900..=989 if !small => self.dice.between(300, 8_000),
            990..=999 if !small => self.dice.between(8_000, 200_000),
            _ => 10,
        };
        let words = ["a", "ř", "馬", "🐎", "ß", " ", "0123456789abcdefghijklmnopqrstuvwxyz"];
        let mut text = String::new();
        while u64::try_from(text.len()).is_ok_and(|len| len < pad) {
            let word = usize::try_from(self.dice.between(0, 6)).unwrap_or(0);
            text.push_str(words.get(word).copied().unwrap_or("x"));
        }
        let mut json = format!("{{\"n\": {number}, ");
        let _ = match key {
            Some(key) => write!(json, "\"key\": \"{key}\", "),
            None => write!(json, "\"key\": null, "),
        };
        let Fingerprint(sum) = fingerprint(Some(text.as_bytes()));
        let _ = write!(json, "\"pad\": \"{text}\", \"sum\": \"{sum:016x}\"}}");
        Some(json)
    }
}

impl Event {
    /// What the oracle must know of it once it is committed.
    pub(crate) fn committed(&self, at: Duration) -> Committed {
        Committed {
            id: self.id,
            key: self.aggregate_id.clone(),
            number: self.number,
            content: [
                fingerprint(Some(topic(self.aggregate_type).as_bytes())),
                fingerprint(self.aggregate_id.as_deref().map(str::as_bytes)),
                fingerprint(self.payload.as_deref().map(str::as_bytes)),
                fingerprint(Some(self.event_type.as_bytes())),
            ],
            at,
        }
    }
}
