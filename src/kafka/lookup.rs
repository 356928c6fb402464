//! Asking the cluster for metadata without standing still.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::task::JoinHandle;

use super::producer::Context;

/// A question to the cluster, under way. Awaiting it gives the answer.
///
/// # Cancel safety
/// It may be polled, left, and polled again; the answer is kept.
pub struct Lookup {
    answer: JoinHandle<TopicState>,
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
    /// The relay may not see it.
    Denied,
    /// No answer, or none that helps: the reason.
    Unreachable(String),
}

/// librdkafka answers from a broker's reply; without one it gives up after this.
const PATIENCE: Duration = Duration::from_secs(5);

impl Lookup {
    /// librdkafka's metadata call blocks, so it runs on the runtime's threads for blocking calls.
    pub(super) fn start(client: Arc<BaseProducer<Context>>, topic: String) -> Self {
        Self { answer: tokio::task::spawn_blocking(move || topic_state(&client, &topic)) }
    }
}

impl Future for Lookup {
    type Output = TopicState;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<TopicState> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|error| TopicState::Unreachable(error.to_string())))
    }
}

fn topic_state(client: &BaseProducer<Context>, topic: &str) -> TopicState {
    let metadata = match client.client().fetch_metadata(Some(topic), PATIENCE) {
        Ok(metadata) => metadata,
        Err(error) => return unanswered(&error),
    };
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
