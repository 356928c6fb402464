//! `ack` against a model that is obviously right: a list of everything that was ever received, gone through anew for
//! each answer.

use outbox_relay::ack::{Ack, TransactionNumber};
use outbox_relay::lsn::Lsn;
use outbox_relay::wal::PgTimestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::config;

/// What may happen to a queue, in any order. Numbers of bytes are distances, so that positions are as they come.
#[derive(Debug, Clone)]
enum Happening {
    /// A transaction begins, if none is open.
    Begin,
    /// A record, whether or not a transaction is open.
    Record,
    /// The open transaction ends, so many bytes after everything before it.
    Commit(u64),
    /// A keepalive so many bytes before or after everything received.
    Keepalive(i64),
    /// Any of the unconfirmed records is confirmed.
    Confirm(Index),
    /// All records of the oldest transaction but one.
    ConfirmAllButOne,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => Just(Happening::Begin),
        4 => Just(Happening::Record),
        2 => (1..100_u64).prop_map(Happening::Commit),
        2 => (-100..100_i64).prop_map(Happening::Keepalive),
        4 => any::<Index>().prop_map(Happening::Confirm),
        1 => Just(Happening::ConfirmAllButOne),
    ]
}

/// Everything received in a session, with a name `T` for each record that is not confirmed.
#[derive(Debug)]
pub(crate) struct Model<T> {
    pub(crate) floor: u64,
    pub(crate) entries: Vec<Entry<T>>,
}

#[derive(Debug)]
pub(crate) enum Entry<T> {
    Transaction {
        committed: PgTimestamp,
        /// `None` while it is open.
        end: Option<u64>,
        unconfirmed: Vec<T>,
    },
    Keepalive(u64),
}

impl<T> Model<T> {
    /// The entries before the first that is open or has an unconfirmed record.
    fn confirmed(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.iter().take_while(|entry| match entry {
            Entry::Transaction { end, unconfirmed, .. } => end.is_some() && unconfirmed.is_empty(),
            Entry::Keepalive(_) => true,
        })
    }

    fn end_of<'a>(&self, entries: impl Iterator<Item = &'a Entry<T>>) -> u64
    where
        T: 'a,
    {
        let ends = entries.filter_map(|entry| match entry {
            Entry::Transaction { end, .. } => *end,
            Entry::Keepalive(end) => Some(*end),
        });
        ends.fold(self.floor, u64::max)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Transaction { end: None, .. }))
    }

    pub(crate) fn begin(&mut self, committed: PgTimestamp) {
        self.entries.push(Entry::Transaction { committed, end: None, unconfirmed: Vec::new() });
    }

    /// The open transaction's unconfirmed records.
    pub(crate) fn open(&mut self) -> Option<&mut Vec<T>> {
        match self.entries.last_mut() {
            Some(Entry::Transaction { end: None, unconfirmed, .. }) => Some(unconfirmed),
            _ => None,
        }
    }

    pub(crate) fn commit(&mut self, at: u64) {
        if let Some(Entry::Transaction { end: end @ None, .. }) = self.entries.last_mut() {
            *end = Some(at);
        }
    }

    pub(crate) fn keepalive(&mut self, wal_end: u64) {
        if !self.is_open() {
            self.entries.push(Entry::Keepalive(wal_end));
        }
    }

    /// The unconfirmed records of each transaction, oldest first.
    pub(crate) fn unconfirmed(&mut self) -> impl Iterator<Item = &mut Vec<T>> {
        self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Transaction { unconfirmed, .. } => Some(unconfirmed),
            Entry::Keepalive(_) => None,
        })
    }

    /// Transactions with unconfirmed records: when they were committed.
    fn waiting(&self) -> Vec<PgTimestamp> {
        let waiting = self.entries.iter().filter_map(|entry| match entry {
            Entry::Transaction { committed, unconfirmed, .. } if !unconfirmed.is_empty() => Some(*committed),
            _ => None,
        });
        waiting.collect()
    }
}

fn happen(ack: &mut Ack, model: &mut Model<TransactionNumber>, happening: &Happening) {
    let received = model.end_of(model.entries.iter());
    match *happening {
        Happening::Begin if model.is_open() => {}
        Happening::Begin => {
            let committed = PgTimestamp::from_micros(i64::try_from(model.entries.len()).unwrap());
            ack.begin(committed);
            model.begin(committed);
        }
        Happening::Record => match (model.open(), ack.record()) {
            (Some(unconfirmed), Some(number)) => unconfirmed.push(number),
            (open, number) => assert_eq!((open, number), (None, None), "a record outside a transaction"),
        },
        Happening::Commit(distance) => {
            if model.is_open() {
                model.commit(received + distance);
                ack.commit(Lsn::new(received + distance));
            }
        }
        Happening::Keepalive(distance) => {
            let wal_end = received.saturating_add_signed(distance);
            model.keepalive(wal_end);
            ack.keepalive(Lsn::new(wal_end));
        }
        Happening::Confirm(index) => {
            let waiting: usize = model.unconfirmed().map(|records| records.len()).sum();
            if waiting > 0 {
                confirm(ack, model, index.index(waiting));
            }
        }
        Happening::ConfirmAllButOne => {
            if let Some(oldest) = model.unconfirmed().find(|records| !records.is_empty()) {
                oldest.drain(1..).for_each(|number| ack.confirmed(number));
            }
        }
    }
}

/// Confirms the record at `place`, counted over all unconfirmed records, oldest first.
fn confirm(ack: &mut Ack, model: &mut Model<TransactionNumber>, mut place: usize) {
    for records in model.unconfirmed() {
        if place < records.len() {
            ack.confirmed(records.remove(place));
            return;
        }
        place -= records.len();
    }
}

/// The queue gives every answer that the list gives.
pub(crate) fn agree<T>(ack: &Ack, model: &Model<T>) {
    assert_eq!(ack.position().lsn().as_u64(), model.end_of(model.confirmed()));
    assert_eq!(ack.received().as_u64(), model.end_of(model.entries.iter()));
    let confirmed = model.confirmed().filter(|entry| matches!(entry, Entry::Transaction { .. }));
    assert_eq!(ack.transactions_confirmed(), confirmed.count() as u64);
    let waiting = model.waiting();
    assert_eq!(ack.queue_len(), waiting.len());
    assert_eq!(ack.oldest_unconfirmed(), waiting.first().copied());
    assert_eq!(ack.in_transaction(), model.is_open());
}

proptest! {
    #![proptest_config(config("tests/regressions/ack.txt"))]

    #[test]
    fn the_queue_says_what_the_list_of_everything_says(floor in 0..1_000_u64, happenings in vec(happening(), 0..120)) {
        let mut ack = Ack::new(Lsn::new(floor));
        let mut model = Model { floor, entries: Vec::new() };
        agree(&ack, &model);
        for happening in &happenings {
            let before = ack.position();
            happen(&mut ack, &mut model, happening);
            agree(&ack, &model);
            prop_assert!(ack.position() >= before, "the position moved back");
        }
        happen(&mut ack, &mut model, &Happening::Commit(1));
        while !model.waiting().is_empty() {
            confirm(&mut ack, &mut model, 0);
        }
        agree(&ack, &model);
        prop_assert_eq!(ack.position().lsn(), ack.received(), "everything is confirmed, and the end is not reached");
        prop_assert_eq!(ack.queue_len(), 0);
    }
}
