//! How a task learns that librdkafka has something to say: it writes a byte into a pipe (`rd_kafka_queue_io_event_enable`).
//!
//! The `rdkafka` crate can only wait for that with a thread.

#![expect(unsafe_code, reason = "the only way to be told by librdkafka without a thread that waits")]

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use tokio::net::unix::pipe;

use super::native::Owned;

/// Rings when there is something in librdkafka's main queue: delivery reports, errors, log lines.
pub(super) struct Bell {
    // Before the pipe's end that librdkafka writes to.
    queue: Queue,
    pipe: pipe::Receiver,
    _writer: OwnedFd,
}

struct Queue(Owned<c::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above; they have a lock of their own.
unsafe impl Sync for Queue {}

impl Bell {
    /// Hangs one on `client`, which must outlive it. To be called on the runtime.
    ///
    /// # Errors
    /// If there is no pipe to be had.
    pub(super) fn hang<C: ClientContext>(client: &Client<C>) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let pipe = pipe::Receiver::from_owned_fd(reader.into())?;
        // librdkafka's threads must not wait for us to read.
        let writer = pipe::Sender::from_owned_fd(writer.into())?.into_nonblocking_fd()?;
        // SAFETY: the client is borrowed. The queue is given back when it is dropped. The byte is copied, and nothing is written
        // to the pipe any more after `Queue::drop`, which is before it is closed.
        let queue = unsafe {
            let queue = c::rd_kafka_queue_get_main(client.native_ptr());
            let queue = Owned::new(queue, c::rd_kafka_queue_destroy)
                .map_err(|_| io::Error::from(ErrorKind::Other))?;
            c::rd_kafka_queue_io_event_enable(queue.get(), writer.as_raw_fd(), c"!".as_ptr().cast(), 1);
            Queue(queue)
        };
        Ok(Self { queue, pipe, _writer: writer })
    }

    /// Waits until it rings, and quiets it.
    ///
    /// # Cancel safety
    /// Safe, if [`Bell::is_wanted`] is asked afterwards.
    pub(super) async fn rings(&mut self) {
        if self.pipe.readable().await.is_err() {
            // The runtime is shutting down: nobody is there to be told, and asking again would not wait.
            return std::future::pending().await;
        }
        while matches!(self.pipe.try_read(&mut [0; 64]), Ok(read) if read > 0) {}
    }

    /// Whether there is something in the queue.
    pub(super) fn is_wanted(&self) -> bool {
        // SAFETY: the queue lives as long as `self`.
        unsafe { c::rd_kafka_queue_length(self.queue.0.get()) > 0 }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue is given back only after this. -1: no events any more.
        unsafe { c::rd_kafka_queue_io_event_enable(self.0.get(), -1, std::ptr::null(), 0) }
    }
}
