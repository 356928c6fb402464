//! What the relay's user may do with topics, as the broker tells it: `DescribeTopics` with authorized operations.
//!
//! Metadata alone tells that a topic is there, not whether it may be written to. The `rdkafka` crate does not offer this
//! call, so it is made through librdkafka's C interface. Every pointer that has to be given back is owned by a value that
//! does so when it is dropped, in the order that librdkafka asks for; what is read is copied before that.

#![expect(unsafe_code, reason = "the only way to DescribeTopics, which the rdkafka crate does not offer")]

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

/// A topic, and what this user may do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    /// Whether it may be written to; `None` if the broker does not say. The error is that of this topic alone.
    pub(super) may_write: Result<Option<bool>, RDKafkaErrorCode>,
}

/// Asks the cluster for `topics`, whose names are different from each other. Blocks, for `patience` at most.
///
/// # Errors
/// If there is no answer.
pub(super) fn topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    patience: Duration,
) -> Result<Vec<Described>, RDKafkaErrorCode> {
    // A name with a zero byte is no topic's.
    let names: Vec<CString> = topics.iter().filter_map(|name| CString::new(name.as_str()).ok()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    // SAFETY: `client` is borrowed, so its handle lives until the end of this function, longer than all that is made of
    // it here (values are dropped in reverse order: the event before its queue, the queue last). `pointers` are
    // `names.len()` valid C strings, which librdkafka copies.
    unsafe {
        let queue = Owned::new(c::rd_kafka_queue_new(handle), c::rd_kafka_queue_destroy)?;
        let options =
            c::rd_kafka_AdminOptions_new(handle, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let options = Owned::new(options, c::rd_kafka_AdminOptions_destroy)?;
        // The message of an error is not wanted: its buffer has no length.
        c::rd_kafka_AdminOptions_set_request_timeout(options.get(), millis, std::ptr::null_mut(), 0);
        // No error is a null pointer, which is no error to destroy.
        let refused = c::rd_kafka_AdminOptions_set_include_authorized_operations(options.get(), 1);
        drop(Owned::new(refused, c::rd_kafka_error_destroy));
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let collection = Owned::new(collection, c::rd_kafka_TopicCollection_destroy)?;
        c::rd_kafka_DescribeTopics(handle, collection.get(), options.get(), queue.get());

        // The answer comes when the request's own limit has passed, if not before; a little is added for the way.
        let event = c::rd_kafka_queue_poll(queue.get(), millis.saturating_add(500));
        let event =
            Owned::new(event, c::rd_kafka_event_destroy).map_err(|_| RDKafkaErrorCode::OperationTimedOut)?;
        let error = RDKafkaErrorCode::from(c::rd_kafka_event_error(event.get()));
        if error != RDKafkaErrorCode::NoError {
            return Err(error);
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event.get());
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let descriptions = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        Ok(slice(descriptions, count).iter().map(|topic| described(*topic)).collect())
    }
}

/// # Safety
/// `topic` must be of an event that has not been destroyed.
unsafe fn described(topic: *const c::rd_kafka_TopicDescription_t) -> Described {
    // SAFETY: name, error and operations belong to the description, which lives as long as its event. They are copied.
    unsafe {
        let name = CStr::from_ptr(c::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
        let error = RDKafkaErrorCode::from(c::rd_kafka_error_code(c::rd_kafka_TopicDescription_error(topic)));
        if error != RDKafkaErrorCode::NoError {
            return Described { name, may_write: Err(error) };
        }
        let mut count = 0;
        let operations = c::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        let operations = slice(operations, count);
        let writes = [
            c::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE,
            c::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL,
        ];
        let may_write = operations.iter().any(|operation| writes.contains(operation));
        // A broker that does not know the question answers with nothing.
        Described { name, may_write: Ok((!operations.is_empty()).then_some(may_write)) }
    }
}

/// `count` items from `start`; none from a null pointer.
///
/// # Safety
/// If `start` is not null, it must point to `count` items that live as long as the slice.
unsafe fn slice<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: as this function demands.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// Something of librdkafka's that must be given back.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// Takes it over. A null pointer is nothing to give back.
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        let pointer = NonNull::new(pointer).ok_or(RDKafkaErrorCode::Fail)?;
        Ok(Self { pointer, destroy })
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `pointer` came from librdkafka with this function to destroy it, and is destroyed here alone.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}
