//! The records that were handed to Kafka and are not confirmed.
//!
//! A record's token is its slot's number, used again after its confirmation: finding a record costs one look-up, and the
//! table is as long as the most records that were ever in flight together.

use crate::ack::TransactionNumber;
use crate::outbox::{Record, Token, Topic};
use crate::suspects::Place;
use crate::wal::PgTimestamp;

/// A record in flight: what must be known when it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its row.
    pub place: Place,
    /// Its transaction.
    pub transaction: TransactionNumber,
    /// When that was committed.
    pub committed: PgTimestamp,
    /// Its topic.
    pub topic: Topic,
    /// Bytes of its key and value.
    pub payload_size: usize,
    /// The memory it takes.
    pub size: usize,
    /// It is the dead letter of its row.
    pub is_letter: bool,
}

/// The table of records in flight.
#[derive(Debug, Default)]
pub struct InFlight {
    slots: Vec<Option<Sent>>,
    free: Vec<usize>,
    bytes: usize,
    letters: usize,
}

impl InFlight {
    /// The token of the next record.
    #[must_use]
    pub fn next_token(&self) -> Token {
        Token(self.free.last().copied().unwrap_or(self.slots.len()))
    }

    /// Enters a record under [`InFlight::next_token`].
    pub fn insert(&mut self, sent: Sent) {
        self.bytes = self.bytes.saturating_add(sent.size);
        self.letters = self.letters.saturating_add(usize::from(sent.is_letter));
        match self.free.pop().and_then(|free| self.slots.get_mut(free)) {
            Some(slot) => *slot = Some(sent),
            None => self.slots.push(Some(sent)),
        }
    }

    /// Takes a record out; `None` for a token that is not in flight.
    pub fn remove(&mut self, Token(number): Token) -> Option<Sent> {
        let sent = self.slots.get_mut(number)?.take()?;
        self.free.push(number);
        self.bytes = self.bytes.saturating_sub(sent.size);
        self.letters = self.letters.saturating_sub(usize::from(sent.is_letter));
        Some(sent)
    }

    /// What is known of the record of `token`; `None` if it is not in flight.
    #[must_use]
    pub fn get(&self, Token(number): Token) -> Option<&Sent> {
        self.slots.get(number)?.as_ref()
    }

    /// `record` goes out in place of the one with the same token.
    pub fn replace(&mut self, record: &Record) {
        let Token(number) = record.token;
        if let Some(Some(sent)) = self.slots.get_mut(number) {
            self.bytes = self.bytes.saturating_sub(sent.size).saturating_add(record.size());
            if !sent.is_letter && record.is_dead_letter() {
                sent.is_letter = true;
                self.letters = self.letters.saturating_add(1);
            }
            sent.topic = record.topic.clone();
            sent.payload_size = record.payload_size();
            sent.size = record.size();
        }
    }

    /// How many there are.
    #[must_use]
    pub fn records(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// How many of them are no dead letters, and may yet become some.
    #[must_use]
    pub fn events(&self) -> usize {
        self.records().saturating_sub(self.letters)
    }

    /// The memory they take together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Ack;
    use crate::lsn::Lsn;
    use crate::outbox::RejectionReason;
    use crate::wal::UnixMillis;

    #[test]
    fn an_event_that_became_a_dead_letter_is_no_event_any_more() {
        let mut ack = Ack::new(Lsn::new(1));
        ack.begin(PgTimestamp::from_micros(0));
        let topic = |name: &str| Topic::new(name.as_bytes()).unwrap();
        let sent = Sent {
            place: Place { commit_lsn: Lsn::new(2), row: 1 },
            transaction: ack.record().unwrap(),
            committed: PgTimestamp::from_micros(0),
            topic: topic("order"),
            payload_size: 0,
            size: 100,
            is_letter: false,
        };
        let mut in_flight = InFlight::default();
        in_flight.insert(sent.clone());
        in_flight.insert(Sent { is_letter: true, ..sent });
        assert_eq!((in_flight.records(), in_flight.events()), (2, 1));
        let record = Record {
            token: Token(0),
            topic: topic("order"),
            partition: None,
            key: None,
            value: None,
            timestamp: UnixMillis(0),
            headers: Vec::new(),
        };
        let letter = record.into_dead_letter(&topic("dead"), RejectionReason::Refused);
        in_flight.replace(&letter);
        in_flight.replace(&letter);
        assert_eq!((in_flight.records(), in_flight.events()), (2, 0));
        in_flight.remove(Token(1));
        in_flight.remove(Token(0));
        assert_eq!((in_flight.records(), in_flight.events(), in_flight.bytes()), (0, 0, 0));
    }
}
