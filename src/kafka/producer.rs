//! The one place where records enter librdkafka, and the way their delivery reports come back.

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
use super::lookup::{Ask, Lookup};
use crate::outbox::{Record, Rejection, RejectionReason, Token, Topic};

/// A producer. It outlives replication sessions: while one is made anew, what is in flight stays in flight.
pub struct Producer {
    client: Arc<BaseProducer<Context>>,
    stopped: Arc<AtomicBool>,
    events: mpsc::UnboundedReceiver<Event>,
    unreported: usize,
    /// `message.max.bytes`.
    largest: String,
}

/// What librdkafka has to say.
#[derive(Debug)]
pub enum Event {
    /// A record is stored: on all in-sync replicas, as `acks=all` asks for.
    Delivered(Token),
    /// A record is not stored, and librdkafka will not try again.
    Undelivered(Box<Undelivered>),
    /// All brokers are out of reach, or the like. librdkafka goes on trying.
    Trouble(RDKafkaErrorCode, String),
    /// The producer is of no use any more.
    Fatal(RDKafkaErrorCode, String),
}

/// Why a record did not enter librdkafka's queue.
#[derive(Debug)]
pub enum SendError {
    /// The queue is full: hold this record, and send no other, until there is room.
    QueueFull,
    /// Kafka can never take it.
    Rejected(Rejection),
    /// The producer failed.
    Failed(Error),
}

/// librdkafka's default of `message.max.bytes`.
const LARGEST: &str = "1000000";

/// How long the report thread sleeps when there is nothing to report; it wakes at once for a report.
const POLL: Duration = Duration::from_secs(1);

impl Producer {
    /// Starts a producer with librdkafka's `properties`. It connects in the background.
    ///
    /// # Errors
    /// If librdkafka refuses the properties, or no thread can be started.
    pub fn new<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let (sender, events) = mpsc::unbounded_channel();
        let mut config = ClientConfig::new();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        config.extend(properties.into_iter().map(owned));
        let largest = config.get("message.max.bytes").unwrap_or(LARGEST).to_owned();
        // Only errors are of interest; each also comes as an event.
        config.set_log_level(RDKafkaLogLevel::Info);
        let client =
            BaseProducer::from_config_and_context(&config, Context { sender }).map_err(Error::Create)?;
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
        Ok(Self { client, stopped, events, unreported: 0, largest })
    }

    /// Hands `record` to librdkafka, which takes the one copy of its bytes.
    ///
    /// # Errors
    /// See [`SendError`]; the record has then not entered the queue.
    pub fn send(&mut self, record: &Record) -> Result<(), SendError> {
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
        match self.client.send(produced) {
            Ok(()) => {
                self.unreported = self.unreported.saturating_add(1);
                Ok(())
            }
            Err((error, _)) => Err(refusal(record, &error, &self.largest)),
        }
    }

    /// Waits for the next events and appends them to `events`, as many as there are.
    ///
    /// # Cancel safety
    /// Nothing is taken from the queue unless this returns.
    pub async fn events(&mut self, events: &mut Vec<Event>) {
        let before = events.len();
        // The sender lives in the client's context, as long as `self.client`: the channel does not close.
        self.events.recv_many(events, EVENTS_AT_ONCE).await;
        let reports = events.iter().skip(before).filter(|event| event.is_report()).count();
        self.unreported = self.unreported.saturating_sub(reports);
    }

    /// Records that librdkafka has taken and not reported on.
    #[must_use]
    pub fn unreported(&self) -> usize {
        self.unreported
    }

    /// Gives up what is in the queue and not on the wire: of a partition in which a record has failed nothing later must
    /// be stored. All of it is reported. Does not wait.
    pub fn give_up(&self) {
        self.client.purge(PurgeConfig::default().queue().non_blocking());
    }

    /// Asks the cluster for `topic`.
    #[must_use]
    pub fn look_up(&self, topic: &Topic, ask: Ask) -> Lookup {
        Lookup::start(Arc::clone(&self.client), topic.as_str().to_owned(), ask)
    }

    /// Asks the cluster for a topic that nearly every cluster has; any answer tells that it is there. Asking for no topic
    /// in particular would list them all.
    #[must_use]
    pub fn probe(&self) -> Lookup {
        Lookup::start(Arc::clone(&self.client), "__consumer_offsets".to_owned(), Ask::default())
    }
}

/// Enough to amortise a wake-up, few enough to come back to the session's other duties.
const EVENTS_AT_ONCE: usize = 1024;

impl Drop for Producer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Event {
    fn is_report(&self) -> bool {
        matches!(self, Self::Delivered(_) | Self::Undelivered(_))
    }
}

fn refusal(record: &Record, error: &KafkaError, largest: &str) -> SendError {
    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
    let reject =
        |reason, detail| SendError::Rejected(Rejection { event_id: record.event_id(), reason, detail });
    match code {
        RDKafkaErrorCode::QueueFull => SendError::QueueFull,
        RDKafkaErrorCode::MessageSizeTooLarge => reject(
            RejectionReason::TooLarge,
            format!(
                "its key and value have {} bytes, and with its headers it is larger than kafka.\"message.max.bytes\" = \
                 {largest}",
                record.payload_size()
            ),
        ),
        RDKafkaErrorCode::UnknownPartition => reject(
            RejectionReason::InvalidPartition,
            format!("topic \"{}\" has no partition {}", record.topic, record.partition.unwrap_or_default()),
        ),
        code => SendError::Failed(Error::Produce { topic: record.topic.as_str().to_owned(), code }),
    }
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
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
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
                    code: error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
                    event_id: String::from_utf8_lossy(id).into_owned(),
                    topic: message.topic().to_owned(),
                    payload_size: size,
                }))
            }
        });
    }
}
