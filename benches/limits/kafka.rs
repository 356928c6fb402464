//! A consumer that counts what comes twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

/// Counts the events of a topic that come a second time; on a thread of its own, until it is dropped.
pub(crate) struct Counter {
    seen: Arc<AtomicU64>,
    again: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Counter {
    pub(crate) fn start(broker: &str, topic: &str, partitions: i32) -> Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set("group.id", "limits")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "20")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let counter = Self { seen: Arc::default(), again: Arc::default(), stop: Arc::default() };
        let (seen, again, stop) =
            (Arc::clone(&counter.seen), Arc::clone(&counter.again), Arc::clone(&counter.stop));
        std::thread::Builder::new().name("consumer".to_owned()).spawn(move || {
            let mut ids = HashSet::new();
            while !stop.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                let mut headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                let id = headers.find(|header| header.key == "id").and_then(|header| header.value);
                let first = ids.insert(id.unwrap_or_default().to_vec());
                if first { &seen } else { &again }.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(counter)
    }

    /// Events that came, each counted once.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Records of events that had come before.
    pub(crate) fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
