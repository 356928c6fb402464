//! Asking the cluster about topics without standing still.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::create::{self, NewTopic, NotCreated};
use super::librdkafka::{Context, configured, connect};
use super::{describe, native, survey};

/// A question to the cluster, under way. Awaiting it gives the answer.
///
/// # Cancel safety
/// It may be polled, left, and polled again; the answer is kept.
pub struct Lookup {
    answer: JoinHandle<TopicState>,
}

/// What is asked of a topic beside its partitions.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Make it, if it does not exist.
    pub create: Option<Arc<NewTopic>>,
    /// Also whether the relay may write to it, which metadata does not tell.
    pub may_write: bool,
    /// An answer that takes long is as good as none.
    pub brief: bool,
    /// The configured servers, if the client may have forgotten them: it is told of them first.
    pub remind: Option<String>,
}

/// What the cluster answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// The topic has this many partitions.
    Exists {
        /// Number of partitions.
        partitions: usize,
    },
    /// There is no such topic.
    Missing,
    /// The relay may not see it, or may not write to it.
    Denied,
    /// There is no such topic, and it cannot be made: why, in words.
    NotCreated(String),
    /// No answer, or none that helps: the reason.
    Unreachable(String),
}

/// Pause between two looks for a topic that was just made.
const KNOWN: Duration = Duration::from_millis(20);

/// librdkafka answers from a broker's reply; without one it gives up after this.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same for a question that others ask after it.
const BRIEF: Duration = Duration::from_secs(1);

impl Lookup {
    /// librdkafka's metadata call blocks, so it runs on the runtime's threads for blocking calls.
    pub(super) fn start(client: Arc<BaseProducer<Context>>, topic: String, ask: Ask) -> Self {
        Self::of(tokio::task::spawn_blocking(move || answer(&client, &topic, &ask)))
    }

    /// The same with a client of its own, made of `properties`.
    pub(super) fn start_anew(properties: &[(&str, &str)], topic: String) -> Self {
        let config = configured(properties.iter().copied());
        Self::of(tokio::task::spawn_blocking(move || {
            let (nobody, _) = mpsc::unbounded_channel();
            match connect(config, nobody) {
                Ok(client) => topic_state(&client, &topic, PATIENCE),
                Err(error) => TopicState::Unreachable(error.to_string()),
            }
        }))
    }

    /// The question that `answer` is the answer to.
    #[must_use]
    pub const fn of(answer: JoinHandle<TopicState>) -> Self {
        Self { answer }
    }
}

/// A question for the largest batch that a topic takes, under way. Awaiting it gives `max.message.bytes`; `None` if the
/// relay may not see it, or nobody answers.
///
/// # Cancel safety
/// As [`Lookup`].
pub struct Limit {
    answer: JoinHandle<Option<u64>>,
}

impl Limit {
    /// Asks with a client of its own, made of `properties`.
    #[must_use]
    pub fn ask(properties: &[(&str, &str)], topic: &str) -> Self {
        let config = configured(properties.iter().copied());
        let topic = topic.to_owned();
        let runtime = tokio::runtime::Handle::current();
        Self::of(tokio::task::spawn_blocking(move || {
            survey::limits(&config, std::slice::from_ref(&topic), PATIENCE, &runtime)
                .pop()
                .map(|(_, bytes)| bytes)
        }))
    }

    /// The question that `answer` is the answer to.
    #[must_use]
    pub const fn of(answer: JoinHandle<Option<u64>>) -> Self {
        Self { answer }
    }
}

impl Future for Limit {
    type Output = Option<u64>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.ok().flatten())
    }
}

impl Future for Lookup {
    type Output = TopicState;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<TopicState> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|error| TopicState::Unreachable(error.to_string())))
    }
}

fn answer(client: &BaseProducer<Context>, topic: &str, ask: &Ask) -> TopicState {
    if let Some(servers) = &ask.remind {
        tracing::debug!(servers, "Kafka answers a new client: the producer is told of its servers again");
        native::add_brokers(client.client(), servers);
    }
    let mut state = topic_state(client, topic, if ask.brief { BRIEF } else { PATIENCE });
    if let (TopicState::Missing, Some(new)) = (&state, &ask.create) {
        state = create(client, topic, new);
    }
    if matches!(state, TopicState::Exists { .. }) && ask.may_write {
        let described = describe::topics(client.client(), &[topic.to_owned()], PATIENCE);
        let described = described.ok().and_then(|topics| topics.into_iter().next());
        if described.is_some_and(|topic| topic.may_write == Ok(Some(false))) {
            return TopicState::Denied;
        }
    }
    state
}

/// Makes the topic, and waits until the broker that is asked next knows of it.
fn create(client: &BaseProducer<Context>, topic: &str, new: &NewTopic) -> TopicState {
    match create::topic(client.client(), topic, new, PATIENCE) {
        Ok(()) => {
            tracing::info!(topic, partitions = new.partitions, "made the topic");
            let deadline = Instant::now() + PATIENCE;
            loop {
                match topic_state(client, topic, PATIENCE) {
                    TopicState::Missing if Instant::now() < deadline => std::thread::sleep(KNOWN),
                    state => return state,
                }
            }
        }
        Err(NotCreated::Refused(code, reason)) => TopicState::NotCreated(not_created(topic, code, &reason)),
        Err(NotCreated::Unanswered(code)) => {
            TopicState::Unreachable(format!("no answer to the request to make topic \"{topic}\": {code}"))
        }
    }
}

/// Why the broker does not make the topic, and what to do.
fn not_created(topic: &str, code: RDKafkaErrorCode, reason: &str) -> String {
    let mut text = format!("topic \"{topic}\" does not exist, and the broker does not make it: ");
    text += &match reason {
        "" => code.to_string(),
        reason => format!("{} ({code:?})", reason.trim_end_matches('.')),
    };
    text + match code {
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            "\n\nhint: grant Create on it to the relay's user, or make it yourself"
        }
        _ => "\n\nhint: correct [topics], or make it yourself",
    }
}

fn topic_state(client: &BaseProducer<Context>, topic: &str, patience: Duration) -> TopicState {
    let metadata = match client.client().fetch_metadata(Some(topic), patience) {
        Ok(metadata) => metadata,
        Err(error) => return unanswered(&error),
    };
    if metadata.brokers().is_empty() {
        // It has not joined its cluster again yet, and knows of no topics either.
        return TopicState::Unreachable("the broker that answers lists no brokers".to_owned());
    }
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return TopicState::Missing;
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None if found.partitions().is_empty() => TopicState::Missing,
        None => TopicState::Exists { partitions: found.partitions().len() },
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            TopicState::Missing
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => TopicState::Denied,
        Some(code) => TopicState::Unreachable(code.to_string()),
    }
}

fn unanswered(error: &KafkaError) -> TopicState {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => {
            TopicState::Unreachable("no broker answers".to_owned())
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            TopicState::Missing
        }
        Some(code) => TopicState::Unreachable(code.to_string()),
        None => TopicState::Unreachable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_to_make_a_topic_is_told_in_the_brokers_words() {
        let told = |code, reason| not_created("outbox.event.order", code, reason);
        insta::assert_snapshot!(told(
            RDKafkaErrorCode::InvalidConfig,
            "Invalid value forever for configuration retention.ms: Not a number of type LONG"
        ), @r#"
        topic "outbox.event.order" does not exist, and the broker does not make it: Invalid value forever for configuration retention.ms: Not a number of type LONG (InvalidConfig)

        hint: correct [topics], or make it yourself
        "#);
        insta::assert_snapshot!(told(RDKafkaErrorCode::TopicAuthorizationFailed, ""), @r#"
        topic "outbox.event.order" does not exist, and the broker does not make it: TopicAuthorizationFailed (Broker: Topic authorization failed)

        hint: grant Create on it to the relay's user, or make it yourself
        "#);
    }
}
