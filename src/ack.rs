//! What may be acknowledged to PostgreSQL.
//!
//! The unit is the transaction. Transactions arrive in commit order and are confirmed in any order; the position is the
//! end of the longest prefix of them that Kafka has confirmed whole. PostgreSQL restarts a slot from the position it was
//! told last and sends every transaction that ends after it, so a position that is too low costs duplicates, and one that
//! is too high costs events.
//!
//! The queue holds only transactions with unconfirmed records, each with the end of everything *before* it: that end is
//! the position as long as the transaction is the oldest in the queue. What is confirmed leaves the queue, so it is never
//! longer than the number of records in flight, however many keepalives arrive and whatever is delivered around a record
//! that is stuck.

use std::collections::BTreeMap;

use crate::lsn::Lsn;
use crate::wal::PgTimestamp;

/// A position up to which Kafka has everything: the only kind of position that goes into a status update. It can be made
/// in this file alone, of what the stream tells ([`Ack`]): a position that was only received (trap 4.3 of docs/traps.md), or
/// that an SQL function has given (trap 4.13), cannot become one.
///
/// ```
/// # use outbox_relay::{ack::{Ack, ConfirmedLsn}, lsn::Lsn};
/// let confirmed: ConfirmedLsn = Ack::new(Lsn::new(7)).position();
/// ```
/// ```compile_fail,E0423
/// # use outbox_relay::{ack::{Ack, ConfirmedLsn}, lsn::Lsn};
/// let confirmed: ConfirmedLsn = ConfirmedLsn(Lsn::new(7));
/// ```
/// ```compile_fail,E0277
/// # use outbox_relay::{ack::{Ack, ConfirmedLsn}, lsn::Lsn};
/// let confirmed: ConfirmedLsn = Lsn::new(7).into();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfirmedLsn(Lsn);

impl ConfirmedLsn {
    /// The position, to be encoded or shown.
    #[must_use]
    pub const fn lsn(self) -> Lsn {
        self.0
    }
}

/// A transaction's place in the stream, counted from 0 in each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionNumber(u64);

/// The queue of transactions that are not confirmed.
#[derive(Debug)]
pub struct Ack {
    received: Mark,
    open: Option<Open>,
    unconfirmed: BTreeMap<TransactionNumber, Unconfirmed>,
}

/// An end of the stream: the end of a transaction or a keepalive, and the number of transactions before it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: Lsn,
    transactions: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    number: TransactionNumber,
    commit_time: PgTimestamp,
}

#[derive(Debug)]
struct Unconfirmed {
    before: Mark,
    commit_time: PgTimestamp,
    records: u64,
}

impl Ack {
    /// A session's queue, empty. `confirmed_flush` is what the slot has confirmed, read while the session owns the slot.
    /// Nothing below it is ever reported: a server decodes from `restart_lsn`, so its first keepalives lie below it, and
    /// older servers would let the slot move back.
    #[must_use]
    pub fn new(confirmed_flush: Lsn) -> Self {
        let received = Mark { end: confirmed_flush, transactions: 0 };
        Self { received, open: None, unconfirmed: BTreeMap::new() }
    }

    /// A transaction begins. It ends with [`Ack::commit`]; transactions do not nest in protocol version 1.
    pub fn begin(&mut self, commit_time: PgTimestamp) {
        self.open = Some(Open { number: TransactionNumber(self.received.transactions), commit_time });
    }

    /// The open transaction has one more record to confirm. `None` outside a transaction.
    pub fn record(&mut self) -> Option<TransactionNumber> {
        let Open { number, commit_time } = self.open?;
        let before = self.received;
        let entry = self.unconfirmed.entry(number).or_insert(Unconfirmed { before, commit_time, records: 0 });
        entry.records = entry.records.saturating_add(1);
        Some(number)
    }

    /// The open transaction ends at `end`, the *end* LSN of its commit record.
    pub fn commit(&mut self, end: Lsn) {
        self.open = None;
        self.received.end = self.received.end.max(end);
        self.received.transactions = self.received.transactions.saturating_add(1);
    }

    /// A keepalive. The server sends it after all data before `wal_end`, so it is an empty transaction; inside a
    /// transaction it says nothing about that transaction and is ignored.
    pub fn keepalive(&mut self, wal_end: Lsn) {
        if self.open.is_none() {
            self.received.end = self.received.end.max(wal_end);
        }
    }

    /// Kafka has confirmed one record of `transaction`.
    pub fn confirmed(&mut self, transaction: TransactionNumber) {
        if let Some(entry) = self.unconfirmed.get_mut(&transaction) {
            entry.records = entry.records.saturating_sub(1);
            if entry.records == 0 {
                self.unconfirmed.remove(&transaction);
            }
        }
    }

    /// Everything before this position is confirmed. Never moves back.
    #[must_use]
    pub fn position(&self) -> ConfirmedLsn {
        ConfirmedLsn(self.confirmed_mark().end)
    }

    /// The end of everything received, confirmed or not: for display and for telling whether the relay has caught up.
    #[must_use]
    pub fn received(&self) -> Lsn {
        self.received.end
    }

    /// How many transactions lie before [`Ack::position`].
    #[must_use]
    pub fn transactions_confirmed(&self) -> u64 {
        self.confirmed_mark().transactions
    }

    /// When the oldest transaction with unconfirmed records was committed.
    #[must_use]
    pub fn oldest_unconfirmed(&self) -> Option<PgTimestamp> {
        self.unconfirmed.first_key_value().map(|(_, entry)| entry.commit_time)
    }

    /// Transactions with unconfirmed records.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Between `Begin` and `Commit`.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    fn confirmed_mark(&self) -> Mark {
        self.unconfirmed.first_key_value().map_or(self.received, |(_, entry)| entry.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: PgTimestamp = PgTimestamp::from_micros(0);

    fn position(ack: &Ack) -> u64 {
        ack.position().lsn().as_u64()
    }

    #[test]
    fn a_transaction_counts_when_its_last_record_is_confirmed() {
        let mut ack = Ack::new(Lsn::new(10));
        ack.begin(TIME);
        let first = ack.record().unwrap();
        let second = ack.record().unwrap();
        ack.confirmed(first);
        ack.commit(Lsn::new(20));
        assert_eq!(position(&ack), 10);
        ack.confirmed(second);
        assert_eq!((position(&ack), ack.transactions_confirmed(), ack.queue_len()), (20, 1, 0));
    }

    #[test]
    fn a_transaction_whose_records_are_confirmed_before_its_commit_waits_for_it() {
        let mut ack = Ack::new(Lsn::new(10));
        ack.begin(TIME);
        let record = ack.record().unwrap();
        ack.confirmed(record);
        assert_eq!(position(&ack), 10);
        let late = ack.record().unwrap();
        ack.commit(Lsn::new(20));
        assert_eq!(position(&ack), 10);
        ack.confirmed(late);
        assert_eq!(position(&ack), 20);
    }

    #[test]
    fn the_oldest_unconfirmed_transaction_holds_the_position() {
        let mut ack = Ack::new(Lsn::ZERO);
        let mut records = Vec::new();
        for end in [20, 30, 40] {
            ack.begin(TIME);
            records.push(ack.record().unwrap());
            ack.commit(Lsn::new(end));
        }
        ack.confirmed(records[1]);
        ack.confirmed(records[2]);
        assert_eq!((position(&ack), ack.queue_len()), (0, 1));
        ack.confirmed(records[0]);
        assert_eq!((position(&ack), ack.transactions_confirmed()), (40, 3));
    }

    #[test]
    fn a_keepalive_moves_an_idle_session_only() {
        let mut ack = Ack::new(Lsn::new(10));
        ack.keepalive(Lsn::new(15));
        assert_eq!(position(&ack), 15);
        ack.begin(TIME);
        ack.keepalive(Lsn::new(18));
        assert_eq!(position(&ack), 15);
        let record = ack.record().unwrap();
        ack.commit(Lsn::new(20));
        ack.keepalive(Lsn::new(25));
        assert_eq!(position(&ack), 15);
        ack.confirmed(record);
        assert_eq!(position(&ack), 25);
    }

    /// Trap 4.12 of docs/traps.md.
    #[test]
    fn early_keepalives_do_not_take_the_position_below_the_slots() {
        let mut ack = Ack::new(Lsn::new(100));
        ack.keepalive(Lsn::new(50));
        assert_eq!(position(&ack), 100);
    }

    #[test]
    fn a_record_outside_a_transaction_is_refused() {
        assert_eq!(Ack::new(Lsn::ZERO).record(), None);
    }
}
