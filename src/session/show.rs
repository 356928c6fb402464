//! What people see of a session: metrics, state, and what is said in the log. Nothing is said faster than every 30 s.

use std::time::{Duration, Instant, SystemTime};

use super::Session;
use super::from_rows::Rows;
use crate::after_publish::{self, Cleaner};
use crate::clock;
use crate::outbox::TableName;
use crate::relay::Tally;
use crate::status::{On, State};
use crate::wal::PgTimestamp;

/// What was already counted or said.
#[derive(Default)]
pub(super) struct Told {
    pub(super) tally: Tally,
    pub(super) transactions: u64,
    /// Deliveries that the status does not know of yet.
    pub(super) delivered: u64,
    /// Deliveries that it knows of.
    pub(super) events: u64,
    /// What has become of published rows.
    pub(super) cleaning: after_publish::Told,
    pub(super) last_delivery: Option<Instant>,
    pub(super) blocked: Option<ToldBlock>,
}

/// What keeps events from moving, as it was shown last.
#[derive(Clone, Copy)]
pub(super) struct ToldBlock {
    on: On,
    since: Instant,
    /// Whether the log says so, and should say when it is over.
    warned: bool,
}

/// What can keep events from moving.
pub(super) enum Block<'a> {
    /// An event that Kafka will never take.
    Event(&'a str),
    /// PostgreSQL does not answer.
    Silence,
    /// A row came of a table that is being looked up.
    Table(&'a TableName),
    /// A topic or a broker is missing: the outlet knows.
    Outlet,
    /// Kafka owes reports.
    Reports,
}

/// Records in flight and no report for this long: Kafka does not answer.
const KAFKA_SILENCE: Duration = Duration::from_secs(5);

/// What passes sooner is not worth a warning: a producer that has just been made has no connection yet.
const WORTH_A_WARNING: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Brings metrics and state up to date.
    pub(super) fn show(&mut self, now: Instant, state: State) {
        self.show_progress();
        match self.block(now).map(|block| self.in_words(&block)) {
            Some((on, reason)) => {
                self.warn_of_block(now, on, &reason);
                // Who stops goes on stopping, whatever is in its way.
                let state = if state == State::Draining { state } else { State::Blocked };
                self.status.block(state, on, &reason, now);
            }
            None => {
                if let Some(ToldBlock { on, warned: true, .. }) = self.told.blocked.take()
                    && state == State::Streaming
                {
                    tracing::info!(on = on.as_str(), "events move again");
                }
                self.status.enter(state);
            }
        }
    }

    /// How far the session has come; the last time, when it has ended.
    pub(super) fn show_progress(&mut self) {
        let in_flight = self.relay.in_flight();
        let ack = self.relay.ack();
        let delivered = std::mem::take(&mut self.told.delivered);
        self.status.progress(|progress| {
            if self.rows.is_none() {
                // Together: their difference is watched as a lag.
                progress.received = ack.received();
                progress.confirmed = self.relay.position().lsn();
            }
            progress.in_flight_records = in_flight.records();
            progress.in_flight_bytes = in_flight.bytes();
            progress.oldest_unconfirmed = ack.oldest_unconfirmed().and_then(system_time);
            progress.delivered = progress.delivered.saturating_add(delivered);
            progress.last_delivery = self.told.last_delivery.or(progress.last_delivery);
            progress.backfill = match &self.rows {
                Some(Rows::Backfill(backfill)) => Some(*backfill.borrow()),
                Some(Rows::Polled) | None => None,
            };
        });
        self.told.events = self.told.events.saturating_add(delivered);
        self.show_cleaning();
        self.show_tally();
    }

    /// What has become of published rows. Its failure is nobody's but its own: it is told, and events go on.
    fn show_cleaning(&mut self) {
        let Some(now) = self.cleaner.as_ref().map(Cleaner::told).filter(|now| *now != self.told.cleaning)
        else {
            return;
        };
        let changed = now.changed.saturating_sub(self.told.cleaning.changed);
        self.metrics.cleaned(self.config.after_publish.action, changed);
        match (&now.error, &self.told.cleaning.error) {
            (Some(error), before) if before.as_ref() != Some(error) => {
                tracing::warn!("published rows stay for now, and are tried again: {error}");
            }
            (None, Some(_)) => tracing::info!("published rows are cleaned up again"),
            _ => {}
        }
        self.status.progress(|progress| {
            progress.cleaned = progress.cleaned.saturating_add(changed);
            progress.cleaning_error.clone_from(&now.error);
        });
        self.told.cleaning = now;
    }

    fn warn_of_block(&mut self, now: Instant, on: On, reason: &str) {
        let before = self.told.blocked.filter(|told| told.on == on);
        let mut told = before.unwrap_or(ToldBlock { on, since: now, warned: false });
        if now.saturating_duration_since(told.since) >= WORTH_A_WARNING
            && self.status.is_news(&format!("blocked on {}", on.as_str()), now)
        {
            tracing::warn!(on = on.as_str(), "events do not move: {reason}");
            told.warned = true;
        }
        self.told.blocked = Some(told);
    }

    /// What keeps events from moving, if anything does.
    pub(super) fn block(&self, now: Instant) -> Option<Block<'_>> {
        if let Some(stopped) = &self.rejected {
            return Some(Block::Event(&stopped.text));
        }
        if self.silence.unanswered(now).is_some() {
            return Some(Block::Silence);
        }
        if let Some((table, since)) = self.control.unresolved()
            && now.saturating_duration_since(since) >= WORTH_A_WARNING
        {
            return Some(Block::Table(table));
        }
        if self.outlet.is_blocked() {
            return Some(Block::Outlet);
        }
        let owed = now.saturating_duration_since(self.owed_since);
        (self.outlet.unreported() > 0 && owed >= KAFKA_SILENCE).then_some(Block::Reports)
    }

    fn in_words(&self, block: &Block<'_>) -> (On, String) {
        match block {
            Block::Event(text) => (On::Event, (*text).to_owned()),
            Block::Silence => (
                On::Postgres,
                "PostgreSQL does not answer a request for a reply: it is frozen or cut off, or busy decoding a large \
                 transaction"
                    .to_owned(),
            ),
            Block::Table(table) => (
                On::Postgres,
                format!("a row of table \"{table}\" came, which is not configured, and PostgreSQL does not say what it is"),
            ),
            Block::Outlet => self.outlet.blocked().unwrap_or_else(|| (On::Kafka, String::new())),
            Block::Reports => {
                let waiting = match self.outlet.unreported() {
                    1 => "1 record waits".to_owned(),
                    many => format!("{many} records wait"),
                };
                (On::Kafka, format!("{waiting} for Kafka's confirmation"))
            }
        }
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
            if now > 0 && before == 0 && self.status.is_news(&format!("timestamp {reason}"), clock::now()) {
                tracing::warn!(
                    reason,
                    "an event's timestamp column could not be used: its record has the commit time"
                );
            }
        }
        self.told.tally = now;
    }
}

/// A commit's time on the wall clock; `None` before 1970.
fn system_time(committed: PgTimestamp) -> Option<SystemTime> {
    let micros = u64::try_from(committed.unix_micros()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))
}
