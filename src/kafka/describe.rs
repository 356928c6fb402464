//! What the relay's user may do with topics, as the broker tells it: `DescribeTopics` with authorized operations.
//!
//! Metadata alone tells that a topic is there, not whether it may be written to. The `rdkafka` crate does not offer this
//! call, so it is made through librdkafka's C interface (`native`). What is read is copied before it is given back.

#![expect(unsafe_code, reason = "the only way to DescribeTopics, which the rdkafka crate does not offer")]

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::native::{self, Owned, slice};

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
    let handle = client.native_ptr();
    // SAFETY: `client` is borrowed, so its handle lives until the end of this function, longer than all that is made of
    // it here (values are dropped in reverse order: the event before its queue, the queue last). `pointers` are
    // `names.len()` valid C strings, which librdkafka copies.
    unsafe {
        let queue = Owned::new(c::rd_kafka_queue_new(handle), c::rd_kafka_queue_destroy)?;
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::options(handle, operation, patience)?;
        // No error is a null pointer, which is no error to destroy.
        let refused = c::rd_kafka_AdminOptions_set_include_authorized_operations(options.get(), 1);
        drop(Owned::new(refused, c::rd_kafka_error_destroy));
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let collection = Owned::new(collection, c::rd_kafka_TopicCollection_destroy)?;
        c::rd_kafka_DescribeTopics(handle, collection.get(), options.get(), queue.get());

        let event = native::answer(queue.get(), patience)?;
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
