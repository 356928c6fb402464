//! The rows that are in the outbox before there is a slot are sent first, and the stream goes on from exactly there.
//!
//! A temporary slot tells a position and exports the snapshot that belongs to it: the snapshot shows what was committed
//! before that position, and the slot has what comes after. When Kafka has all rows of the snapshot, the temporary slot is
//! copied to the permanent one, at the same position. Whatever ends the backfill before that leaves nothing behind, because
//! the server drops a temporary slot with its connection; the next try starts anew.
//!
//! Sources: PostgreSQL documentation, `CREATE_REPLICATION_SLOT … (SNAPSHOT 'export')`, `SET TRANSACTION SNAPSHOT`,
//! `pg_copy_logical_replication_slot`.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use tokio::sync::watch;
use tokio_postgres::SimpleQueryMessage;

use crate::clock;
use crate::postgres::chosen::SESSION;
use crate::postgres::connection::{Connection, TemporarySlot};
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control, wrong};
use crate::postgres::error::Error;
use crate::postgres::sql::literal;
use crate::rows::{Gone, Numbers, RowStream, RowTable};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The slot that is made at the end.
    pub slot: String,
    /// Whether it shall be kept on standbys.
    pub failover: bool,
    /// Tables, each with the condition that its rows must meet.
    pub tables: Vec<(RowTable, String)>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows to be sent.
    pub rows: u64,
    /// Rows that Kafka has, or that were passed over.
    pub done: u64,
    /// When the first was sent.
    pub began: Instant,
}

/// A backfill that is ready to begin.
pub struct Backfill {
    plan: Plan,
    replication: Connection,
    control: Control,
    stream: RowStream,
    /// The number before its first row.
    first: u64,
    progress: watch::Sender<Progress>,
    told: Instant,
}

/// Why it does not go on.
enum Ended {
    Failed(Error),
    /// The session has gone, or takes its leave.
    Left,
}

const READ: &str = "read the rows for the backfill";

/// Time between two lines about how far it is.
const TELL: Duration = Duration::from_secs(10);

/// The longest name of a slot: `NAMEDATALEN` without its NUL.
const LONGEST_NAME: usize = 63;

/// The temporary slot's name. Slots have one namespace, so who makes it is the only one at the backfill.
#[must_use]
pub fn temporary(slot: &str) -> String {
    const SUFFIX: &str = "_backfill";
    let kept = slot.get(..LONGEST_NAME - SUFFIX.len()).unwrap_or(slot);
    format!("{kept}{SUFFIX}")
}

impl Backfill {
    /// Opens a transaction on `server` that sees what `slot` does, which belongs to `replication`, and counts the rows.
    /// Gives the session's end of the stream as well.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn begin(
        plan: Plan,
        server: &ConnInfo,
        replication: Connection,
        slot: &TemporarySlot,
        numbers: &Numbers,
    ) -> Result<(Connection, Self), Error> {
        const ACTION: &str = "begin the backfill";
        let (control, _) = Control::connect(server).await?;
        let catalog = control.catalog();
        catalog.execute(ACTION, SESSION).await?;
        let snapshot = literal(&slot.snapshot);
        let begin =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {snapshot}");
        catalog.execute(ACTION, &begin).await?;
        let mut rows = 0_u64;
        for (table, condition) in &plan.tables {
            rows = rows.saturating_add(catalog.count(table.name(), condition).await?);
        }
        let (connection, stream) = RowStream::new(numbers, replication.host());
        let now = clock::now();
        let progress = watch::Sender::new(Progress { rows, done: 0, began: now });
        let first = stream.last();
        tracing::info!(
            slot = plan.slot.as_str(),
            rows,
            consistent_point = %slot.consistent_point,
            "backfill: sending the rows that are in the table already"
        );
        Ok((connection, Self { plan, replication, control, stream, first, progress, told: now }))
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Sends all rows, makes the slot when Kafka has them, and ends the stream. Ends early, with nothing left behind, when
    /// the session does.
    pub async fn run(mut self) {
        match self.send().await {
            Ok(()) => self.stream.end().await,
            Err(Ended::Failed(error)) => self.stream.fail(&error).await,
            // A session that takes its leave waits for an answer.
            Err(Ended::Left) => self.stream.end().await,
        }
    }

    async fn send(&mut self) -> Result<(), Ended> {
        let catalog = self.control.catalog();
        for (table, condition) in self.plan.tables.clone() {
            self.table(&catalog, &table, &condition).await?;
        }
        while self.stream.confirmed() < self.stream.last() {
            self.turn().await?;
        }
        // What was sent is in Kafka: from here on the slot remembers.
        let Plan { slot, failover, .. } = &self.plan;
        self.replication.keep_slot(&temporary(slot), slot, *failover).await?;
        let Progress { rows, began, .. } = *self.progress.borrow();
        tracing::info!(
            slot = slot.as_str(),
            rows,
            seconds = clock::since(began).as_secs(),
            "backfill: Kafka has all rows; the slot is made, and the stream goes on from there"
        );
        Ok(())
    }

    async fn table(&mut self, catalog: &Catalog, table: &RowTable, condition: &str) -> Result<(), Ended> {
        table.describe(&mut self.stream);
        let rows = catalog.stream(READ, &table.query(condition, None)).await?;
        let mut rows = std::pin::pin!(rows);
        loop {
            // To sort the rows takes its time; the session wants answers meanwhile.
            let row = tokio::select! {
                biased;
                ended = turn(&mut self.stream, &mut self.replication) => {
                    ended?;
                    self.tell();
                    continue;
                }
                row = rows.try_next() => row.map_err(wrong(READ))?,
            };
            let Some(row) = row else {
                return Ok(());
            };
            let SimpleQueryMessage::Row(row) = row else {
                continue;
            };
            let Some(read) = table.read(&row) else {
                continue;
            };
            let name = read.name(&self.stream);
            read.send(table, name, &mut self.stream);
            while self.stream.is_full() {
                self.turn().await?;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Ended> {
        turn(&mut self.stream, &mut self.replication).await?;
        self.tell();
        Ok(())
    }

    /// Tells how far it is: always those who look, and now and then the log.
    fn tell(&mut self) {
        let done = self.stream.confirmed().saturating_sub(self.first);
        if self.progress.borrow().done == done {
            return;
        }
        self.progress.send_modify(|progress| progress.done = done);
        if clock::since(self.told) >= TELL {
            self.told = clock::now();
            tracing::info!("backfill: {}", self.progress.borrow().in_words(clock::now()));
        }
    }
}

/// Waits until the session or the connection that holds the temporary slot moves.
async fn turn(stream: &mut RowStream, replication: &mut Connection) -> Result<(), Ended> {
    tokio::select! {
        biased;
        turned = stream.turn() => turned?,
        // It has nothing to say but that it is gone.
        ended = replication.progress(true) => ended?,
    }
    if stream.is_over() { Err(Ended::Left) } else { Ok(()) }
}

impl Progress {
    /// Rows a second since the first.
    #[must_use]
    pub fn rate(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.began).as_secs_f64();
        if seconds > 0.0 { self.done as f64 / seconds } else { 0.0 }
    }

    /// How long the rest takes at this rate; `None` while there is none.
    #[must_use]
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        let rate = self.rate(now);
        let left = self.rows.saturating_sub(self.done) as f64;
        (rate > 0.0).then(|| Duration::try_from_secs_f64(left / rate).unwrap_or(Duration::MAX))
    }

    /// It in a line: `1200000 of 10000000 rows (12 %), 98000 rows/s, 1m 30s left`.
    #[must_use]
    pub fn in_words(&self, now: Instant) -> String {
        let Self { rows, done, .. } = self;
        let share = done.saturating_mul(100).checked_div(*rows).unwrap_or(100);
        let left = self.time_left(now).map(|left| {
            format!(", {} left", humantime::format_duration(Duration::from_secs(left.as_secs())))
        });
        let rate = self.rate(now);
        format!("{done} of {rows} rows ({share} %), {rate:.0} rows/s{}", left.unwrap_or_default())
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Gone> for Ended {
    fn from(Gone: Gone) -> Self {
        Self::Left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temporary_slot_has_a_name_that_fits() {
        assert_eq!(temporary("outbox_relay"), "outbox_relay_backfill");
        let longest = temporary(&"x".repeat(63));
        assert!(longest.len() == 63 && longest.ends_with("x_backfill"), "{longest}");
    }

    #[test]
    fn progress_tells_rate_and_time_left() {
        let began = Instant::now();
        let progress = Progress { rows: 10_000_000, done: 1_200_000, began };
        assert_eq!(
            progress.in_words(began + Duration::from_secs(12)),
            "1200000 of 10000000 rows (12 %), 100000 rows/s, 1m 28s left"
        );
        let empty = Progress { rows: 0, done: 0, began };
        assert_eq!(empty.in_words(began), "0 of 0 rows (100 %), 0 rows/s");
    }
}
