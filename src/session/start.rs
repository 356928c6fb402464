//! From nothing to a running stream: look at the server, take the slot, start replication.

use std::time::{Duration, Instant};

use super::control_watch::same;
use super::error::{Error, Setting};
use super::outlet::Outlet;
use crate::config::Config;
use crate::lsn::Lsn;
use crate::outbox::TableName;
use crate::postgres::connection::Connection;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control, Publication, Slot, Table};
use crate::postgres::synchronous;
use crate::relay::{Relay, Start};
use crate::status::{REMINDER, STREAMING, State, Status};
use crate::wal::Timelines;

/// A stream that has begun.
pub(super) struct Started {
    pub(super) connection: Connection,
    pub(super) control: Control,
    /// How to reach the same server again.
    pub(super) server: ConnInfo,
    pub(super) relay: Relay,
    /// The outbox tables.
    pub(super) outboxes: Vec<Table>,
    pub(super) wal_sender_timeout: Duration,
}

/// What a process remembers of its slot from one session to the next. A slot that was there and is gone was dropped by
/// somebody, with what it had not confirmed; making it anew would start over silently.
#[derive(Debug, Default)]
pub struct KnownSlot {
    /// The position it had confirmed when it was seen last.
    confirmed: Option<Lsn>,
}

/// Another instance holds the slot, or PostgreSQL has not noticed yet that our last connection is gone.
const SLOT_POLL: Duration = Duration::from_millis(500);

/// After this long it is not our own last connection that holds the slot.
const HELD_BY_ANOTHER: Duration = Duration::from_secs(5);

/// How long making a slot may take before the transactions it waits for are told.
const SLOT_PATIENCE: Duration = Duration::from_secs(3);

/// Starts to stream. Waits as a standby while the slot is in use, and for open transactions when it makes the slot.
pub(super) async fn start(
    config: &Config,
    info: &ConnInfo,
    known: &mut KnownSlot,
    outlet: &mut Outlet,
    status: &Status,
) -> Result<Started, Error> {
    let (control, server) = Control::connect(info).await?;
    let catalog = control.catalog();
    let wal_sender_timeout = catalog.wal_sender_timeout().await?;
    let database = &server.dbname;
    let standbys = catalog.synchronous_standby_names().await?;
    if synchronous::includes(&standbys, &info.application_name) {
        let name = info.application_name.clone();
        return Err(Setting::Synchronous { setting: standbys, name }.into());
    }
    let outboxes = tables(&catalog, &config.outbox.tables, database).await?;
    let publication = catalog.publication(&config.postgres.publication).await?;
    check_publication(publication.as_ref(), &config.postgres.publication, &outboxes, database)?;

    let slot_name = &config.postgres.slot;
    let missing = match (catalog.slot(slot_name).await?, known.confirmed) {
        (Some(slot), _) => {
            check_slot(slot_name, &slot, database)?;
            known.confirmed = slot.confirmed_flush;
            await_slot(&catalog, slot_name, outlet, status).await?;
            false
        }
        (None, Some(confirmed)) => {
            return Err(Setting::SlotGone { slot: slot_name.clone(), confirmed }.into());
        }
        (None, None) if config.postgres.create_slot => true,
        (None, None) => return Err(Setting::NoSlot(slot_name.clone()).into()),
    };

    let mut connection = Connection::connect(&server).await?;
    let identity = connection.identify_system().await?;
    let timelines = timelines(&mut connection, identity.timeline).await?;
    if missing {
        create_slot(&mut connection, &catalog, slot_name).await?;
    }
    connection.start_replication(slot_name, &[&config.postgres.publication]).await?;

    // Only now, as its owner: nobody else can move the slot any more.
    let confirmed_flush =
        catalog.slot(slot_name).await?.and_then(|slot| slot.confirmed_flush).unwrap_or(Lsn::ZERO);
    known.confirmed = Some(confirmed_flush);
    if status.is_news(STREAMING, Instant::now()) {
        tracing::info!(
            slot = slot_name.as_str(),
            publication = config.postgres.publication.as_str(),
            system = identity.system_id,
            timeline = identity.timeline,
            confirmed = %confirmed_flush,
            "streaming from {}", connection.host(),
        );
    }
    let relay = Relay::new(Start {
        spec: config.outbox.clone(),
        outboxes: outboxes.iter().map(|table| table.id).collect(),
        source: format!("{}/{slot_name}", identity.system_id),
        timelines,
        confirmed_flush,
        max_in_flight: usize::try_from(config.delivery.max_in_flight).unwrap_or(usize::MAX),
    });
    Ok(Started { connection, control, server, relay, outboxes, wal_sender_timeout })
}

/// The publication `name` must hold every outbox table and publish INSERTs; rows it leaves out are never seen.
pub(super) fn check_publication(
    publication: Option<&Publication>,
    name: &str,
    outboxes: &[Table],
    database: &str,
) -> Result<(), Setting> {
    let name = name.to_owned();
    let Some(publication) = publication else {
        let tables = outboxes.iter().map(|outbox| outbox.name.clone()).collect();
        return Err(Setting::NoPublication { publication: name, database: database.to_owned(), tables });
    };
    if !publication.inserts {
        return Err(Setting::NoInserts(name));
    }
    let published = |outbox: &Table| publication.tables.iter().any(|table| same(outbox, table));
    match outboxes.iter().find(|outbox| !published(outbox)) {
        Some(outbox) => Err(Setting::NotPublished { publication: name, table: outbox.name.clone() }),
        None => Ok(()),
    }
}

async fn tables(catalog: &Catalog, names: &[TableName], database: &str) -> Result<Vec<Table>, Error> {
    let mut tables = Vec::with_capacity(names.len());
    for table in names {
        match catalog.table(table).await? {
            Some(id) => tables.push(Table { id, name: table.clone() }),
            None => {
                return Err(Setting::NoTable { table: table.clone(), database: database.to_owned() }.into());
            }
        }
    }
    Ok(tables)
}

fn check_slot(name: &str, slot: &Slot, database: &str) -> Result<(), Setting> {
    let other = |what, found: Option<&str>, expected: &str| Setting::OtherSlot {
        slot: name.to_owned(),
        what,
        found: found.unwrap_or("none (a physical slot)").to_owned(),
        expected: expected.to_owned(),
    };
    if slot.plugin.as_deref() != Some("pgoutput") {
        return Err(other("plugin", slot.plugin.as_deref(), "pgoutput"));
    }
    if slot.database.as_deref() != Some(database) {
        return Err(other("database", slot.database.as_deref(), database));
    }
    if slot.wal_status.as_deref() == Some("lost") {
        return Err(Setting::SlotLost { slot: name.to_owned(), confirmed: slot.confirmed_flush });
    }
    Ok(())
}

/// Waits until nobody uses the slot. Asks the catalog instead of trying START_REPLICATION: each try would be an error in
/// the server's log.
async fn await_slot(
    catalog: &Catalog,
    name: &str,
    outlet: &mut Outlet,
    status: &Status,
) -> Result<(), Error> {
    let since = Instant::now();
    let mut told = false;
    loop {
        let slot = catalog.slot(name).await?;
        status.slot_seen(slot.as_ref(), Instant::now());
        let Some(pid) = slot.and_then(|slot| slot.active_pid) else {
            return Ok(());
        };
        status.enter(State::Standby);
        if since.elapsed() >= HELD_BY_ANOTHER && !told {
            if status.is_news("standby", Instant::now()) {
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

async fn timelines(connection: &mut Connection, current: u32) -> Result<Timelines, Error> {
    if current <= 1 {
        return Ok(Timelines::only(current));
    }
    let history = match connection.timeline_history(current).await {
        Ok(history) => history,
        Err(error) if error.server().is_some_and(|error| error.code == UNDEFINED_FILE) => {
            tracing::warn!(
                timeline = current,
                "the server has no history of its timeline: positions of commits before the promotion carry the new timeline"
            );
            return Ok(Timelines::only(current));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Timelines::from_history(current, &String::from_utf8_lossy(&history))?)
}

/// SQLSTATE `undefined_file`.
const UNDEFINED_FILE: &str = "58P01";

/// Makes the slot. The server waits for every transaction that is writing now; who keeps it waiting is told.
async fn create_slot(connection: &mut Connection, catalog: &Catalog, name: &str) -> Result<(), Error> {
    let created = connection.create_slot(name, true);
    tokio::pin!(created);
    let mut patience = SLOT_PATIENCE;
    let slot = loop {
        tokio::select! {
            slot = &mut created => break slot?,
            () = tokio::time::sleep(patience) => {
                patience = REMINDER;
                let open = catalog.open_transactions().await?;
                let open = open.iter().map(|transaction| match transaction.age {
                    Some(age) => format!("pid {} (open for {} s)", transaction.pid, age.as_secs()),
                    None => format!("pid {}", transaction.pid),
                });
                tracing::warn!(slot = name, "making the slot waits for open transactions: {}", open.collect::<Vec<_>>().join(", "));
            }
        }
    };
    tracing::info!(slot = name, consistent_point = %slot.consistent_point, "made the replication slot: events committed from now on are sent");
    Ok(())
}
