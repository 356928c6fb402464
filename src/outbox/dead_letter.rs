//! The record that goes out in place of one that Kafka can never take.

use bytes::Bytes;

use super::record::{Header, Record, RejectionReason, Topic};

/// The header with the reason, as the metric `events_rejected_total` names it.
const REASON: &str = "dead-letter-reason";
/// The header with the topic that the event was for; a null value if its row names none.
const TOPIC: &str = "dead-letter-topic";

impl Record {
    /// The dead letter of this record: the same key, value, timestamp and headers for `topic`, and two more headers that
    /// tell why, and where it should have gone. Its partition is chosen by its key.
    #[must_use]
    pub fn into_dead_letter(mut self, topic: &Topic, reason: RejectionReason) -> Self {
        let meant_for = Bytes::copy_from_slice(self.topic.as_str().as_bytes());
        self.topic = topic.clone();
        self.marked_as_dead_letter(reason, Some(meant_for))
    }

    /// The same for a record that has the dead letters' topic already, because `meant_for` is no topic.
    pub(super) fn marked_as_dead_letter(mut self, reason: RejectionReason, meant_for: Option<Bytes>) -> Self {
        self.partition = None;
        let reason = Bytes::from_static(reason.as_str().as_bytes());
        self.headers.push(Header { name: REASON.into(), value: Some(reason) });
        self.headers.push(Header { name: TOPIC.into(), value: meant_for });
        self
    }

    /// Whether it is a dead letter. No other record has these headers: the configuration does not allow them.
    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        self.headers.last().is_some_and(|header| header.name.as_ref() == TOPIC)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Token;
    use super::*;
    use crate::wal::UnixMillis;

    #[test]
    fn a_dead_letter_is_its_record_with_two_more_headers() {
        let topic = |name: &str| Topic::new(name.as_bytes()).unwrap();
        let id = Header { name: "id".into(), value: Some(Bytes::from_static(b"7")) };
        let record = Record {
            token: Token(3),
            topic: topic("orders"),
            partition: Some(5),
            key: Some(Bytes::from_static(b"key")),
            value: None,
            timestamp: UnixMillis(1),
            headers: vec![id.clone()],
        };
        assert!(!record.is_dead_letter());
        let letter = record.clone().into_dead_letter(&topic("dead"), RejectionReason::TooLarge);
        assert!(letter.is_dead_letter());
        let header =
            |name: &str, value: &'static str| Header { name: name.into(), value: Some(value.into()) };
        let expected = Record {
            topic: topic("dead"),
            partition: None,
            headers: vec![
                id,
                header("dead-letter-reason", "too_large"),
                header("dead-letter-topic", "orders"),
            ],
            ..record
        };
        assert_eq!(letter, expected);
    }
}
