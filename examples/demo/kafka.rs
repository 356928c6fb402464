//! Kafka for the demo: a broker, its topics, and a consumer that tells what arrives and when.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::sleep;

const PARTITIONS: i32 = 3;
/// For single questions to the broker.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the records go.
pub(crate) struct Broker {
    pub(crate) bootstrap_servers: String,
    /// librdkafka's mock cluster: brokers that speak Kafka's protocol on local ports, as long as this lives.
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Broker {
    /// The broker `DEMO_KAFKA` names, or one in this process, with the topics in it.
    pub(crate) async fn start(topics: &[&str]) -> Result<Self> {
        if let Ok(bootstrap_servers) = std::env::var("DEMO_KAFKA") {
            create_topics(&bootstrap_servers, topics).await.context("create topics")?;
            return Ok(Self { bootstrap_servers, mock: None });
        }
        let mock = MockCluster::new(1)?;
        for topic in topics {
            mock.create_topic(topic, PARTITIONS, 1)?;
        }
        Ok(Self { bootstrap_servers: mock.bootstrap_servers(), mock: Some(mock) })
    }

    /// Sends every record that is written to the topics from now on, until the receiver is dropped.
    pub(crate) async fn watch(&self, topics: &[&str]) -> Result<mpsc::Receiver<Arrival>> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config.set("group.id", "outbox-relay-demo").set("enable.auto.commit", "false");
        if self.mock.is_some() {
            // A real broker answers a waiting fetch when a record comes; the mock lets it wait to its end, and the
            // milliseconds would be those of the wait.
            config.set("fetch.wait.max.ms", "2");
        }
        let consumer: BaseConsumer = config.create()?;
        // Assigned, not subscribed: from this offset on at once, with no group to wait for. A broker that is used
        // again has records of earlier demos.
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            for (partition, end) in end_offsets(&consumer, topic).await? {
                assignment.add_partition_offset(topic, partition, Offset::Offset(end))?;
            }
        }
        consumer.assign(&assignment)?;

        let (sender, receiver) = mpsc::channel(1024);
        // A thread, because `poll` blocks. It ends within one poll after the receiver has gone.
        thread::spawn(move || {
            while !sender.is_closed() {
                match consumer.poll(Duration::from_millis(100)) {
                    Some(Ok(message)) if sender.blocking_send(Arrival::new(&message)).is_err() => return,
                    // Passing errors are librdkafka's to retry; a lasting one shows as an event that did not arrive.
                    Some(_) | None => {}
                }
            }
        });
        Ok(receiver)
    }

    pub(crate) fn kcat_line(&self, topics: &[&str]) -> String {
        let format = r"%t[%p] key=%k headers=%h\n  %s\n";
        let servers = &self.bootstrap_servers;
        format!(
            "kcat -b {servers} -X auto.offset.reset=earliest \\\n      -f '{format}' \\\n      -G tail {}",
            topics.join(" ")
        )
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.mock.is_some() { "librdkafka's mock cluster in this process" } else { "yours" };
        write!(f, "{kind}, {}", self.bootstrap_servers)
    }
}

async fn create_topics(bootstrap_servers: &str, topics: &[&str]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap_servers).create()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    // -1: the broker's own default.
    let new = topics.iter().map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1)));
    for result in admin.create_topics(&new.collect::<Vec<_>>(), &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => bail!("topic {topic}: {error}"),
        }
    }
    Ok(())
}

/// The end of each partition. A broker that has just made a topic may not know its leaders for a moment, so it is asked
/// again until it does.
async fn end_offsets(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Blocking, which is fine: nothing else runs yet.
        match try_end_offsets(consumer, topic) {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            result => return result.with_context(|| format!("ask for the end of topic {topic}")),
        }
    }
}

fn try_end_offsets(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64)>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
    if partitions.is_empty() {
        bail!("the broker knows no partitions of it");
    }
    partitions
        .iter()
        .map(|partition| Ok((partition.id(), consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?.1)))
        .collect()
}

/// A record, and when the consumer had it.
pub(crate) struct Arrival {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: String,
    pub(crate) at: Instant,
    clock: SystemTime,
    timestamp_ms: Option<i64>,
}

impl Arrival {
    fn new(message: &BorrowedMessage<'_>) -> Self {
        let (at, clock) = (Instant::now(), SystemTime::now());
        let headers = message.headers().map(|headers| {
            let pairs = headers.iter().map(|header| (header.key.to_owned(), text(header.value)));
            pairs.collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            key: text(message.key()),
            headers: headers.unwrap_or_default(),
            payload: text(message.payload()),
            at,
            clock,
            timestamp_ms: message.timestamp().to_millis(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The event's id.
    pub(crate) fn id(&self) -> &str {
        self.header("id")
    }

    /// From the record's timestamp, PostgreSQL's commit time, until it was here.
    pub(crate) fn since_commit_time(&self) -> Option<Duration> {
        let committed = UNIX_EPOCH + Duration::from_millis(self.timestamp_ms?.try_into().ok()?);
        // The timestamp has whole milliseconds, so a quick one may seem to come from the future.
        Some(self.clock.duration_since(committed).unwrap_or_default())
    }
}

/// For people: SQL NULL, which is no value at all, reads as such.
fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "NULL".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}
