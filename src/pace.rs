//! How long to leave the socket alone after a read, while there is much to catch up with.
//!
//! The walsender makes one `send` a row. A reader that waits for the next row is woken for each, and both pay for the
//! wake-up; one that lets rows collect reads a third to a half more of them a second, with a fraction of the CPU
//! (docs/performance.md). With little to read there is no pause at all: it would be nothing but delay.

use std::time::{Duration, Instant};

/// Decides by how fast records came of late. Time is an argument.
#[derive(Debug)]
pub struct Pace {
    received: u64,
    /// Records since `since`.
    records: u32,
    since: Instant,
    catching_up: bool,
}

/// Long enough for some tens of rows; the buffer of a unix socket has room for about two hundred.
const PAUSE: Duration = Duration::from_micros(200);

/// The rate is judged when at least so much time has passed: long enough for chance to even out.
const WINDOW: Duration = Duration::from_millis(2);

/// So many records in a window, 12,000 a second, are a backlog, or as good as one. Read one by one, a backlog does not come
/// much faster on a busy machine.
const BACKLOG: u32 = 24;

/// A read that brought so much, in bytes, has left more behind, and the walsender may already be waiting for us.
const FULL: u64 = 64 * 1024;

impl Pace {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { received: 0, records: 0, since: now, catching_up: false }
    }

    /// A record came out of what was read.
    pub fn record(&mut self) {
        self.records = self.records.saturating_add(1);
    }

    /// The pause before the next read, when `received` bytes have come in all; `None`: read on.
    pub fn after(&mut self, received: u64, now: Instant) -> Option<Duration> {
        let read = received.saturating_sub(self.received);
        if read == 0 {
            return None;
        }
        self.received = received;
        let took = now.saturating_duration_since(self.since);
        if took >= WINDOW {
            let windows = u32::try_from(took.as_micros().div_euclid(WINDOW.as_micros())).unwrap_or(u32::MAX);
            self.catching_up = self.records >= BACKLOG.saturating_mul(windows);
            self.records = 0;
            self.since = now;
        }
        (self.catching_up && read < FULL).then_some(PAUSE)
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
        pauses(&mut pace, now, 50, ROW, 50 * MICROSECOND);
        assert!(pace.is_catching_up());
        pace
    }

    #[test]
    fn a_backlog_that_comes_row_by_row_is_read_with_pauses() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let first = pauses(&mut pace, &mut now, 40, ROW, 50 * MICROSECOND);
        assert_eq!(first.iter().filter(|pause| **pause).count(), 1, "at the end of the first window");
        let later = pauses(&mut pace, &mut now, 100, (30, 12_000), PAUSE + 60 * MICROSECOND);
        assert_eq!(later, [true; 100]);
    }

    #[test]
    fn five_thousand_commits_a_second_are_read_without_a_pause() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pauses(&mut pace, &mut now, 1_000, ROW, 200 * MICROSECOND), [false; 1_000]);
        assert_eq!(pauses(&mut pace, &mut now, 1_000, (5, 2_000), 1_000 * MICROSECOND), [false; 1_000]);
        assert!(!pace.is_catching_up());
    }

    #[test]
    fn a_large_transaction_after_a_quiet_time_is_read_without_a_pause_at_first() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pauses(&mut pace, &mut now, 1, (150, 60_000), Duration::from_secs(1)), [false]);
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
