//! The test broker: topics, and what is in them.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};

use crate::fixture::eventually;
use crate::servers::variable;

/// `host:port` of the broker.
pub(crate) fn broker() -> String {
    variable("OUTBOX_TEST_KAFKA")
}

/// Makes a topic; `config` are its settings.
pub(crate) async fn create_topic(name: &str, partitions: i32, config: &[(&str, &str)]) {
    create_topic_on(&broker(), name, partitions, config).await;
}

/// The same on another cluster.
pub(crate) async fn create_topic_on(broker: &str, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    for result in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    // The controller has made it; a broker that is busy tells clients of it later.
    let partitions = usize::try_from(partitions).unwrap();
    eventually("the topic is known", async || partitions_of(&admin, name) == partitions).await;
}

/// Partitions of a topic, as the broker tells clients; 0 if it does not know the topic.
fn partitions_of(admin: &AdminClient<DefaultClientContext>, name: &str) -> usize {
    let metadata = admin.inner().fetch_metadata(Some(name), Duration::from_secs(10)).unwrap();
    metadata.topics()[0].partitions().len()
}

/// Makes `name` a topic of `partitions` partitions, and waits until the broker says so.
pub(crate) async fn grow_topic(name: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker()).create().unwrap();
    let grown = NewPartitions::new(name, partitions);
    for result in admin.create_partitions([&grown], &AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    eventually("the topic has grown", async || partitions_of(&admin, name) == partitions).await;
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Message {
    /// The text of the header `name`; `None` if it is absent or null.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let header = self.headers.iter().find(|(header, _)| header == name);
        header.and_then(|(_, value)| value.clone()).map(|value| String::from_utf8(value).unwrap())
    }

    /// The key, which must be text.
    pub(crate) fn key_text(&self) -> String {
        String::from_utf8(self.key.clone().unwrap()).unwrap()
    }

    /// The header `id`.
    pub(crate) fn id(&self) -> String {
        self.header("id").unwrap()
    }
}

/// Reads one topic from its beginning, as often as one likes, to the end that it has at that moment.
pub(crate) struct Reader {
    topic: String,
    consumer: BaseConsumer,
    /// The next offset of each partition.
    next: HashMap<i32, i64>,
}

impl Reader {
    pub(crate) fn new(topic: &str) -> Self {
        Self::on(&broker(), topic)
    }

    /// The same on another cluster.
    pub(crate) fn on(broker: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set("group.id", "outbox-relay-test")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        let mut assignment = TopicPartitionList::new();
        let mut next = HashMap::new();
        for partition in metadata.topics()[0].partitions() {
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
            next.insert(partition.id(), 0);
        }
        consumer.assign(&assignment).unwrap();
        Self { topic: topic.to_owned(), consumer, next }
    }

    /// Everything that is readable now and was not read before, by partition and offset. Blocks the thread.
    pub(crate) fn read_to_end(&mut self) -> Vec<Message> {
        let ends: HashMap<i32, i64> = self
            .next
            .keys()
            .map(|partition| {
                let marks = self.consumer.fetch_watermarks(&self.topic, *partition, Duration::from_secs(10));
                (*partition, marks.unwrap().1)
            })
            .collect();
        let mut messages = Vec::new();
        while self.next.iter().any(|(partition, next)| *next < ends[partition]) {
            let Some(message) = self.consumer.poll(Duration::from_secs(10)) else {
                panic!("the broker sends nothing of {}: {:?} of {ends:?}", self.topic, self.next)
            };
            let message = message.unwrap();
            self.next.insert(message.partition(), message.offset() + 1);
            let headers = message.headers().map(|headers| {
                headers
                    .iter()
                    .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                    .collect()
            });
            messages.push(Message {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                timestamp: message.timestamp().to_millis(),
                headers: headers.unwrap_or_default(),
            });
        }
        messages.sort_by_key(|message| (message.partition, message.offset));
        messages
    }
}

/// A Kafka in this process that can be switched off: one broker, without the guarantees of a real one.
pub(crate) struct OwnKafka(MockCluster<'static, DefaultProducerContext>);

impl OwnKafka {
    /// With one topic of one partition.
    pub(crate) fn with_topic(topic: &str) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, 1, 1).unwrap();
        Self(cluster)
    }

    /// The setting that leads a relay here.
    pub(crate) fn setting(&self) -> String {
        format!("kafka.bootstrap.servers={}", self.0.bootstrap_servers())
    }

    pub(crate) fn switch_off(&self) {
        self.0.broker_down(1).unwrap();
    }

    pub(crate) fn switch_on(&self) {
        self.0.broker_up(1).unwrap();
    }

    /// Everything in `topic`.
    pub(crate) fn messages(&self, topic: &str) -> Vec<Message> {
        Reader::on(&self.0.bootstrap_servers(), topic).read_to_end()
    }
}
