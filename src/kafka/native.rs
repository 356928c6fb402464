//! librdkafka's C interface, as far as the `rdkafka` crate does not offer it: pointers that give themselves back, what an
//! admin request needs, and a client's list of brokers.
//!
//! Every pointer that has to be given back is owned by a value that does so when it is dropped; values are dropped in
//! reverse order, which is the order that librdkafka asks for.

#![expect(unsafe_code, reason = "the only way to calls that the rdkafka crate does not offer")]

use std::ffi::CString;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

/// Options of the admin request `operation`, which gives up after `patience`.
///
/// # Safety
/// The client of `handle` must outlive them.
pub(super) unsafe fn options(
    handle: *mut c::rd_kafka_t,
    operation: c::rd_kafka_admin_op_t,
    patience: Duration,
) -> Result<Owned<c::rd_kafka_AdminOptions_t>, RDKafkaErrorCode> {
    // SAFETY: as this function demands; a null buffer for the message of an error is allowed.
    unsafe {
        let options = c::rd_kafka_AdminOptions_new(handle, operation);
        let options = Owned::new(options, c::rd_kafka_AdminOptions_destroy)?;
        c::rd_kafka_AdminOptions_set_request_timeout(
            options.get(),
            millis(patience),
            std::ptr::null_mut(),
            0,
        );
        Ok(options)
    }
}

/// Waits for the answer to the request that reports to `queue`.
///
/// # Errors
/// If there is none within `patience`, or it is an error for the request as a whole.
///
/// # Safety
/// `queue` must be a queue that lives, and that outlives the event.
pub(super) unsafe fn answer(
    queue: *mut c::rd_kafka_queue_t,
    patience: Duration,
) -> Result<Owned<c::rd_kafka_event_t>, RDKafkaErrorCode> {
    // SAFETY: as this function demands.
    unsafe {
        // It comes when the request's own limit has passed, if not before; a little is added for the way.
        let event = c::rd_kafka_queue_poll(queue, millis(patience).saturating_add(500));
        let event =
            Owned::new(event, c::rd_kafka_event_destroy).map_err(|_| RDKafkaErrorCode::OperationTimedOut)?;
        match RDKafkaErrorCode::from(c::rd_kafka_event_error(event.get())) {
            RDKafkaErrorCode::NoError => Ok(event),
            error => Err(error),
        }
    }
}

/// Tells a client of further `servers`, as `bootstrap.servers` has them. It remembers each call for good.
pub(super) fn add_brokers<C: ClientContext>(client: &Client<C>, servers: &str) {
    // A property that librdkafka has taken has no NUL.
    let Ok(servers) = CString::new(servers) else { return };
    // SAFETY: `client` is borrowed, so its handle lives; the text is copied.
    unsafe {
        c::rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr());
    }
}

pub(super) fn millis(patience: Duration) -> i32 {
    i32::try_from(patience.as_millis()).unwrap_or(i32::MAX)
}

/// `count` items from `start`; none from a null pointer.
///
/// # Safety
/// If `start` is not null, it must point to `count` items that live as long as the slice.
pub(super) unsafe fn slice<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: as this function demands.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// Something of librdkafka's that must be given back.
pub(super) struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes it over. A null pointer is nothing to give back.
    pub(super) fn new(
        pointer: *mut T,
        destroy: unsafe extern "C" fn(*mut T),
    ) -> Result<Self, RDKafkaErrorCode> {
        let pointer = NonNull::new(pointer).ok_or(RDKafkaErrorCode::Fail)?;
        Ok(Self { pointer, destroy })
    }

    pub(super) fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }

    /// librdkafka has taken it over.
    pub(super) fn give_away(self) {
        std::mem::forget(self);
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `pointer` came from librdkafka with this function to destroy it, and is destroyed here alone.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}
