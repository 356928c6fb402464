//! `[after_publish]`: what becomes of a row once Kafka has confirmed its record.
//!
//! A sweep (`sweep.rs`, or `partitions.rs` for whole partitions) beside the session, with a connection of its own, and no memory.
//! It does not know which rows were sent, but when all were that there are at some moment:
//!
//! ```text
//!  look      xmin of a snapshot: every transaction before it has ended
//!            L, the end of the log, read after the snapshot
//!  wait      until the session has reported a position at or behind L
//!  change    rows that a transaction before xmin has committed, and that are still there
//! ```
//!
//! Why no row is touched too early: `horizon.rs`. None stays for ever, since each pass begins anew with all rows. Nothing waits for
//! it: the session tells it what was reported, and asks it for nothing; its transactions are short, and wait for no lock and no
//! disk. Rows never travel: `statements.rs` makes the SQL, `walk.rs` and `rest.rs` say how much at once, all of them pure.

mod ask;
mod horizon;
mod partitions;
mod rest;
mod rights;
mod statements;
mod sweep;
mod walk;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Action, Config};
use crate::lsn::Lsn;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::survey::Outbox;

pub use horizon::Origin;
pub use rights::{grant, index, marked};
use sweep::Sweep;

/// What the session tells the sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    /// What PostgreSQL was told.
    pub position: Lsn,
    /// Records that Kafka has confirmed so far.
    pub delivered: u64,
    /// Whether there is a backlog.
    pub catching_up: bool,
}

/// What the sweep tells the session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Rows that were deleted or marked, or partitions that were dropped.
    pub changed: u64,
    /// Why it cannot go on at present.
    pub error: Option<String>,
}

/// The sweep of a session. It ends when this is dropped.
#[derive(Debug)]
pub struct Cleaner {
    reported: watch::Sender<Reported>,
    told: watch::Receiver<Told>,
    task: JoinHandle<()>,
}

impl Cleaner {
    /// Begins to sweep the `outboxes` on `server`, of which `origin` says which one the session streams from. Nothing if rows
    /// are kept.
    #[must_use]
    pub fn start(config: &Config, server: &ConnInfo, outboxes: &[Outbox], origin: Origin) -> Option<Self> {
        if config.after_publish.action == Action::Keep {
            return None;
        }
        let (reported, hears) = watch::channel(Reported::default());
        let (tells, told) = watch::channel(Told::default());
        let sweep = Sweep::new(config, server.clone(), outboxes, origin, hears, tells);
        Some(Self { reported, told, task: tokio::spawn(sweep.run()) })
    }

    /// The session has reported.
    pub fn reported(&self, reported: Reported) {
        self.reported.send_replace(reported);
    }

    /// What it has done so far.
    #[must_use]
    pub fn told(&self) -> Told {
        self.told.borrow().clone()
    }
}

/// A statement that runs meanwhile ends by itself, and the next pass does the rest.
impl Drop for Cleaner {
    fn drop(&mut self) {
        self.task.abort();
    }
}
