//! An event that Kafka will never take: it becomes a dead letter, or reading stops at it, as `delivery.on_rejected` says.

use super::{Error, Session};
use crate::clock;
use crate::config::OnRejected;
use crate::findings::kafka::{Client, raise_limit};
use crate::kafka::Limit;
use crate::outbox::{Record, Rejection, RejectionReason};

/// The event at which reading has stopped.
pub(super) struct Stopped {
    rejection: Rejection,
    /// Of a record that is too large for its topic: which, and how large.
    too_large: Option<TooLarge>,
    /// The question for the topic's limit, while it is under way.
    question: Option<Limit>,
    /// What people are told.
    pub(super) text: String,
}

/// A record that is larger than its topic takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TooLarge {
    topic: String,
    /// Bytes of key and value.
    payload_size: usize,
    /// The topic's `max.message.bytes`, if it is known.
    limit: Option<u64>,
}

/// Waits for the answer to the question for a topic's limit; for ever, if there is none.
///
/// # Cancel safety
/// Safe: the question is kept.
pub(super) async fn limit(stopped: &mut Option<Stopped>) -> Option<u64> {
    match stopped.as_mut().and_then(|stopped| stopped.question.as_mut()) {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}

impl Session<'_> {
    /// Kafka can never take `record`, as was found before it was sent.
    pub(super) fn reject(&mut self, record: Record, rejection: Rejection) -> Result<(), Error> {
        self.turned_down(record, rejection, None)
    }

    /// Kafka has refused `record` when it was sent alone; `words` are its own.
    pub(super) fn refused_alone(
        &mut self,
        record: Record,
        reason: RejectionReason,
        words: &str,
    ) -> Result<(), Error> {
        let topic = record.topic.as_str();
        let too_large = (reason == RejectionReason::TooLarge).then(|| TooLarge {
            topic: topic.to_owned(),
            payload_size: record.payload_size(),
            limit: None,
        });
        let detail =
            too_large.as_ref().map_or_else(|| format!("topic \"{topic}\": {words}"), TooLarge::detail);
        let rejection = Rejection { event_id: record.event_id(), reason, detail };
        self.turned_down(record, rejection, too_large)
    }

    fn turned_down(
        &mut self,
        record: Record,
        rejection: Rejection,
        too_large: Option<TooLarge>,
    ) -> Result<(), Error> {
        self.trial = None;
        match &self.config.delivery.on_rejected {
            OnRejected::DeadLetter(topic) if !record.is_dead_letter() => {
                let letter = record.into_dead_letter(topic, rejection.reason);
                self.relay.replaced(&letter);
                self.bury(letter, &rejection)
            }
            OnRejected::DeadLetter(_) | OnRejected::Stop => {
                self.stop_at(rejection, too_large);
                Ok(())
            }
        }
    }

    /// Sends the dead letter of a rejected event in its place.
    pub(super) fn bury(&mut self, letter: Record, rejection: &Rejection) -> Result<(), Error> {
        self.metrics.rejected(rejection.reason.as_str());
        tracing::warn!("{rejection}; it goes to topic \"{}\" as a dead letter", letter.topic);
        self.produce(letter)
    }

    /// An event that Kafka can never take, and that has no dead letter.
    pub(super) fn rejected(&mut self, rejection: Rejection) {
        self.stop_at(rejection, None);
    }

    /// Stops reading and enqueuing. The first rejection is the one to be told.
    fn stop_at(&mut self, rejection: Rejection, too_large: Option<TooLarge>) {
        self.outlet.release();
        if self.rejected.is_some() {
            return;
        }
        if self.config.delivery.on_rejected == OnRejected::Stop {
            self.metrics.rejected(rejection.reason.as_str());
        }
        let question = too_large.as_ref().map(|found| self.outlet.limit(&found.topic));
        let mut stopped = Stopped { rejection, too_large, question, text: String::new() };
        stopped.text = self.text(&stopped);
        self.rejected = Some(stopped);
        self.tell();
    }

    /// The topic's limit is known, or it is known that it cannot be.
    pub(super) fn limit_known(&mut self, limit: Option<u64>) {
        if let Some(mut stopped) = self.rejected.take() {
            stopped.question = None;
            if let Some(found) = &mut stopped.too_large {
                found.limit = limit;
                stopped.rejection.detail = found.detail();
            }
            stopped.text = self.text(&stopped);
            self.rejected = Some(stopped);
        }
        self.tell();
    }

    fn text(&self, stopped: &Stopped) -> String {
        let client = Client::of(self.outlet.properties());
        let dead_letters = self.config.delivery.on_rejected != OnRejected::Stop;
        told(&stopped.rejection, stopped.too_large.as_ref(), &client, dead_letters)
    }

    /// Writes it into the log, once all is known. It comes again in the next session, if PostgreSQL ends this one.
    fn tell(&self) {
        if let Some(stopped) = self.rejected.as_ref().filter(|stopped| stopped.question.is_none())
            && self.status.is_news(&stopped.text, clock::now())
        {
            tracing::error!("{}", stopped.text);
        }
    }

    /// An event is passed over, because `delivery.skip` names it.
    pub(super) fn skipped(&self, event_id: &str) {
        self.metrics.rejected("skipped");
        tracing::warn!("event \"{event_id}\" is passed over: delivery.skip names it");
    }
}

impl TooLarge {
    fn detail(&self) -> String {
        let Self { topic, payload_size, limit } = self;
        let limit = limit.map(|bytes| format!(" = {bytes}")).unwrap_or_default();
        format!(
            "its key and value have {payload_size} bytes, and with its headers it is larger than max.message.bytes{limit} \
             of topic \"{topic}\""
        )
    }
}

/// What is wrong, and the ways out. With `dead_letters`, what was refused is a dead letter, or has none.
fn told(rejection: &Rejection, too_large: Option<&TooLarge>, client: &Client, dead_letters: bool) -> String {
    let id = &rejection.event_id;
    let mend = match (rejection.reason, too_large) {
        (RejectionReason::TooLarge, Some(found)) => {
            let size = u64::try_from(found.payload_size).unwrap_or(u64::MAX);
            format!("let the topic take it: {}", raise_limit(client, &found.topic, size))
        }
        (RejectionReason::TooLarge, None) => {
            "raise kafka.\"message.max.bytes\", and max.message.bytes of its topic".to_owned()
        }
        (RejectionReason::InvalidTopic, _) => "correct route.topic".to_owned(),
        (RejectionReason::InvalidPartition, _) => {
            "give the topic more partitions, or correct route.partition".to_owned()
        }
        (RejectionReason::Null, _) => "correct the configuration".to_owned(),
        (RejectionReason::InvalidMessage, _) => {
            "correct outbox.message_prefix, or let applications write JSON objects as its messages".to_owned()
        }
        (RejectionReason::InvalidHeaders, _) => {
            "correct outbox.columns.headers, or let applications write objects into its column".to_owned()
        }
        (RejectionReason::Refused, _) => {
            "change the topic's settings (a compacted one takes no null key, for example)".to_owned()
        }
    };
    let mut ways = vec![mend];
    if !id.is_empty() {
        ways.push(format!("pass it over with delivery.skip = [{id:?}]"));
    }
    // What the client does not take is no smaller as a dead letter.
    if !dead_letters && (rejection.reason != RejectionReason::TooLarge || too_large.is_some()) {
        ways.push("send it to a topic of its own with delivery.on_rejected = \"dead-letter\"".to_owned());
    }
    let letter = if dead_letters { " (this is its dead letter)" } else { "" };
    format!(
        "{rejection}{letter}\n\nhint: reading has stopped, and nothing is lost. {}. Then restart the relay",
        sentence(&ways.join("; or "))
    )
}

/// With a capital at its beginning.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reason: RejectionReason, detail: &str, limit: Option<Option<u64>>, letters: bool) -> String {
        let too_large = limit.map(|limit| TooLarge {
            topic: "outbox.event.order".to_owned(),
            payload_size: 6_005,
            limit,
        });
        let client = Client {
            servers: "kafka.example:9092".to_owned(),
            principal: "User:relay".to_owned(),
            secured: false,
            largest_message: 1_000_000,
        };
        let detail = too_large.as_ref().map_or_else(|| detail.to_owned(), TooLarge::detail);
        let rejection = Rejection { event_id: "42".to_owned(), reason, detail };
        told(&rejection, too_large.as_ref(), &client, letters)
    }

    #[test]
    fn an_event_too_large_for_its_topic_is_told_with_size_limit_and_ways_out() {
        insta::assert_snapshot!(shown(RejectionReason::TooLarge, "", Some(Some(5_000)), false), @r#"
        event "42" cannot be sent to Kafka (too_large): its key and value have 6005 bytes, and with its headers it is larger than max.message.bytes = 5000 of topic "outbox.event.order"

        hint: reading has stopped, and nothing is lost. Let the topic take it: kafka-configs.sh --bootstrap-server kafka.example:9092 --alter --entity-type topics --entity-name outbox.event.order --add-config max.message.bytes=10701; or pass it over with delivery.skip = ["42"]; or send it to a topic of its own with delivery.on_rejected = "dead-letter". Then restart the relay
        "#);
        insta::assert_snapshot!(shown(RejectionReason::TooLarge, "", Some(None), true), @r#"
        event "42" cannot be sent to Kafka (too_large): its key and value have 6005 bytes, and with its headers it is larger than max.message.bytes of topic "outbox.event.order" (this is its dead letter)

        hint: reading has stopped, and nothing is lost. Let the topic take it: kafka-configs.sh --bootstrap-server kafka.example:9092 --alter --entity-type topics --entity-name outbox.event.order --add-config max.message.bytes=10701; or pass it over with delivery.skip = ["42"]. Then restart the relay
        "#);
    }

    #[test]
    fn other_rejections_are_told_with_what_mends_them() {
        let client = "its key and value have 2000000 bytes, and with its headers it is larger than \
                      kafka.\"message.max.bytes\" = 1000000";
        insta::assert_snapshot!(shown(RejectionReason::TooLarge, client, None, false), @r#"
        event "42" cannot be sent to Kafka (too_large): its key and value have 2000000 bytes, and with its headers it is larger than kafka."message.max.bytes" = 1000000

        hint: reading has stopped, and nothing is lost. Raise kafka."message.max.bytes", and max.message.bytes of its topic; or pass it over with delivery.skip = ["42"]. Then restart the relay
        "#);
        let topic = "route.topic: \"a b\" is not a topic name";
        insta::assert_snapshot!(shown(RejectionReason::InvalidTopic, topic, None, false), @r#"
        event "42" cannot be sent to Kafka (invalid_topic): route.topic: "a b" is not a topic name

        hint: reading has stopped, and nothing is lost. Correct route.topic; or pass it over with delivery.skip = ["42"]; or send it to a topic of its own with delivery.on_rejected = "dead-letter". Then restart the relay
        "#);
    }
}
