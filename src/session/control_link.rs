//! What a session asks PostgreSQL beside its stream, so that the simulation can answer in its place.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::ack::ConfirmedLsn;
use crate::outbox::TablePattern;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Control, Kin, Slot};
use crate::postgres::error::Error;
use crate::postgres::outboxes::Newcomer;
use crate::postgres::publication::{Publication, Version};
use crate::wal::pgoutput::RelationId;

/// A control connection, as far as a session needs one while it streams: [`Control`], or what stands in for it in the
/// simulation.
pub(super) trait ControlLink: Send {
    /// Looks at publication, slot and outboxes.
    fn look(&self, at: Look) -> Asked<Looked>;

    /// Asks for what table `id` is a part of, and for its own parts; and what `publication` does with those.
    fn kin(&self, id: RelationId, publication: &str) -> Asked<Found>;

    /// Tells the server by SQL that everything up to `confirmed` is done with, for a slot that nobody uses.
    fn confirm(&self, slot: &str, confirmed: ConfirmedLsn) -> Asked<()>;

    /// Connects again to `server`, which it was connected to.
    fn again(&self, server: ConnInfo) -> Asked<Box<dyn ControlLink>>;

    /// Ready with the reason when the connection has ended; not to be polled again then.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Error>;

    /// Whether there is anything to look at: what a publication or a slot are now matters to rows from the write-ahead log only.
    fn looks(&self) -> bool {
        true
    }
}

/// A question that is under way.
pub(super) type Asked<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What is looked at.
pub(super) struct Look {
    pub(super) publication: String,
    pub(super) slot: String,
    /// The outboxes that are known.
    pub(super) outboxes: Vec<RelationId>,
    /// `outbox.tables`.
    pub(super) entries: Vec<TablePattern>,
    pub(super) version_num: u32,
}

/// What was found of a table that nobody has named.
pub(super) struct Found {
    /// Its kin; nothing if it is not in the catalog.
    pub(super) kin: Option<Kin>,
    /// The publication's version, if it sends the rows of partitions under the names of their roots.
    pub(super) of_roots: Option<Version>,
}

/// What a look at the catalog shows.
pub(super) struct Looked {
    pub(super) publication: Option<Publication>,
    pub(super) slot: Option<Box<Slot>>,
    /// Outboxes that are not there any more.
    pub(super) dropped: Vec<RelationId>,
    /// Tables that patterns mean and that are not known.
    pub(super) newcomers: Vec<Newcomer>,
}

/// The link of a session whose rows come by a query: whoever asks the query hears what is wrong.
pub(super) struct Unasked;

impl ControlLink for Unasked {
    fn look(&self, _: Look) -> Asked<Looked> {
        let nothing = Looked { publication: None, slot: None, dropped: Vec::new(), newcomers: Vec::new() };
        Box::pin(async { Ok(nothing) })
    }

    fn kin(&self, _: RelationId, _: &str) -> Asked<Found> {
        Box::pin(async { Ok(Found { kin: None, of_roots: None }) })
    }

    fn confirm(&self, _: &str, _: ConfirmedLsn) -> Asked<()> {
        Box::pin(async { Ok(()) })
    }

    fn again(&self, _: ConnInfo) -> Asked<Box<dyn ControlLink>> {
        Box::pin(async { Ok(Box::new(Self) as Box<dyn ControlLink>) })
    }

    fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<Error> {
        Poll::Pending
    }

    fn looks(&self) -> bool {
        false
    }
}

impl ControlLink for Control {
    fn look(&self, at: Look) -> Asked<Looked> {
        let catalog = self.catalog();
        Box::pin(async move {
            // First: what is made and published meanwhile is not taken for one that is not published.
            let newcomers = catalog.newcomers(&at.entries, &at.outboxes).await?;
            let publication = catalog.publication(&at.publication, &at.slot, at.version_num).await?;
            let dropped = catalog.dropped(&at.outboxes).await?;
            let slot = catalog.slot(&at.slot).await?.map(Box::new);
            Ok(Looked { publication, slot, dropped, newcomers })
        })
    }

    fn kin(&self, id: RelationId, publication: &str) -> Asked<Found> {
        let (catalog, publication) = (self.catalog(), publication.to_owned());
        Box::pin(async move {
            let kin = catalog.kin(id).await?;
            Ok(Found { kin, of_roots: catalog.of_roots(&publication).await? })
        })
    }

    fn confirm(&self, slot: &str, confirmed: ConfirmedLsn) -> Asked<()> {
        let (catalog, slot) = (self.catalog(), slot.to_owned());
        Box::pin(async move { catalog.confirm(&slot, confirmed).await })
    }

    fn again(&self, server: ConnInfo) -> Asked<Box<dyn ControlLink>> {
        Box::pin(async move {
            let (control, _) = Self::connect(&server).await?;
            Ok(Box::new(control) as Box<dyn ControlLink>)
        })
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        Self::poll_ended(self, context)
    }
}
