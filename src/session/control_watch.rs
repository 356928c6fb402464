//! What the session learns from the control connection while it streams.
//!
//! Every 10 s it looks at the publication and the slot, and sooner if the stream is silent; when a row of an unknown table
//! comes, it looks that table up. When the control connection ends it is made again, but the end itself is news: at a
//! shutdown PostgreSQL ends ordinary connections within a second, and keeps walsenders waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use super::control_link::{ControlLink, Found, Look, Looked};
use crate::ack::ConfirmedLsn;
use crate::clock;
use crate::config::Config;
use crate::findings::{self, Finding};
use crate::outbox::{TableName, TablePattern};
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::Table;
use crate::postgres::error::Error;
use crate::postgres::survey::{Outbox, Survey};
use crate::wal::pgoutput::RelationId;

/// The control connection of a session, and the question that is under way on it.
pub(super) struct ControlWatch {
    server: ConnInfo,
    outboxes: Vec<Outbox>,
    entries: Vec<TablePattern>,
    publication: String,
    version_num: u32,
    control: Box<dyn ControlLink>,
    connected: bool,
    asked: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    unresolved: Option<Unresolved>,
    unresolved_since: Instant,
    look_at: Instant,
    /// How long a look may take.
    patience: Duration,
    /// The stream was silent the last time.
    silent: bool,
    /// The last look showed what would stop the relay.
    doubted: bool,
}

/// What is watched.
pub(super) struct Subjects {
    /// The outboxes that are known.
    pub(super) outboxes: Vec<Outbox>,
    /// `outbox.tables`.
    pub(super) entries: Vec<TablePattern>,
    /// The publication's name.
    pub(super) publication: String,
    /// `server_version_num`.
    pub(super) version_num: u32,
}

impl Subjects {
    /// What `survey` has found of what `config` names.
    pub(super) fn new(survey: Survey, config: &Config) -> Self {
        Self {
            version_num: survey.server.version_num,
            outboxes: survey.tables.into_iter().flat_map(|meant| meant.found).collect(),
            entries: config.outbox.tables.clone(),
            publication: config.postgres.publication.clone(),
        }
    }

    /// The outboxes' object ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = RelationId> {
        self.outboxes.iter().map(|outbox| outbox.table.id)
    }
}

/// A table that is neither configured nor known not to be an outbox.
#[derive(Debug, Clone)]
pub(super) struct Unresolved {
    /// The transaction that wrote the row.
    pub(super) xid: u32,
    pub(super) id: RelationId,
    pub(super) table: TableName,
}

/// What was learned.
pub(super) enum Seen {
    /// Nothing that matters.
    Nothing,
    /// What publication, slot and outboxes are now.
    State(Looked),
    /// The unknown table is no outbox.
    Elsewhere(RelationId),
    /// The unknown table was dropped, and cannot have been a part of an outbox.
    Gone(Unresolved),
    /// The unknown table is, or may have been, an outbox.
    Ours(Finding),
    /// A look got no answer in time.
    Unanswered,
    /// The control connection is gone, and is being made again.
    Lost(Error),
}

enum Answer {
    State(Result<Looked, Error>),
    Kin(Result<Found, Error>),
    Control(Result<Box<dyn ControlLink>, Error>),
}

/// Time between two looks at publication and slot (design: every 10 s).
const LOOK: Duration = Duration::from_secs(10);

/// Pause before the control connection is made again.
const RECONNECT: Duration = Duration::from_millis(500);

impl ControlWatch {
    pub(super) fn new(
        control: Box<dyn ControlLink>,
        server: ConnInfo,
        Subjects { outboxes, entries, publication, version_num }: Subjects,
        patience: Duration,
        now: Instant,
    ) -> Self {
        Self {
            server,
            outboxes,
            entries,
            publication,
            version_num,
            control,
            connected: true,
            asked: None,
            unresolved: None,
            unresolved_since: now,
            look_at: now,
            patience,
            silent: false,
            doubted: false,
        }
    }

    /// Looks `table` up; the answer is [`Seen::Elsewhere`] or [`Seen::Ours`].
    pub(super) fn resolve(&mut self, table: Unresolved) {
        self.unresolved = Some(table);
        self.unresolved_since = clock::now();
        self.ask_for_unresolved();
    }

    /// Looks at publication and slot, if it is time and nothing else is being asked. It is time at once when the stream
    /// falls `silent`, and from then on as often as a server that is well can answer.
    pub(super) fn look_if_due(&mut self, now: Instant, slot: &str, silent: bool) {
        if silent && !self.silent {
            self.look_at = now;
        }
        self.silent = silent;
        // A table that could not be looked up, for whatever reason, keeps everything waiting: it comes first.
        self.ask_for_unresolved();
        if self.look_at > now || self.asked.is_some() || !self.control.looks() {
            return;
        }
        if self.connected {
            let pause = if silent { self.patience } else { LOOK };
            self.look_at = now.checked_add(pause).unwrap_or(now);
            let limit = self.patience;
            let looked = self.control.look(Look {
                publication: self.publication.clone(),
                slot: slot.to_owned(),
                outboxes: self.outboxes.iter().map(|outbox| outbox.table.id).collect(),
                entries: self.entries.clone(),
                version_num: self.version_num,
            });
            self.asked = Some(Box::pin(async move {
                let action = "look at publication and slot";
                let late = |_| Err(Error::Timeout { action: action.into(), limit });
                Answer::State(tokio::time::timeout(limit, looked).await.unwrap_or_else(late))
            }));
        }
    }

    /// Looks again at once, because what the last look has shown would stop the relay, and may have been seen by halves. A look
    /// is several queries, and not even one is of one moment: what `pg_publication_tables` calls waits for the lock of a table
    /// that is being dropped, and then sees what its query cannot see yet.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted = true;
        self.look_at = now;
    }

    /// Whether the look before this one was doubted, which this one is not then.
    pub(super) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubted)
    }

    /// Waits for an answer, or for the connection's end.
    ///
    /// # Cancel safety
    /// Safe: questions under way are kept in `self`.
    pub(super) async fn wait(&mut self) -> Seen {
        tokio::select! {
            biased;
            // First: a question on a connection that has ended fails at once, as often as it is asked.
            error = poll_fn(|context| self.control.poll_ended(context)), if self.connected => {
                self.connected = false;
                self.reconnect();
                Seen::Lost(error)
            }
            answer = answer(&mut self.asked) => {
                self.asked = None;
                self.answered(answer)
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Seen {
        match answer {
            Answer::State(Ok(looked)) => {
                self.ask_for_unresolved();
                Seen::State(looked)
            }
            Answer::Kin(Ok(found)) => match self.unresolved.take() {
                Some(unresolved) => self.resolved(unresolved, found),
                None => Seen::Nothing,
            },
            Answer::Control(Ok(control)) => {
                self.control = control;
                self.connected = true;
                self.ask_for_unresolved();
                Seen::Nothing
            }
            Answer::Control(Err(error)) => {
                self.reconnect();
                Seen::Lost(error)
            }
            // If the connection is gone, its end tells; after any other failure the next tick asks again.
            Answer::State(Err(Error::Timeout { .. })) => Seen::Unanswered,
            Answer::State(Err(error)) | Answer::Kin(Err(error)) => {
                tracing::debug!("control connection: {error}");
                Seen::Nothing
            }
        }
    }

    /// The table that is being looked up, and since when.
    pub(super) fn unresolved(&self) -> Option<(&TableName, Instant)> {
        self.unresolved.as_ref().map(|unresolved| (&unresolved.table, self.unresolved_since))
    }

    /// The server.
    pub(super) fn server(&self) -> &ConnInfo {
        &self.server
    }

    /// The configured tables as they were when the session began, or when they were found.
    pub(super) fn outboxes(&self) -> &[Outbox] {
        &self.outboxes
    }

    /// Takes in tables that patterns mean, and that were found published.
    pub(super) fn add(&mut self, newcomers: Vec<Outbox>) {
        self.outboxes.extend(newcomers);
    }

    /// Forgets those of the `dropped` outboxes that only a pattern means: their rows that have not come yet will come, and nobody
    /// expects the table to be there. Gives their names.
    pub(super) fn forget(&mut self, dropped: &[RelationId]) -> Vec<TableName> {
        let named = |name: &TableName| self.entries.iter().any(|entry| entry.exact().as_ref() == Some(name));
        let gone = |outbox: &&Outbox| dropped.contains(&outbox.table.id) && !named(&outbox.table.name);
        let gone: Vec<Table> = self.outboxes.iter().filter(gone).map(|outbox| outbox.table.clone()).collect();
        self.outboxes.retain(|outbox| !gone.contains(&outbox.table));
        gone.into_iter().map(|table| table.name).collect()
    }

    /// An unknown table is ours if it is part of an outbox, or an outbox is part of it. One that is not in the catalog any more
    /// cannot have been if no part of an outbox comes under its own name, and did not when the row was written.
    fn resolved(&self, unresolved: Unresolved, Found { kin, of_roots }: Found) -> Seen {
        let table = &unresolved.table;
        let Some(kin) = kin else {
            // Tables that inherit in the old way come under their own names whatever the publication says.
            let inherited = self.outboxes.iter().any(|outbox| outbox.inherited);
            let whole = !inherited && of_roots.is_some_and(|version| version.is_older_than(unresolved.xid));
            return if whole { Seen::Gone(unresolved) } else { Seen::Ours(findings::table_gone(table)) };
        };
        if self.ours(&kin.above).is_some() {
            return Seen::Ours(findings::partition_leaf(table));
        }
        match self.ours(&kin.below) {
            Some(outbox) => Seen::Ours(findings::partition_root(table, &outbox.table.name)),
            None => Seen::Elsewhere(unresolved.id),
        }
    }

    fn ours(&self, tables: &[Table]) -> Option<&Outbox> {
        self.outboxes.iter().find(|outbox| tables.iter().any(|table| outbox.table.is_same(table)))
    }

    /// Tells PostgreSQL by SQL what a stream that has failed can tell it no more.
    ///
    /// # Errors
    /// If there is no connection, or the server refuses.
    pub(super) async fn confirm(&self, slot: &str, confirmed: ConfirmedLsn) -> Result<(), Error> {
        if !self.connected {
            return Err(Error::Closed { action: "control connection".into() });
        }
        self.control.confirm(slot, confirmed).await
    }

    fn ask_for_unresolved(&mut self) {
        if let (true, Some(Unresolved { id, .. }), None) = (self.connected, &self.unresolved, &self.asked) {
            let kin = self.control.kin(*id, &self.publication);
            self.asked = Some(Box::pin(async move { Answer::Kin(kin.await) }));
        }
    }

    fn reconnect(&mut self) {
        let control = self.control.again(self.server.clone());
        self.asked = Some(Box::pin(async move {
            tokio::time::sleep(RECONNECT).await;
            Answer::Control(control.await)
        }));
    }
}

async fn answer(asked: &mut Option<Pin<Box<dyn Future<Output = Answer> + Send>>>) -> Answer {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll};

    use super::super::control_link::Asked;
    use super::*;

    /// A control connection that counts the looks, and answers each at once.
    struct Counted(Arc<AtomicU32>);

    impl ControlLink for Counted {
        fn look(&self, _: Look) -> Asked<Looked> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                Ok(Looked { publication: None, slot: None, dropped: Vec::new(), newcomers: Vec::new() })
            })
        }

        fn kin(&self, _: RelationId, _: &str) -> Asked<Found> {
            unreachable!("no table is unknown")
        }

        fn confirm(&self, _: &str, _: ConfirmedLsn) -> Asked<()> {
            unreachable!("nothing is confirmed")
        }

        fn again(&self, _: ConnInfo) -> Asked<Box<dyn ControlLink>> {
            unreachable!("the connection does not end")
        }

        fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<Error> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_silent_stream_is_looked_at_at_once_and_then_once_in_a_while() {
        let server = ConnInfo::parse("postgres://outbox_relay@db/shop", &|_| None, &|_| None).unwrap();
        let (start, patience) = (Instant::now(), Duration::from_secs(5));
        let looks = Arc::new(AtomicU32::new(0));
        let control = Box::new(Counted(Arc::clone(&looks)));
        let subjects = Subjects {
            outboxes: Vec::new(),
            entries: Vec::new(),
            publication: "outbox_relay".to_owned(),
            version_num: 170_000,
        };
        let mut watch = ControlWatch::new(control, server, subjects, patience, start);
        let mut looked_at = Vec::new();
        for second in 0..40 {
            let before = looks.load(Ordering::Relaxed);
            let silent = (13..25).contains(&second);
            watch.look_if_due(start + Duration::from_secs(second), "outbox_relay", silent);
            if looks.load(Ordering::Relaxed) > before {
                looked_at.push(second);
                assert!(matches!(watch.wait().await, Seen::State(_)));
            }
        }
        assert_eq!(looked_at, [0, 10, 13, 18, 23, 28, 38]);
    }
}
