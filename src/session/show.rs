//! What people see of a session: metrics, state, and what is said in the log. Nothing is said faster than every 30 s.

use std::time::{Duration, Instant, SystemTime};

use super::{Session, age};
use crate::metrics::position;
use crate::relay::Tally;
use crate::status::{On, REMINDER, State};

/// What was already counted or said.
#[derive(Default)]
pub(super) struct Told {
    pub(super) tally: Tally,
    pub(super) transactions: u64,
    pub(super) blocked: Option<ToldBlock>,
}

/// What keeps events from moving, as it was shown last.
#[derive(Clone, Copy)]
pub(super) struct ToldBlock {
    on: On,
    since: Instant,
    warned: Option<Instant>,
}

/// Records in flight and no report for this long: Kafka does not answer.
const KAFKA_SILENCE: Duration = Duration::from_secs(5);

/// What passes sooner is not worth a warning: a producer that has just been made has no connection yet.
const WORTH_A_WARNING: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Brings metrics and state up to date.
    pub(super) fn show(&mut self, now: Instant, state: State) {
        let in_flight = self.relay.in_flight();
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.in_flight_records.set(gauge(in_flight.records()));
        self.metrics.in_flight_bytes.set(gauge(in_flight.bytes()));
        self.metrics.received_lsn.set(position(self.relay.ack().received()));
        let oldest = self.relay.ack().oldest_unconfirmed();
        self.metrics
            .oldest_unconfirmed_age
            .set(oldest.map_or(0.0, |committed| age(committed, SystemTime::now())));
        self.show_tally();
        match self.blocked(now) {
            Some((on, reason)) => self.show_block(now, on, &reason),
            None => {
                if let Some(ToldBlock { on, warned: Some(_), .. }) = self.told.blocked.take() {
                    tracing::info!(on = on.as_str(), "events move again");
                }
                self.status.enter(state);
            }
        }
    }

    fn show_block(&mut self, now: Instant, on: On, reason: &str) {
        let before = self.told.blocked.filter(|told| told.on == on);
        let mut told = before.unwrap_or(ToldBlock { on, since: now, warned: None });
        let again = told.warned.is_none_or(|warned| now.saturating_duration_since(warned) >= REMINDER);
        if again && now.saturating_duration_since(told.since) >= WORTH_A_WARNING {
            tracing::warn!(on = on.as_str(), "events do not move: {reason}");
            told.warned = Some(now);
        }
        self.told.blocked = Some(told);
        self.status.block(State::Blocked, on, reason, now);
    }

    fn blocked(&self, now: Instant) -> Option<(On, String)> {
        if let Some(rejection) = &self.rejected {
            return Some((On::Event, rejection.to_string()));
        }
        let silent =
            self.outlet.unreported() > 0 && now.saturating_duration_since(self.owed_since) >= KAFKA_SILENCE;
        let silence =
            || (On::Kafka, format!("{} records wait for Kafka's confirmation", self.outlet.unreported()));
        self.outlet.blocked().or_else(|| silent.then(silence))
    }

    fn show_tally(&mut self) {
        let (now, before) = (self.relay.tally(), self.told.tally);
        // That the publication sends them was warned of at the start (`findings::publication`).
        for (operation, now, before) in [
            ("update", now.updates, before.updates),
            ("delete", now.deletes, before.deletes),
            ("truncate", now.truncates, before.truncates),
        ] {
            if now > before {
                self.metrics.ignored(operation, now.saturating_sub(before));
            }
        }
        for (reason, now, before) in [
            ("null", now.timestamps_null, before.timestamps_null),
            ("out_of_range", now.timestamps_out_of_range, before.timestamps_out_of_range),
            ("ahead", now.timestamps_ahead, before.timestamps_ahead),
        ] {
            if now > before {
                self.metrics.timestamps_replaced(reason, now.saturating_sub(before));
            }
            if now > 0 && before == 0 {
                tracing::warn!(
                    reason,
                    "an event's timestamp column could not be used: its record has the commit time"
                );
            }
        }
        self.told.tally = now;
    }
}
