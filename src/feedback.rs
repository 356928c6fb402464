//! When to send a status update.
//!
//! On change, but not more often than every 50 ms; at once when the server asks; and on a timer of its own, whether
//! anything moves or not: with `wal_sender_timeout = 0` the server never asks, and while it decodes a large transaction
//! it sends nothing for a long time. A keepalive that asks for nothing is not answered by itself: the server sends more
//! than a thousand a second when other tables are busy.

use std::time::{Duration, Instant};

use crate::ack::ConfirmedLsn;

/// The feedback timer. Time is an argument.
#[derive(Debug)]
pub struct Feedback {
    interval: Duration,
    on_change: Duration,
    sent_at: Instant,
    sent: Option<ConfirmedLsn>,
    requested: bool,
}

/// The shortest time between two updates that only tell a new position.
const ON_CHANGE: Duration = Duration::from_millis(50);

/// The same where an update costs nothing.
const EAGER: Duration = Duration::from_millis(2);

/// The longest time without an update, where the server allows a longer one.
const LONGEST: Duration = Duration::from_secs(10);

impl Feedback {
    /// Starts the timer. `wal_sender_timeout` is the server's; zero means that it has none. The interval is at most 60 %
    /// of it, so that one update may be late.
    #[must_use]
    pub fn new(now: Instant, wal_sender_timeout: Duration) -> Self {
        let interval =
            if wal_sender_timeout.is_zero() { LONGEST } else { LONGEST.min(wal_sender_timeout.mul_f64(0.6)) };
        Self { interval, on_change: ON_CHANGE, sent_at: now, sent: None, requested: false }
    }

    /// The same for who reads rows by a query: it does not write each update to disk, and waits for them to mark rows.
    #[must_use]
    pub fn eager(self) -> Self {
        Self { on_change: EAGER, ..self }
    }

    /// The server has asked for an update.
    pub fn request(&mut self) {
        self.requested = true;
    }

    /// When the next update is due, the position being `position`. A time that has passed means now.
    #[must_use]
    pub fn due(&self, position: ConfirmedLsn) -> Instant {
        let after = if self.requested {
            Duration::ZERO
        } else if self.sent == Some(position) {
            self.interval
        } else {
            self.on_change
        };
        self.sent_at.checked_add(after).unwrap_or(self.sent_at)
    }

    /// An update was due and could not be sent: the one before it still waits for the socket. It is due again soon.
    pub fn postpone(&mut self, now: Instant) {
        self.sent_at = now;
        self.sent = None;
        self.requested = false;
    }

    /// An update with `position` was sent.
    pub fn sent(&mut self, now: Instant, position: ConfirmedLsn) {
        self.sent_at = now;
        self.sent = Some(position);
        self.requested = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Ack;
    use crate::lsn::Lsn;

    fn at(lsn: u64) -> ConfirmedLsn {
        Ack::new(Lsn::new(lsn)).position()
    }

    #[test]
    fn a_new_position_waits_50_ms_at_most_and_an_old_one_for_the_timer() {
        let start = Instant::now();
        let mut feedback = Feedback::new(start, Duration::from_secs(10));
        assert_eq!(feedback.due(at(1)), start + ON_CHANGE);
        feedback.sent(start, at(1));
        assert_eq!(feedback.due(at(1)), start + Duration::from_secs(6));
        assert_eq!(feedback.due(at(2)), start + ON_CHANGE);
    }

    #[test]
    fn a_request_is_answered_at_once() {
        let start = Instant::now();
        let mut feedback = Feedback::new(start, Duration::ZERO);
        feedback.sent(start, at(1));
        feedback.request();
        assert_eq!(feedback.due(at(1)), start);
        feedback.sent(start, at(1));
        assert_eq!(feedback.due(at(1)), start + LONGEST);
    }

    #[test]
    fn an_update_that_could_not_be_sent_is_due_again_soon() {
        let start = Instant::now();
        let mut feedback = Feedback::new(start, Duration::ZERO);
        feedback.sent(start, at(1));
        feedback.request();
        feedback.postpone(start);
        assert_eq!(feedback.due(at(1)), start + ON_CHANGE);
    }

    /// Trap 4.14 of docs/traps.md: without a time-out the server never asks.
    #[test]
    fn the_interval_stays_within_the_servers_patience() {
        let start = Instant::now();
        for (timeout, interval) in [(4_000, 2_400), (60_000, 10_000), (0, 10_000)] {
            let mut feedback = Feedback::new(start, Duration::from_millis(timeout));
            feedback.sent(start, at(1));
            assert_eq!(feedback.due(at(1)), start + Duration::from_millis(interval));
        }
    }
}
