//! What a server has in its log, and what must become of it.
//!
//! Three outboxes: `public.outbox` and `audit.outbox` are configured by name, the third is known by its object id only,
//! having been renamed. Their columns change from transaction to transaction. `public.orders` is published, but no outbox.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{RECORD_OVERHEAD, Record, RejectionReason, Topic};
use outbox_relay::relay::{Relay, Start};
use outbox_relay::wal::pgoutput::{Logical, Origin, Relation, RelationId, Truncate, Value};
use outbox_relay::wal::{PgTimestamp, Timelines};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::wire::stream::{COMMIT_RECORD, Transaction, table};
use crate::wire::{Message, Old, Row, text};

/// Where the log begins, and the slot.
pub(crate) const FIRST: u64 = 1_000;

/// The table that is published and no outbox.
pub(crate) const ELSEWHERE: RelationId = RelationId(40);

/// The id of events that are passed over.
pub(crate) const SKIPPED: &str = "skip-me";

const SOURCE: &str = "7000000000000000001/outbox_relay";

/// A log, and how the relay is to read it.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) transactions: Vec<Committed>,
    pub(crate) max_in_flight: usize,
    /// Whether rejected events become dead letters.
    pub(crate) dead_letters: bool,
    /// Where the server's first timeline ended.
    switch: Lsn,
}

/// A transaction, and what is expected of each of its changes.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) transaction: Transaction,
    pub(crate) changes: Vec<Expected>,
}

/// A change: which transaction, and which of its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) transaction: usize,
    pub(crate) change: usize,
}

/// What must become of a change.
#[derive(Debug)]
pub(crate) enum Expected {
    Event(Event),
    Rejected(RejectionReason),
    Skipped,
    Update,
    Delete,
    Truncate,
    Nothing,
}

/// A record as it must be, and whether Kafka does not confirm it until the very end.
#[derive(Debug)]
pub(crate) struct Event {
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(&'static str, Option<Bytes>)>,
    timestamp: i64,
    stuck: bool,
}

/// A change before it has a place.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Event { outbox: u8, key: Option<u8>, value: Option<u16>, stuck: bool },
    Rejected(u8, bool),
    Skipped(u8),
    InsertElsewhere,
    UpdateElsewhere,
    Update(u8),
    Delete(u8),
    Truncate(u8),
    Message,
    Origin,
}

pub(crate) fn script() -> impl Strategy<Value = Script> {
    let rejections = prop_oneof![3 => Just(0_u32), 1 => Just(1)];
    rejections.prop_flat_map(|rejections| {
        let transaction = (1..200_u64, any::<bool>(), vec(change(rejections), 0..6));
        // Room for so many bytes, or for exactly so many records.
        let room = prop_oneof![
            (1..3_000_usize).prop_map(Room::Bytes),
            (1..4_usize).prop_map(Room::Records),
            Just(Room::Bytes(1 << 20)),
        ];
        // Where the timeline ended: near the commit record of any transaction.
        let switch = (any::<Index>(), 0..3_u64);
        let script = (vec(transaction, 0..10), room, switch, any::<bool>());
        script.prop_map(|(transactions, room, (at, around), dead_letters)| {
            let mut end = FIRST;
            let places = transactions.iter().map(|(gap, ..)| {
                let commit_lsn = end + gap;
                end = commit_lsn + COMMIT_RECORD;
                commit_lsn
            });
            let places: Vec<u64> = places.collect();
            let near = if places.is_empty() { FIRST } else { *at.get(&places) };
            let switch = near + around - 1;
            let transactions = transactions.iter().zip(&places).enumerate();
            let transactions = transactions.map(|(index, ((_, changed, changes), commit_lsn))| {
                committed(index, *commit_lsn, switch, *changed, changes)
            });
            let mut script = Script {
                transactions: transactions.collect(),
                max_in_flight: 1,
                dead_letters,
                switch: Lsn::new(switch),
            };
            script.max_in_flight = match room {
                Room::Bytes(bytes) => bytes,
                Room::Records(records) => {
                    script.events().take(records).map(Event::size).sum::<usize>().max(1)
                }
            };
            script
        })
    })
}

#[derive(Debug, Clone)]
enum Room {
    Bytes(usize),
    Records(usize),
}

fn change(rejections: u32) -> impl Strategy<Value = Change> {
    let outbox = || 0..3_u8;
    let key = proptest::option::weighted(0.9, 0..4_u8);
    let value = proptest::option::weighted(0.9, 0..700_u16);
    let event = (outbox(), key, value, proptest::bool::weighted(0.1));
    prop_oneof![
        12 => event.prop_map(|(outbox, key, value, stuck)| Change::Event { outbox, key, value, stuck }),
        rejections => (outbox(), any::<bool>()).prop_map(|(outbox, id)| Change::Rejected(outbox, id)),
        1 => outbox().prop_map(Change::Skipped),
        2 => Just(Change::InsertElsewhere),
        1 => Just(Change::UpdateElsewhere),
        1 => outbox().prop_map(Change::Update),
        1 => outbox().prop_map(Change::Delete),
        1 => outbox().prop_map(Change::Truncate),
        1 => Just(Change::Message),
        1 => Just(Change::Origin),
    ]
}

/// One of the outboxes; `changed` ones have another name where that may be, other columns and another order of them.
fn outbox(number: u8, changed: bool) -> Relation {
    let (schema, name) = match (number, changed) {
        (0, _) => ("public", "outbox"),
        (1, _) => ("audit", "outbox"),
        (_, false) => ("public", "events"),
        (_, true) => ("public", "events_renamed"),
    };
    let columns: &[(&str, u32)] = if changed {
        &[
            ("payload", 25),
            ("note", 25),
            ("event_type", 25),
            ("aggregate_id", 25),
            ("aggregate_type", 25),
            ("id", 2950),
        ]
    } else {
        &[("id", 2950), ("aggregate_type", 25), ("aggregate_id", 25), ("event_type", 25), ("payload", 25)]
    };
    table(u32::from(number) + 10, schema, name, columns)
}

/// A row of `table` with its columns by name; what is not named is NULL.
fn row(table: &Relation, values: &[(&str, Option<&Bytes>)]) -> Row {
    let value = |name: &str| values.iter().find(|(column, _)| *column == name).and_then(|(_, value)| *value);
    let columns = table.columns.iter();
    columns.map(|column| value(&column.name).map_or(Value::Null, |value| text(value.clone()))).collect()
}

fn committed(number: usize, commit_lsn: u64, switch: u64, changed: bool, changes: &[Change]) -> Committed {
    let micros = i64::try_from(number).unwrap() * 1_000_999;
    let mut transaction = Transaction::new(Lsn::new(commit_lsn), PgTimestamp::from_micros(micros));
    let elsewhere = table(ELSEWHERE.0, "public", "orders", &[("id", 20)]);
    let mut expected = Vec::new();
    // Rows so far; TRUNCATE and messages are none.
    let mut rows = 0;
    for change in changes {
        rows += u32::from(!matches!(change, Change::Truncate(_) | Change::Message | Change::Origin));
        let id = Bytes::from(format!("event-{number}-{rows}"));
        let kind = Bytes::from_static(b"order");
        expected.push(match *change {
            Change::Event { outbox: of, key, value, stuck } => {
                let table = outbox(of, changed);
                let key = key.map(|key| Bytes::from(format!("order-{key}")));
                let value = value.map(|len| Bytes::from(vec![b'x'; usize::from(len)]));
                let columns = [
                    ("id", Some(&id)),
                    ("aggregate_type", Some(&kind)),
                    ("aggregate_id", key.as_ref()),
                    ("payload", value.as_ref()),
                    ("note", Some(&kind)),
                ];
                transaction.insert(&table, row(&table, &columns));
                let timeline = if commit_lsn < switch { 1 } else { 2 };
                let position = format!("{timeline:08X}-{commit_lsn:016X}-{rows:08X}");
                Expected::Event(Event {
                    key,
                    value,
                    headers: vec![
                        ("id", Some(id)),
                        ("source", Some(Bytes::from_static(SOURCE.as_bytes()))),
                        ("position", Some(Bytes::from(position))),
                        ("event_type", None),
                    ],
                    timestamp: (946_684_800_000_000 + micros).div_euclid(1000),
                    stuck,
                })
            }
            Change::Rejected(of, without_id) => {
                let table = outbox(of, changed);
                let bad = Bytes::from_static(b"no topic");
                let columns: &[_] = if without_id {
                    &[("aggregate_type", Some(&kind))]
                } else {
                    &[("id", Some(&id)), ("aggregate_type", Some(&bad))]
                };
                transaction.insert(&table, row(&table, columns));
                let reason = if without_id { RejectionReason::Null } else { RejectionReason::InvalidTopic };
                Expected::Rejected(reason)
            }
            // Whatever else is wrong with it.
            Change::Skipped(of) => {
                let table = outbox(of, changed);
                let id = Bytes::from_static(SKIPPED.as_bytes());
                transaction.insert(&table, row(&table, &[("id", Some(&id))]));
                Expected::Skipped
            }
            Change::InsertElsewhere => {
                transaction.insert(&elsewhere, vec![text("1")]);
                Expected::Nothing
            }
            Change::UpdateElsewhere => {
                transaction.change(&elsewhere, Message::Update(ELSEWHERE, None, vec![text("1")]));
                Expected::Nothing
            }
            Change::Update(of) => {
                let table = outbox(of, changed);
                transaction.change(&table, Message::Update(table.id, None, row(&table, &[])));
                Expected::Update
            }
            Change::Delete(of) => {
                let table = outbox(of, changed);
                transaction.change(&table, Message::Delete(table.id, Old::Full(row(&table, &[]))));
                Expected::Delete
            }
            Change::Truncate(of) => {
                let table = outbox(of, changed);
                let relations = vec![ELSEWHERE, table.id];
                transaction.change(&table, Message::Truncate(Truncate { options: 0, relations }));
                Expected::Truncate
            }
            Change::Message => {
                transaction.message(Message::Logical(Logical {
                    transactional: true,
                    lsn: Lsn::new(commit_lsn - 1),
                    prefix: "note".to_owned(),
                    content: Bytes::new(),
                }));
                continue;
            }
            Change::Origin => {
                transaction.message(Message::Origin(Origin {
                    commit_lsn: Lsn::new(7),
                    name: "elsewhere".to_owned(),
                }));
                continue;
            }
        });
    }
    Committed { transaction, changes: expected }
}

impl Script {
    /// A relay whose slot has confirmed everything before `confirmed_flush`.
    pub(crate) fn relay(&self, confirmed_flush: Lsn) -> Relay {
        Relay::new(Start {
            spec: crate::wire::spec(&["public", "audit"]),
            outboxes: vec![outbox(2, false).id],
            source: Some(SOURCE.to_owned()),
            timelines: Timelines::from_history(2, &format!("1\t{}\tpromoted\n", self.switch)).unwrap(),
            confirmed_flush,
            shard: None,
            max_in_flight: self.max_in_flight,
            skip: HashSet::from([Bytes::from_static(SKIPPED.as_bytes())]),
            dead_letters: self.dead_letters.then(|| Topic::new(b"outbox.dead-letter").unwrap()),
        })
    }

    /// Behind the last transaction: other databases write as well.
    pub(crate) fn end(&self) -> Lsn {
        let last = self.transactions.last();
        let end = last.map_or(FIRST, |committed| committed.transaction.end_lsn().as_u64());
        Lsn::new(end + COMMIT_RECORD)
    }

    pub(crate) fn is_stuck(&self, place: Place) -> bool {
        matches!(&self.transactions[place.transaction].changes[place.change], Expected::Event(event) if event.stuck)
    }

    /// The places of all events that Kafka must have, and of all that are rejected without a dead letter.
    pub(crate) fn events_and_rejected(&self) -> (BTreeSet<Place>, BTreeSet<Place>) {
        let (mut events, mut rejected) = (BTreeSet::new(), BTreeSet::new());
        for (transaction, committed) in self.transactions.iter().enumerate() {
            for (change, expected) in committed.changes.iter().enumerate() {
                let place = Place { transaction, change };
                match expected {
                    Expected::Event(_) => events.insert(place),
                    Expected::Rejected(_) if self.dead_letters => events.insert(place),
                    Expected::Rejected(_) => rejected.insert(place),
                    _ => false,
                };
            }
        }
        (events, rejected)
    }

    /// The size of the largest record.
    pub(crate) fn largest(&self) -> usize {
        // A dead letter here has no more than ids, texts of a few letters and its headers.
        let letter = if self.dead_letters { RECORD_OVERHEAD + 500 } else { 0 };
        self.events().map(Event::size).max().unwrap_or(0).max(letter)
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        let changes = self.transactions.iter().flat_map(|committed| &committed.changes);
        changes.filter_map(|expected| match expected {
            Expected::Event(event) => Some(event),
            _ => None,
        })
    }
}

impl Event {
    /// Value, key, headers, and what librdkafka takes for itself.
    pub(crate) fn size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
        len(&self.key) + len(&self.value) + headers + RECORD_OVERHEAD
    }

    pub(crate) fn assert_is(&self, record: &Record) {
        assert_eq!(record.topic.as_str(), "outbox.event.order");
        assert_eq!((&record.key, &record.value), (&self.key, &self.value));
        assert_eq!(record.partition, None);
        assert_eq!(record.timestamp.0, self.timestamp);
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name.as_ref(), header.value.clone())).collect();
        assert_eq!(headers, self.headers);
        assert_eq!(record.size(), self.size());
    }
}
