//! How many records of some topics can be read: the end offsets of their partitions.
//!
//! A consumer would take CPU from what is measured. So does a question for the end offsets, though all are in one request: on
//! two full cores each one makes the broker's threads and ours push others aside. So it is asked often only before the first
//! record and around the last. It is the same for whoever writes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::case::PARTITIONS;

/// Between two questions at least. At a hundred thousand records a second and ten seconds, the end is known to a thousandth.
const PAUSE: Duration = Duration::from_millis(10);

/// And at most.
const LONG_PAUSE: Duration = Duration::from_millis(500);

/// Brokers lead their partitions by then.
const LEADERS: Duration = Duration::from_secs(30);

/// Without a new record for so long, nothing more is to be expected.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks for end offsets.
pub(crate) struct Readable {
    client: BaseConsumer,
    ends: TopicPartitionList,
}

/// How topics filled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    /// When records were seen first, and how many there were already.
    pub(crate) first: (Instant, u64),
    /// When all were there.
    pub(crate) last: Instant,
}

impl Readable {
    /// `topics` must exist.
    pub(crate) fn of(broker: &str, topics: &[String]) -> Result<Self> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker)
            .set("isolation.level", "read_uncommitted")
            .create()?;
        let mut ends = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..PARTITIONS {
                ends.add_partition_offset(topic, partition, Offset::End)?;
            }
        }
        let readable = Self { client, ends };
        // Afterwards it is connected, and knows the leaders: of many new topics not at once.
        let start = Instant::now();
        while let Err(error) = readable.count() {
            if start.elapsed() > LEADERS {
                return Err(error);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(readable)
    }

    /// Records that can be read now.
    pub(crate) fn count(&self) -> Result<u64> {
        // As a time, `Offset::End` is the protocol's -1: ListOffsets gives the end.
        let ends = self.client.offsets_for_times(self.ends.clone(), Duration::from_secs(10));
        let mut sum = 0;
        for end in ends.context("ask Kafka for end offsets")?.elements() {
            end.error()?;
            sum += u64::try_from(end.offset().to_raw().unwrap_or(0))?;
        }
        Ok(sum)
    }

    /// Waits until `rows` can be read. `goes_on` fails if whoever writes them has ended.
    pub(crate) fn fills(&self, rows: u64, mut goes_on: impl FnMut() -> Result<()>) -> Result<Filled> {
        let (mut first, mut seen, mut moved) = (None, 0, Instant::now());
        loop {
            let count = self.count()?;
            let now = Instant::now();
            if count > 0 && first.is_none() {
                first = Some((now, count));
            }
            if let (true, Some(first)) = (count >= rows, first) {
                return Ok(Filled { first, last: now });
            }
            if count > seen {
                (seen, moved) = (count, now);
            }
            goes_on()?;
            anyhow::ensure!(
                moved.elapsed() < PATIENCE,
                "{seen} of {rows} records came, and no more for {PATIENCE:?}"
            );
            std::thread::sleep(first.map_or(PAUSE, |first| pause(first, (now, count), rows)));
        }
    }
}

/// Half of the time that the rest of `rows` will take if it goes on as from `first` until `last`.
fn pause(first: (Instant, u64), last: (Instant, u64), rows: u64) -> Duration {
    let (took, came) = (last.0.duration_since(first.0), last.1.saturating_sub(first.1));
    let rest = rows.saturating_sub(last.1);
    took.mul_f64(rest as f64 / came.max(1) as f64 / 2.0).clamp(PAUSE, LONG_PAUSE)
}
