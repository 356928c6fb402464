//! librdkafka as the producer's client, with the task that serves its reports.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Headers, Message};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::bell::Bell;
use super::error::{Error, Undelivered};
use super::hurry::Hurry;
use super::lookup::{Ask, Limit, Lookup};
use super::produce::Topics;
use super::producer::{Client, Event};
use crate::outbox::{Record, Token};

/// librdkafka's producer.
pub(super) struct Librdkafka {
    // Before the client, so that they are dropped before it.
    topics: Topics,
    /// `None` if linger.ms is set.
    hurry: Option<Hurry>,
    client: Arc<BaseProducer<Context>>,
    reports: JoinHandle<()>,
}

/// `linger.ms` while there is a backlog. Longer than a batch is under way: a partition that has something to send, and may not,
/// keeps librdkafka's thread spinning.
const BACKLOG_LINGERS: &str = "20";

/// Pause between two looks whether a client that is given up has no other users left.
const STILL_USED: Duration = Duration::from_millis(10);

impl Librdkafka {
    /// Starts one with `properties`, and a task that serves its reports.
    ///
    /// # Errors
    /// If librdkafka refuses the properties, or there is no pipe or no thread to be had.
    pub(super) fn start(
        properties: &[(&str, &str)],
        sender: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        let mut config = configured(properties.iter().copied());
        let lingers = config.get("linger.ms").is_some();
        if !lingers {
            config.set("linger.ms", BACKLOG_LINGERS);
        }
        let client = Arc::new(connect(config, sender).map_err(Error::Create)?);
        let bell = Bell::hang(client.client()).map_err(Error::Bell)?;
        let reports = tokio::spawn(report(bell, Arc::clone(&client)));
        let hurry = if lingers { None } else { Some(Hurry::new(Arc::clone(&client)).map_err(Error::Hurry)?) };
        Ok(Self { topics: Topics::default(), hurry, client, reports })
    }
}

/// Serves what librdkafka has to say, for ever. A task, not a thread: what was allocated for a record is freed where it was
/// allocated, and a report wakes nobody else (docs/performance.md).
async fn report(mut bell: Bell, client: Arc<BaseProducer<Context>>) {
    loop {
        while bell.is_wanted() {
            // One event, which has the reports of a whole batch.
            client.poll(Duration::ZERO);
            tokio::task::yield_now().await;
        }
        bell.rings().await;
    }
}

/// `properties` as librdkafka takes them; of two with the same name, the later.
pub(super) fn configured<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.extend(properties.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    config
}

/// A client that tells its events to `sender`. Blocks for some milliseconds: it makes threads, and reads certificates.
///
/// # Errors
/// If librdkafka refuses the properties.
pub(super) fn connect(
    mut config: ClientConfig,
    sender: mpsc::UnboundedSender<Event>,
) -> Result<BaseProducer<Context>, KafkaError> {
    // Only errors are of interest; each also comes as an event.
    config.set_log_level(RDKafkaLogLevel::Info);
    BaseProducer::from_config_and_context(&config, Context { sender })
}

impl Client for Librdkafka {
    fn send(&mut self, record: &Record) -> Result<(), RDKafkaErrorCode> {
        self.topics.produce(self.client.client(), record)
    }

    fn hurry(&self) -> bool {
        self.hurry.as_ref().inspect(|hurry| hurry.flush()).is_some()
    }

    fn give_up(&self) {
        self.client.purge(PurgeConfig::default().queue().non_blocking());
    }

    fn look_up(&self, topic: &str, ask: Ask) -> Lookup {
        Lookup::start(Arc::clone(&self.client), topic.to_owned(), ask)
    }

    fn probe_anew(&self, properties: &[(&str, &str)], topic: &str) -> Lookup {
        Lookup::start_anew(properties, topic.to_owned())
    }

    fn limit(&self, properties: &[(&str, &str)], topic: &str) -> Limit {
        Limit::ask(properties, topic)
    }

    fn another(
        &self,
        properties: &[(&str, &str)],
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Box<dyn Client>, Error> {
        Ok(Box::new(Self::start(properties, events)?))
    }
}

impl Drop for Librdkafka {
    /// Dropping the last handle purges, flushes and joins librdkafka's threads, which takes up to half a second: nobody waits
    /// for it on a thread of its own. Questions that are still asked have a handle as well.
    fn drop(&mut self) {
        self.reports.abort();
        let client = Arc::clone(&self.client);
        // If there is no thread to be had, it takes its time here.
        let _ = std::thread::Builder::new().name("kafka-end".to_owned()).spawn(move || {
            while Arc::strong_count(&client) > 1 {
                std::thread::sleep(STILL_USED);
            }
        });
    }
}

fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}

/// What librdkafka calls back with, where it is polled.
pub(super) struct Context {
    sender: mpsc::UnboundedSender<Event>,
}

impl Context {
    fn tell(&self, event: Event) {
        // The receiver is gone only when the producer was dropped, and then nobody wants to know.
        let _ = self.sender.send(event);
    }
}

impl ClientContext for Context {
    /// librdkafka repeats itself while a broker is away. The session says the same once, from `error`.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // The same comes as an event.
            _ if facility == "FATAL" => tracing::debug!("librdkafka: {message}"),
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(facility, "librdkafka: {message}");
            }
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = code_of(&error);
        let reason = reason.to_owned();
        self.tell(if code == RDKafkaErrorCode::Fatal {
            Event::Fatal(code, reason)
        } else {
            Event::Trouble(code, reason)
        });
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        self.tell(match result {
            Ok(_) => Event::Delivered(Token(token)),
            Err((error, message)) => {
                let id =
                    message.headers().and_then(|headers| headers.iter().find(|header| header.key == "id"));
                let id = id.and_then(|header| header.value).unwrap_or_default();
                let size = message.payload_len().saturating_add(message.key_len());
                Event::Undelivered(Box::new(Undelivered {
                    token: Token(token),
                    code: code_of(error),
                    event_id: String::from_utf8_lossy(id).into_owned(),
                    topic: message.topic().to_owned(),
                    payload_size: size,
                }))
            }
        });
    }
}
