//! What a session asks PostgreSQL beside its stream, so that the simulation can answer in its place.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::ack::ConfirmedLsn;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Control, Kin, Slot};
use crate::postgres::error::Error;
use crate::postgres::publication::Publication;
use crate::wal::pgoutput::RelationId;

/// A control connection, as far as a session needs one while it streams: [`Control`], or what stands in for it in the
/// simulation.
pub(super) trait ControlLink: Send {
    /// Looks at publication, slot and outboxes.
    fn look(
        &self,
        publication: &str,
        slot: &str,
        outboxes: Vec<RelationId>,
        version_num: u32,
    ) -> Asked<Looked>;

    /// Asks for what table `id` is a part of, and for its own parts.
    fn kin(&self, id: RelationId) -> Asked<Option<Kin>>;

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

/// What a look at the catalog shows.
pub(super) struct Looked {
    pub(super) publication: Option<Publication>,
    pub(super) slot: Option<Box<Slot>>,
    /// Outboxes that are not there any more.
    pub(super) dropped: Vec<RelationId>,
}

/// The link of a session whose rows come by a query: whoever asks the query hears what is wrong.
pub(super) struct Unasked;

impl ControlLink for Unasked {
    fn look(&self, _: &str, _: &str, _: Vec<RelationId>, _: u32) -> Asked<Looked> {
        Box::pin(async { Ok(Looked { publication: None, slot: None, dropped: Vec::new() }) })
    }

    fn kin(&self, _: RelationId) -> Asked<Option<Kin>> {
        Box::pin(async { Ok(None) })
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
    fn look(
        &self,
        publication: &str,
        slot: &str,
        outboxes: Vec<RelationId>,
        version_num: u32,
    ) -> Asked<Looked> {
        let (catalog, publication, slot) = (self.catalog(), publication.to_owned(), slot.to_owned());
        Box::pin(async move {
            let publication = catalog.publication(&publication, &slot, version_num).await?;
            let dropped = catalog.dropped(&outboxes).await?;
            Ok(Looked { publication, slot: catalog.slot(&slot).await?.map(Box::new), dropped })
        })
    }

    fn kin(&self, id: RelationId) -> Asked<Option<Kin>> {
        let catalog = self.catalog();
        Box::pin(async move { catalog.kin(id).await })
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
