//! What the session learns from the control connection while it streams.
//!
//! Every 10 s it looks at the publication and the slot; when a row of an unknown table comes, it looks that table up.
//! When the control connection ends it is made again, but the end itself is news: at a shutdown PostgreSQL ends
//! ordinary connections within a second, and keeps walsenders waiting.

use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::ack::ConfirmedLsn;
use crate::config;
use crate::findings::{self, Finding};
use crate::outbox::TableName;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control, Kin, Slot, Table};
use crate::postgres::error::Error;
use crate::postgres::publication::Publication;
use crate::postgres::survey::Outbox;
use crate::wal::pgoutput::RelationId;

/// The control connection of a session, and the question that is under way on it.
pub(super) struct ControlWatch {
    server: ConnInfo,
    outboxes: Vec<Outbox>,
    version_num: u32,
    control: Option<Control>,
    asked: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    unresolved: Option<Unresolved>,
    unresolved_since: Instant,
    look_at: Instant,
    /// How long a look may take.
    patience: Duration,
}

/// A table that is neither configured nor known not to be an outbox.
#[derive(Debug, Clone)]
pub(super) struct Unresolved {
    pub(super) id: RelationId,
    pub(super) table: TableName,
}

/// What was learned.
pub(super) enum Seen {
    /// Nothing that matters.
    Nothing,
    /// The publication and the slot as they are now, and the outboxes that are not there any more.
    State { publication: Option<Publication>, slot: Option<Box<Slot>>, dropped: Vec<RelationId> },
    /// The unknown table is no outbox.
    Elsewhere(RelationId),
    /// The unknown table is, or may have been, an outbox.
    Ours(Finding),
    /// A look got no answer in time.
    Unanswered,
    /// The control connection is gone, and is being made again.
    Gone(Error),
}

enum Answer {
    State(Result<Seen, Error>),
    Kin(Result<Option<Kin>, Error>),
    Control(Result<Control, Error>),
}

/// Time between two looks at publication and slot (design: every 10 s).
const LOOK: Duration = Duration::from_secs(10);

/// Pause before the control connection is made again.
const RECONNECT: Duration = Duration::from_millis(500);

impl ControlWatch {
    pub(super) fn new(
        control: Control,
        server: ConnInfo,
        outboxes: Vec<Outbox>,
        version_num: u32,
        patience: Duration,
        now: Instant,
    ) -> Self {
        Self {
            server,
            outboxes,
            version_num,
            control: Some(control),
            asked: None,
            unresolved: None,
            unresolved_since: now,
            look_at: now,
            patience,
        }
    }

    /// Looks `table` up; the answer is [`Seen::Elsewhere`] or [`Seen::Ours`].
    pub(super) fn resolve(&mut self, table: Unresolved) {
        self.unresolved = Some(table);
        self.unresolved_since = Instant::now();
        self.ask_for_unresolved();
    }

    /// The next look is due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.look_at = self.look_at.min(now);
    }

    /// Looks at publication and slot, if it is time and nothing else is being asked.
    pub(super) fn look_if_due(&mut self, now: Instant, postgres: &config::Postgres) {
        // A table that could not be looked up, for whatever reason, keeps everything waiting: it comes first.
        self.ask_for_unresolved();
        if self.look_at > now || self.asked.is_some() {
            return;
        }
        if let Some(catalog) = self.control.as_ref().map(Control::catalog) {
            self.look_at = now.checked_add(LOOK).unwrap_or(now);
            let (publication, slot) = (postgres.publication.clone(), postgres.slot.clone());
            let (version_num, limit) = (self.version_num, self.patience);
            let outboxes: Vec<_> = self.outboxes.iter().map(|outbox| outbox.table.id).collect();
            self.asked = Some(Box::pin(async move {
                let state = state(&catalog, &publication, &slot, &outboxes, version_num);
                let action = "look at publication and slot";
                let late = |_| Err(Error::Timeout { action: action.into(), limit });
                Answer::State(tokio::time::timeout(limit, state).await.unwrap_or_else(late))
            }));
        }
    }

    /// Waits for an answer, or for the connection's end.
    ///
    /// # Cancel safety
    /// Safe: questions under way are kept in `self`.
    pub(super) async fn wait(&mut self) -> Seen {
        tokio::select! {
            biased;
            // First: a question on a connection that has ended fails at once, as often as it is asked.
            error = ended(&mut self.control) => {
                self.control = None;
                self.reconnect();
                Seen::Gone(error)
            }
            answer = answer(&mut self.asked) => {
                self.asked = None;
                self.answered(answer)
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Seen {
        match answer {
            Answer::State(Ok(state)) => {
                self.ask_for_unresolved();
                state
            }
            Answer::Kin(Ok(kin)) => match self.unresolved.take() {
                Some(unresolved) => self.resolved(&unresolved, kin),
                None => Seen::Nothing,
            },
            Answer::Control(Ok(control)) => {
                self.control = Some(control);
                self.ask_for_unresolved();
                Seen::Nothing
            }
            Answer::Control(Err(error)) => {
                self.reconnect();
                Seen::Gone(error)
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

    /// The configured tables as they were when the session began.
    pub(super) fn outboxes(&self) -> &[Outbox] {
        &self.outboxes
    }

    /// An unknown table is ours if it is part of an outbox, or an outbox is part of it.
    fn resolved(&self, Unresolved { id, table }: &Unresolved, kin: Option<Kin>) -> Seen {
        let Some(kin) = kin else {
            return Seen::Ours(findings::table_gone(table));
        };
        if self.ours(&kin.above).is_some() {
            return Seen::Ours(findings::partition_leaf(table));
        }
        match self.ours(&kin.below) {
            Some(outbox) => Seen::Ours(findings::partition_root(table, &outbox.table.name)),
            None => Seen::Elsewhere(*id),
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
        match &self.control {
            Some(control) => control.catalog().confirm(slot, confirmed).await,
            None => Err(Error::Closed { action: "control connection".into() }),
        }
    }

    fn ask_for_unresolved(&mut self) {
        let catalog = self.control.as_ref().map(Control::catalog);
        if let (Some(catalog), Some(Unresolved { id, .. }), None) = (catalog, &self.unresolved, &self.asked) {
            let id = *id;
            self.asked = Some(Box::pin(async move { Answer::Kin(catalog.kin(id).await) }));
        }
    }

    fn reconnect(&mut self) {
        let server = self.server.clone();
        self.asked = Some(Box::pin(async move {
            tokio::time::sleep(RECONNECT).await;
            Answer::Control(Control::connect(&server).await.map(|(control, _)| control))
        }));
    }
}

async fn state(
    catalog: &Catalog,
    publication: &str,
    slot: &str,
    outboxes: &[RelationId],
    version_num: u32,
) -> Result<Seen, Error> {
    let publication = catalog.publication(publication, slot, version_num).await?;
    let dropped = catalog.dropped(outboxes).await?;
    Ok(Seen::State { publication, slot: catalog.slot(slot).await?.map(Box::new), dropped })
}

async fn answer(asked: &mut Option<Pin<Box<dyn Future<Output = Answer> + Send>>>) -> Answer {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

async fn ended(control: &mut Option<Control>) -> Error {
    match control {
        Some(control) => control.ended().await,
        None => std::future::pending().await,
    }
}
