//! The heart: what came from PostgreSQL becomes records, what Kafka has confirmed becomes a position.
//!
//! A [`Relay`] lives as long as one replication session. It is a value: [`Relay::wal`] takes one `CopyData` body,
//! [`Relay::confirmed`] one confirmation, [`Relay::position`] tells what may be acknowledged, and
//! [`Relay::has_room`] whether to read on. It never waits, and it knows no socket, clock or log.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::ack::{Ack, ConfirmedLsn};
use crate::in_flight::{InFlight, Sent};
use crate::lsn::Lsn;
use crate::outbox::{
    Event, Header, MappingError, Record, Rejected, Rejection, Relations, Router, RowError, Spec, TableError,
    TimestampReplaced, Token, Topic,
};
use crate::suspects::Place;
use crate::wal::pgoutput::{Begin, Commit, Insert, Message, RelationId};
use crate::wal::{DecodeError, Envelope, Keepalive, PgTimestamp, Timelines};

/// One session's way from WAL to acknowledgement.
#[derive(Debug)]
pub struct Relay {
    origin: Origin,
    max_in_flight: usize,
    relations: Relations,
    router: Router,
    skip: HashSet<Bytes>,
    transaction: Option<Transaction>,
    ack: Ack,
    in_flight: InFlight,
    tally: Tally,
}

/// What a session knows when it starts to stream.
#[derive(Debug)]
pub struct Start {
    /// Mapping and routing.
    pub spec: Spec,
    /// The object ids that the configured tables have in the catalog.
    pub outboxes: Vec<RelationId>,
    /// `<system identifier>/<slot>`: the header `source`.
    pub source: String,
    /// The server's timelines.
    pub timelines: Timelines,
    /// The slot's `confirmed_flush_lsn`, read while the session owns the slot.
    pub confirmed_flush: Lsn,
    /// `delivery.max_in_flight`, in bytes.
    pub max_in_flight: usize,
    /// `delivery.skip`: ids of events that are passed over.
    pub skip: HashSet<Bytes>,
    /// Where the events go that Kafka can never take; `None`: nowhere, they stay unconfirmed.
    pub dead_letters: Option<Topic>,
}

/// What one `CopyData` body gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do.
    Nothing,
    /// A keepalive; it may want a reply.
    Keepalive(Keepalive),
    /// A record to produce. It counts as in flight from now on.
    Record(Record),
    /// An event that Kafka can never take. It stays unconfirmed.
    Rejected(Rejection),
    /// The dead letter of such an event, to be produced in its place. It counts as in flight from now on.
    DeadLetter(Record, Rejection),
    /// An event that is passed over, because its id is in `delivery.skip`: the id. There is nothing to confirm.
    Skipped(String),
}

/// What was seen and not relayed as it stands, since the session began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// UPDATEs of an outbox table.
    pub updates: u64,
    /// DELETEs from an outbox table.
    pub deletes: u64,
    /// TRUNCATEs of an outbox table.
    pub truncates: u64,
    /// Events whose timestamp column was NULL.
    pub timestamps_null: u64,
    /// Events whose timestamp column holds no time that Kafka can take.
    pub timestamps_out_of_range: u64,
    /// Events stamped more than an hour ahead.
    pub timestamps_ahead: u64,
}

/// The stream cannot be followed any further. All of these would come again in a new session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes that are not a message.
    #[error("the replication stream cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Messages in an order that the protocol does not have.
    #[error("the replication stream is out of order: {0}")]
    Sequence(&'static str),
    /// A table that changed so that it does not fit the configuration.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A row whose table must first be looked up. The same body may be given again after [`Relay::elsewhere`].
    #[error(transparent)]
    Table(#[from] TableError),
    /// A value that was not sent as asked for.
    #[error(transparent)]
    Row(#[from] RowError),
}

#[derive(Debug)]
struct Origin {
    source: Header,
    position_name: Arc<str>,
    timelines: Timelines,
}

#[derive(Debug)]
struct Transaction {
    commit_lsn: Lsn,
    commit_time: PgTimestamp,
    /// What the positions of its rows have in common.
    position: String,
    rows: u32,
}

impl Relay {
    /// A session that has received nothing yet.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let source = Header { name: "source".into(), value: Some(Bytes::from(start.source)) };
        Self {
            origin: Origin { source, position_name: "position".into(), timelines: start.timelines },
            max_in_flight: start.max_in_flight,
            relations: Relations::new(start.spec, start.outboxes),
            router: Router::new(start.dead_letters),
            skip: start.skip,
            transaction: None,
            ack: Ack::new(start.confirmed_flush),
            in_flight: InFlight::default(),
            tally: Tally::default(),
        }
    }

    /// Takes in one `CopyData` body. It gives at most one record, which must be produced before the next call.
    ///
    /// # Errors
    /// If the stream cannot be followed any further; see [`Error`].
    pub fn wal(&mut self, body: Bytes) -> Result<Step, Error> {
        match Envelope::decode(body)? {
            Envelope::Keepalive(keepalive) => {
                self.ack.keepalive(keepalive.wal_end);
                Ok(Step::Keepalive(keepalive))
            }
            Envelope::XLogData(data) => self.message(Message::decode(data.data)?, data.sent),
        }
    }

    /// Kafka has confirmed the record of `token`. Gives what is known of it; `None` if it is not in flight.
    pub fn confirmed(&mut self, token: Token) -> Option<Sent> {
        let sent = self.in_flight.remove(token)?;
        self.ack.confirmed(sent.transaction);
        Some(sent)
    }

    /// What is known of the record of `token`; `None` if it is not in flight.
    #[must_use]
    pub fn sent(&self, token: Token) -> Option<&Sent> {
        self.in_flight.get(token)
    }

    /// `record` is produced in place of the one with the same token.
    pub fn replaced(&mut self, record: &Record) {
        self.in_flight.replace(record);
    }

    /// What may be acknowledged to PostgreSQL. Never moves back.
    #[must_use]
    pub fn position(&self) -> ConfirmedLsn {
        self.ack.position()
    }

    /// Whether another record may be read: less than `max_in_flight` bytes are in flight. One record may reach beyond
    /// it, so that any record is admitted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight.bytes() < self.max_in_flight
    }

    /// Nothing received waits for Kafka, and no transaction is half received.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ack.queue_len() == 0 && !self.ack.in_transaction()
    }

    /// The table with object id `id` was looked up and is no outbox: its rows are passed over.
    pub fn elsewhere(&mut self, id: RelationId) {
        self.relations.elsewhere(id);
    }

    /// The acknowledgement queue, to be shown.
    #[must_use]
    pub fn ack(&self) -> &Ack {
        &self.ack
    }

    /// The records in flight, to be shown.
    #[must_use]
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// What was not relayed as it stands.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    fn message(&mut self, message: Message, sent: PgTimestamp) -> Result<Step, Error> {
        match message {
            Message::Insert(insert) => return self.insert(insert, sent),
            Message::Begin(begin) => self.begin(begin)?,
            Message::Commit(commit) => self.commit(commit)?,
            Message::Relation(relation) => self.relations.relation(relation)?,
            Message::Type(described) => self.relations.type_(&described),
            Message::Update(update) => {
                let ours = self.change(update.relation)?;
                self.tally.updates = self.tally.updates.saturating_add(ours);
            }
            Message::Delete(delete) => {
                let ours = self.change(delete.relation)?;
                self.tally.deletes = self.tally.deletes.saturating_add(ours);
            }
            Message::Truncate(truncate) => {
                let ours = truncate.relations.iter().any(|id| self.relations.is_outbox(*id));
                self.tally.truncates = self.tally.truncates.saturating_add(u64::from(ours));
            }
            // Where a transaction was first written does not matter to its events.
            Message::Origin(_) => {}
            // Sent only if the session asks for `messages`, which it does not.
            Message::Logical(_) => {}
        }
        Ok(Step::Nothing)
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Error> {
        if self.transaction.is_some() {
            return Err(Error::Sequence("Begin inside a transaction"));
        }
        let Begin { commit_lsn, commit_time, .. } = begin;
        let position = format!("{:08X}-{:016X}-", self.origin.timelines.of(commit_lsn), commit_lsn.as_u64());
        self.transaction = Some(Transaction { commit_lsn, commit_time, position, rows: 0 });
        self.ack.begin(commit_time);
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Error> {
        match self.transaction.take() {
            Some(open) if open.commit_lsn == commit.commit_lsn => {
                self.ack.commit(commit.end_lsn);
                Ok(())
            }
            Some(_) => Err(Error::Sequence("Commit of another transaction than the one that began")),
            None => Err(Error::Sequence("Commit outside a transaction")),
        }
    }

    /// Counts a row that is not an INSERT; 1 if its table is an outbox.
    fn change(&mut self, relation: RelationId) -> Result<u64, Error> {
        let open = self.transaction.as_mut().ok_or(Error::Sequence("a row outside a transaction"))?;
        open.rows = open.rows.saturating_add(1);
        Ok(u64::from(self.relations.is_outbox(relation)))
    }

    fn insert(&mut self, insert: Insert, sent: PgTimestamp) -> Result<Step, Error> {
        let open = self.transaction.as_mut().ok_or(Error::Sequence("a row outside a transaction"))?;
        // Before anything is counted: the same body may come again.
        let mapping = self.relations.mapping(insert.relation)?;
        open.rows = open.rows.saturating_add(1);
        let Some(mapping) = mapping else {
            return Ok(Step::Nothing);
        };

        let event = Event::read(mapping, insert.new, open.commit_time, sent)?;
        if let Some(id) = event.id.as_ref().filter(|id| self.skip.contains(*id)) {
            return Ok(Step::Skipped(String::from_utf8_lossy(id).into_owned()));
        }
        self.tally.count(event.timestamp_replaced);
        let transaction = self.ack.record().ok_or(Error::Sequence("a row outside a transaction"))?;
        let token = self.in_flight.next_token();
        let stamps = [self.origin.source.clone(), self.origin.position(open)];
        let routed = self.router.route(event, token, stamps)?;
        if let Ok(record) | Err(Rejected { letter: Some(record), .. }) = &routed {
            self.in_flight.insert(Sent {
                place: Place { commit_lsn: open.commit_lsn, row: open.rows },
                transaction,
                committed: open.commit_time,
                topic: record.topic.clone(),
                payload_size: record.payload_size(),
                size: record.size(),
                is_letter: record.is_dead_letter(),
            });
        }
        Ok(match routed {
            Ok(record) => Step::Record(record),
            Err(Rejected { rejection, letter: Some(letter) }) => Step::DeadLetter(letter, rejection),
            Err(Rejected { rejection, letter: None }) => Step::Rejected(rejection),
        })
    }
}

impl Origin {
    /// `TTTTTTTT-CCCCCCCCCCCCCCCC-NNNNNNNN`: timeline, commit LSN and the row's number in its transaction, counted
    /// from 1 as the server sent them. Fixed width, so that the order of the texts is the order of the events.
    fn position(&self, open: &Transaction) -> Header {
        let mut text = Vec::with_capacity(open.position.len().saturating_add(8));
        text.extend_from_slice(open.position.as_bytes());
        // `{:08X}` by hand: once a row, and formatting takes twenty times as many instructions.
        text.extend([28, 24, 20, 16, 12, 8, 4, 0].map(|shift| hex_digit(open.rows >> shift)));
        Header { name: self.position_name.clone(), value: Some(Bytes::from(text)) }
    }
}

/// The digit of the last four bits.
const fn hex_digit(bits: u32) -> u8 {
    match (bits & 0xF) as u8 {
        digit @ 0..=9 => b'0' | digit,
        digit => b'A'.wrapping_sub(10).wrapping_add(digit),
    }
}

impl Tally {
    fn count(&mut self, replaced: Option<TimestampReplaced>) {
        let counter = match replaced {
            None => return,
            Some(TimestampReplaced::Null) => &mut self.timestamps_null,
            Some(TimestampReplaced::OutOfRange) => &mut self.timestamps_out_of_range,
            Some(TimestampReplaced::Ahead) => &mut self.timestamps_ahead,
        };
        *counter = counter.saturating_add(1);
    }
}
