//! A consumer on a thread of its own, and a look at all that a topic has.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::case::PARTITIONS;
use crate::producer::now;

/// An event that has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) n: u64,
    /// When whoever wrote it began to; nanoseconds of the wall clock. 0: it does not say.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// Tells of each event, until it is dropped.
pub(crate) struct Listener {
    pub(crate) arrivals: Receiver<Arrival>,
    stop: Arc<AtomicBool>,
}

/// How long a consumer may take to begin to fetch.
const SETTLE: Duration = Duration::from_millis(500);

impl Listener {
    /// Listens to `topic`, which exists.
    pub(crate) fn start(broker: &str, topic: &str) -> Result<Self> {
        let consumer = consumer(broker, &[topic.to_owned()])?;
        let (sender, arrivals) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new().name("consumer".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                let received = now();
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                let number = |name| number(&value, name).unwrap_or(0);
                let _ = sender.send(Arrival { n: number("\"n\": "), sent: number("\"sent\": "), received });
            }
        })?;
        std::thread::sleep(SETTLE);
        Ok(Self { arrivals, stop })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The number behind `name` in a JSON object.
fn number(value: &str, name: &str) -> Option<u64> {
    let (_, behind) = value.split_once(name)?;
    behind.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn consumer(broker: &str, topics: &[String]) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_uncommitted")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

/// Commits an offset, as nearly every consumer does.
pub(crate) fn commit(broker: &str, topic: &str) -> Result<()> {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(0))?;
    consumer(broker, &[topic.to_owned()])?.commit(&offsets, CommitMode::Sync).context("commit an offset")
}

/// Reads the first `rows` records of `topics`: each must be another event.
pub(crate) fn compare(broker: &str, topics: &[String], rows: u64) -> Result<()> {
    let consumer = consumer(broker, topics)?;
    let mut ids = HashSet::new();
    for seen in 0..rows {
        let message = consumer.poll(Duration::from_secs(30));
        let message = message.with_context(|| format!("{seen} of {rows} records came, and no more"))??;
        let mut headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let id = headers.find(|header| header.key == "id").and_then(|header| header.value);
        let id = String::from_utf8_lossy(id.unwrap_or_default()).replace('-', "");
        let id = u128::from_str_radix(&id, 16).with_context(|| format!("id \"{id}\" is no UUID"))?;
        ensure!(ids.insert(id), "event {id:x} came twice in a run that nothing disturbed");
    }
    Ok(())
}
