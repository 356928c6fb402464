//! The orderly stop: nothing new is read, what is in flight is waited for, and PostgreSQL hears the last position.

use std::time::{Duration, Instant};

use super::control_watch::Seen;
use super::{Error, Session, TICK};
use crate::clock;
use crate::kafka::Event;
use crate::status::State;

/// The server answers CopyDone at once; closing without its answer can lose the last status update.
const GOODBYE: Duration = Duration::from_secs(2);

impl Session<'_> {
    /// Waits for deliveries up to `delivery.drain_timeout`, sends the last status update, and closes the stream.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        self.status.enter(State::Draining);
        let deadline = clock::now().checked_add(self.config.delivery.drain_timeout);
        let in_time = self.drain(deadline).await?;
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
        let position = self.relay.position().lsn();
        if self.connection.finish(GOODBYE).await {
            tracing::info!(confirmed = %position, "stopped");
        } else {
            tracing::warn!(confirmed = %position, "stopped; PostgreSQL did not answer, and may send the last events again");
        }
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

    /// Waits until all is confirmed or PostgreSQL shuts down; false if that took longer than until `deadline`.
    async fn drain(&mut self, deadline: Option<Instant>) -> Result<bool, Error> {
        let mut events: Vec<Event> = Vec::new();
        while self.open() > 0 {
            let now = clock::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
            let due = self.feedback.due(self.relay.position()).min(self.tick);
            let due = deadline.map_or(due, |deadline| deadline.min(due));
            tokio::select! {
                biased;
                _ = self.outlet.wait(&mut events) => {}
                () = tokio::time::sleep_until(due.into()) => {}
                // Its walsender waits for us, as while we stream (`Session::seen`): for Kafka, which may not be there.
                seen = self.control.wait() => {
                    if matches!(seen, Seen::Gone(_)) {
                        break;
                    }
                }
                progress = self.connection.progress(false) => progress?,
            }
            self.reports(&mut events)?;
            let now = clock::now();
            // Nothing is read any more, so nothing can be heard.
            self.silence.observe(self.connection.bytes_received(), false, now);
            self.judge(now)?;
            self.send_feedback_if_due(now);
            if self.tick <= now {
                self.tick = now.checked_add(TICK).unwrap_or(now);
                self.show(now, State::Draining);
            }
        }
        Ok(true)
    }
}
