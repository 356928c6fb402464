//! From an event to what is handed to Kafka, and the books that are kept of it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Error, Step, Tally};
use crate::ack::Ack;
use crate::in_flight::{InFlight, Sent};
use crate::lsn::Lsn;
use crate::outbox::{Event, Header, Record, Rejected, Router, TimestampReplaced};
use crate::suspects::Place;
use crate::wal::pgoutput::Logical;
use crate::wal::{PgTimestamp, Timelines};

/// Everything behind the reading of a row.
#[derive(Debug)]
pub(super) struct Outbound {
    /// `None`: rows have no place that is worth telling.
    pub(super) origin: Option<Origin>,
    pub(super) timelines: Timelines,
    pub(super) router: Router,
    pub(super) skip: HashSet<Bytes>,
    pub(super) ack: Ack,
    pub(super) in_flight: InFlight,
    pub(super) tally: Tally,
}

/// What the headers `source` and `position` are made of.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) source: Header,
    pub(super) position_name: Arc<str>,
}

/// A transaction of which not everything has come.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) xid: u32,
    pub(super) commit_lsn: Lsn,
    pub(super) commit_time: PgTimestamp,
    /// What the positions of its rows have in common.
    pub(super) position: String,
    /// Rows so far.
    pub(super) rows: u32,
}

impl Outbound {
    /// Routes `event`, the latest row of the transaction `open`.
    ///
    /// # Errors
    /// See [`Router::route`].
    pub(super) fn event(&mut self, event: Event<'_>, open: &Transaction) -> Result<Step, Error> {
        if let Some(id) = event.id.as_ref().filter(|id| self.skip.contains(*id)) {
            return Ok(Step::Skipped(String::from_utf8_lossy(id).into_owned()));
        }
        self.tally.count(event.timestamp_replaced);
        let token = self.in_flight.next_token();
        // Two calls, because an array is cheaper than an iterator that may be empty.
        let routed = match &self.origin {
            Some(origin) => self.router.route(event, token, origin.stamps(open))?,
            None => self.router.route(event, token, [])?,
        };
        self.step(routed, open)
    }

    /// An event that nobody can read, the latest row of the transaction `open`.
    ///
    /// # Errors
    /// None but those of a stream that is out of order.
    pub(super) fn unreadable(&mut self, message: Logical, open: &Transaction) -> Result<Step, Error> {
        let Logical { lsn, prefix, content, .. } = message;
        let detail =
            format!("the content of the message at {lsn} with prefix \"{prefix}\" is no JSON object");
        let (committed, token) = (open.commit_time.unix_millis(), self.in_flight.next_token());
        let stamps = self.origin.as_ref().map(|origin| origin.stamps(open));
        let rejected =
            self.router.unreadable(content, committed, detail, token, stamps.into_iter().flatten());
        self.step(Err(rejected), open)
    }

    /// Keeps account of what is handed over.
    fn step(&mut self, routed: Result<Record, Rejected>, open: &Transaction) -> Result<Step, Error> {
        let transaction = self.ack.record().ok_or(Error::Sequence("a row outside a transaction"))?;
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
    /// The headers `source` and `position` of the latest row.
    fn stamps(&self, open: &Transaction) -> [Header; 2] {
        [self.source.clone(), self.position(open)]
    }

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
        digit @ 0..=9 => b'0'.wrapping_add(digit),
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
