//! Rows that a query gave, as the stream of a walsender: the other end of a session's [`Connection`].
//!
//! Each row is a transaction of its own. Its end is its number, counted on by the process; so the position that the session
//! reports is the number of the last row before which all are in Kafka.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::encode;
use crate::lsn::Lsn;
use crate::postgres::connection::Connection;
use crate::postgres::conninfo::Host;
use crate::postgres::error::Error;
use crate::wal::pgoutput::{Begin, Commit, Relation, RelationId};
use crate::wal::{Keepalive, PgTimestamp};

/// What a process remembers of the rows it has sent, from one stream to the next.
#[derive(Debug, Default, Clone)]
pub struct Numbers {
    /// That of the last row.
    last: Arc<AtomicU64>,
    /// Names a row's version, so that it is known when it comes again.
    names: RandomState,
}

/// The server's side of the stream.
#[derive(Debug)]
pub struct RowStream {
    socket: DuplexStream,
    input: BytesMut,
    output: BytesMut,
    numbers: Numbers,
    last: u64,
    confirmed: u64,
    said_goodbye: bool,
}

/// A row and what is known of it beside its columns.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its table.
    pub table: RelationId,
    /// A name of this version of it ([`RowStream::name`]).
    pub name: u64,
    /// What stands for its commit time, which nobody knows.
    pub committed: PgTimestamp,
    /// The server's clock.
    pub now: PgTimestamp,
    /// The columns of its relation, as text.
    pub values: &'a [Option<&'a str>],
}

/// The session has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What the pipe holds. A row that is longer goes through in pieces.
const PIPE: usize = 256 * 1024;

/// More is not put into the output before that has gone into the pipe.
const OUTPUT: usize = 64 * 1024;

/// Numbers of transactions that a session is told of begin here, and the ends of transactions stay below: what is remembered of
/// suspects by one is not forgotten by the other.
const NAMES: u64 = 1 << 63;

/// SQLSTATE `connection_failure`, for what no server has said.
const CONNECTION_FAILURE: &str = "08006";

impl Numbers {
    /// That of the last row.
    #[must_use]
    pub fn last(&self) -> Lsn {
        Lsn::new(self.last.load(Ordering::Relaxed))
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

impl RowStream {
    /// Both ends of a stream whose next row comes after `numbers`, from the server at `host`.
    #[must_use]
    pub fn new(numbers: &Numbers, host: &Host) -> (Connection, Self) {
        let (client, socket) = tokio::io::duplex(PIPE);
        let last = numbers.last().as_u64();
        let stream = Self {
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            numbers: numbers.clone(),
            last,
            confirmed: last,
            said_goodbye: false,
        };
        (Connection::from_socket(Box::new(client), host.clone()), stream)
    }

    /// Describes a table; before its first row.
    pub fn describe(&mut self, relation: &Relation) {
        let at = Lsn::new(self.last);
        encode::xlog_data(&mut self.output, at, PgTimestamp::from_micros(0), |out| {
            encode::relation(out, relation);
        });
    }

    /// A name for what identifies a version of a row, such as its place and its transaction: as long as the process lives, the
    /// same for the same.
    #[must_use]
    pub fn name(&self, identity: impl std::hash::Hash) -> u64 {
        self.numbers.names.hash_one(identity) | NAMES
    }

    /// Sends a row; gives its number.
    pub fn row(&mut self, row: &Row<'_>) -> u64 {
        self.last = self.numbers.next();
        let (at, commit_lsn) = (Lsn::new(self.last), Lsn::new(row.name));
        let out = &mut self.output;
        encode::xlog_data(out, at, row.now, |out| {
            encode::begin(out, Begin { commit_lsn, commit_time: row.committed, xid: 0 });
        });
        encode::xlog_data(out, at, row.now, |out| {
            encode::insert(out, row.table, row.values.iter().copied());
        });
        encode::xlog_data(out, at, row.now, |out| {
            encode::commit(out, Commit { commit_lsn, end_lsn: at, commit_time: row.committed });
        });
        self.last
    }

    /// The number of the last row that was sent.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// All rows up to this number are done with.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// So much has been sent that the session should read first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT
    }

    /// Something waits to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// The session takes its leave: nothing more is to be sent, and it waits for [`RowStream::end`].
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.said_goodbye
    }

    /// Waits until something moves, and moves it: what is to be sent, or what the session says.
    ///
    /// # Cancel safety
    /// Safe: both buffers are kept in `self`.
    ///
    /// # Errors
    /// The session is gone.
    pub async fn turn(&mut self) -> Result<(), Gone> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.socket);
        let moved: io::Result<usize> = tokio::select! {
            biased;
            read = reader.read_buf(&mut self.input) => match read {
                Ok(0) => return Err(Gone),
                read => read,
            },
            written = writer.write(&self.output), if !self.output.is_empty() => {
                written.inspect(|written| self.output.advance(*written))
            }
        };
        moved.map_err(|_| Gone)?;
        self.hear()
    }

    /// Sends what there is to be sent.
    ///
    /// # Errors
    /// The session is gone.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        while !self.output.is_empty() {
            self.turn().await?;
        }
        Ok(())
    }

    /// Ends the stream as a server does, and waits until the session has closed it.
    pub async fn end(mut self) {
        encode::end(&mut self.output);
        while self.turn().await.is_ok() {}
    }

    /// Ends the stream because of `error`.
    pub async fn fail(mut self, error: &Error) {
        let code = error.server().map_or(CONNECTION_FAILURE, |error| error.code.as_str());
        encode::error(&mut self.output, code, &error.to_string());
        while self.turn().await.is_ok() {}
    }

    /// Takes in the messages that have come whole.
    fn hear(&mut self) -> Result<(), Gone> {
        while let Some(&[tag, a, b, c, d]) = self.input.first_chunk::<5>() {
            // The length counts itself, and not the type byte.
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| Gone)?;
            let Some(body) = self.input.get(5..length.saturating_add(1)) else {
                return Ok(());
            };
            match (tag, body.first_chunk::<34>()) {
                (b'd', Some(update)) => self.status_update(*update),
                (b'c', _) => self.said_goodbye = true,
                _ => {}
            }
            self.input.advance(length.saturating_add(1));
        }
        Ok(())
    }

    /// A standby status update: written, flushed, applied, the client's clock, and whether it wants a reply.
    fn status_update(&mut self, [_, update @ .., wants_reply]: [u8; 34]) {
        if let Some(flushed) = update.get(8..).and_then(|rest| rest.first_chunk::<8>()) {
            self.confirmed = self.confirmed.max(u64::from_be_bytes(*flushed));
        }
        if wants_reply == 1 {
            let wal_end = Lsn::new(self.last);
            let reply = Keepalive { wal_end, sent: PgTimestamp::from_micros(0), reply_requested: false };
            encode::keepalive(&mut self.output, reply);
        }
    }
}
