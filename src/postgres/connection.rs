//! The replication connection: a session with a walsender, from log-in to the last CopyDone.
//!
//! In come a [`ConnInfo`], commands, and the bodies of status updates; out come the answers and [`Frame`]s, whose
//! bytes are slices of the read buffer. It has one owner, spawns nothing and locks nothing. It never looks into a
//! CopyData body, and never shows one in an error.
//!
//! ```text
//! connect ─▶ identify_system, create_slot, … ─▶ start_replication ─▶ next_frame / progress ─▶ finish
//!   startup.rs, auth.rs      commands.rs                                   here     (messages.rs and wire.rs below all)
//! ```
//!
//! While streaming, the caller alternates: [`Connection::next_frame`] until it returns `None`, then
//! [`Connection::progress`] in a `select!` beside its other events. Sources: PostgreSQL documentation, "Message Flow",
//! "Message Formats", "Streaming Replication Protocol".

use std::time::Duration;

use bytes::Bytes;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite};

use super::conninfo::{ConnInfo, Host};
use super::error::{Action, Error, ServerError};
use super::messages::Received;
use super::startup;
use super::wire::{Broken, Socket, Wire};

pub use super::commands::{CreatedSlot, Row, SystemIdentity, TemporarySlot};

/// A replication connection to one database.
pub struct Connection {
    pub(super) wire: Wire,
    pub(super) action: Action,
    pub(super) server: Server,
    host: Host,
    pub(super) notices: Vec<ServerError>,
    /// Log-in is over: the server is ready for queries, or was once.
    pub(super) ready: bool,
    /// The server has closed the stream with CommandComplete.
    complete: bool,
}

/// What the server told about itself in ParameterStatus messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `server_version`, such as `17.5 (Debian 17.5-1)`.
    pub version: String,
    /// Its first number; 0 if it told none.
    pub major: u32,
    /// Whether it is a standby (PostgreSQL 14 or newer tell).
    pub in_hot_standby: Option<bool>,
    /// Whether its transactions are read-only by default (14 or newer).
    pub default_transaction_read_only: Option<bool>,
}

/// What can come on the stream after [`Connection::start_replication`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The body of a CopyData message: an XLogData or a keepalive.
    CopyData(Bytes),
    /// A notice. To be read: PostgreSQL 18 tells of a publication it cannot use only in this way.
    Notice(Box<ServerError>),
    /// The server ends the stream and waits for our CopyDone: queue it ([`Connection::queue_copy_done`]), then
    /// [`Connection::finish`]. After our own CopyDone, the answer to it.
    CopyDone,
    /// The stream is over. Without a CopyDone before it: the server shuts down, and everything was confirmed.
    CommandComplete,
}

impl Connection {
    /// Connects and logs in, trying the hosts in order, and each address of a host. A host that answers with an error
    /// that would be the same next time (wrong password) ends the search, as in libpq; others are passed over.
    ///
    /// # Errors
    ///
    /// The one host's error, or [`Error::NoHost`] with those of all.
    pub async fn connect(info: &ConnInfo) -> Result<Self, Error> {
        startup::connect(info).await
    }

    /// Logs in over `socket`, which is connected to `host` already: a server that a test plays, for example.
    ///
    /// # Errors
    ///
    /// As [`Connection::connect`], of this one host.
    pub async fn over(
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        info: &ConnInfo,
        host: &Host,
    ) -> Result<Self, Error> {
        let mut connection = Self::from_socket(Box::new(socket), host.clone());
        startup::log_in(&mut connection, info, host).await?;
        Ok(connection)
    }

    /// A connection over `socket`, with nothing said yet.
    pub(crate) fn from_socket(socket: Box<dyn Socket>, host: Host) -> Self {
        Self {
            wire: Wire::new(socket),
            action: "connect".into(),
            server: Server::default(),
            host,
            notices: Vec::new(),
            ready: false,
            complete: false,
        }
    }

    /// The host that was taken.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// What the server told about itself.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The notices that came while logging in and with answers to commands, each once.
    #[must_use]
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        std::mem::take(&mut self.notices)
    }

    /// Cuts the next frame out of what has been read; `None`: [`Connection::progress`] has to read more.
    ///
    /// The bytes of [`Frame::CopyData`] are not copied. A slice that is kept keeps the whole allocation it lies in:
    /// 256 KiB, or, for a larger message and what was read together with its end, that message and 128 KiB. A caller
    /// that drops each frame before the next costs one buffer; one that keeps n slices at most n more.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] for an ErrorResponse, [`Error::Protocol`] for what does not belong here. The connection is
    /// then of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        while let Some(received) = self.receive()? {
            return Ok(Some(match received {
                Received::CopyData(body) => Frame::CopyData(body),
                Received::Notice(notice) => Frame::Notice(notice),
                Received::Other(Message::CopyDone) => Frame::CopyDone,
                Received::Other(Message::CommandComplete(_)) => {
                    self.complete = true;
                    Frame::CommandComplete
                }
                Received::Other(Message::ReadyForQuery(_)) => continue,
                other => return Err(self.unexpected(&other, "CopyData, CopyDone or a notice")),
            }));
        }
        Ok(None)
    }

    /// Waits for the socket and moves bytes once: out, if something is queued, and, if `read`, in. With nothing queued
    /// and `read` off it never returns, as an arm of a `select!` that has nothing to do.
    ///
    /// # Cancel safety
    ///
    /// Safe. What has been read stays in the buffer and what is not written yet stays queued, whenever the future is
    /// dropped; a message in several pieces is put together over any number of calls.
    ///
    /// # Errors
    ///
    /// The connection broke, or the server closed it. When writing fails, what the server said last is read first, so
    /// its ErrorResponse comes out of [`Connection::next_frame`].
    pub async fn progress(&mut self, read: bool) -> Result<(), Error> {
        self.wire.step(read).await.map_err(|broken| match broken {
            Broken::Io(cause) => Error::Io { action: self.action.clone(), cause },
            Broken::Closed => Error::Closed { action: self.action.clone() },
        })
    }

    /// Queues a CopyData message (a status update) for [`Connection::progress`] to write.
    pub fn queue_copy_data(&mut self, body: &[u8]) {
        let message = frontend::CopyData::new(body);
        debug_assert!(message.is_ok(), "a status update of 2 GiB");
        if let Ok(message) = message {
            message.write(&mut self.wire.output);
        }
    }

    /// Queues CopyDone: after it, nothing may be queued any more. Then [`Connection::finish`].
    pub fn queue_copy_done(&mut self) {
        frontend::copy_done(&mut self.wire.output);
    }

    /// Whether something is queued and not written yet.
    #[must_use]
    pub fn has_pending_output(&self) -> bool {
        !self.wire.output.is_empty()
    }

    /// Bytes that have come from the server so far, to tell whether anything comes.
    #[must_use]
    pub const fn bytes_received(&self) -> u64 {
        self.wire.received()
    }

    /// After [`Connection::queue_copy_done`]: writes what is queued, reads and throws away what still comes, and waits
    /// at most `at_most` for the server's own end. True if it came: then the server has taken every status update.
    /// Closing at once would lose the last one, because the server sees the closed socket before it reads.
    pub async fn finish(mut self, at_most: Duration) -> bool {
        tokio::time::timeout(at_most, self.farewell()).await.unwrap_or(false)
    }

    async fn farewell(&mut self) -> bool {
        while !self.complete {
            match self.next_frame() {
                Ok(Some(Frame::CopyDone)) => break,
                Ok(Some(_)) => {}
                Ok(None) => {
                    if self.progress(true).await.is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        frontend::terminate(&mut self.wire.output);
        while self.has_pending_output() && self.progress(false).await.is_ok() {}
        true
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
