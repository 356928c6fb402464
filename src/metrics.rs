//! What is counted and measured, in Prometheus' terms.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::lsn::Lsn;
use crate::outbox::Topic;
use crate::status::{On, Snapshot, State};

/// All metrics. Counting takes no lock but that of a label's table.
pub struct Metrics {
    registry: Registry,
    delivered: Family<Label, Counter>,
    delivered_bytes: Family<Label, Counter>,
    rejected: Family<Label, Counter>,
    ignored: Family<Label, Counter>,
    timestamps_replaced: Family<Label, Counter>,
    /// Transactions acknowledged to PostgreSQL.
    pub transactions_confirmed: Counter,
    /// Records handed to Kafka, not confirmed.
    pub in_flight_records: Gauge,
    /// Their bytes.
    pub in_flight_bytes: Gauge,
    /// End of what was received.
    pub received_lsn: Gauge<f64, AtomicU64>,
    /// End of what is confirmed.
    pub confirmed_lsn: Gauge<f64, AtomicU64>,
    /// WAL that the slot holds.
    pub slot_retained_wal_bytes: Gauge,
    /// Seconds from a transaction's commit to Kafka's confirmation of its record.
    pub commit_to_delivery: Histogram,
    /// Age of the oldest event that was read and not confirmed.
    pub oldest_unconfirmed_age: Gauge<f64, AtomicU64>,
    blocked: Family<Label, Gauge<f64, AtomicU64>>,
    state: Family<Label, Gauge<i64, AtomicI64>>,
    sessions: Family<Label, Counter>,
}

type Label = [(&'static str, String); 1];

/// Beyond this many topics the rest is one: a label's values are kept for ever, here and in Prometheus.
const MOST_TOPICS: usize = 200;

/// Upper bounds of the histogram's buckets, in seconds: 0.5 ms to 60 s.
const BUCKETS: [f64; 17] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// Counters of deliveries, looked up once per topic: for the session, which counts every record.
pub struct Deliveries<'a> {
    metrics: &'a Metrics,
    known: HashSet<Topic>,
    last: Option<(Topic, Counter, Counter)>,
}

impl Metrics {
    /// Every metric at zero; those with a fixed set of labels are there from the start.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("outbox_relay"),
            delivered: Family::default(),
            delivered_bytes: Family::default(),
            rejected: Family::default(),
            ignored: Family::default(),
            timestamps_replaced: Family::default(),
            transactions_confirmed: Counter::default(),
            in_flight_records: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            received_lsn: Gauge::default(),
            confirmed_lsn: Gauge::default(),
            slot_retained_wal_bytes: Gauge::default(),
            commit_to_delivery: Histogram::new(BUCKETS),
            oldest_unconfirmed_age: Gauge::default(),
            blocked: Family::default(),
            state: Family::default(),
            sessions: Family::default(),
        };
        for reason in ["too_large", "invalid_topic", "invalid_partition", "null", "refused"] {
            let _ = metrics.rejected.get_or_create(&label("reason", reason));
        }
        for end in ["stopped", "postgres", "kafka", "rejected"] {
            let _ = metrics.sessions.get_or_create(&label("end", end));
        }
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register("events_delivered", "Events confirmed by Kafka", self.delivered.clone());
        registry.register(
            "delivered_bytes",
            "Key and value bytes confirmed by Kafka",
            self.delivered_bytes.clone(),
        );
        registry.register("events_rejected", "Events that Kafka can never take", self.rejected.clone());
        registry.register(
            "ignored_changes",
            "UPDATE, DELETE and TRUNCATE on an outbox table, which are not relayed",
            self.ignored.clone(),
        );
        registry.register(
            "timestamps_replaced",
            "Events whose timestamp column could not be used; they carry the commit time",
            self.timestamps_replaced.clone(),
        );
        registry.register(
            "transactions_confirmed",
            "Transactions acknowledged to PostgreSQL",
            self.transactions_confirmed.clone(),
        );
        registry.register(
            "in_flight_records",
            "Records handed to Kafka and not confirmed",
            self.in_flight_records.clone(),
        );
        registry.register("in_flight_bytes", "Memory that they take", self.in_flight_bytes.clone());
        registry.register("received_lsn", "End of the WAL received, as a number", self.received_lsn.clone());
        registry.register(
            "confirmed_lsn",
            "End of the WAL confirmed, as a number",
            self.confirmed_lsn.clone(),
        );
        registry.register(
            "slot_retained_wal_bytes",
            "WAL that the replication slot holds",
            self.slot_retained_wal_bytes.clone(),
        );
        registry.register(
            "commit_to_delivery_seconds",
            "Time from a transaction's commit to Kafka's confirmation of its event",
            self.commit_to_delivery.clone(),
        );
        registry.register(
            "oldest_unconfirmed_age_seconds",
            "Age of the oldest event that was read and not confirmed",
            self.oldest_unconfirmed_age.clone(),
        );
        registry.register(
            "blocked_seconds",
            "How long the relay has been kept from moving",
            self.blocked.clone(),
        );
        registry.register("state", "What the relay is doing", self.state.clone());
        registry.register("sessions", "Replication sessions by how they ended", self.sessions.clone());
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        self
    }

    /// The page that Prometheus scrapes. State and blocked time are taken from `snapshot`.
    #[must_use]
    pub fn page(&self, snapshot: &Snapshot, now: Instant) -> String {
        for state in State::ALL {
            self.state.get_or_create(&label("state", state.as_str())).set(i64::from(state == snapshot.state));
        }
        for on in On::ALL {
            let blocked = snapshot.blocked.as_ref().filter(|blocked| blocked.on == on);
            let seconds =
                blocked.map_or(0.0, |blocked| now.saturating_duration_since(blocked.since).as_secs_f64());
            self.blocked.get_or_create(&label("on", on.as_str())).set(seconds);
        }
        let mut page = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }

    /// Counts a rejected event.
    pub fn rejected(&self, reason: &str) {
        self.rejected.get_or_create(&label("reason", reason)).inc();
    }

    /// Counts `changes` of an outbox table that are not relayed.
    pub fn ignored(&self, operation: &str, changes: u64) {
        self.ignored.get_or_create(&label("operation", operation)).inc_by(changes);
    }

    /// Counts `events` that carry the commit time instead of their own.
    pub fn timestamps_replaced(&self, reason: &str, events: u64) {
        self.timestamps_replaced.get_or_create(&label("reason", reason)).inc_by(events);
    }

    /// Counts a replication session that has ended.
    pub fn session_ended(&self, end: &str) {
        self.sessions.get_or_create(&label("end", end)).inc();
    }

    /// The counters of deliveries.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries { metrics: self, known: HashSet::new(), last: None }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Deliveries<'_> {
    /// Counts a record of `topic` with `bytes` of key and value.
    pub fn count(&mut self, topic: &Topic, bytes: usize) {
        if self.last.as_ref().is_none_or(|(last, ..)| last != topic) {
            let room = self.known.len() < MOST_TOPICS || self.known.contains(topic);
            let shown = if room { topic.as_str() } else { "(other)" };
            let label = label("topic", shown);
            if room {
                self.known.insert(topic.clone());
            }
            let events = self.metrics.delivered.get_or_create_owned(&label);
            let size = self.metrics.delivered_bytes.get_or_create_owned(&label);
            self.last = Some((topic.clone(), events, size));
        }
        if let Some((_, events, size)) = &self.last {
            events.inc();
            size.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }
}

/// A position as a gauge has it; exact up to 8 PiB of WAL.
#[must_use]
pub fn position(lsn: Lsn) -> f64 {
    lsn.as_u64() as f64
}

fn label(name: &'static str, value: &str) -> Label {
    [(name, value.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_contracts_names() {
        let metrics = Metrics::new();
        let mut deliveries = metrics.deliveries();
        for number in 0..=MOST_TOPICS {
            deliveries.count(&Topic::new(format!("t{number}").as_bytes()).unwrap(), 3);
        }
        deliveries.count(&Topic::new(b"t0").unwrap(), 4);
        let page = metrics.page(&Snapshot { state: State::Streaming, blocked: None }, Instant::now());
        for line in [
            "outbox_relay_events_delivered_total{topic=\"t0\"} 2",
            "outbox_relay_delivered_bytes_total{topic=\"t0\"} 7",
            "outbox_relay_events_delivered_total{topic=\"(other)\"} 1",
            "outbox_relay_events_rejected_total{reason=\"too_large\"} 0",
            "outbox_relay_transactions_confirmed_total 0",
            "outbox_relay_in_flight_records 0",
            "outbox_relay_commit_to_delivery_seconds_count 0",
            "outbox_relay_state{state=\"streaming\"} 1",
            "outbox_relay_state{state=\"blocked\"} 0",
            "outbox_relay_blocked_seconds{on=\"kafka\"} 0.0",
            "outbox_relay_sessions_total{end=\"postgres\"} 0",
        ] {
            assert!(page.contains(line), "{line} is not on the page:\n{page}");
        }
        assert!(
            page.contains(&format!("outbox_relay_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")))
        );
    }
}
