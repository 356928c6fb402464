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
}

/// The table of records in flight.
#[derive(Debug, Default)]
pub struct InFlight {
    slots: Vec<Option<Sent>>,
    free: Vec<usize>,
    bytes: usize,
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

    /// The memory they take together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
