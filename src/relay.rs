//! The heart: what came from PostgreSQL becomes records, what Kafka has confirmed becomes a position.
//!
//! A [`Relay`] lives as long as one replication session. It is a value: [`Relay::wal`] takes one `CopyData` body,
//! [`Relay::confirmed`] one confirmation, [`Relay::position`] tells what may be acknowledged, and
//! [`Relay::has_room`] whether to read on. It never waits, and it knows no socket, clock or log.

mod outbound;

use std::collections::HashSet;

use bytes::Bytes;

use crate::ack::{Ack, ConfirmedLsn};
use crate::in_flight::{InFlight, Sent};
use crate::lsn::Lsn;
use crate::outbox::{
    Event, Header, MappingError, Messages, Record, Rejection, Relations, Router, RowError, Shard, Spec,
    TableError, Token, Topic,
};
use crate::wal::pgoutput::{Begin, Commit, Insert, Logical, Message, RelationId};
use crate::wal::{DecodeError, Envelope, Keepalive, PgTimestamp, Timelines};
use outbound::{Origin, Outbound, Transaction};

/// One session's way from WAL to acknowledgement.
#[derive(Debug)]
pub struct Relay {
    max_in_flight: usize,
    relations: Relations,
    messages: Result<Option<Messages>, MappingError>,
    transaction: Option<Transaction>,
    outbound: Outbound,
    shard: Option<Shard>,
}

/// What a session knows when it starts to stream.
#[derive(Debug)]
pub struct Start {
    /// Mapping and routing.
    pub spec: Spec,
    /// The object ids that the configured tables have in the catalog.
    pub outboxes: Vec<RelationId>,
    /// `<system identifier>/<slot>`: the header `source`. `None` where rows have no place in the write-ahead log: their records
    /// have neither this header nor `position`.
    pub source: Option<String>,
    /// The server's timelines.
    pub timelines: Timelines,
    /// The slot's `confirmed_flush_lsn`, read while the session owns the slot.
    pub confirmed_flush: Lsn,
    /// Which part of the messages is this relay's; `None`: all. (Of rows, only its own come.)
    pub shard: Option<Shard>,
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

impl Relay {
    /// A session that has received nothing yet.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let source =
            start.source.map(|source| Header { name: "source".into(), value: Some(Bytes::from(source)) });
        let origin = source.map(|source| Origin { source, position_name: "position".into() });
        Self {
            max_in_flight: start.max_in_flight,
            messages: Messages::new(&start.spec),
            relations: Relations::new(start.spec, start.outboxes),
            transaction: None,
            shard: start.shard,
            outbound: Outbound {
                origin,
                timelines: start.timelines,
                router: Router::new(start.dead_letters),
                skip: start.skip,
                ack: Ack::new(start.confirmed_flush),
                in_flight: InFlight::default(),
                tally: Tally::default(),
            },
        }
    }

    /// Takes in one `CopyData` body. It gives at most one record, which must be produced before the next call.
    ///
    /// # Errors
    /// If the stream cannot be followed any further; see [`Error`].
    pub fn wal(&mut self, body: Bytes) -> Result<Step, Error> {
        match Envelope::decode(body)? {
            Envelope::Keepalive(keepalive) => {
                self.outbound.ack.keepalive(keepalive.wal_end);
                Ok(Step::Keepalive(keepalive))
            }
            Envelope::XLogData(data) => self.message(Message::decode(data.data)?, data.sent),
        }
    }

    /// Kafka has confirmed the record of `token`. Gives what is known of it; `None` if it is not in flight.
    pub fn confirmed(&mut self, token: Token) -> Option<Sent> {
        let sent = self.outbound.in_flight.remove(token)?;
        self.outbound.ack.confirmed(sent.transaction);
        Some(sent)
    }

    /// What is known of the record of `token`; `None` if it is not in flight.
    #[must_use]
    pub fn sent(&self, token: Token) -> Option<&Sent> {
        self.outbound.in_flight.get(token)
    }

    /// `record` is produced in place of the one with the same token.
    pub fn replaced(&mut self, record: &Record) {
        self.outbound.in_flight.replace(record);
    }

    /// What may be acknowledged to PostgreSQL. Never moves back.
    #[must_use]
    pub fn position(&self) -> ConfirmedLsn {
        self.outbound.ack.position()
    }

    /// Whether another record may be read: less than `max_in_flight` bytes are in flight. One record may reach beyond
    /// it, so that any record is admitted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outbound.in_flight.bytes() < self.max_in_flight
    }

    /// Nothing received waits for Kafka, and no transaction is half received.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.outbound.ack.queue_len() == 0 && !self.outbound.ack.in_transaction()
    }

    /// The table with object id `id` was looked up and is no outbox: its rows are passed over.
    pub fn elsewhere(&mut self, id: RelationId) {
        self.relations.elsewhere(id);
    }

    /// The transaction that is being received.
    #[must_use]
    pub fn xid(&self) -> Option<u32> {
        self.transaction.as_ref().map(|open| open.xid)
    }

    /// The acknowledgement queue, to be shown.
    #[must_use]
    pub fn ack(&self) -> &Ack {
        &self.outbound.ack
    }

    /// The records in flight, to be shown.
    #[must_use]
    pub fn in_flight(&self) -> &InFlight {
        &self.outbound.in_flight
    }

    /// What was not relayed as it stands.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.outbound.tally
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
                self.outbound.tally.updates = self.outbound.tally.updates.saturating_add(ours);
            }
            Message::Delete(delete) => {
                let ours = self.change(delete.relation)?;
                self.outbound.tally.deletes = self.outbound.tally.deletes.saturating_add(ours);
            }
            Message::Truncate(truncate) => {
                let ours = truncate.relations.iter().any(|id| self.relations.is_outbox(*id));
                self.outbound.tally.truncates = self.outbound.tally.truncates.saturating_add(u64::from(ours));
            }
            // Where a transaction was first written does not matter to its events.
            Message::Origin(_) => {}
            Message::Logical(message) if message.transactional => return self.logical(message, sent),
            // It belongs to no transaction: what it tells of may have been rolled back.
            Message::Logical(_) => {}
        }
        Ok(Step::Nothing)
    }

    fn begin(&mut self, begin: Begin) -> Result<(), Error> {
        if self.transaction.is_some() {
            return Err(Error::Sequence("Begin inside a transaction"));
        }
        let Begin { commit_lsn, commit_time, xid } = begin;
        let position =
            format!("{:08X}-{:016X}-", self.outbound.timelines.of(commit_lsn), commit_lsn.as_u64());
        self.transaction = Some(Transaction { xid, commit_lsn, commit_time, position, rows: 0 });
        self.outbound.ack.begin(commit_time);
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Error> {
        match self.transaction.take() {
            Some(open) if open.commit_lsn == commit.commit_lsn => {
                self.outbound.ack.commit(commit.end_lsn);
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
        match mapping {
            Some(mapping) => {
                // A row without a place may be a year old, and a topic keeps a record by its timestamp.
                let stamp = if self.outbound.origin.is_some() { open.commit_time } else { sent };
                let event = Event::read(mapping, insert.new, stamp, sent)?;
                self.outbound.event(event, open)
            }
            None => Ok(Step::Nothing),
        }
    }

    /// A message of a transaction. It counts as a row, whatever its prefix.
    fn logical(&mut self, message: Logical, sent: PgTimestamp) -> Result<Step, Error> {
        let Some(messages) = self.messages.as_ref().map_err(MappingError::clone)? else {
            return Ok(Step::Nothing);
        };
        let open = self.transaction.as_mut().ok_or(Error::Sequence("a message outside its transaction"))?;
        open.rows = open.rows.saturating_add(1);
        if messages.prefix() != message.prefix {
            return Ok(Step::Nothing);
        }
        match messages.row(&message.content) {
            Some(row) => {
                let event = Event::read(messages.mapping(), row, open.commit_time, sent)?;
                // No row filter has kept back those of the other shards.
                if let Some(shard) = self.shard
                    && !shard.has(event.key_column()?.as_deref())
                {
                    return Ok(Step::Nothing);
                }
                self.outbound.event(event, open)
            }
            // It has no key that could be read: it is where NULL is.
            None if self.shard.is_some_and(|shard| !shard.has(None)) => Ok(Step::Nothing),
            None => self.outbound.unreadable(message, open),
        }
    }
}
