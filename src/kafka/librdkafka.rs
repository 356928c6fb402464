//! librdkafka as the producer's client, with the thread that serves its reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use tokio::sync::mpsc;

use super::error::{Error, Undelivered};
use super::lookup::{Ask, Limit, Lookup};
use super::producer::{Client, Event};
use crate::outbox::{Record, Token};

/// librdkafka's producer.
pub(super) struct Librdkafka {
    client: Arc<BaseProducer<Context>>,
    stopped: Arc<AtomicBool>,
}

/// How long the report thread sleeps when there is nothing to report; it wakes at once for a report.
const POLL: Duration = Duration::from_secs(1);

impl Librdkafka {
    /// Starts one with `properties`.
    ///
    /// # Errors
    /// If librdkafka refuses the properties, or no thread can be started.
    pub(super) fn start(
        properties: &[(&str, &str)],
        sender: mpsc::UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        let client = connect(configured(properties.iter().copied()), sender).map_err(Error::Create)?;
        let client = Arc::new(client);
        let stopped = Arc::new(AtomicBool::new(false));
        std::thread::Builder::new()
            .name("kafka-reports".to_owned())
            .spawn({
                let (client, stopped) = (Arc::clone(&client), Arc::clone(&stopped));
                move || {
                    while !stopped.load(Ordering::Relaxed) {
                        client.poll(POLL);
                    }
                    // The last handle, usually: dropping it purges, flushes and joins librdkafka's threads, which takes
                    // up to half a second. Here nobody waits for it.
                    drop(client);
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { client, stopped })
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
    fn send(&self, record: &Record) -> Result<(), RDKafkaErrorCode> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for header in &record.headers {
            headers = headers.insert(Header { key: &header.name, value: header.value.as_deref() });
        }
        let Token(token) = record.token;
        let mut produced = BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic.as_str(), token)
            .timestamp(record.timestamp.0)
            .headers(headers);
        produced.key = record.key.as_deref();
        produced.payload = record.value.as_deref();
        produced.partition = record.partition;
        self.client.send(produced).map_err(|(error, _)| code_of(&error))
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
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}

/// What librdkafka calls back with, on the report thread.
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
