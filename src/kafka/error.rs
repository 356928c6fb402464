//! What can go wrong on the Kafka side, and what it means for the events behind it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::disposition::Disposition;
use crate::outbox::{RejectionReason, Token};

/// An error of the producer as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka does not accept its configuration.
    #[error("create the Kafka producer: {0}")]
    Create(KafkaError),
    /// There is no pipe to be had, through which librdkafka tells that it has something to report.
    #[error("make a pipe for delivery reports: {0}")]
    Bell(std::io::Error),
    /// The thread that has records sent at once could not be started.
    #[error("start a thread for the Kafka producer: {0}")]
    Hurry(std::io::Error),
    /// A record was not delivered. Nothing says that *this* record is at fault: a broker refuses whole batches.
    #[error("Kafka did not take event \"{}\" for topic \"{}\": {}", .0.event_id, .0.topic, describe(.0.code))]
    Undelivered(Undelivered),
    /// A record could not be handed to librdkafka.
    #[error("produce to topic \"{topic}\": {}", describe(*.code))]
    Produce {
        /// The topic.
        topic: String,
        /// librdkafka's code.
        code: RDKafkaErrorCode,
    },
    /// A client that knows nothing but the configured servers gets an answer, and the producer's gets none.
    #[error("the Kafka producer does not find its brokers any more, though they answer a new client")]
    Forgotten,
    /// librdkafka has given up.
    #[error("the Kafka producer failed: {reason} ({code})")]
    Fatal {
        /// librdkafka's code.
        code: RDKafkaErrorCode,
        /// Its words.
        reason: String,
    },
}

/// A delivery report that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The record, as its session knows it.
    pub token: Token,
    /// The code that librdkafka gives up with.
    pub code: RDKafkaErrorCode,
    /// The event's id, from the record's header.
    pub event_id: String,
    /// The record's topic.
    pub topic: String,
    /// Bytes of its key and value.
    pub payload_size: usize,
}

/// What a failed delivery says about the events that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One of the records is at fault, and will be again.
    Rejected(RejectionReason),
    /// The relay may not write there. Somebody must grant it; the event is not at fault.
    Denied,
    /// Nothing against the events: a new producer may succeed.
    Failed,
}

impl Undelivered {
    /// Its code in words, with the code's name for a search.
    #[must_use]
    pub fn words(&self) -> String {
        describe(self.code)
    }

    /// Classifies the code. Codes that are not listed say nothing against an event, so they are never a rejection.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.code {
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::InvalidMessageSize => Verdict::Rejected(RejectionReason::TooLarge),
            RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::UnsupportedForMessageFormat => Verdict::Rejected(RejectionReason::Refused),
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                Verdict::Denied
            }
            _ => Verdict::Failed,
        }
    }
}

impl Error {
    /// Whether a new producer may succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Create(_) => Disposition::Stop,
            Self::Bell(_)
            | Self::Hurry(_)
            | Self::Undelivered(_)
            | Self::Produce { .. }
            | Self::Forgotten
            | Self::Fatal { .. } => Disposition::Retry,
        }
    }

    /// Kafka has refused a batch, and the one at fault is to be found.
    #[must_use]
    pub fn is_refused_batch(&self) -> bool {
        matches!(self, Self::Undelivered(undelivered) if matches!(undelivered.verdict(), Verdict::Rejected(_)))
    }

    /// What somebody can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Undelivered(undelivered) => match undelivered.verdict() {
                Verdict::Denied => Some(missing_acl(undelivered)),
                Verdict::Rejected(_) => Some(
                    "nothing has to be done: Kafka refuses whole batches, so the records of this one are sent again, \
                     one at a time, to find the one at fault"
                        .to_owned(),
                ),
                Verdict::Failed => None,
            },
            _ => None,
        }
    }
}

fn missing_acl(Undelivered { code, topic, .. }: &Undelivered) -> String {
    match code {
        RDKafkaErrorCode::ClusterAuthorizationFailed => {
            "grant IdempotentWrite on the cluster to the relay's user".to_owned()
        }
        _ => format!("grant Write and Describe on topic \"{topic}\" to the relay's user"),
    }
}

/// The code in words, with its name for a search.
pub(super) fn describe(code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge => {
            "it, or the batch it was in, is larger than the topic's max.message.bytes (MessageSizeTooLarge)"
                .to_owned()
        }
        RDKafkaErrorCode::MessageBatchTooLarge => {
            "its batch is larger than the topic's segment.bytes (MessageBatchTooLarge)".to_owned()
        }
        code => code.to_string(),
    }
}
