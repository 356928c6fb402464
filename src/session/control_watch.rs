//! What the session learns from the control connection while it streams.
//!
//! Every 10 s it looks at the publication and the slot, and sooner if the stream is silent; when a row of an unknown table
//! comes, it looks that table up. When the control connection ends it is made again, but the end itself is news: at a
//! shutdown PostgreSQL ends ordinary connections within a second, and keeps walsenders waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use super::control_link::{ControlLink, Looked};
use crate::ack::ConfirmedLsn;
use crate::clock;
use crate::config;
use crate::findings::{self, Finding};
use crate::outbox::TableName;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Kin, Table};
use crate::postgres::error::Error;
use crate::postgres::survey::Outbox;
use crate::wal::pgoutput::RelationId;

/// The control connection of a session, and the question that is under way on it.
pub(super) struct ControlWatch {
    server: ConnInfo,
    outboxes: Vec<Outbox>,
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
    /// What publication, slot and outboxes are now.
    State(Looked),
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
    State(Result<Looked, Error>),
    Kin(Result<Option<Kin>, Error>),
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
        outboxes: Vec<Outbox>,
        version_num: u32,
        patience: Duration,
        now: Instant,
    ) -> Self {
        Self {
            server,
            outboxes,
            version_num,
            control,
            connected: true,
            asked: None,
            unresolved: None,
            unresolved_since: now,
            look_at: now,
            patience,
            silent: false,
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
    pub(super) fn look_if_due(&mut self, now: Instant, postgres: &config::Postgres, silent: bool) {
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
            let outboxes = self.outboxes.iter().map(|outbox| outbox.table.id).collect();
            let limit = self.patience;
            let looked = self.control.look(&postgres.publication, &postgres.slot, outboxes, self.version_num);
            self.asked = Some(Box::pin(async move {
                let action = "look at publication and slot";
                let late = |_| Err(Error::Timeout { action: action.into(), limit });
                Answer::State(tokio::time::timeout(limit, looked).await.unwrap_or_else(late))
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
            error = poll_fn(|context| self.control.poll_ended(context)), if self.connected => {
                self.connected = false;
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
            Answer::State(Ok(looked)) => {
                self.ask_for_unresolved();
                Seen::State(looked)
            }
            Answer::Kin(Ok(kin)) => match self.unresolved.take() {
                Some(unresolved) => self.resolved(&unresolved, kin),
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
        if !self.connected {
            return Err(Error::Closed { action: "control connection".into() });
        }
        self.control.confirm(slot, confirmed).await
    }

    fn ask_for_unresolved(&mut self) {
        if let (true, Some(Unresolved { id, .. }), None) = (self.connected, &self.unresolved, &self.asked) {
            let kin = self.control.kin(*id);
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
        fn look(&self, _: &str, _: &str, _: Vec<RelationId>, _: u32) -> Asked<Looked> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(Looked { publication: None, slot: None, dropped: Vec::new() }) })
        }

        fn kin(&self, _: RelationId) -> Asked<Option<Kin>> {
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
        let needed =
            [("postgres.url", "postgres://outbox_relay@db/shop"), ("kafka.bootstrap.servers", "kafka:9092")];
        let needed = needed.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = crate::config::load(None, std::iter::empty(), &needed).unwrap();
        let server = ConnInfo::parse("postgres://outbox_relay@db/shop", &|_| None, &|_| None).unwrap();
        let (start, patience) = (Instant::now(), Duration::from_secs(5));
        let looks = Arc::new(AtomicU32::new(0));
        let control = Box::new(Counted(Arc::clone(&looks)));
        let mut watch = ControlWatch::new(control, server, Vec::new(), 170_000, patience, start);
        let mut looked_at = Vec::new();
        for second in 0..40 {
            let before = looks.load(Ordering::Relaxed);
            watch.look_if_due(
                start + Duration::from_secs(second),
                &config.postgres,
                (13..25).contains(&second),
            );
            if looks.load(Ordering::Relaxed) > before {
                looked_at.push(second);
                assert!(matches!(watch.wait().await, Seen::State(_)));
            }
        }
        assert_eq!(looked_at, [0, 10, 13, 18, 23, 28, 38]);
    }
}
