//! Making a topic that does not exist, as `[topics]` says.
//!
//! The request goes through librdkafka's C interface (`native`): the `rdkafka` crate has one, but leaves out the broker's
//! reason for a refusal, and needs a client of its own for it.

#![expect(unsafe_code, reason = "the only way to the broker's reason, which the rdkafka crate leaves out")]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::native::{self, Owned, slice};

/// What a topic is made with: `[topics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// `topics.partitions`.
    pub partitions: i32,
    /// `topics.replication_factor`; -1: the broker's default.
    pub replication_factor: i32,
    /// `[topics.config]`.
    pub config: Vec<(String, String)>,
}

/// Why a topic was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotCreated {
    /// The broker refuses, and will again: its code and reason.
    Refused(RDKafkaErrorCode, String),
    /// No answer, or none that says anything about the topic.
    Unanswered(RDKafkaErrorCode),
}

/// Makes `topic`. That it exists already, made by another relay in the same moment, is as good. Blocks, for `patience` at
/// most.
pub(super) fn topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    new: &NewTopic,
    patience: Duration,
) -> Result<(), NotCreated> {
    match request(client, topic, new, patience) {
        Ok((RDKafkaErrorCode::NoError | RDKafkaErrorCode::TopicAlreadyExists, _)) => Ok(()),
        // What passes by itself. A replication factor that is too high does so when the other brokers are up, but somebody
        // has to know of it.
        Ok((
            code @ (RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NotController
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::ThrottlingQuotaExceeded),
            _,
        )) => Err(NotCreated::Unanswered(code)),
        Ok((code, reason)) => Err(NotCreated::Refused(code, reason)),
        Err(code) => Err(NotCreated::Unanswered(code)),
    }
}

/// The broker's code for the topic, and its words.
fn request<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    new: &NewTopic,
    patience: Duration,
) -> Result<(RDKafkaErrorCode, String), RDKafkaErrorCode> {
    let invalid = |_| RDKafkaErrorCode::InvalidArgument;
    let name = CString::new(topic).map_err(invalid)?;
    let text = |text: &str| CString::new(text).map_err(invalid);
    let config = new.config.iter().map(|(name, value)| Ok((text(name)?, text(value)?)));
    let config: Vec<(CString, CString)> = config.collect::<Result<_, RDKafkaErrorCode>>()?;
    let handle = client.native_ptr();
    // SAFETY: `client` is borrowed, so its handle lives until the end of this function, longer than all that is made of it
    // here (values are dropped in reverse order: the event before its queue, the queue last but the topic). The strings are
    // copied by librdkafka. The broker's words belong to the event, and are copied before it is destroyed.
    unsafe {
        let (partitions, replicas) = (new.partitions, new.replication_factor);
        let request = c::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replicas, std::ptr::null_mut(), 0);
        let request = Owned::new(request, c::rd_kafka_NewTopic_destroy)
            .map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
        for (name, value) in &config {
            c::rd_kafka_NewTopic_set_config(request.get(), name.as_ptr(), value.as_ptr());
        }
        let queue = Owned::new(c::rd_kafka_queue_new(handle), c::rd_kafka_queue_destroy)?;
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
        let options = native::options(handle, operation, patience)?;
        let millis = native::millis(patience);
        c::rd_kafka_AdminOptions_set_operation_timeout(options.get(), millis, std::ptr::null_mut(), 0);
        let mut requests = [request.get()];
        c::rd_kafka_CreateTopics(handle, requests.as_mut_ptr(), 1, options.get(), queue.get());

        let event = native::answer(queue.get(), patience)?;
        let result = c::rd_kafka_event_CreateTopics_result(event.get());
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let results = c::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        let Some(result) = slice(results, count).first() else {
            return Err(RDKafkaErrorCode::Fail);
        };
        let code = RDKafkaErrorCode::from(c::rd_kafka_topic_result_error(*result));
        let words = c::rd_kafka_topic_result_error_string(*result);
        let words = if words.is_null() { "".into() } else { CStr::from_ptr(words).to_string_lossy() };
        Ok((code, words.into_owned()))
    }
}
