//! A server with one slot: what it confirms, who streams from it, whether it is there, and what its catalog says.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::dice::Dice;
use super::plan::{ELSEWHERE, FIRST, OUTBOXES, Plan};
use super::walsender::Walsender;
use super::witness::Witness;
use crate::ack::ConfirmedLsn;
use crate::lsn::Lsn;
use crate::outbox::TableName;
use crate::postgres::connection::Connection;
use crate::postgres::conninfo::{Address, ConnInfo, Host};
use crate::postgres::control::{Kin, Slot, Table};
use crate::postgres::error::Error;
use crate::postgres::publication::{Publication, Published};
use crate::postgres::survey::{Kind, Outbox};
use crate::session::control_link::{Asked, ControlLink, Found, Look, Looked};
use crate::wal::pgoutput::RelationId;

/// The server. Walsenders, control connections and those who disturb it share it.
pub(super) struct Postgres {
    pub(super) plan: Arc<Plan>,
    pub(super) witness: Arc<Witness>,
    state: Mutex<Server>,
    /// Changes whenever a walsender should look at the state.
    stirred: watch::Sender<()>,
}

pub(super) struct Server {
    pub(super) dice: Dice,
    pub(super) up: bool,
    /// It shuts down since then, and waits for its walsender.
    pub(super) stopping: Option<Instant>,
    /// What the slot was told last.
    pub(super) confirmed: u64,
    /// What of that is on disk.
    saved: u64,
    /// The walsender that uses the slot.
    pub(super) holder: Option<u32>,
    walsenders: u32,
    /// Connections opened before number … are cut.
    pub(super) cut_before: u32,
    /// The walsenders' connections swallow everything until then.
    pub(super) frozen_until: Instant,
    /// Walsenders decode a large transaction of other tables until then, and hear and say nothing.
    pub(super) busy_until: Instant,
    /// The relay is kept from answering until then: no one is to blame if it does not.
    pub(super) excused_until: Instant,
    /// The next connection breaks after so many bytes.
    pub(super) cut_after: Option<u64>,
    /// How long the catalog takes to answer.
    pub(super) catalog_delay: Duration,
    controls: Vec<oneshot::Sender<()>>,
}

impl Server {
    /// All connections of walsenders break.
    pub(super) fn cut_all(&mut self) {
        self.cut_before = self.walsenders;
    }
}

impl Postgres {
    pub(super) fn new(plan: Arc<Plan>, witness: Arc<Witness>) -> Self {
        let now = Instant::now();
        let server = Server {
            dice: Dice::new(plan.seed, 1),
            up: true,
            stopping: None,
            confirmed: FIRST,
            saved: FIRST,
            holder: None,
            walsenders: 0,
            cut_before: 0,
            frozen_until: now,
            busy_until: now,
            excused_until: now,
            cut_after: None,
            catalog_delay: Duration::from_millis(2),
            controls: Vec::new(),
        };
        Self { plan, witness, state: Mutex::new(server), stirred: watch::Sender::new(()) }
    }

    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and has everybody look.
    pub(super) fn change(&self, change: impl FnOnce(&mut Server)) {
        change(&mut self.server());
        self.stirred.send_replace(());
    }

    /// Who is to be told of changes.
    pub(super) fn stirred(&self) -> watch::Receiver<()> {
        self.stirred.subscribe()
    }

    /// A connection to a new walsender, and that one's number.
    pub(super) fn connect(self: &Arc<Self>) -> Result<(Connection, u32), Error> {
        let mut server = self.server();
        if !server.up || server.stopping.is_some() {
            let cause = io::ErrorKind::ConnectionRefused.into();
            return Err(Error::Connect { host: "simulated".to_owned(), cause });
        }
        let buffer = [512, 8_192, 65_536][server.dice.below(3)];
        let (ours, theirs): (DuplexStream, DuplexStream) = tokio::io::duplex(buffer);
        let number = server.walsenders;
        server.walsenders += 1;
        let cut_after = server.cut_after.take();
        let dice = Dice::new(self.plan.seed, 1_000 + u64::from(number));
        drop(server);
        tokio::spawn(Walsender::new(Arc::clone(self), theirs, number, cut_after, dice).run());
        let host = Host { address: Address::Tcp("simulated".to_owned()), port: 5432, password: None };
        Ok((Connection::from_socket(Box::new(ours), host), number))
    }

    /// A control connection.
    pub(super) fn control(self: &Arc<Self>) -> Result<Box<dyn ControlLink>, Error> {
        let mut server = self.server();
        if !server.up || server.stopping.is_some() {
            let cause = io::ErrorKind::ConnectionRefused.into();
            return Err(Error::Connect { host: "simulated".to_owned(), cause });
        }
        let (alive, ended) = oneshot::channel();
        server.controls.retain(|control| !control.is_closed());
        server.controls.push(alive);
        Ok(Box::new(SimulatedControl { postgres: Arc::clone(self), ended }))
    }

    /// Ends all control connections.
    pub(super) fn cut_controls(&self) {
        self.server().controls.clear();
    }

    /// Takes in a status update from a client that was told of positions up to `sent`.
    pub(super) fn told(&self, flushed: u64, sent: u64) {
        let mut server = self.server();
        if flushed > sent {
            self.witness.wrong(&format!("{flushed:X} is acknowledged, and only {sent:X} was sent"));
        }
        if flushed < server.confirmed {
            self.witness.wrong(&format!("{flushed:X} is acknowledged after {:X}", server.confirmed));
        }
        if flushed > server.confirmed {
            server.confirmed = flushed;
            if server.dice.once_in(4) {
                server.saved = flushed;
            }
            drop(server);
            self.witness.note(|| format!("postgres: {flushed:X} is acknowledged"));
            self.witness.acknowledged(flushed);
        }
    }

    /// Everything breaks at once, and what the slot was told since it was saved is forgotten.
    pub(super) fn crash(&self) {
        self.change(|server| {
            server.up = false;
            server.confirmed = server.saved;
            server.cut_before = server.walsenders;
            server.controls.clear();
        });
    }

    /// It is there (again).
    pub(super) fn start(&self) {
        self.change(|server| {
            server.up = true;
            server.stopping = None;
            server.cut_before = server.walsenders;
            server.saved = server.confirmed;
        });
    }

    /// Where the log ends now: others write as well, between the transactions of the plan.
    pub(super) fn end_of_log(&self) -> u64 {
        let elapsed = self.witness.elapsed();
        let transactions = &self.plan.transactions;
        let next = transactions.partition_point(|written| written.at <= elapsed);
        let last = next.checked_sub(1).map(|last| &transactions[last]);
        let end = last.map_or(FIRST, |written| written.transaction.end_lsn().as_u64());
        let since = elapsed.saturating_sub(last.map_or(Duration::ZERO, |written| written.at));
        let others = u64::try_from(since.as_millis()).unwrap() * 8;
        let limit = transactions.get(next).map(|written| written.transaction.commit_lsn.as_u64());
        (end + others).min(limit.unwrap_or(u64::MAX))
    }
}

/// The configured outboxes, as the catalog has them.
pub(super) fn outboxes() -> Vec<Outbox> {
    let outbox = |(id, schema): (u32, &str)| Outbox {
        table: named(id, schema, "outbox"),
        kind: Kind::Plain,
        unlogged: false,
        columns: Vec::new(),
        has_rows: false,
        readable: false,
        inherited: false,
    };
    OUTBOXES.map(outbox).into()
}

/// The publication, as the catalog has it.
pub(super) fn publication() -> Publication {
    let published = outboxes().into_iter().map(|outbox| outbox.table);
    let published: Vec<_> = published
        .chain([named(ELSEWHERE.0, "public", "orders")])
        .map(|table| Published { table, columns: None, row_filter: None, listed: None })
        .collect();
    Publication {
        id: 1,
        version: 1,
        owner: 10,
        inserts: true,
        further: Vec::new(),
        via_root: true,
        all_tables: false,
        listed: published.iter().map(|published| published.table.id).collect(),
        tables: published,
        perhaps_newer: false,
    }
}

fn named(id: u32, schema: &str, name: &str) -> Table {
    Table { id: RelationId(id), name: TableName { schema: schema.to_owned(), name: name.to_owned() } }
}

/// A control connection, which ends when its sender is dropped.
struct SimulatedControl {
    postgres: Arc<Postgres>,
    ended: oneshot::Receiver<()>,
}

impl SimulatedControl {
    /// Answers after the time that it takes, unless the connection ends first.
    fn answer<T: Send + 'static>(&self, answer: impl FnOnce(&Postgres) -> T + Send + 'static) -> Asked<T> {
        let postgres = Arc::clone(&self.postgres);
        Box::pin(async move {
            let mut stirred = postgres.stirred();
            let asked = Instant::now();
            loop {
                let (delay, up) = {
                    let server = postgres.server();
                    (server.catalog_delay, server.up && server.stopping.is_none())
                };
                if !up {
                    return Err(Error::Closed { action: "control connection".into() });
                }
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(asked + delay) => return Ok(answer(&postgres)),
                    _ = stirred.changed() => {}
                }
            }
        })
    }
}

impl ControlLink for SimulatedControl {
    fn look(&self, _: Look) -> Asked<Looked> {
        self.answer(|postgres| {
            let server = postgres.server();
            let slot = Slot {
                confirmed_flush: Some(Lsn::new(server.confirmed)),
                active_pid: server.holder.map(|number| i32::try_from(number).unwrap()),
                walsender_waits: server.busy_until <= Instant::now(),
                ..Slot::default()
            };
            Looked {
                publication: Some(publication()),
                slot: Some(Box::new(slot)),
                dropped: Vec::new(),
                newcomers: Vec::new(),
            }
        })
    }

    fn kin(&self, id: RelationId, _: &str) -> Asked<Found> {
        let kin = move || Kin { above: vec![named(id.0, "public", "orders")], below: Vec::new() };
        self.answer(move |_| Found { kin: Some(kin()), of_roots: None })
    }

    fn confirm(&self, _: &str, confirmed: ConfirmedLsn) -> Asked<()> {
        let lsn = confirmed.lsn().as_u64();
        self.answer(move |postgres| {
            let before = postgres.server().confirmed;
            if before < lsn {
                postgres.told(lsn, lsn);
            }
        })
    }

    fn again(&self, _: ConnInfo) -> Asked<Box<dyn ControlLink>> {
        let postgres = Arc::clone(&self.postgres);
        Box::pin(async move { postgres.control() })
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let ended = Pin::new(&mut self.ended).poll(context);
        ended.map(|_| Error::Closed { action: "control connection".into() })
    }
}
