//! Telling that PostgreSQL does not answer, although its connection is open.
//!
//! A server that was frozen, or a proxy that swallows what it is given, ends no connection. So when nothing has come for
//! a while, a status update asks for a reply; a server that is well sends a keepalive at once. Only a relay that reads can
//! hear: while it does not, for lack of room, nothing is concluded.
//!
//! Silence alone ends no session: a walsender that works through a large transaction of other tables answers nobody for
//! minutes, and would have to begin anew for each try. The control connection tells the difference.

use std::time::{Duration, Instant};

/// Watches what arrives on one replication connection. Time is an argument.
#[derive(Debug)]
pub struct Silence {
    /// How long nothing may arrive before a reply is asked for, and then how long the reply may take.
    patience: Duration,
    received: u64,
    heard: Instant,
    asked: Option<Instant>,
}

/// Where the server has no `wal_sender_timeout`, its default is as good a measure of what is usual.
const USUAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Shorter than this is no silence: a server may be busy for a second.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Longer than this nobody should have to wait for the news.
const MOST_PATIENCE: Duration = Duration::from_secs(10);

impl Silence {
    /// Begins to listen. `wal_sender_timeout` is the server's, zero if it has none: a quarter of it is how long each side
    /// of the question may take, so that a silence is noticed before the server would give up on us.
    #[must_use]
    pub fn new(now: Instant, wal_sender_timeout: Duration) -> Self {
        let timeout = if wal_sender_timeout.is_zero() { USUAL_TIMEOUT } else { wal_sender_timeout };
        let patience = timeout.div_f64(4.0).clamp(LEAST_PATIENCE, MOST_PATIENCE);
        Self { patience, received: 0, heard: now, asked: None }
    }

    /// How long an answer may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// So many bytes have been `received` since the connection was made; `reading` tells whether more are looked for.
    pub fn observe(&mut self, received: u64, reading: bool, now: Instant) {
        if received != self.received || !reading {
            self.received = received;
            self.heard = now;
            self.asked = None;
        }
    }

    /// Whether the next status update should ask for a reply, now.
    #[must_use]
    pub fn wants_reply(&self, now: Instant) -> bool {
        self.asked.is_none() && now.saturating_duration_since(self.heard) >= self.patience
    }

    /// A status update that asks for a reply was sent, or waits for a server that does not even read.
    pub fn asked(&mut self, now: Instant) {
        self.asked = Some(now);
    }

    /// A reply was asked for, and nothing has come since.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// For how long nothing has come, if a reply was asked for and should have been here.
    #[must_use]
    pub fn unanswered(&self, now: Instant) -> Option<Duration> {
        let overdue = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) >= self.patience);
        overdue.then(|| now.saturating_duration_since(self.heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_server_that_answers_is_asked_again_and_never_silent() {
        let start = Instant::now();
        let mut silence = Silence::new(start, 20 * SECOND);
        for round in 1..10 {
            let now = start + round * 5 * SECOND;
            assert!(!silence.wants_reply(now - SECOND));
            assert!(silence.wants_reply(now));
            silence.asked(now);
            assert!(!silence.wants_reply(now));
            silence.observe(u64::from(round) * 18, true, now);
            assert_eq!(silence.unanswered(now), None);
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_silent_until_something_comes() {
        let start = Instant::now();
        let mut silence = Silence::new(start, 20 * SECOND);
        silence.observe(100, true, start);
        silence.asked(start + 5 * SECOND);
        silence.observe(100, true, start + 9 * SECOND);
        assert_eq!(silence.unanswered(start + 9 * SECOND), None);
        assert_eq!(silence.unanswered(start + 10 * SECOND), Some(10 * SECOND));
        // Part of a message is a sign of life.
        silence.observe(101, true, start + 11 * SECOND);
        assert_eq!(silence.unanswered(start + 11 * SECOND), None);
        assert!(!silence.wants_reply(start + 11 * SECOND));
    }

    #[test]
    fn who_does_not_read_hears_nothing_and_concludes_nothing() {
        let start = Instant::now();
        let mut silence = Silence::new(start, 20 * SECOND);
        silence.asked(start + 5 * SECOND);
        silence.observe(0, false, start + 60 * SECOND);
        assert_eq!(silence.unanswered(start + 60 * SECOND), None);
        assert!(!silence.wants_reply(start + 60 * SECOND));
    }

    #[test]
    fn patience_follows_the_server_within_reason() {
        let start = Instant::now();
        for (timeout, patience) in [(0, 10), (60, 10), (20, 5), (2, 1), (3600, 10)] {
            let silence = Silence::new(start, timeout * SECOND);
            assert_eq!(silence.patience(), patience * SECOND, "{timeout}");
            assert!(!silence.wants_reply(start + patience * SECOND - Duration::from_millis(1)), "{timeout}");
            assert!(silence.wants_reply(start + patience * SECOND), "{timeout}");
        }
    }
}
