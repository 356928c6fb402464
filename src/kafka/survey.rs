//! A look at the cluster before anything is sent: whether it can be reached, the topics, and what may be done with them.
//!
//! In go librdkafka's properties and the topics; out comes what was [`Seen`], which is judged elsewhere. The clients that
//! ask are made for it and thrown away. Nothing is created on the cluster, and nothing is sent.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, FromClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;

use super::describe;
use super::librdkafka::configured;
use crate::outbox::Template;

/// What was seen of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// librdkafka makes no client of these properties: its reason.
    Refused(String),
    /// No broker could be used.
    Away(Vec<Trouble>),
    /// The cluster answered.
    There(Cluster),
}

/// Why a broker could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// At which step.
    pub step: Step,
    /// librdkafka's words.
    pub reason: String,
}

/// The steps of a connection to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// SASL.
    Login,
    /// The TLS handshake.
    Tls,
    /// The host's name.
    Resolve,
    /// TCP, and the first words of the protocol.
    Connect,
}

/// A cluster that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The topics that were looked at.
    pub topics: Vec<Topic>,
    /// Whether they only have names that the relay may use, as nobody could tell which ones it will.
    pub guessed: bool,
    /// Whether the cluster gave a producer id: without one an idempotent producer sends nothing. `None`: no answer.
    pub producer_id: Option<bool>,
}

/// A topic, as the relay's user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub state: TopicSeen,
}

/// What is known of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicSeen {
    /// There is none of this name.
    Missing,
    /// The user may not even see whether there is one.
    Hidden,
    /// It is there.
    There {
        /// Whether the user may write to it; `None`: the broker does not say.
        may_write: Option<bool>,
        /// Its `max.message.bytes`; `None`: the user may not see it.
        max_message_bytes: Option<u64>,
    },
    /// The answer does not help.
    Unclear,
}

/// All of it takes no longer than this, within the half second that librdkafka's clients need to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// One question; librdkafka's own troubles are heard between two of them.
const ROUND: Duration = Duration::from_millis(500);

/// The producer id comes right after the first connection.
const PRODUCER_ID: Duration = Duration::from_secs(3);

/// More topics are not looked at.
const MOST_TOPICS: usize = 200;

/// Looks at the cluster, and at the topics `named`, or, if there are none, at those of the cluster that can come of
/// one of `templates`; at most 200. Takes ten seconds at most.
pub async fn survey<'a>(
    properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    templates: &[&Template],
    named: &[String],
) -> Seen {
    let config = configured(properties);
    let mut named: Vec<String> = named.iter().filter(|name| !name.is_empty()).cloned().collect();
    named.extend(templates.iter().filter_map(|template| template.fixed()).map(str::to_owned));
    named.sort();
    named.dedup();
    named.truncate(MOST_TOPICS);
    // A template without text of its own fits every topic, and tells nothing.
    let templates = templates.iter().filter(|template| template.has_text());
    let templates: Vec<Template> = templates.map(|template| (*template).clone()).collect();
    let runtime = tokio::runtime::Handle::current();
    let looked = tokio::task::spawn_blocking(move || look(&config, &templates, named, &runtime));
    // Every call in there has its limit; this one is for what nobody has thought of.
    let late = || Seen::Away(vec![Trouble { step: Step::Connect, reason: "no answer".to_owned() }]);
    match tokio::time::timeout(PATIENCE.saturating_add(Duration::from_secs(2)), looked).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(_)) | Err(_) => late(),
    }
}

fn look(
    config: &ClientConfig,
    templates: &[Template],
    mut topics: Vec<String>,
    runtime: &tokio::runtime::Handle,
) -> Seen {
    let deadline = Instant::now() + PATIENCE;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut config = config.clone();
    // How the producer id is doing, is said nowhere else.
    config.set("statistics.interval.ms", "100");
    let client = match BaseProducer::from_config_and_context(&config, Heard::default()) {
        Ok(client) => client,
        Err(KafkaError::ClientCreation(reason)) => return Seen::Refused(reason),
        Err(error) => return Seen::Refused(error.to_string()),
    };
    let servers = config.get("bootstrap.servers").map_or(1, |servers| servers.split(',').count());
    if let Err(troubles) = await_cluster(&client, servers, deadline) {
        return Seen::Away(troubles);
    }
    let guessed = topics.is_empty();
    if guessed
        && !templates.is_empty()
        && let Ok(metadata) = client.client().fetch_metadata(None, left() / 2)
    {
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        let fits = |name: &String| templates.iter().any(|template| template.matches(name));
        topics = names.filter(fits).take(MOST_TOPICS).collect();
        topics.sort();
    }
    let described = match describe::topics(client.client(), &topics, left() / 2) {
        Ok(described) => described,
        Err(code) => {
            client.poll(Duration::ZERO);
            let mut troubles = client.context().troubles();
            let reason = format!("{code} ({code:?}), after a broker had answered");
            troubles.push(Trouble { step: Step::Connect, reason });
            return Seen::Away(troubles);
        }
    };
    let topics = described.into_iter().map(|topic| Topic { name: topic.name, state: state(topic.may_write) });
    let mut topics: Vec<Topic> = topics.collect();
    let producer_id = producer_id(&client, deadline.min(Instant::now() + PRODUCER_ID));
    drop(client);
    sizes(&config, &mut topics, left(), runtime);
    Seen::There(Cluster { topics, guessed, producer_id })
}

/// Waits until a broker answers, no longer than it is worth: a refused password, or connections refused by all `servers`,
/// will be refused the next time. (librdkafka tells of "all brokers down" only behind the first answer.)
fn await_cluster(
    client: &BaseProducer<Heard>,
    servers: usize,
    deadline: Instant,
) -> Result<(), Vec<Trouble>> {
    for round in 1.. {
        let left = deadline.saturating_duration_since(Instant::now());
        // Any answer will do, and nearly every cluster has this topic. Asking for none would list them all.
        let answer = client.client().fetch_metadata(Some("__consumer_offsets"), ROUND.min(left));
        client.poll(Duration::from_millis(10));
        let code = answer.err().map(|error| error.rdkafka_error_code());
        match code {
            None => return Ok(()),
            Some(Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut)) => {}
            // Another answer is an answer as well.
            Some(_) => return Ok(()),
        }
        let troubles = client.context().troubles();
        let refused = troubles.iter().any(|trouble| trouble.step == Step::Login);
        let tried: BTreeSet<_> = troubles.iter().map(|trouble| trouble.broker()).collect();
        if refused || tried.len() >= servers && round > 1 || left.is_zero() {
            break;
        }
    }
    let mut troubles = client.context().troubles();
    if troubles.is_empty() {
        troubles.push(Trouble { step: Step::Connect, reason: "no broker answers".to_owned() });
    }
    Err(troubles)
}

/// Whether the cluster gives a producer id.
fn producer_id(client: &BaseProducer<Heard>, deadline: Instant) -> Option<bool> {
    loop {
        client.poll(Duration::from_millis(20));
        if let Some((code, _)) = client.client().fatal_error() {
            return (code == RDKafkaErrorCode::ClusterAuthorizationFailed).then_some(false);
        }
        if client.context().has_producer_id() {
            return Some(true);
        }
        if Instant::now() >= deadline {
            return None;
        }
    }
}

fn state(may_write: Result<Option<bool>, RDKafkaErrorCode>) -> TopicSeen {
    match may_write {
        Ok(may_write) => TopicSeen::There { may_write, max_message_bytes: None },
        Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => TopicSeen::Missing,
        Err(RDKafkaErrorCode::TopicAuthorizationFailed) => TopicSeen::Hidden,
        Err(_) => TopicSeen::Unclear,
    }
}

/// Fills in `max.message.bytes`, where the user may see it.
fn sizes(config: &ClientConfig, topics: &mut [Topic], patience: Duration, runtime: &tokio::runtime::Handle) {
    let there: Vec<String> =
        topics.iter().filter(|topic| topic.is_there()).map(|topic| topic.name.clone()).collect();
    for (name, bytes) in limits(config, &there, patience, runtime) {
        for topic in topics.iter_mut().filter(|topic| topic.name == name) {
            if let TopicSeen::There { max_message_bytes, .. } = &mut topic.state {
                *max_message_bytes = Some(bytes);
            }
        }
    }
}

/// `max.message.bytes` of those of the topics `names` that have it and show it. Blocks, for `patience` at most.
pub(super) fn limits(
    config: &ClientConfig,
    names: &[String],
    patience: Duration,
    runtime: &tokio::runtime::Handle,
) -> Vec<(String, u64)> {
    let mut config = config.clone();
    // This client sends nothing, and needs no producer id.
    config.remove("enable.idempotence");
    config.remove("enable.gapless.guarantee");
    config.remove("statistics.interval.ms");
    if names.is_empty() {
        return Vec::new();
    }
    let Ok(client) = AdminClient::<DefaultClientContext>::from_config(&config) else {
        return Vec::new();
    };
    let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    // It answers by itself when its time is over.
    let answer = client.describe_configs(&asked, &AdminOptions::new().request_timeout(Some(patience)));
    let Ok(answer) = runtime.block_on(answer) else {
        return Vec::new();
    };
    let limit = |found: ConfigResource| {
        let bytes = found.get("max.message.bytes")?.value.as_ref()?.parse().ok()?;
        match found.specifier {
            OwnedResourceSpecifier::Topic(name) => Some((name, bytes)),
            _ => None,
        }
    };
    answer.into_iter().flatten().filter_map(limit).collect()
}

impl Trouble {
    /// The broker that it is about, with which librdkafka begins: `kafka.example:9092/bootstrap`.
    fn broker(&self) -> &str {
        self.reason.split(": ").next().unwrap_or_default()
    }
}

impl Topic {
    fn is_there(&self) -> bool {
        matches!(self.state, TopicSeen::There { .. })
    }
}

/// What librdkafka says meanwhile.
#[derive(Default)]
struct Heard(Mutex<Words>);

#[derive(Default)]
struct Words {
    troubles: Vec<Trouble>,
    producer_id: bool,
}

impl Heard {
    fn with<T>(&self, of: impl FnOnce(&mut Words) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn troubles(&self) -> Vec<Trouble> {
        self.with(|words| words.troubles.clone())
    }

    fn has_producer_id(&self) -> bool {
        self.with(|words| words.producer_id)
    }
}

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        let step = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                Step::Login
            }
            Some(RDKafkaErrorCode::SSL) => Step::Tls,
            Some(RDKafkaErrorCode::Resolve) => Step::Resolve,
            Some(RDKafkaErrorCode::BrokerTransportFailure) => Step::Connect,
            _ => return,
        };
        // How long it took is another number each time.
        let reason = reason.split(" (after ").next().unwrap_or(reason).to_owned();
        let trouble = Trouble { step, reason };
        self.with(|words| {
            if !words.troubles.contains(&trouble) {
                words.troubles.push(trouble);
            }
        });
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.eos.is_some_and(|eos| eos.idemp_state == "Assigned") {
            self.with(|words| words.producer_id = true);
        }
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
