//! What the relay is doing, for those who look at it from outside: the session writes, HTTP reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The state shared between the session task and the HTTP server.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    /// Milliseconds from `started` to the last turn of the session task.
    turned: AtomicU64,
    now: watch::Sender<Snapshot>,
}

/// What the relay is doing at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// Why events do not move, if they do not.
    pub blocked: Option<Blocked>,
}

/// The values of the metric `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On the way to PostgreSQL.
    Connecting,
    /// Another instance streams; this one waits for the slot.
    Standby,
    /// Events move, or would if there were any.
    Streaming,
    /// The session stands and events cannot move.
    Blocked,
    /// Stopping.
    Draining,
}

/// Something keeps the relay from moving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// What.
    pub on: On,
    /// Since when.
    pub since: Instant,
    /// In words.
    pub reason: String,
}

/// The values of the label `on` of the metric `blocked_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// PostgreSQL is away.
    Postgres,
    /// Kafka is away.
    Kafka,
    /// A topic does not exist.
    Topic,
    /// Kafka will never take an event.
    Event,
}

/// The same thing is not said again in the log before this has passed.
pub(crate) const REMINDER: Duration = Duration::from_secs(30);

/// A session task that has not turned for this long is stuck. It waits for nothing longer than a second.
const STUCK: Duration = Duration::from_secs(30);

impl State {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Connecting, Self::Standby, Self::Streaming, Self::Blocked, Self::Draining];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Standby => "standby",
            Self::Streaming => "streaming",
            Self::Blocked => "blocked",
            Self::Draining => "draining",
        }
    }
}

impl On {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Kafka, Self::Topic, Self::Event];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Topic => "topic",
            Self::Event => "event",
        }
    }
}

impl Status {
    /// A relay that has just been started.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let first = Snapshot { state: State::Connecting, blocked: None };
        Self { started: now, turned: AtomicU64::new(0), now: watch::Sender::new(first) }
    }

    /// The session task lives.
    pub fn turn(&self, now: Instant) {
        let millis =
            u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX);
        self.turned.store(millis, Ordering::Relaxed);
    }

    /// Whether the session task has turned lately.
    #[must_use]
    pub fn is_live(&self, now: Instant) -> bool {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started).saturating_sub(turned) < STUCK
    }

    /// The relay is in `state`, and nothing blocks it.
    pub fn enter(&self, state: State) {
        self.set(Snapshot { state, blocked: None });
    }

    /// The relay is in `state` and kept from moving. The time since when is kept as long as it is kept by the same.
    pub fn block(&self, state: State, on: On, reason: &str, now: Instant) {
        let since = match &self.now.borrow().blocked {
            Some(blocked) if blocked.on == on => blocked.since,
            _ => now,
        };
        self.set(Snapshot { state, blocked: Some(Blocked { on, since, reason: reason.to_owned() }) });
    }

    /// What the relay is doing now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.now.borrow().clone()
    }

    fn set(&self, next: Snapshot) {
        self.now.send_if_modified(|now| {
            let changed = *now != next;
            *now = next;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_block_is_kept_while_the_reason_stays() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let status = Status::new(start);
        status.block(State::Blocked, On::Kafka, "no broker answers", start);
        status.block(State::Blocked, On::Kafka, "still no broker answers", later);
        assert_eq!(status.snapshot().blocked.unwrap().since, start);
        status.block(State::Blocked, On::Topic, "topic missing", later);
        assert_eq!(status.snapshot().blocked.unwrap().since, later);
        status.enter(State::Streaming);
        assert_eq!(status.snapshot(), Snapshot { state: State::Streaming, blocked: None });
    }

    #[test]
    fn a_task_that_does_not_turn_is_not_live() {
        let start = Instant::now();
        let status = Status::new(start);
        assert!(status.is_live(start + Duration::from_secs(29)));
        assert!(!status.is_live(start + STUCK));
        status.turn(start + STUCK);
        assert!(status.is_live(start + STUCK));
    }
}
