//! What the relay is doing, for those who look at it from outside: the session writes, HTTP reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::lsn::Lsn;
use crate::postgres::control::Slot;
use crate::reminder::Reminder;
use crate::{backfill, clock};

/// The state shared between the session task and the HTTP server.
#[derive(Debug)]
pub struct Status {
    started: Started,
    /// Milliseconds from `started` to the last turn of the session task.
    turned: AtomicU64,
    now: watch::Sender<Snapshot>,
    said: Mutex<Reminder>,
}

/// When the process was started, by the clock that never jumps and by the one that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// To measure from.
    pub at: Instant,
    /// To be shown.
    pub wall: SystemTime,
}

/// What the relay is doing at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was started.
    pub started: Started,
    /// Its state.
    pub state: State,
    /// Since when it has been in it.
    pub since: Instant,
    /// Why events do not move, if they do not.
    pub blocked: Option<Blocked>,
    /// How far it has come.
    pub progress: Progress,
    /// The slot, as it was seen last.
    pub slot: Option<SlotSeen>,
}

/// How far the relay has come. Between two sessions it is what the last one left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The server that it streams, or streamed last, from.
    pub server: Option<String>,
    /// End of what was received.
    pub received: Lsn,
    /// End of what is confirmed.
    pub confirmed: Lsn,
    /// Records handed to Kafka and not confirmed.
    pub in_flight_records: usize,
    /// The memory they take.
    pub in_flight_bytes: usize,
    /// When the oldest transaction that was read and not confirmed was committed.
    pub oldest_unconfirmed: Option<SystemTime>,
    /// Records that Kafka has confirmed since the process was started.
    pub delivered: u64,
    /// When it confirmed the last of them.
    pub last_delivery: Option<Instant>,
    /// How far the backfill is, while there is one.
    pub backfill: Option<backfill::Progress>,
    /// Rows that were deleted or marked, or partitions dropped, since the process was started.
    pub cleaned: u64,
    /// Why that cannot go on at present.
    pub cleaning_error: Option<String>,
}

/// A look at the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSeen {
    /// What was seen.
    pub slot: Slot,
    /// When.
    pub at: Instant,
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

/// The name for [`Status::is_news`] of a stream that has begun.
pub(crate) const STREAMING: &str = "streaming";

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
    /// A relay that has just been started; `wall` is what the wall clock says `now`.
    #[must_use]
    pub fn new(now: Instant, wall: SystemTime) -> Self {
        let started = Started { at: now, wall };
        Self {
            started,
            turned: AtomicU64::new(0),
            now: watch::Sender::new(Snapshot::new(started)),
            said: Mutex::default(),
        }
    }

    /// The session task lives.
    pub fn turn(&self, now: Instant) {
        let millis =
            u64::try_from(now.saturating_duration_since(self.started.at).as_millis()).unwrap_or(u64::MAX);
        self.turned.store(millis, Ordering::Relaxed);
    }

    /// Whether the session task has turned lately.
    #[must_use]
    pub fn is_live(&self, now: Instant) -> bool {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started.at).saturating_sub(turned) < STUCK
    }

    /// The relay is in `state`, and nothing blocks it.
    pub fn enter(&self, state: State) {
        self.now.send_modify(|snapshot| {
            snapshot.enter(state, clock::now());
            snapshot.blocked = None;
            if state == State::Standby {
                // What this instance had not confirmed is the other one's now.
                snapshot.progress.in_flight_records = 0;
                snapshot.progress.in_flight_bytes = 0;
                snapshot.progress.oldest_unconfirmed = None;
            }
        });
    }

    /// The relay is in `state` and kept from moving. The time since when is kept as long as it is kept by the same.
    pub fn block(&self, state: State, on: On, reason: &str, now: Instant) {
        self.now.send_modify(|snapshot| {
            snapshot.enter(state, now);
            let before = snapshot.blocked.as_ref().filter(|blocked| blocked.on == on);
            let since = before.map_or(now, |blocked| blocked.since);
            snapshot.blocked = Some(Blocked { on, since, reason: reason.to_owned() });
        });
    }

    /// Writes down how far the relay has come.
    pub fn progress(&self, update: impl FnOnce(&mut Progress)) {
        self.now.send_modify(|snapshot| update(&mut snapshot.progress));
    }

    /// The slot was looked at.
    pub fn slot_seen(&self, slot: Option<&Slot>, now: Instant) {
        let seen = slot.map(|slot| SlotSeen { slot: slot.clone(), at: now });
        self.now.send_modify(|snapshot| snapshot.slot = seen);
    }

    /// Whether `text` is worth a line in the log: it was not said in the last 30 s, in this session or an earlier one.
    pub fn is_news(&self, text: &str, now: Instant) -> bool {
        // Nothing panics in there; and what was said is right in any case.
        self.said.lock().unwrap_or_else(PoisonError::into_inner).is_news(text, now)
    }

    /// The next `text` is news, however soon it comes: it answers something that was just said.
    pub fn forget(&self, text: &str) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).forget(text);
    }

    /// What the relay is doing now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.now.borrow().clone()
    }
}

impl Snapshot {
    /// That of a relay which has just been started.
    #[must_use]
    pub fn new(started: Started) -> Self {
        let (state, since) = (State::Connecting, started.at);
        Self { started, state, since, blocked: None, progress: Progress::default(), slot: None }
    }

    /// This instance holds the replication stream, whether events can move or not.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Streaming | State::Blocked)
    }

    /// How old the oldest event is that was read and not confirmed, by the wall clock; zero if there is none, or if the
    /// server's clock is ahead of ours.
    #[must_use]
    pub fn oldest_unconfirmed_age(&self, wall: SystemTime) -> Duration {
        let oldest = self.progress.oldest_unconfirmed;
        oldest.and_then(|committed| wall.duration_since(committed).ok()).unwrap_or_default()
    }

    fn enter(&mut self, state: State, now: Instant) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_block_is_kept_while_the_reason_stays() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let status = Status::new(start, SystemTime::UNIX_EPOCH);
        status.block(State::Blocked, On::Kafka, "no broker answers", start);
        status.block(State::Blocked, On::Kafka, "still no broker answers", later);
        assert_eq!(status.snapshot().blocked.unwrap().since, start);
        status.block(State::Blocked, On::Topic, "topic missing", later);
        assert_eq!(status.snapshot().blocked.unwrap().since, later);
        assert_eq!(status.snapshot().since, start);
        status.enter(State::Streaming);
        let streaming = status.snapshot();
        assert_eq!((streaming.state, streaming.blocked), (State::Streaming, None));
    }

    #[test]
    fn a_standby_has_nothing_in_flight() {
        let status = Status::new(Instant::now(), SystemTime::UNIX_EPOCH);
        let left = Progress {
            received: Lsn::new(7),
            in_flight_records: 3,
            in_flight_bytes: 2_000,
            oldest_unconfirmed: Some(SystemTime::UNIX_EPOCH),
            delivered: 5,
            ..Progress::default()
        };
        status.progress(|progress| *progress = left);
        status.enter(State::Standby);
        let expected = Progress { received: Lsn::new(7), delivered: 5, ..Progress::default() };
        assert_eq!(status.snapshot().progress, expected);
    }

    #[test]
    fn a_task_that_does_not_turn_is_not_live() {
        let start = Instant::now();
        let status = Status::new(start, SystemTime::UNIX_EPOCH);
        assert!(status.is_live(start + Duration::from_secs(29)));
        assert!(!status.is_live(start + STUCK));
        status.turn(start + STUCK);
        assert!(status.is_live(start + STUCK));
    }
}
