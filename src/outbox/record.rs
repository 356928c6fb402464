//! What goes to Kafka, and what cannot.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::wal::UnixMillis;

/// A Kafka record, ready to be produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Comes back with the delivery report.
    pub token: Token,
    /// Its topic.
    pub topic: Topic,
    /// Its partition; `None`: by the hash of its key.
    pub partition: Option<i32>,
    /// Its key; `None`: a null key.
    pub key: Option<Bytes>,
    /// Its value; `None`: a null value (a tombstone).
    pub value: Option<Bytes>,
    /// Its timestamp.
    pub timestamp: UnixMillis,
    /// Its headers, in order. The first is `id`.
    pub headers: Vec<Header>,
}

/// A record header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: Arc<str>,
    /// Its value; `None`: a null value.
    pub value: Option<Bytes>,
}

/// The names of the headers that the relay makes itself; the configuration and the rows have none of these.
pub const OWN_HEADERS: [&str; 6] =
    ["id", "source", "position", "dead-letter-reason", "dead-letter-topic", "republished"];

/// What librdkafka keeps for a record in flight beside its bytes: measured 490.
pub const RECORD_OVERHEAD: usize = 512;

impl Record {
    /// The memory it takes until it is confirmed, in bytes: value, key, headers and [`RECORD_OVERHEAD`].
    #[must_use]
    pub fn size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|header| header.name.len().saturating_add(len(&header.value)));
        headers.fold(RECORD_OVERHEAD.saturating_add(self.payload_size()), usize::saturating_add)
    }

    /// The bytes of key and value.
    #[must_use]
    pub fn payload_size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        len(&self.key).saturating_add(len(&self.value))
    }

    /// The event's id, for messages.
    #[must_use]
    pub fn event_id(&self) -> String {
        let id = self.headers.first().and_then(|header| header.value.as_deref());
        String::from_utf8_lossy(id.unwrap_or_default()).into_owned()
    }
}

/// Names a record on its way through Kafka and back. It means something only to the [`crate::relay::Relay`] that gave
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub usize);

/// The name of a topic, checked: 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..` (Kafka's `Topic.validate`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks `name`.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let valid =
            (1..=249).contains(&name.len()) && name.iter().all(legal) && name != b"." && name != b"..";
        let name = std::str::from_utf8(name).ok().filter(|_| valid)?;
        Some(Self(Arc::from(name)))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event that Kafka can never take as it is. Nothing after it is acknowledged, until a dead letter stands in for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event \"{event_id}\" cannot be sent to Kafka ({}): {detail}", .reason.as_str())]
pub struct Rejection {
    /// The event's id; empty if it is NULL.
    pub event_id: String,
    /// The class of the problem.
    pub reason: RejectionReason,
    /// What is wrong, with names and limits; never the payload.
    pub detail: String,
}

/// Why an event was rejected: the values of the metric's label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectionReason {
    /// Larger than `message.max.bytes`, or than the topic's `max.message.bytes`.
    TooLarge,
    /// Its topic's name is not one that Kafka allows.
    InvalidTopic,
    /// Its partition is not a number, or its topic has no such partition.
    InvalidPartition,
    /// NULL where a value is needed.
    Null,
    /// The column with further headers holds none.
    InvalidHeaders,
    /// The content of a logical message is no JSON object.
    InvalidMessage,
    /// Refused by the broker for another reason.
    Refused,
}

impl RejectionReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::TooLarge,
        Self::InvalidTopic,
        Self::InvalidPartition,
        Self::Null,
        Self::InvalidHeaders,
        Self::InvalidMessage,
        Self::Refused,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::InvalidTopic => "invalid_topic",
            Self::InvalidPartition => "invalid_partition",
            Self::Null => "null",
            Self::InvalidHeaders => "invalid_headers",
            Self::InvalidMessage => "invalid_message",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_kafkas() {
        for name in ["a", "outbox.event.order", "A-b_c.9", &"x".repeat(249)] {
            assert!(Topic::new(name.as_bytes()).is_some(), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "größe", &"x".repeat(250)] {
            assert!(Topic::new(name.as_bytes()).is_none(), "{name}");
        }
    }
}
