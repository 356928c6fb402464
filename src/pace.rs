//! When to read from the socket.
//!
//! - While there is little to do: at once, because anything else is delay.
//! - When Kafka has not confirmed what it got last: after that, or a few milliseconds. What has come meanwhile goes out
//!   together, as Nagle's algorithm does it. The more there is to do, the larger the batches, and the less each record costs
//!   the broker.
//! - While there is a backlog: after a short sleep. The walsender makes one `send` a row. A reader that waits for the next row
//!   is woken for each, and both pay for the wake-up; one that lets rows collect reads a third to a half more of them a
//!   second, with a fraction of the CPU (docs/performance.md).

use std::time::{Duration, Instant};

/// Decides by how fast records came of late. Time is an argument.
#[derive(Debug)]
pub struct Pace {
    received: u64,
    /// Records of the last read.
    fresh: u32,
    /// Records since `since`.
    records: u32,
    since: Instant,
    /// When something was read last.
    read: Instant,
    catching_up: bool,
}

/// Long enough for some tens of rows; the buffer of a unix socket has room for about two hundred.
const PAUSE: Duration = Duration::from_micros(200);

/// The rate is judged when at least so much time has passed: commits that PostgreSQL flushes to disk together come together,
/// and are no backlog.
const WINDOW: Duration = Duration::from_millis(10);

/// So many records in a window, 25,000 a second, are a backlog, or as good as one.
const BACKLOG: u32 = 250;

/// So many records in one read are a backlog whatever the rate: the buffer of a unix socket has no room for many more.
const MANY: u32 = 100;

/// As are so many, if they fill a read. Fewer are large.
const SOME: u32 = 16;

/// How long to wait for Kafka at most. It may be away, and the server has more to say than rows.
const COLLECT: Duration = Duration::from_millis(20);

/// A read that brought so much, in bytes, has left more behind, and the walsender may already be waiting for us.
const FULL: u64 = 64 * 1024;

impl Pace {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { received: 0, fresh: 0, records: 0, since: now, read: now, catching_up: false }
    }

    /// A record came out of what was read.
    pub fn record(&mut self) {
        self.fresh = self.fresh.saturating_add(1);
    }

    /// The pause before the next read, when `received` bytes have come in all; `None`: read on.
    pub fn after(&mut self, received: u64, now: Instant) -> Option<Duration> {
        let read = received.saturating_sub(self.received);
        if read == 0 {
            return None;
        }
        self.received = received;
        self.read = now;
        let fresh = std::mem::take(&mut self.fresh);
        self.records = self.records.saturating_add(fresh);
        let took = now.saturating_duration_since(self.since);
        if took >= WINDOW {
            let windows = u32::try_from(took.as_micros().div_euclid(WINDOW.as_micros())).unwrap_or(u32::MAX);
            self.catching_up = self.records >= BACKLOG.saturating_mul(windows);
            self.records = 0;
            self.since = now;
        }
        if fresh >= MANY || (read >= FULL && fresh >= SOME) {
            self.catching_up = true;
        }
        (self.catching_up && read < FULL).then_some(PAUSE)
    }

    /// Until when to read nothing, because Kafka is `busy` with what it got last; `None`: read.
    #[must_use]
    pub fn collects(&self, busy: bool, now: Instant) -> Option<Instant> {
        let until = self.read.checked_add(COLLECT).filter(|until| *until > now);
        until.filter(|_| busy && !self.catching_up)
    }

    /// Nothing may be read now: the time until that is over says nothing of the server.
    pub fn held(&mut self, now: Instant) {
        self.records = 0;
        self.since = now;
    }

    /// More is to be expected at once.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        self.catching_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of `records` and `bytes` every `interval`: after which of them there was a pause.
    fn pauses(
        pace: &mut Pace,
        now: &mut Instant,
        reads: usize,
        (records, bytes): (u32, u64),
        interval: Duration,
    ) -> Vec<bool> {
        let mut received = pace.received;
        (0..reads)
            .map(|_| {
                *now += interval;
                received += bytes;
                (0..records).for_each(|_| pace.record());
                pace.after(received, *now).is_some()
            })
            .collect()
    }

    const MICROSECOND: Duration = Duration::from_micros(1);
    const ROW: (u32, u64) = (1, 400);

    /// One that has seen a backlog.
    fn behind(now: &mut Instant) -> Pace {
        let mut pace = Pace::new(*now);
        pauses(&mut pace, now, 1, (MANY, 12_000), MICROSECOND);
        assert!(pace.is_catching_up());
        pace
    }

    #[test]
    fn a_backlog_that_comes_row_by_row_is_read_with_pauses() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let first = pauses(&mut pace, &mut now, 334, ROW, 30 * MICROSECOND);
        assert_eq!(first.iter().filter(|pause| **pause).count(), 1, "at the end of the first window");
        let later = pauses(&mut pace, &mut now, 100, (30, 12_000), PAUSE + 60 * MICROSECOND);
        assert_eq!(later, [true; 100]);
    }

    #[test]
    fn a_read_that_empties_a_full_socket_is_a_backlog_however_seldom_it_is() {
        for (records, bytes) in [(MANY, 12_000), (SOME, FULL)] {
            let mut now = Instant::now();
            let mut pace = Pace::new(now);
            pauses(&mut pace, &mut now, 1, (records, bytes), Duration::from_secs(1));
            assert!(pace.is_catching_up());
            // Not for longer than it takes to know better.
            pauses(&mut pace, &mut now, 1, ROW, WINDOW);
            assert!(!pace.is_catching_up());
        }
    }

    #[test]
    fn a_few_large_rows_are_no_backlog() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pauses(&mut pace, &mut now, 10, (SOME - 1, 10 * FULL), 30 * WINDOW), [false; 10]);
        assert!(!pace.is_catching_up());
    }

    #[test]
    fn ten_thousand_commits_a_second_that_come_in_groups_are_read_without_a_pause() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pauses(&mut pace, &mut now, 1_000, ROW, 100 * MICROSECOND), [false; 1_000]);
        assert_eq!(pauses(&mut pace, &mut now, 1_000, (50, 20_000), 5_000 * MICROSECOND), [false; 1_000]);
        assert!(!pace.is_catching_up());
    }

    #[test]
    fn rows_collect_while_kafka_is_busy_but_not_for_ever() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pauses(&mut pace, &mut now, 1, ROW, Duration::from_secs(1));
        assert_eq!(pace.collects(false, now), None);
        assert_eq!(pace.collects(true, now), Some(now + COLLECT));
        assert_eq!(pace.collects(true, now + COLLECT / 2), Some(now + COLLECT));
        assert_eq!(pace.collects(true, now + COLLECT), None);
    }

    #[test]
    fn a_backlog_does_not_wait_for_kafka() {
        let mut now = Instant::now();
        let pace = behind(&mut now);
        assert_eq!(pace.collects(true, now), None);
    }

    #[test]
    fn a_large_transaction_after_a_quiet_time_is_read_without_a_pause_at_first() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pauses(&mut pace, &mut now, 1, (90, 60_000), Duration::from_secs(1)), [false]);
        assert_eq!(pauses(&mut pace, &mut now, 3, (25, 10_000), 100 * MICROSECOND), [false; 3]);
    }

    #[test]
    fn the_pauses_end_with_the_backlog() {
        let mut now = Instant::now();
        let mut pace = behind(&mut now);
        assert_eq!(pauses(&mut pace, &mut now, 1, ROW, 2 * WINDOW), [false]);
        assert!(!pace.is_catching_up());
    }

    #[test]
    fn what_has_collected_already_is_read_at_once() {
        let mut now = Instant::now();
        let mut pace = behind(&mut now);
        assert_eq!(pauses(&mut pace, &mut now, 3, (160, FULL), 300 * MICROSECOND), [false; 3]);
        assert_eq!(pauses(&mut pace, &mut now, 1, (160, FULL - 1), 300 * MICROSECOND), [true]);
    }

    #[test]
    fn time_in_which_nothing_may_be_read_does_not_end_a_backlog() {
        let mut now = Instant::now();
        let mut pace = behind(&mut now);
        now += Duration::from_secs(1);
        pace.held(now);
        assert_eq!(pauses(&mut pace, &mut now, 1, ROW, 10 * MICROSECOND), [true]);
    }

    #[test]
    fn nothing_read_is_no_reason_for_a_pause() {
        let mut now = Instant::now();
        let mut pace = behind(&mut now);
        assert_eq!(pace.after(pace.received, now), None);
    }
}
