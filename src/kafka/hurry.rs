//! Sending at once what librdkafka would hold back for `linger.ms`.
//!
//! `linger.ms` cannot be changed while a producer lives, and no value is good for both: 20 ms make batches that halve the cost
//! of a record while there is a backlog, and are most of the delay while there is none. `rd_kafka_flush` is the way out:
//! as long as somebody is inside it, librdkafka's threads do not linger. It waits, so it has a thread of its own.

#![expect(
    unsafe_code,
    reason = "the rdkafka crate's flush polls as well, which belongs to the session's thread"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::librdkafka::Context;
use super::native::millis;

/// Has what is in the queue sent at once, when it is asked to.
pub(super) struct Hurry {
    state: Arc<AtomicU8>,
    thread: Thread,
}

// What the thread is to do.
const REST: u8 = 0;
const FLUSH: u8 = 1;
const END: u8 = 2;

/// The flush ends when everything is reported. If that takes longer, and nobody asks again, there is a backlog by now.
const PATIENCE: Duration = Duration::from_millis(50);

impl Hurry {
    /// Makes the thread.
    ///
    /// # Errors
    /// If there is none to be had.
    pub(super) fn new(client: Arc<BaseProducer<Context>>) -> std::io::Result<Self> {
        let state = Arc::new(AtomicU8::new(REST));
        let thread = thread::Builder::new().name("kafka-hurry".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || while serve(&state, &client) {}
        })?;
        Ok(Self { state, thread: thread.thread().clone() })
    }

    /// What is in the queue now shall not wait for company. Returns at once.
    pub(super) fn flush(&self) {
        if self.state.swap(FLUSH, Ordering::AcqRel) == REST {
            self.thread.unpark();
        }
    }
}

/// One round of the thread; false at its end.
fn serve(state: &AtomicU8, client: &BaseProducer<Context>) -> bool {
    match state.compare_exchange(FLUSH, REST, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            // SAFETY: the client is borrowed. That not all was sent in time is no news here.
            unsafe { c::rd_kafka_flush(client.client().native_ptr(), millis(PATIENCE)) };
        }
        Err(END) => return false,
        // Also returns for no reason, and then comes back.
        Err(_) => thread::park(),
    }
    true
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.state.store(END, Ordering::Release);
        self.thread.unpark();
    }
}
