//! From nothing to a running stream: look at the server, take the slot, start replication.

use std::time::Duration;

use bytes::Bytes;

use super::control_link::ControlLink;
use super::control_watch::Subjects;
use super::error::Error;
use super::from_rows::{self, Rows};
use super::outlet::Outlet;
use crate::after_publish::Origin;
use crate::config::{Config, OnRejected};
use crate::findings::{self, Finding, Findings, Level, SLOT_IN_USE, Wanted};
use crate::lsn::Lsn;
use crate::postgres::connection::Connection;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control};
use crate::postgres::publication::Publication;
use crate::postgres::slot_wait;
use crate::postgres::survey::{Outbox, Survey};
use crate::relay::{Relay, Start};
use crate::rows::Numbers;
use crate::status::{On, STREAMING, State, Status};
use crate::wal::Timelines;
use crate::wal::pgoutput::RelationId;
use crate::{backfill, clock};

/// A stream that has begun.
pub(super) struct Started {
    pub(super) connection: Connection,
    pub(super) control: Box<dyn ControlLink>,
    /// How to reach the same server again.
    pub(super) server: ConnInfo,
    pub(super) relay: Box<Relay>,
    /// The outbox tables and the publication.
    pub(super) subjects: Subjects,
    pub(super) wal_sender_timeout: Duration,
    /// The server's process that streams.
    pub(super) walsender: Option<i32>,
    /// Where the rows come from, if not from the write-ahead log.
    pub(super) rows: Option<Rows>,
    /// Whose write-ahead log it is, if it is that.
    pub(super) origin: Option<Origin>,
}

/// What a process remembers from one session to the next.
#[derive(Debug, Default)]
pub struct Known {
    /// What its slot had confirmed when it was seen last. A slot that was there and is gone was dropped by somebody, with
    /// what it had not confirmed; making it anew would start over silently.
    confirmed: Option<Lsn>,
    /// The publication when it was looked at last.
    publication: Option<Publication>,
    /// Warnings that were given.
    warned: Vec<Finding>,
    /// The walsender of our last session, which may outlive the connection to it.
    walsender: Option<i32>,
    /// The rows that it has sent without a slot.
    pub(super) numbers: Numbers,
    /// The server's process of our last poller, which may outlive the connection to it.
    pub(super) poller: Option<i32>,
}

/// Another instance holds the slot, or PostgreSQL has not noticed yet that our last connection is gone.
pub(super) const SLOT_POLL: Duration = Duration::from_millis(500);

/// After this long it is not our own last connection that holds the slot.
const HELD_BY_ANOTHER: Duration = Duration::from_secs(5);

/// Starts to stream. Waits as a standby while the slot is in use, and for open transactions when it makes the slot.
pub(super) async fn start(
    config: &Config,
    info: &ConnInfo,
    known: &mut Known,
    outlet: &mut Outlet,
    status: &Status,
) -> Result<Started, Error> {
    if let Some(polling) = &config.polling {
        return from_rows::poll(config, polling, info, known, status).await;
    }
    let (control, server) = Control::connect(info).await?;
    let catalog = control.catalog();
    let slot_name = &config.postgres.slot;
    let mut doubted = false;
    let survey = loop {
        let publication = &config.postgres.publication;
        let survey =
            catalog.survey_for(&config.outbox, &config.after_publish, publication, slot_name).await?;
        let survey = catalog.with_shards(survey, &config.shard_parts()).await?;
        let found = findings::postgres(&Wanted::new(config, info), &survey, known.confirmed);
        // A migration that is committed meanwhile may have been seen by halves (`ControlWatch::doubt`).
        doubted = !doubted && found.iter().any(|finding| finding.level == Level::Stop);
        if doubted {
            continue;
        }
        let in_use = known.accepts(found, config, &survey)?;
        if let Some(slot) = &survey.slot {
            known.confirmed = slot.confirmed_flush;
        }
        let backfills = survey.slot.is_none() && config.postgres.backfill;
        let temporary = backfill::temporary(slot_name);
        let waits_for = match in_use {
            true => slot_name,
            // Another instance is at the backfill.
            false if backfills && catalog.slot(&temporary).await?.is_some() => &temporary,
            false => break survey,
        };
        await_slot(&catalog, waits_for, known.walsender, outlet, status).await?;
        // Meanwhile everything may have changed.
    };

    let mut connection = Connection::connect(&server).await.map_err(Error::Replication)?;
    if survey.slot.is_none() && config.postgres.backfill {
        return from_rows::backfill(config, known, connection, &catalog, server, survey, status).await;
    }
    let identity = connection.identify_system().await?;
    let timelines = timelines(&mut connection, identity.timeline, status).await?;
    if survey.slot.is_none() {
        create_slot(&mut connection, &catalog, slot_name, survey.server.in_recovery, status).await?;
    }
    let messages = config.outbox.message_prefix.is_some();
    connection.start_replication(slot_name, &[&config.postgres.publication], messages).await?;

    // Only now, as its owner: nobody else can move the slot any more.
    let slot = catalog.slot(slot_name).await?.unwrap_or_default();
    let confirmed_flush = slot.confirmed_flush.unwrap_or(Lsn::ZERO);
    known.walsender = slot.active_pid;
    known.confirmed = Some(confirmed_flush);
    if status.is_news(STREAMING, clock::now()) {
        tracing::info!(
            slot = slot_name.as_str(),
            publication = config.postgres.publication.as_str(),
            system = identity.system_id,
            timeline = identity.timeline,
            confirmed = %confirmed_flush,
            "streaming from {}", connection.host(),
        );
    }
    let wal_sender_timeout = survey.server.wal_sender_timeout;
    let subjects = Subjects::new(survey, config);
    let source = format!("{}/{slot_name}", identity.system_id);
    let relay = relay(config, subjects.ids(), Some(source), timelines, confirmed_flush);
    let (control, walsender) = (Box::new(control), slot.active_pid);
    let origin = Some(Origin { timeline: identity.timeline, walsender });
    Ok(Started {
        connection,
        control,
        server,
        relay,
        subjects,
        wal_sender_timeout,
        walsender,
        rows: None,
        origin,
    })
}

/// The heart of a session that has begun. `source` is the header, for rows that have a place in the write-ahead log.
pub(super) fn relay(
    config: &Config,
    outboxes: impl Iterator<Item = RelationId>,
    source: Option<String>,
    timelines: Timelines,
    confirmed_flush: Lsn,
) -> Box<Relay> {
    Box::new(Relay::new(Start {
        spec: config.outbox.clone(),
        outboxes: outboxes.collect(),
        source,
        shard: config.shard.as_ref().map(|sharding| sharding.shard),
        timelines,
        confirmed_flush,
        skip: config.delivery.skip.iter().map(|id| Bytes::from(id.clone())).collect(),
        dead_letters: match &config.delivery.on_rejected {
            OnRejected::Stop => None,
            OnRejected::DeadLetter(topic) => Some(topic.clone()),
        },
        max_in_flight: usize::try_from(config.delivery.max_in_flight).unwrap_or(usize::MAX),
    }))
}

impl Known {
    /// Whether, with what was `found`, a session may start, or (`true`) must wait until nobody uses the slot. Warnings are given once.
    fn accepts(&mut self, mut found: Vec<Finding>, config: &Config, survey: &Survey) -> Result<bool, Error> {
        let before = found.len();
        found.retain(|finding| finding.id != SLOT_IN_USE);
        let in_use = found.len() < before;
        let outboxes: Vec<_> = survey.outboxes().collect();
        found.extend(self.publication_seen(survey.publication.clone(), &outboxes, config));
        self.warn(Findings(found).accept()?);
        Ok(in_use)
    }

    /// What was done to the publication since it was looked at last.
    pub(super) fn publication_seen(
        &mut self,
        publication: Option<Publication>,
        outboxes: &[&Outbox],
        config: &Config,
    ) -> Vec<Finding> {
        let name = &config.postgres.publication;
        let found = match (&self.publication, &publication) {
            (Some(before), Some(now)) => findings::publication_changed(before, now, outboxes, name),
            _ => Vec::new(),
        };
        self.publication = publication;
        found
    }

    /// Gives warnings, each once.
    pub(super) fn warn(&mut self, warnings: Vec<Finding>) {
        for warning in warnings {
            if !self.warned.contains(&warning) {
                tracing::warn!("{warning}");
                self.warned.push(warning);
            }
        }
    }
}

/// Waits until nobody uses the slot. Asks the catalog instead of trying START_REPLICATION: each try would be an error in
/// the server's log.
async fn await_slot(
    catalog: &Catalog,
    name: &str,
    our_last: Option<i32>,
    outlet: &mut Outlet,
    status: &Status,
) -> Result<(), Error> {
    let since = clock::now();
    let (mut told, mut waited, mut ended) = (false, false, false);
    loop {
        let slot = catalog.slot(name).await?;
        status.slot_seen(slot.as_ref(), clock::now());
        let Some(pid) = slot.and_then(|slot| slot.active_pid) else {
            if waited {
                // What may still go wrong now is no waiting for another instance.
                status.enter(State::Connecting);
            }
            return Ok(());
        };
        if our_last == Some(pid) {
            // The connection to it is gone, but it may not notice for a whole wal_sender_timeout.
            if !ended {
                ended = true;
                // An administrator may have taken this right away: then there is nothing to do but to wait.
                if let Err(error) = catalog.end_walsender(name, pid).await {
                    tracing::debug!("{error}");
                }
                continue;
            }
            // Nobody streams: that is no standby's readiness.
            let reason = format!(
                "PostgreSQL holds the slot for the last connection of this relay (pid {pid}) until it notices that \
                 the connection is broken"
            );
            status.block(State::Connecting, On::Postgres, &reason, clock::now());
            tokio::time::sleep(SLOT_POLL).await;
            continue;
        }
        status.enter(State::Standby);
        waited = true;
        if clock::since(since) >= HELD_BY_ANOTHER && !told {
            if status.is_news("standby", clock::now()) {
                tracing::info!(slot = name, pid, "standby: the slot is in use by another instance");
            }
            told = true;
            if outlet.unreported() > 0 {
                // It reads from the slot what this one has in flight: an old copy must not land after its replay.
                outlet.renew()?;
            }
        }
        tokio::time::sleep(SLOT_POLL).await;
    }
}

async fn timelines(connection: &mut Connection, current: u32, status: &Status) -> Result<Timelines, Error> {
    if current <= 1 {
        return Ok(Timelines::only(current));
    }
    let history = match connection.timeline_history(current).await {
        Ok(history) => history,
        Err(error) if error.server().is_some_and(|error| error.code == UNDEFINED_FILE) => {
            if status.is_news("no timeline history", clock::now()) {
                tracing::warn!(
                    timeline = current,
                    "the server has no history of its timeline: positions of commits before the promotion carry the new timeline"
                );
            }
            return Ok(Timelines::only(current));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Timelines::from_history(current, &String::from_utf8_lossy(&history))?)
}

/// SQLSTATE `undefined_file`.
const UNDEFINED_FILE: &str = "58P01";

/// Waits until a slot is `made`, and tells what for.
pub(super) async fn told_of_waiting<T>(
    made: impl Future<Output = T>,
    catalog: &Catalog,
    name: &str,
    status: &Status,
) -> T {
    let open = async || catalog.open_transactions().await;
    let tell = |reason: &str| {
        let now = clock::now();
        status.block(State::Connecting, On::Postgres, reason, now);
        if status.is_news("making the slot waits", now) {
            tracing::warn!(slot = name, "{reason}");
        }
    };
    slot_wait::told(made, open, tell).await
}

/// Makes the slot; on a standby without FAILOVER, which only a primary's slot can have.
async fn create_slot(
    connection: &mut Connection,
    catalog: &Catalog,
    name: &str,
    in_recovery: bool,
    status: &Status,
) -> Result<(), Error> {
    let slot = told_of_waiting(connection.create_slot(name, !in_recovery), catalog, name, status).await?;
    tracing::info!(slot = name, consistent_point = %slot.consistent_point, "made the replication slot: events committed from now on are sent");
    Ok(())
}
