//! Sessions whose rows come by a query: for the rows that are in the table before there is a slot, and for servers without
//! logical replication.

use std::time::Duration;

use tokio::sync::watch;

use super::control_link::Unasked;
use super::control_watch::Subjects;
use super::error::Error;
use super::start::{self, Known, Started};
use crate::backfill::{Backfill, Plan, Progress, temporary};
use crate::clock;
use crate::config::{Action, Config, Postgres};
use crate::findings::{self, Findings, Wanted};
use crate::poll::{Poller, Polling, lock_key};
use crate::postgres::connection::Connection;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control};
use crate::postgres::listener::Listener;
use crate::postgres::survey::Survey;
use crate::rows::{RowStream, RowTable};
use crate::status::{STREAMING, State, Status};
use crate::wal::Timelines;

/// Where rows come from that do not come from the write-ahead log.
#[derive(Debug)]
pub(super) enum Rows {
    /// From the backfill, which is so far.
    Backfill(watch::Receiver<Progress>),
    /// From a poller.
    Polled,
}

/// After this long it is not our own last connection that holds the lock.
const RELEASE: Duration = Duration::from_secs(1);

/// Who reads the rows is of our own, and answers as a server with this `wal_sender_timeout` does.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Starts a backfill of the tables that `survey` shows, by a `connection` to `server`.
pub(super) async fn backfill(
    config: &Config,
    known: &mut Known,
    mut connection: Connection,
    catalog: &Catalog,
    server: ConnInfo,
    survey: Survey,
    status: &Status,
) -> Result<Started, Error> {
    let name = &config.postgres.slot;
    let temporary = temporary(name);
    let made = connection.create_temporary_slot(&temporary);
    let slot = start::told_of_waiting(made, catalog, &temporary, status).await?;
    let in_recovery = survey.server.in_recovery;
    let subjects = Subjects::new(survey, config);
    let tables = subjects.outboxes.iter().filter_map(|outbox| RowTable::new(outbox, &config.outbox));
    let condition = match config.after_publish.action {
        // All others were sent before.
        Action::Mark => config.after_publish.pending(),
        Action::Keep | Action::Delete | Action::DropPartitions => "true".to_owned(),
    };
    let plan = Plan {
        slot: name.clone(),
        failover: !in_recovery,
        tables: tables.map(|table| (table, condition.clone())).collect(),
    };
    let (connection, backfill) = Backfill::begin(plan, &server, connection, &slot, &known.numbers).await?;
    let progress = backfill.progress();
    tokio::spawn(backfill.run());
    let last = known.numbers.last();
    Ok(Started {
        connection,
        control: Box::new(Unasked),
        server,
        relay: start::relay(config, subjects.ids(), None, Timelines::only(1), last),
        subjects,
        wal_sender_timeout: TIMEOUT,
        walsender: None,
        origin: None,
        rows: Some(Rows::Backfill(progress)),
    })
}

/// Starts to poll, as the only one who does. Waits as a standby while another one does.
pub(super) async fn poll(
    config: &Config,
    polling: &Polling,
    info: &ConnInfo,
    known: &mut Known,
    status: &Status,
) -> Result<Started, Error> {
    let (control, server) = Control::connect(info).await?;
    let catalog = control.catalog();
    let Postgres { publication, slot, .. } = &config.postgres;
    let since = clock::now();
    let survey = loop {
        let survey = catalog.survey_for(&config.outbox, &config.after_publish, publication, slot).await?;
        known.warn(Findings(findings::polled(&Wanted::new(config, info), &survey)).accept()?);
        let key = lock_key(slot);
        if catalog.try_lock(key).await? {
            known.poller = catalog.lock_holder(key).await?;
            break survey;
        }
        if let (Some(ours), holder) = (known.poller, catalog.lock_holder(key).await?)
            && holder == Some(ours)
            && let Err(error) = catalog.end_process(ours).await
        {
            tracing::debug!("{error}");
        }
        // The server may not have noticed yet that our last connection is gone.
        if clock::since(since) >= RELEASE {
            status.enter(State::Standby);
            if status.is_news("standby", clock::now()) {
                tracing::info!(lock = slot.as_str(), "standby: another instance polls");
            }
        }
        tokio::time::sleep(start::SLOT_POLL).await;
    };
    let subjects = Subjects::new(survey, config);
    let tables =
        subjects.outboxes.iter().filter_map(|outbox| RowTable::new(outbox, &config.outbox)).collect();
    let host = server.hosts.first().ok_or(Error::Lost("no host".to_owned()))?;
    let (connection, stream) = RowStream::new(&known.numbers, host);
    let listener = Listener::start(server.clone(), polling.channel.clone());
    let poller = Poller::new(polling.clone(), control, tables, listener, stream).await?;
    let last = known.numbers.last();
    tokio::spawn(poller.run());
    if status.is_news(STREAMING, clock::now()) {
        tracing::info!("polling {host}: pending rows are sent");
    }
    Ok(Started {
        connection,
        control: Box::new(Unasked),
        relay: start::relay(config, subjects.ids(), None, Timelines::only(1), last),
        subjects,
        wal_sender_timeout: TIMEOUT,
        walsender: None,
        origin: None,
        rows: Some(Rows::Polled),
        server,
    })
}
