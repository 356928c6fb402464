//! Bytes to messages and back: the socket, a read buffer cut into messages without copying, and a write buffer.
//!
//! Knows of a backend message only that it is a type byte and a length. Everything that waits is one step of
//! [`Wire::step`], which may be cancelled at any point because both buffers live here.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// What the read buffer is allocated as: about a thousand outbox rows a read when there is something to catch up.
const CHUNK: usize = 256 * 1024;
/// A read is worth making with this much room; less would mean a system call for a handful of rows.
const MIN_READ: usize = 64 * 1024;
/// PostgreSQL builds a message in at most 1 GiB of memory; the rest is slack for its envelope.
const MAX_MESSAGE: usize = 1024 * 1024 * 1024 + 64 * 1024;
/// Type byte and length.
pub(super) const HEADER: usize = 5;

/// Anything a connection can run over.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A socket with its buffers.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    input: BytesMut,
    /// Bytes read so far.
    received: u64,
    /// Size of the allocation behind `input`, as far as we asked for it.
    chunk: usize,
    pub(super) output: BytesMut,
    /// Writing failed. The server's last words may still wait to be read; they come first.
    write_error: Option<io::Error>,
}

/// How a connection ends below the protocol.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    Closed,
}

/// A length no message of this type byte can have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLength {
    pub(super) tag: u8,
    pub(super) length: u32,
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        Self {
            socket,
            input: BytesMut::with_capacity(CHUNK),
            received: 0,
            chunk: CHUNK,
            output: BytesMut::new(),
            write_error: None,
        }
    }

    /// Cuts the next whole message out of the read buffer, header included; `None` until it is all there.
    pub(super) fn next_message(&mut self) -> Result<Option<BytesMut>, BadLength> {
        match self.total()? {
            Some(total) if total <= self.input.len() => Ok(Some(self.input.split_to(total))),
            _ => Ok(None),
        }
    }

    /// What has been read and not been cut yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Bytes read since the socket was handed over.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Waits until something moves, and moves it once: pending output to the socket, and, if `read`, from the socket
    /// to the read buffer. With nothing to write and `read` off it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Safe: bytes move only within a poll that returns ready, and both buffers are kept in `self`.
    pub(super) async fn step(&mut self, read: bool) -> Result<(), Broken> {
        poll_fn(|context| self.poll_step(context, read)).await
    }

    fn poll_step(&mut self, context: &mut Context<'_>, read: bool) -> Poll<Result<(), Broken>> {
        let mut moved = false;
        if !self.output.is_empty() {
            match Pin::new(&mut *self.socket).poll_write(context, &self.output) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Broken::Io(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    moved = true;
                }
                Poll::Ready(Err(error)) => {
                    self.output.clear();
                    self.write_error = Some(error);
                }
            }
        }
        if read || self.write_error.is_some() {
            match self.poll_read(context) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(self.write_error.take().map_or(Broken::Closed, Broken::Io)));
                }
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Io(error))),
                // After a failed write the end is near: the kernel reports it to the reader as well.
                Poll::Pending => {}
            }
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.make_room();
        // The future holds no state of its own between polls, so it can be made anew for each.
        let read = pin!(self.socket.read_buf(&mut self.input));
        let count = ready!(read.poll(context))?;
        self.received = self.received.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Poll::Ready(Ok(count))
    }

    /// Sees to it that a read has room: for the rest of a message whose length is known, or for `MIN_READ`.
    ///
    /// The buffer is one allocation of `CHUNK`, used again as soon as nobody holds a slice of it, and replaced
    /// (what is held stays valid) while somebody does. Only for a larger message it is larger, and such a one is
    /// given up at the first read after the message has been cut out.
    fn make_room(&mut self) {
        let length = self.input.len();
        let missing = self.total().ok().flatten().unwrap_or(HEADER).saturating_sub(length);
        let wanted = missing.max(MIN_READ);
        let outgrown = self.chunk > CHUNK && length + wanted + MIN_READ <= CHUNK;
        let spare = self.input.capacity() - length;
        if !outgrown && (spare >= wanted || self.input.try_reclaim(wanted)) {
            return;
        }
        // More than `wanted`, so that the last bytes of a large message are not read in ever smaller pieces.
        self.chunk = CHUNK.max(length + wanted + MIN_READ);
        let mut fresh = BytesMut::with_capacity(self.chunk);
        fresh.extend_from_slice(&self.input);
        self.input = fresh;
    }

    /// Length of the message at the front of the buffer, header included; `None` while its header is not all there.
    fn total(&self) -> Result<Option<usize>, BadLength> {
        let Some(&[tag, a, b, c, d]) = self.input.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        // The length counts itself, and not the type byte.
        match usize::try_from(length) {
            Ok(counted) if (4..=MAX_MESSAGE).contains(&counted) => Ok(Some(counted + 1)),
            _ => Err(BadLength { tag, length }),
        }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
