//! One replication session: the task in which all arrows meet.
//!
//! WAL comes from the [`Connection`], goes through the [`Relay`], and leaves by the [`Outlet`]; delivery reports come
//! back the same way and become status updates. There is one task, one `select!`, and no lock. Back-pressure is simply
//! not to read: while a record is held, the window is full, or an event is rejected, the socket is left alone, and
//! everything else goes on.

mod control_link;
mod control_watch;
mod error;
mod from_rows;
mod lost;
mod newcomers;
mod outlet;
mod reach;
mod rejected;
mod reports;
mod show;
#[cfg(test)]
mod simulation;
mod start;
mod stop;

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;

use crate::after_publish::{self, Cleaner, Origin, Reported};
use crate::clock;
use crate::config::Config;
use crate::disposition::Disposition;
use crate::feedback::Feedback;
use crate::findings::{self, Findings, Level, Wanted};
use crate::metrics::{Deliveries, End, Metrics};
use crate::outbox::TableError;
use crate::pace::Pace;
use crate::postgres::connection::{Connection, Frame};
use crate::postgres::conninfo::ConnInfo;
use crate::relay::{self, Relay, Step};
use crate::server_stop::ServerStop;
use crate::silence::Silence;
use crate::status::{State, Status};
use crate::wal::pgoutput::RelationId;
use crate::wal::{PgTimestamp, status_update};
use control_link::Looked;
use control_watch::{ControlWatch, Seen, Unresolved};
use from_rows::Rows;
use newcomers::Newcomers;
use rejected::Stopped;
use reports::{Failure, Trial};
use show::Told;
use start::Started;

pub use error::Error;
pub use outlet::Outlet;
pub(crate) use outlet::Refused;
pub use start::Known;

/// A session that streams.
pub struct Session<'a> {
    config: &'a Config,
    known: &'a mut Known,
    status: &'a Status,
    metrics: &'a Metrics,
    outlet: &'a mut Outlet,
    deliveries: Deliveries<'a>,
    connection: Connection,
    control: ControlWatch,
    newcomers: Newcomers,
    relay: Box<Relay>,
    feedback: Feedback,
    server_stop: ServerStop,
    silence: Silence,
    pace: Pace,
    /// The server's process that streams.
    walsender: Option<i32>,
    /// Where the rows come from, if not from the write-ahead log.
    rows: Option<Rows>,
    /// The outlet still has records of an earlier session: nothing is enqueued until they are reported, so that no old
    /// copy lands after its replay.
    settling: bool,
    /// The event that Kafka will never take. Nothing is read any more.
    rejected: Option<Stopped>,
    /// The suspect, or the dead letter, that is sent alone. Nothing is read meanwhile.
    trial: Option<Trial>,
    /// A delivery has failed: nothing is read until all others are reported.
    failure: Option<Failure>,
    /// A row of a table that is being looked up; it is taken in again after the answer.
    unresolved: Option<Bytes>,
    /// Since when Kafka has owed a report, while it owes one.
    owed_since: Instant,
    tick: Instant,
    /// Bytes received until the last tick.
    ticked: u64,
    /// Whose write-ahead log it is, if it is that.
    origin: Option<Origin>,
    /// What deletes or marks published rows, if anything does.
    cleaner: Option<Cleaner>,
    told: Told,
}

/// Metrics and state are brought up to date this often, and less often while nothing at all happens.
const TICK: Duration = Duration::from_secs(1);

impl<'a> Session<'a> {
    /// Connects, takes the slot and starts the stream. May be dropped at any time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(
        config: &'a Config,
        info: &ConnInfo,
        known: &'a mut Known,
        outlet: &'a mut Outlet,
        status: &'a Status,
        metrics: &'a Metrics,
    ) -> Result<Self, Error> {
        let started = start::start(config, info, known, outlet, status).await?;
        Ok(Self::new(config, started, known, outlet, status, metrics))
    }

    /// A session whose stream has begun.
    fn new(
        config: &'a Config,
        started: Started,
        known: &'a mut Known,
        outlet: &'a mut Outlet,
        status: &'a Status,
        metrics: &'a Metrics,
    ) -> Self {
        let now = clock::now();
        let newcomers = Newcomers::new(started.subjects.version_num);
        let sweep = |origin| Cleaner::start(config, &started.server, &started.subjects.outboxes, origin);
        let cleaner = started.origin.and_then(sweep);
        let silence = Silence::new(now, started.wal_sender_timeout);
        let server = started.connection.host().to_string();
        status.progress(|progress| progress.server = Some(server));
        Self {
            settling: outlet.unreported() > 0,
            config,
            known,
            status,
            metrics,
            outlet,
            deliveries: metrics.deliveries(),
            connection: started.connection,
            control: ControlWatch::new(
                started.control,
                started.server,
                started.subjects,
                silence.patience(),
                now,
            ),
            newcomers,
            relay: started.relay,
            feedback: match started.rows {
                Some(_) => Feedback::new(now, started.wal_sender_timeout).eager(),
                None => Feedback::new(now, started.wal_sender_timeout),
            },
            server_stop: ServerStop::default(),
            silence,
            pace: Pace::new(now),
            walsender: started.walsender,
            rows: started.rows,
            rejected: None,
            trial: None,
            failure: None,
            unresolved: None,
            owed_since: now,
            tick: now,
            ticked: 0,
            origin: started.origin,
            cleaner,
            told: Told::default(),
        }
    }

    /// Streams until `shutdown` becomes true, then drains and says goodbye.
    ///
    /// # Errors
    /// If the session ends for any other reason. What is in flight then stays in the outlet.
    pub async fn run(mut self, shutdown: &mut watch::Receiver<bool>) -> Result<(), Error> {
        let ended = self.stream(shutdown).await;
        self.outlet.release();
        let (metrics, rejected) = (self.metrics, self.rejected.is_some());
        let ended = match ended {
            Ok(()) => self.stop().await,
            Err(error) => {
                // What came after the last tick.
                self.show_progress();
                match &error {
                    Error::StreamEnded | Error::Backfilled => self.answer_goodbye().await,
                    _ if error.disposition() == Disposition::Stop => self.end_at(&error).await,
                    _ => {}
                }
                Err(error)
            }
        };
        metrics.session_ended(match &ended {
            _ if rejected => End::Rejected,
            Ok(()) => End::Stopped,
            Err(error) => error.end(),
        });
        ended
    }

    /// The loop. Its arms, by priority: the order to stop; delivery reports and held records; feedback and the tick;
    /// what the catalog says; the socket, which is read only while there is room.
    async fn stream(&mut self, shutdown: &mut watch::Receiver<bool>) -> Result<(), Error> {
        let mut events = Vec::new();
        loop {
            let collects = self.pace.collects(self.outlet.is_busy(), clock::now());
            let read = self.may_read() && collects.is_none();
            let due = self.feedback.due(self.relay.position()).min(self.tick);
            let due = collects.map_or(due, |until| until.min(due));
            let due = self.judgement_due().map_or(due, |judgement| judgement.min(due));
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                offered = self.outlet.wait(&mut events) => self.taken(offered)?,
                () = tokio::time::sleep_until(due.into()) => {}
                seen = self.control.wait() => self.seen(seen)?,
                limit = rejected::limit(&mut self.rejected) => self.limit_known(limit),
                progress = self.connection.progress(read) => progress?,
            }
            self.reports(&mut events)?;
            self.judge(clock::now())?;
            self.read_on()?;
            self.keep_time()?;
            self.keep_pace();
        }
    }

    /// With a backlog, lets rows collect before the next read; without, has librdkafka send what was read, unless Kafka is still
    /// busy with what it got before.
    fn keep_pace(&mut self) {
        let now = clock::now();
        if !self.may_read() {
            return self.pace.held(now);
        }
        let pause = self.pace.after(self.connection.bytes_received(), now);
        if !self.pace.is_catching_up() && !self.outlet.is_busy() {
            self.outlet.hurry();
        }
        if let Some(pause) = pause {
            clock::pause(pause);
        }
    }

    fn may_read(&self) -> bool {
        !self.settling
            && self.rejected.is_none()
            && self.trial.is_none()
            && self.failure.is_none()
            && !self.outlet.is_recovering()
            && self.unresolved.is_none()
            && !self.outlet.is_holding()
            && self.relay.has_room()
    }

    /// Takes in what has been read, as far as there is room.
    fn read_on(&mut self) -> Result<(), Error> {
        while self.may_read() {
            match self.connection.next_frame()? {
                None => break,
                Some(Frame::CopyData(body)) => self.wal(body)?,
                Some(Frame::Notice(notice)) if notice.code == PREREQUISITE_STATE => {
                    return Err(findings::publication_skipped(&notice).into());
                }
                Some(Frame::Notice(notice)) => {
                    let text = notice.to_string();
                    if self.status.is_news(&text, clock::now()) {
                        tracing::warn!("PostgreSQL says: {text}");
                    }
                }
                Some(Frame::CopyDone | Frame::CommandComplete) => {
                    return Err(match self.rows {
                        Some(Rows::Backfill(_)) => Error::Backfilled,
                        Some(Rows::Polled) | None => Error::StreamEnded,
                    });
                }
            }
        }
        Ok(())
    }

    fn wal(&mut self, body: Bytes) -> Result<(), Error> {
        match self.relay.wal(body.clone()) {
            Ok(Step::Nothing) => Ok(()),
            Ok(Step::Record(record)) => {
                self.pace.record();
                self.produce(record)
            }
            Ok(Step::Rejected(rejection)) => {
                self.rejected(rejection);
                Ok(())
            }
            Ok(Step::DeadLetter(letter, rejection)) => self.bury(letter, &rejection),
            Ok(Step::Skipped(event_id)) => {
                self.skipped(&event_id);
                Ok(())
            }
            Ok(Step::Keepalive(keepalive)) => {
                if keepalive.reply_requested {
                    self.feedback.request();
                }
                if self.server_stop.keepalive(keepalive, self.relay.position()) {
                    return Err(Error::ServerStopping(
                        "it asks again and again for what Kafka has not confirmed",
                    ));
                }
                Ok(())
            }
            Err(relay::Error::Table(TableError::Unknown { id, table })) => {
                self.unresolved = Some(body);
                let xid = self.relay.xid().unwrap_or_default();
                self.control.resolve(Unresolved { xid, id, table });
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn seen(&mut self, seen: Seen) -> Result<(), Error> {
        match seen {
            Seen::Nothing => {}
            Seen::State(looked) => self.looked(looked)?,
            Seen::Unanswered => self.is_heard(clock::now())?,
            Seen::Elsewhere(id) => self.elsewhere(id)?,
            Seen::Gone(Unresolved { id, table, .. }) => {
                tracing::warn!(
                    "rows of table \"{table}\" are passed over: it was dropped meanwhile, and is none of outbox.tables"
                );
                self.elsewhere(id)?;
            }
            Seen::Ours(finding) => return Err(finding.into()),
            // Dead within a second of the server's shutdown, while the walsender waits for us. If nothing is open, it
            // does not wait, and this may be anything else.
            Seen::Lost(error) => {
                self.is_heard(clock::now())?;
                if !self.relay.is_settled() || !self.may_read() {
                    tracing::debug!("control connection: {error}");
                    return Err(Error::ServerStopping("the control connection ended while events were open"));
                }
            }
        }
        Ok(())
    }

    /// The unknown table is no outbox.
    fn elsewhere(&mut self, id: RelationId) -> Result<(), Error> {
        self.relay.elsewhere(id);
        match self.unresolved.take() {
            Some(body) => self.wal(body),
            None => Ok(()),
        }
    }

    /// What the catalog has now.
    fn looked(&mut self, Looked { publication, slot, dropped, newcomers }: Looked) -> Result<(), Error> {
        let now = clock::now();
        let doubted = self.control.take_doubt();
        for table in self.control.forget(&dropped) {
            tracing::info!("table \"{table}\" was dropped");
        }
        let mut found = Vec::new();
        if let Some(publication) = &publication {
            let name = &self.config.postgres.publication;
            let (published, problems) = self.newcomers.seen(newcomers, publication, name, now);
            for outbox in &published {
                tracing::info!("table \"{}\" is relayed, too", outbox.table.name);
            }
            let more = !published.is_empty();
            self.control.add(published);
            if more {
                self.sweep_anew();
            }
            found = problems;
        }
        let outboxes: Vec<_> = self.control.outboxes().iter().collect();
        let wanted = Wanted::new(self.config, self.control.server());
        let judged = findings::publication(publication.as_ref(), &outboxes, &dropped, &wanted);
        if !doubted && judged.iter().any(|finding| finding.level != Level::Warn) {
            // What there is to say of newcomers is said once.
            self.known.warn(Findings(found).accept()?);
            self.control.doubt(now);
            return Ok(());
        }
        found.extend(judged);
        found.extend(self.known.publication_seen(publication, &outboxes, self.config));
        self.known.warn(Findings(found).accept()?);
        self.status.slot_seen(slot.as_deref(), now);
        self.streams(slot.as_deref(), now)
    }

    /// There are more tables. A sweep knows nothing that another one does not find out.
    fn sweep_anew(&mut self) {
        self.show_progress();
        self.told.cleaning = after_publish::Told::default();
        let (server, outboxes) = (self.control.server(), self.control.outboxes());
        self.cleaner = self.origin.and_then(|origin| Cleaner::start(self.config, server, outboxes, origin));
    }

    /// Feedback and the tick, if they are due.
    fn keep_time(&mut self) -> Result<(), Error> {
        let now = clock::now();
        self.silence.observe(self.connection.bytes_received(), self.may_read(), now);
        self.send_feedback_if_due(now);
        let news = self.block(now).is_some() != self.told.blocked.is_some();
        let received = self.connection.bytes_received();
        let pause = if received == self.ticked && self.rests() { self.silence.patience() / 2 } else { TICK };
        let next = now.checked_add(pause.max(TICK)).unwrap_or(now);
        let due = self.tick <= now || news;
        self.tick = if due { next } else { self.tick.min(next) };
        if due {
            self.ticked = received;
            self.control.look_if_due(now, &self.config.postgres.slot, self.silence.unanswered(now).is_some());
            self.outlet.tick();
            self.show(now, State::Streaming);
        }
        Ok(())
    }

    /// Nothing is open, and nobody owes an answer.
    fn rests(&self) -> bool {
        self.may_read()
            && self.outlet.unreported() == 0
            && self.told.blocked.is_none()
            && !self.silence.is_waiting()
    }

    /// A server that does not read gets one update; further ones would pile up.
    fn send_feedback_if_due(&mut self, now: Instant) {
        if self.feedback.due(self.relay.position()) > now && !self.silence.wants_reply(now) {
            return;
        }
        if self.connection.has_pending_output() {
            self.feedback.postpone(now);
            if self.silence.wants_reply(now) {
                self.silence.asked(now);
            }
        } else {
            self.send_feedback(now);
        }
    }

    fn send_feedback(&mut self, now: Instant) {
        let confirmed = self.relay.position();
        let reply = self.silence.wants_reply(now);
        self.connection.queue_copy_data(&status_update(confirmed, pg_time(SystemTime::now()), reply));
        self.feedback.sent(now, confirmed);
        self.outlet.suspects.forget_before(confirmed);
        if reply {
            self.silence.asked(now);
        }
        let transactions = self.relay.ack().transactions_confirmed();
        self.metrics.transactions_confirmed.inc_by(transactions.saturating_sub(self.told.transactions));
        self.told.transactions = transactions;
        self.show_progress();
        if let Some(cleaner) = &self.cleaner {
            let catching_up = self.pace.is_catching_up();
            cleaner.reported(Reported {
                position: confirmed.lsn(),
                delivered: self.told.events,
                catching_up,
            });
        }
    }
}

/// SQLSTATE `object_not_in_prerequisite_state`: how PostgreSQL 18 says "skipped loading publication".
const PREREQUISITE_STATE: &str = "55000";

/// A time of the wall clock as PostgreSQL counts it.
fn pg_time(time: SystemTime) -> PgTimestamp {
    let unix = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    PgTimestamp::from_unix_micros(i64::try_from(unix.as_micros()).unwrap_or(i64::MAX))
}

/// Seconds from a commit until `now`; 0 if the server's clock is ahead of ours.
fn age(committed: PgTimestamp, now: SystemTime) -> f64 {
    let micros = pg_time(now).as_micros().saturating_sub(committed.as_micros()).max(0);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}
