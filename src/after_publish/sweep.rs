//! The sweep: pass after pass, on a connection of its own.

use std::time::Duration;

use tokio::sync::watch;

use super::horizon::{Elsewhere, Horizon, Origin, Settled};
use super::partitions;
use super::rest::{Rest, Rests, breath};
use super::statements::{self, AT_ONCE, Job, Place};
use super::walk::{Blocks, Stride, Walk};
use super::{Reported, Told, ask};
use crate::clock;
use crate::config::{Action, Config};
use crate::outbox::TableName;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control};
use crate::postgres::error::Error;
use crate::postgres::survey::Outbox;

/// Everything that a sweep knows.
pub(super) struct Sweep {
    server: ConnInfo,
    publication: String,
    pub(super) slot: String,
    origin: Origin,
    /// Said once to each connection.
    session: String,
    work: Work,
    rests: Rests,
    reported: watch::Receiver<Reported>,
    told: watch::Sender<Told>,
}

/// What there is to do.
enum Work {
    /// In each of these tables.
    Rows(Vec<Rows>),
    /// Partitions of these tables, so long after their end.
    Partitions(Vec<TableName>, Duration),
}

/// A table, by its object id.
#[derive(Clone)]
struct Rows {
    table: u32,
    job: Job,
    stride: Stride,
}

/// Why a pass came to no end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Postgres(#[from] Error),
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    /// There is no session any more.
    #[error("the session has ended")]
    Gone,
}

/// What a pass has done.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// What it took of the server.
    pub(super) took: Duration,
    /// Rows or partitions.
    pub(super) changed: u64,
    /// Something was somebody else's at the moment.
    pub(super) held: bool,
}

/// Pauses after a failure: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// SQLSTATEs of what passes by itself: a lock on the whole table, a statement that took too long, a deadlock.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const QUERY_CANCELED: &str = "57014";
const DEADLOCK_DETECTED: &str = "40P01";

impl Sweep {
    pub(super) fn new(
        config: &Config,
        server: ConnInfo,
        outboxes: &[Outbox],
        origin: Origin,
        reported: watch::Receiver<Reported>,
        told: watch::Sender<Told>,
    ) -> Self {
        let after = &config.after_publish;
        let rows = |outbox: &Outbox| {
            let job = match after.action {
                Action::Mark => Some(statements::mark(after)),
                // A column that cannot serve was a reason not to stream (`findings/after_publish.rs`).
                _ => statements::delete(after, &config.outbox.of(&outbox.table.name).columns, outbox),
            };
            Some(Rows { table: outbox.table.id.0, job: job?, stride: Stride::default() })
        };
        let work = if after.action == Action::DropPartitions {
            let tables = outboxes.iter().map(|outbox| outbox.table.name.clone());
            Work::Partitions(tables.collect(), after.retention)
        } else {
            Work::Rows(outboxes.iter().filter_map(rows).collect())
        };
        Self {
            server,
            publication: config.postgres.publication.clone(),
            slot: config.postgres.slot.clone(),
            origin,
            session: statements::session(&after.timestamp_zone),
            work,
            rests: Rests::new(after.retention),
            reported,
            told,
        }
    }

    /// Sweeps until the session ends.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match self.sweep(&mut pause).await {
                Ok(()) | Err(Failure::Gone) => return,
                Err(failure) => failure.to_string(),
            };
            self.told.send_modify(|told| told.error = Some(failure));
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Connects, and makes one pass after the other.
    async fn sweep(&mut self, pause: &mut Duration) -> Result<(), Failure> {
        let (control, _) = Control::connect(&self.server).await?;
        let catalog = control.catalog();
        catalog.execute("prepare the session", &self.session).await?;
        loop {
            let delivered = self.reported.borrow_and_update().delivered;
            let passed = self.pass(&catalog).await?;
            self.told.send_if_modified(|told| told.error.take().is_some());
            *pause = FIRST_PAUSE;
            let rest = self.rests.after(passed.took, passed.changed > 0, passed.held);
            self.rest(rest, delivered).await?;
        }
    }

    async fn pass(&mut self, catalog: &Catalog) -> Result<Passed, Failure> {
        let mut passed = Passed::default();
        match &self.work {
            Work::Partitions(tables, keep) => {
                let (tables, keep) = (tables.clone(), *keep);
                partitions::pass(self, catalog, &tables, keep, &mut passed).await?;
            }
            Work::Rows(tables) => {
                let mut tables = tables.clone();
                let settled = self.settled(catalog).await?;
                let mut refused = None;
                for rows in &mut tables {
                    match self.table(catalog, rows, settled, &mut passed).await {
                        // A right that is missing on one table is no reason to leave the others.
                        Err(Failure::Postgres(error)) if error.server().is_some() => {
                            refused.get_or_insert(error);
                        }
                        done => done?,
                    }
                }
                self.work = Work::Rows(tables);
                if let Some(error) = refused {
                    return Err(error.into());
                }
            }
        }
        Ok(passed)
    }

    /// Looks at the server, and waits until the session has reported all that is committed there.
    pub(super) async fn settled(&mut self, catalog: &Catalog) -> Result<Settled, Failure> {
        let horizon = Horizon::of(&ask::look(catalog, &self.slot).await?, self.origin)?;
        loop {
            if let Some(settled) = horizon.reached(self.reported.borrow_and_update().position) {
                return Ok(settled);
            }
            self.reported.changed().await.map_err(|_| Failure::Gone)?;
        }
    }

    /// Changes the rows of one table. What somebody holds is left for another pass.
    async fn table(
        &self,
        catalog: &Catalog,
        rows: &mut Rows,
        settled: Settled,
        passed: &mut Passed,
    ) -> Result<(), Failure> {
        loop {
            let began = clock::now();
            let found = match self.find(catalog, rows, settled).await {
                Ok(found) => found,
                Err(error) if is(&error, LOCK_NOT_AVAILABLE) => {
                    passed.held = true;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            passed.took = passed.took.saturating_add(clock::since(began));
            let Some((place, blocks, more)) = found else { return Ok(()) };
            let mut walk = Walk::over(blocks);
            let before = passed.changed;
            while let Some(blocks) = walk.next(rows.stride) {
                let sql = statements::removal(&rows.job, &place, settled, blocks, &self.slot, self.origin);
                let began = clock::now();
                let changed = catalog.changed(ask::action(&rows.job), &sql).await;
                let took = clock::since(began);
                rows.stride.took(took);
                passed.took = passed.took.saturating_add(took);
                match changed {
                    Ok(changed) => self.changed(changed, passed),
                    // The whole table is somebody's.
                    Err(error) if is(&error, LOCK_NOT_AVAILABLE) => {
                        passed.held = true;
                        return Ok(());
                    }
                    Err(error) if is(&error, QUERY_CANCELED) || is(&error, DEADLOCK_DETECTED) => {
                        passed.held = true;
                        tracing::debug!("{error}");
                    }
                    Err(error) => return Err(error.into()),
                }
                let pause = breath(took, self.reported.borrow().catching_up);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
            if !more || passed.changed == before {
                return Ok(());
            }
        }
    }

    /// Where to look, and whether there is more than was looked for; nothing if the table is none of ours any more.
    async fn find(
        &self,
        catalog: &Catalog,
        rows: &Rows,
        settled: Settled,
    ) -> Result<Option<(Place, Vec<Blocks>, bool)>, Error> {
        let Some((place, blocks)) = ask::place(catalog, rows.table, &self.publication).await? else {
            return Ok(None);
        };
        Ok(Some(match statements::search(&rows.job, &place, settled) {
            None => (place, vec![Blocks { from: 0, until: blocks }], false),
            Some(sql) => {
                let (blocks, found) = ask::search(catalog, &sql).await?;
                (place, blocks, found >= AT_ONCE)
            }
        }))
    }

    /// Notes what was done.
    pub(super) fn changed(&self, changed: u64, passed: &mut Passed) {
        if changed > 0 {
            passed.changed = passed.changed.saturating_add(changed);
            self.told.send_modify(|told| told.changed = told.changed.saturating_add(changed));
        }
    }

    async fn rest(&mut self, rest: Rest, delivered: u64) -> Result<(), Failure> {
        tokio::time::sleep(rest.least).await;
        let news = self.reported.wait_for(|now| now.delivered > delivered);
        match tokio::time::timeout(rest.most.saturating_sub(rest.least), news).await {
            Ok(Err(_)) => Err(Failure::Gone),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

fn is(error: &Error, code: &str) -> bool {
    error.server().is_some_and(|error| error.code == code)
}
