//! The orderly stop: nothing new is read, what is in flight is waited for, and PostgreSQL hears the last position.

use std::time::{Duration, Instant};

use super::control_watch::Seen;
use super::{Error, Session, TICK};
use crate::clock;
use crate::kafka::Event;
use crate::status::State;

/// The server answers CopyDone at once; closing without its answer can lose the last status update.
const GOODBYE: Duration = Duration::from_secs(2);

/// Pause before a slot is tried again that a walsender is about to release.
const RELEASE: Duration = Duration::from_millis(20);

/// SQLSTATE `object_in_use`.
const OBJECT_IN_USE: &str = "55006";

impl Session<'_> {
    /// Waits for deliveries up to `delivery.drain_timeout`, sends the last status update, and closes the stream.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        self.status.enter(State::Draining);
        let deadline = clock::now().checked_add(self.config.delivery.drain_timeout);
        let in_time = self.drain(deadline, true).await?;
        let open = self.open();
        if open > 0 {
            let when = if in_time {
                "before PostgreSQL shut down".to_owned()
            } else {
                format!("within {}", humantime::format_duration(self.config.delivery.drain_timeout))
            };
            tracing::warn!(
                "not confirmed {when}: {open} of the events that were sent; the next start sends them again"
            );
        }
        let now = clock::now();
        self.send_feedback(now);
        self.show(now, State::Draining);
        self.connection.queue_copy_done();
        let (position, answered) = (self.relay.position().lsn(), self.connection.finish(GOODBYE).await);
        match (&self.rows, answered) {
            (None, true) => tracing::info!(confirmed = %position, "stopped"),
            (None, false) => {
                tracing::warn!(confirmed = %position, "stopped; PostgreSQL did not answer, and may send the last events again");
            }
            // Rows that come by a query have no position.
            (Some(_), true) => tracing::info!("stopped"),
            (Some(_), false) => {
                tracing::warn!("stopped; PostgreSQL did not answer, and the last rows may be sent again")
            }
        }
        Ok(())
    }

    /// The end at something that somebody has to change: what came before it is delivered and confirmed all the same, so that
    /// no start after this one sends it again. Whatever fails on the way is less than what the session ends with.
    pub(super) async fn end_at(mut self, error: &Error) {
        if matches!(error, Error::Kafka(_)) {
            // Nothing is delivered any more.
            return;
        }
        let open = self.open();
        if open > 0 {
            tracing::warn!("stopping, once Kafka has {open} events that came before: {}", error.line());
        }
        let unconfirmed = match error {
            Error::Postgres(_) => self.confirm_by_sql().await,
            _ => self.stop().await,
        };
        if let Err(error) = unconfirmed {
            tracing::warn!("what was sent may not be confirmed, and is then sent again: {error}");
        }
    }

    /// The stop without a stream: the server has ended it with an error, and does not hold the slot any more.
    async fn confirm_by_sql(&mut self) -> Result<(), Error> {
        self.status.enter(State::Draining);
        let deadline = clock::now().checked_add(self.config.delivery.drain_timeout);
        self.drain(deadline, false).await?;
        let confirmed = self.relay.position();
        let deadline = clock::now() + GOODBYE;
        loop {
            match self.control.confirm(&self.config.postgres.slot, confirmed).await {
                // The walsender gives the slot back right after it has said what is wrong.
                Err(error) if error.server().is_some_and(|error| error.code == OBJECT_IN_USE) => {
                    if clock::now() > deadline {
                        return Err(error.into());
                    }
                    tokio::time::sleep(RELEASE).await;
                }
                confirmed => break confirmed?,
            }
        }
        tracing::info!(confirmed = %confirmed.lsn(), "stopped");
        Ok(())
    }

    /// Records of this session that Kafka has and has not reported on. One that was held, or rejected, is none of them.
    fn open(&self) -> usize {
        if self.settling { 0 } else { self.outlet.unreported() }
    }

    /// The server has ended the stream: it may still wait for our CopyDone.
    pub(super) async fn answer_goodbye(mut self) {
        self.connection.queue_copy_done();
        self.connection.finish(GOODBYE).await;
    }

    /// Waits until all is confirmed or PostgreSQL shuts down, and gives feedback meanwhile if there still is a stream. False if
    /// that took longer than until `deadline`.
    async fn drain(&mut self, deadline: Option<Instant>, streams: bool) -> Result<bool, Error> {
        let mut events: Vec<Event> = Vec::new();
        while self.open() > 0 {
            let now = clock::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
            let due =
                if streams { self.feedback.due(self.relay.position()).min(self.tick) } else { self.tick };
            let due = deadline.map_or(due, |deadline| deadline.min(due));
            tokio::select! {
                biased;
                _ = self.outlet.wait(&mut events) => {}
                () = tokio::time::sleep_until(due.into()) => {}
                // Its walsender waits for us, as while we stream (`Session::seen`): for Kafka, which may not be there.
                seen = self.control.wait() => {
                    if matches!(seen, Seen::Lost(_)) {
                        break;
                    }
                }
                progress = self.connection.progress(false), if streams => progress?,
            }
            self.reports(&mut events)?;
            let now = clock::now();
            // Nothing is read any more, so nothing can be heard.
            self.silence.observe(self.connection.bytes_received(), false, now);
            self.judge(now)?;
            if streams {
                self.send_feedback_if_due(now);
            }
            if self.tick <= now {
                self.tick = now.checked_add(TICK).unwrap_or(now);
                self.show(now, State::Draining);
            }
        }
        Ok(true)
    }
}
