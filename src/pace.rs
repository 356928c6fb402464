//! How long to leave the socket alone after a read, while there is much to catch up with.
//!
//! The walsender makes one `send` a row. A reader that waits for the next row is woken for each, and both pay for the
//! wake-up; one that lets rows collect reads a third to a half more of them a second, with a fraction of the CPU
//! (docs/performance.md). With little to read there is no pause at all: it would be nothing but delay.

use std::time::{Duration, Instant};

/// Decides on pauses by what the last reads returned. Time is an argument.
#[derive(Debug)]
pub struct Pace {
    received: u64,
    /// Reads since `since`, which were made without a pause.
    reads: u32,
    since: Instant,
    pausing: bool,
}

/// Long enough for some tens of rows; the buffer of a unix socket has room for about two hundred.
const PAUSE: Duration = Duration::from_micros(200);

/// So many reads, in so short a time, are a backlog that comes row by row. Commits of one row would have to come 16,000 times a
/// second to look the same.
const READS: u32 = 16;
const WITHIN: Duration = Duration::from_millis(1);

/// What a read after a pause must have brought, in bytes, to be worth another pause.
const WORTH: u64 = 2 * 1024;

/// A read that brought so much, in bytes, has left more behind, and the walsender may already be waiting for us.
const FULL: u64 = 64 * 1024;

impl Pace {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { received: 0, reads: 0, since: now, pausing: false }
    }

    /// The pause before the next read, when `received` bytes have come in all; `None`: read on.
    pub fn after(&mut self, received: u64, now: Instant) -> Option<Duration> {
        let read = received.saturating_sub(self.received);
        if read == 0 {
            return None;
        }
        self.received = received;
        self.reads = self.reads.saturating_add(1);
        if self.pausing {
            self.pausing = read >= WORTH;
            self.start_counting(now);
        } else if self.reads == READS {
            self.pausing = now.saturating_duration_since(self.since) <= WITHIN;
            self.start_counting(now);
        }
        (self.pausing && read < FULL).then_some(PAUSE)
    }

    fn start_counting(&mut self, now: Instant) {
        self.reads = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads of `bytes` every `interval`: the pauses between them.
    fn pauses(pace: &mut Pace, now: &mut Instant, reads: u32, bytes: u64, interval: Duration) -> Vec<bool> {
        let mut received = pace.received;
        (0..reads)
            .map(|_| {
                *now += interval;
                received += bytes;
                pace.after(received, *now).is_some()
            })
            .collect()
    }

    #[test]
    fn a_backlog_that_comes_row_by_row_is_read_with_pauses() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let first = pauses(&mut pace, &mut now, READS, 400, Duration::from_micros(10));
        assert_eq!(first.iter().filter(|pause| **pause).count(), 1, "after the last");
        assert_eq!(pauses(&mut pace, &mut now, 100, 12_000, PAUSE), [true; 100]);
    }

    #[test]
    fn five_thousand_commits_a_second_are_read_without_a_pause() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pauses(&mut pace, &mut now, 1_000, 600, Duration::from_micros(200)), [false; 1_000]);
    }

    #[test]
    fn the_pauses_end_with_the_backlog() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pauses(&mut pace, &mut now, READS, 400, Duration::from_micros(10));
        assert_eq!(pauses(&mut pace, &mut now, 2, 600, PAUSE), [false; 2]);
    }

    #[test]
    fn what_has_collected_already_is_read_at_once() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pauses(&mut pace, &mut now, READS, 400, Duration::from_micros(10));
        assert_eq!(pauses(&mut pace, &mut now, 3, FULL, Duration::from_micros(10)), [false; 3]);
        assert_eq!(pauses(&mut pace, &mut now, 1, FULL - 1, Duration::from_micros(10)), [true]);
    }

    #[test]
    fn nothing_read_is_no_reason_for_a_pause() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        pauses(&mut pace, &mut now, READS, 400, Duration::from_micros(10));
        assert_eq!(pace.after(pace.received, now), None);
    }
}
