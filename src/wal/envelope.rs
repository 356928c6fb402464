//! What travels in `CopyData` while streaming: `XLogData` and keepalives from the server, status updates to it.

use bytes::Bytes;

use super::reader::{DecodeError, Reader};
use super::timestamp::PgTimestamp;
use crate::ack::ConfirmedLsn;
use crate::lsn::Lsn;

/// One `CopyData` body from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// A piece of WAL; with pgoutput, exactly one message.
    XLogData(XLogData),
    /// Primary keepalive.
    Keepalive(Keepalive),
}

/// `XLogData`: one pgoutput message and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XLogData {
    /// Start of the WAL that is described.
    pub start: Lsn,
    /// The server's end of WAL as it was sent. Not a position that may be confirmed.
    pub wal_end: Lsn,
    /// The server's clock as it was sent.
    pub sent: PgTimestamp,
    /// The pgoutput message.
    pub data: Bytes,
}

/// A keepalive. The server has sent all that it has to send before `wal_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How far the server has decoded the log.
    pub wal_end: Lsn,
    /// The server's clock as it was sent.
    pub sent: PgTimestamp,
    /// The server wants a status update now.
    pub reply_requested: bool,
}

impl Envelope {
    /// Takes one `CopyData` body apart, without copying the message inside.
    ///
    /// # Errors
    /// If the body is neither of the two, or not of their documented length.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("CopyData", body);
        match reader.byte("kind")? {
            b'w' => {
                reader.rename("XLogData");
                Ok(Self::XLogData(XLogData {
                    start: Lsn::new(reader.u64("start of WAL")?),
                    wal_end: Lsn::new(reader.u64("end of WAL")?),
                    sent: PgTimestamp::from_micros(reader.i64("server clock")?),
                    data: reader.rest(),
                }))
            }
            b'k' => {
                reader.rename("keepalive");
                let keepalive = Keepalive {
                    wal_end: Lsn::new(reader.u64("end of WAL")?),
                    sent: PgTimestamp::from_micros(reader.i64("server clock")?),
                    reply_requested: match reader.byte("reply requested")? {
                        0 => false,
                        1 => true,
                        other => return Err(reader.unexpected("reply requested", 1, i64::from(other))),
                    },
                };
                reader.finish()?;
                Ok(Self::Keepalive(keepalive))
            }
            other => Err(reader.unexpected("kind", 1, i64::from(other))),
        }
    }
}

/// Length of a status update: kind, three positions, clock, reply flag.
pub const STATUS_UPDATE_LEN: usize = 1 + 3 * 8 + 8 + 1;

/// A standby status update. Written, flushed and applied are the same position: the relay keeps nothing itself, so what
/// Kafka has not confirmed is not even written. `now` is the client's clock, which the server shows as `reply_time`. With
/// `reply_requested` the server answers at once, with a keepalive.
#[must_use]
pub fn status_update(
    position: ConfirmedLsn,
    now: PgTimestamp,
    reply_requested: bool,
) -> [u8; STATUS_UPDATE_LEN] {
    let position = position.lsn().as_u64().to_be_bytes();
    let parts: [&[u8]; 6] =
        [b"r", &position, &position, &position, &now.as_micros().to_be_bytes(), &[u8::from(reply_requested)]];
    let mut update = [0; STATUS_UPDATE_LEN];
    for (byte, part) in update.iter_mut().zip(parts.into_iter().flatten()) {
        *byte = *part;
    }
    update
}
