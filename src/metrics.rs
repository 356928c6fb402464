//! What is counted and measured, in Prometheus' terms.
//!
//! Counters live as long as the process and are counted where things happen. Everything else is read off a
//! [`Snapshot`] at the moment of the scrape (`moment`), so that the page shows the same as the other pages.

mod moment;
mod plain_text;
mod process;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::config::Action;
use crate::outbox::{RejectionReason, Topic};
use crate::status::Snapshot;

pub use plain_text::plain_text;

/// All metrics. Counting takes no lock but that of a label's table.
pub struct Metrics {
    registry: Registry,
    delivered: Family<Label, Counter>,
    delivered_bytes: Family<Label, Counter>,
    /// Topics that are shown by their name.
    shown: Mutex<HashSet<Topic>>,
    rejected: Family<Label, Counter>,
    ignored: Family<Label, Counter>,
    timestamps_replaced: Family<Label, Counter>,
    /// Transactions acknowledged to PostgreSQL.
    pub transactions_confirmed: Counter,
    /// Seconds from a transaction's commit to Kafka's confirmation of its record.
    pub commit_to_delivery: Histogram,
    sessions: Family<Label, Counter>,
    cleaned: Family<Label, Counter>,
}

/// How a replication session ended: the values of the label `end` of `sessions_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The relay was asked to stop.
    Stopped,
    /// PostgreSQL, or the way to it.
    Postgres,
    /// Kafka, or the way to it.
    Kafka,
    /// An event that Kafka will never take was waiting for somebody, however the session was ended then.
    Rejected,
    /// Another instance has taken over.
    Fenced,
}

type Label = [(&'static str, String); 1];

/// Every metric's name begins so, but those that all programs share.
const PREFIX: &str = "outbox_relay";

/// The values of `reason` beside those of [`RejectionReason`]: passed over because somebody said so.
const SKIPPED: &str = "skipped";

/// The values of `operation` of `ignored_changes_total`.
const OPERATIONS: [&str; 3] = ["update", "delete", "truncate"];

/// The values of `reason` of `timestamps_replaced_total`.
const REPLACED: [&str; 3] = ["null", "out_of_range", "ahead"];

/// Beyond this many topics the rest is one: a label's values are kept for ever, here and in Prometheus.
const MOST_TOPICS: usize = 200;

/// The topic of that rest. No topic can have this name.
const OTHER: &str = "(other)";

/// Upper bounds of the histogram's buckets, in seconds: 0.5 ms to 60 s.
const BUCKETS: [f64; 17] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// Counters of deliveries, looked up once per topic: for the session, which counts every record.
pub struct Deliveries<'a> {
    metrics: &'a Metrics,
    counters: HashMap<Topic, DeliveryCounters>,
    last: Option<(Topic, DeliveryCounters)>,
}

#[derive(Clone)]
struct DeliveryCounters {
    events: Counter,
    bytes: Counter,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Stopped, Self::Postgres, Self::Kafka, Self::Rejected, Self::Fenced];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Rejected => "rejected",
            Self::Fenced => "fenced",
        }
    }
}

impl Metrics {
    /// Every metric at zero; those with a fixed set of labels have all of them from the start, so that a rate can be
    /// taken of the first event.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            delivered: Family::default(),
            delivered_bytes: Family::default(),
            shown: Mutex::default(),
            rejected: Family::default(),
            ignored: Family::default(),
            timestamps_replaced: Family::default(),
            transactions_confirmed: Counter::default(),
            commit_to_delivery: Histogram::new(BUCKETS),
            sessions: Family::default(),
            cleaned: Family::default(),
        };
        let present = |family: &Family<Label, Counter>, name, value: &str| {
            let _ = family.get_or_create(&label(name, value));
        };
        for reason in RejectionReason::ALL.map(RejectionReason::as_str).into_iter().chain([SKIPPED]) {
            present(&metrics.rejected, "reason", reason);
        }
        for end in End::ALL {
            present(&metrics.sessions, "end", end.as_str());
        }
        for action in Action::ALL.into_iter().filter(|action| *action != Action::Keep) {
            present(&metrics.cleaned, "action", action.as_str());
        }
        for operation in OPERATIONS {
            present(&metrics.ignored, "operation", operation);
        }
        for reason in REPLACED {
            present(&metrics.timestamps_replaced, "reason", reason);
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
        registry.register(
            "events_rejected",
            "Events that Kafka can never take, or that were passed over on purpose",
            self.rejected.clone(),
        );
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
            "commit_to_delivery_seconds",
            "Time from a transaction's commit to Kafka's confirmation of its event",
            self.commit_to_delivery.clone(),
        );
        registry.register("sessions", "Replication sessions by how they ended", self.sessions.clone());
        registry.register(
            "cleaned",
            "Rows deleted or marked, and partitions dropped, after Kafka's confirmation",
            self.cleaned.clone(),
        );
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        self
    }

    /// The page that Prometheus scrapes, as OpenMetrics text; see [`plain_text`] for who does not take that. `now` and
    /// `wall` are the same moment on two clocks.
    #[must_use]
    pub fn page(&self, snapshot: &Snapshot, now: Instant, wall: SystemTime) -> String {
        let mut page = String::new();
        // Writing into a string cannot fail.
        let _ = encode_registry(&mut page, &self.registry);
        let _ = encode_registry(&mut page, &moment::registry(PREFIX, snapshot, now, wall));
        let _ = encode_registry(&mut page, &process::registry());
        let _ = encode_eof(&mut page);
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
    pub fn session_ended(&self, end: End) {
        self.sessions.get_or_create(&label("end", end.as_str())).inc();
    }

    /// Counts what has become of published rows, or of partitions.
    pub fn cleaned(&self, action: Action, changed: u64) {
        self.cleaned.get_or_create(&label("action", action.as_str())).inc_by(changed);
    }

    /// The counters of deliveries.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries { metrics: self, counters: HashMap::new(), last: None }
    }

    /// Whether `topic` has, or gets, a name of its own on the page.
    fn shows(&self, topic: &Topic) -> bool {
        // A set is right after a panic as well.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.contains(topic) || (shown.len() < MOST_TOPICS && shown.insert(topic.clone()))
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
        if self.last.as_ref().is_none_or(|(last, _)| last != topic) {
            let counters = self.counters_of(topic);
            self.last = Some((topic.clone(), counters));
        }
        if let Some((_, counters)) = &self.last {
            counters.events.inc();
            counters.bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    fn counters_of(&mut self, topic: &Topic) -> DeliveryCounters {
        if let Some(counters) = self.counters.get(topic) {
            return counters.clone();
        }
        let shown = self.metrics.shows(topic);
        let label = label("topic", if shown { topic.as_str() } else { OTHER });
        let counters = DeliveryCounters {
            events: self.metrics.delivered.get_or_create_owned(&label),
            bytes: self.metrics.delivered_bytes.get_or_create_owned(&label),
        };
        if shown {
            self.counters.insert(topic.clone(), counters.clone());
        }
        counters
    }
}

fn label(name: &'static str, value: &str) -> Label {
    [(name, value.to_owned())]
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
