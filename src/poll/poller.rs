//! The active poller: looks, sends, and finishes what Kafka has.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::time::Instant;
use tokio_postgres::SimpleQueryMessage;

use super::look::{Seen, Sent, Verdict};
use super::{Polling, statements};
use crate::postgres::chosen::SESSION;
use crate::postgres::control::{Catalog, Control, wrong};
use crate::postgres::error::Error;
use crate::postgres::listener::Listener;
use crate::rows::{Gone, RowStream, RowTable};

/// A poller that holds the lock.
pub struct Poller {
    polling: Polling,
    /// Holds the lock as long as it is open.
    control: Control,
    tables: Vec<Table>,
    listener: Listener,
    stream: RowStream,
    seen: Seen,
    /// Which table is looked at next; `None` between two rounds.
    round: Option<usize>,
    /// New rows asked for at once: more while there is a backlog, fewer while they are large.
    page: usize,
    /// What could not be finished when Kafka had it.
    left: Vec<Sent>,
    /// When the last round began.
    looked: Instant,
    /// When the server was asked last.
    asked: Instant,
    /// Somebody has said that there is something to see.
    woken: bool,
}

struct Table {
    rows: RowTable,
    pending: String,
    finish: String,
}

/// Why it does not go on.
enum Ended {
    Failed(Error),
    Left,
}

/// Rows that are finished by one statement.
const TOGETHER: usize = 1_000;

/// Bytes of a page that are taken in; what comes behind is read again later. It is never waited for the session while a query is
/// open: the server would keep dead rows for as long as Kafka is away.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// With a backlog a page grows to so many times `poll.batch`: each look begins at the first pending row, and passes over the
/// index entries of all that were published before it.
const GROWS: usize = 16;

/// While rows are in flight, a round is not begun sooner after the last: each meets them again.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(5);

/// What a poller's session is set to. A look that takes longer lacks an index, or the server is frozen. A process that is frozen
/// loses the lock with its session, so that its standby can go on.
const LIMIT: &str =
    "SET statement_timeout = '60s'; SET lock_timeout = '1s'; SET idle_session_timeout = '30s'";

/// The server is asked something this often, so that it does not take the session for idle.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(70);

const LOOK: &str = "look for pending rows";

impl Poller {
    /// One over a `control` that holds the lock. The rows of `tables` go into `stream`.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn new(
        polling: Polling,
        control: Control,
        tables: Vec<RowTable>,
        listener: Listener,
        stream: RowStream,
    ) -> Result<Self, Error> {
        control.catalog().execute("begin to poll", &format!("{SESSION}; {LIMIT}")).await?;
        let table = |rows: RowTable| {
            let (pending, finish) = (polling.after.pending(), statements::finish(&rows, &polling));
            Table { rows, pending, finish }
        };
        Ok(Self {
            tables: tables.into_iter().map(table).collect(),
            page: batch(&polling),
            polling,
            control,
            listener,
            stream,
            seen: Seen::default(),
            round: None,
            left: Vec::new(),
            looked: Instant::now(),
            asked: Instant::now(),
            woken: true,
        })
    }

    /// Polls until the session ends, or cannot go on.
    pub async fn run(mut self) {
        for table in &self.tables {
            table.rows.describe(&mut self.stream);
        }
        let catalog = self.control.catalog();
        let ended = loop {
            if let Err(ended) = self.turn(&catalog).await {
                break ended;
            }
        };
        match ended {
            Ended::Failed(error) => self.stream.fail(&error).await,
            Ended::Left => self.stream.end().await,
        }
    }

    async fn turn(&mut self, catalog: &Catalog) -> Result<(), Ended> {
        self.finish(catalog).await?;
        if self.stream.is_over() {
            return Err(Ended::Left);
        }
        let now = Instant::now();
        if self.round.is_none() && self.due() <= now {
            (self.woken, self.looked) = (false, now);
            self.round = Some(0);
        }
        if self.may_look() {
            return self.look(catalog).await;
        }
        let sign = self.asked + SIGN_OF_LIFE;
        if sign <= now {
            self.asked = now;
            catalog.query("tell PostgreSQL that the poller lives", "SELECT 1", &[]).await?;
        }
        let due = if self.round.is_some() { sign } else { self.due().min(sign) };
        tokio::select! {
            biased;
            turned = self.stream.turn() => turned?,
            () = self.listener.wait(), if !self.woken => self.woken = true,
            () = tokio::time::sleep_until(due) => {}
        }
        Ok(())
    }

    /// When the next round begins.
    fn due(&self) -> Instant {
        let after = match (self.woken, self.seen.in_flight()) {
            (true, 0) => Duration::ZERO,
            (true, _) => BETWEEN_ROUNDS,
            (false, _) => self.polling.interval,
        };
        self.looked + after
    }

    /// What was read last has gone to the session, and at least half of what is read next is new.
    fn may_look(&self) -> bool {
        self.round.is_some() && !self.stream.has_output() && self.seen.in_flight() <= self.page
    }

    /// Reads a page of the pending rows, always from the first: one statement sees a transaction whole or not at all, and all that
    /// were committed before it, so that the rows of a key come in their order. To go on behind the last row that an earlier
    /// statement saw would tear a transaction that was committed between the two.
    async fn look(&mut self, catalog: &Catalog) -> Result<(), Ended> {
        let Some(index) = self.round.take() else {
            return Ok(());
        };
        let Some(table) = self.tables.get(index) else {
            self.seen.end_of_round();
            return Ok(());
        };
        self.asked = Instant::now();
        let limit = self.seen.known().saturating_add(self.page);
        let sql = table.rows.query(&table.pending, Some(limit));
        let rows = catalog.stream(LOOK, &sql).await?;
        let mut rows = std::pin::pin!(rows);
        let (mut new, mut bytes) = (0_usize, 0_usize);
        while bytes < PAGE_BYTES {
            let late = |_| Error::Timeout { action: LOOK.into(), limit: ANSWER };
            let row = tokio::time::timeout(ANSWER, rows.try_next()).await.map_err(late)?;
            let Some(row) = row.map_err(wrong(LOOK))? else {
                break;
            };
            let SimpleQueryMessage::Row(row) = row else {
                continue;
            };
            let Some(read) = table.rows.read(&row) else {
                continue;
            };
            let name = read.name(&self.stream);
            let verdict = self.seen.verdict(name);
            if verdict == Verdict::Wait {
                continue;
            }
            let number = match verdict {
                Verdict::Send => {
                    new = new.saturating_add(1);
                    bytes = bytes.saturating_add(read.bytes());
                    read.send(&table.rows, name, &mut self.stream)
                }
                _ => 0,
            };
            let id = read.id.map(str::to_owned);
            let sent = Sent { number, table: index, name, id, version: read.version };
            if verdict == Verdict::Send { self.seen.sent(sent) } else { self.left.push(sent) }
        }
        let (whole, full) = (bytes < PAGE_BYTES, new >= self.page);
        let batch = batch(&self.polling);
        self.page = match (whole, full) {
            (true, true) => self.page.saturating_mul(2).min(batch.saturating_mul(GROWS)),
            (true, false) => batch,
            (false, _) => new.max(1),
        };
        let next = if whole && !full { index.saturating_add(1) } else { index };
        self.round = Some(next);
        Ok(())
    }

    /// Marks or deletes what Kafka has.
    async fn finish(&mut self, catalog: &Catalog) -> Result<(), Ended> {
        while !self.left.is_empty() {
            let table = self.left.first().map_or(0, |row| row.table);
            let (rows, rest) = std::mem::take(&mut self.left).into_iter().partition(|row| row.table == table);
            self.left = rest;
            self.finish_rows(catalog, rows).await?;
        }
        loop {
            let rows = self.seen.confirmed(self.stream.confirmed(), TOGETHER);
            if rows.is_empty() {
                return Ok(());
            }
            self.finish_rows(catalog, rows).await?;
        }
    }

    async fn finish_rows(&mut self, catalog: &Catalog, rows: Vec<Sent>) -> Result<(), Error> {
        const ACTION: &str = "mark or delete published rows";
        let Some(table) = rows.first().and_then(|row| self.tables.get(row.table)) else {
            return Ok(());
        };
        let ids: Vec<_> = rows.iter().map(|row| row.id.as_deref()).collect();
        let versions: Vec<_> = rows.iter().map(|row| row.version.xmin.as_str()).collect();
        let done = catalog.query(ACTION, &table.finish, &[&ids, &versions]).await?;
        for row in &done {
            let number: i64 = row.try_get(0).map_err(wrong(ACTION))?;
            let index = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
            if let Some(row) = rows.get(index) {
                self.seen.finished(row.name);
            }
        }
        Ok(())
    }
}

fn batch(polling: &Polling) -> usize {
    usize::try_from(polling.batch).unwrap_or(usize::MAX)
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
