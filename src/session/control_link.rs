//! What a session asks PostgreSQL beside its stream, so that the simulation can answer in its place.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Control, Slot, Table};
use crate::postgres::error::Error;
use crate::postgres::survey::Publication;
use crate::wal::pgoutput::RelationId;

/// A control connection, as far as a session needs one while it streams: [`Control`], or what stands in for it in the
/// simulation.
pub(super) trait ControlLink: Send {
    /// Asks for publication and slot as they are now.
    fn state(&self, publication: &str, slot: &str, version_num: u32) -> Asked<State>;

    /// Asks for the tables that table `id` is a partition of, and itself.
    fn ancestors(&self, id: RelationId) -> Asked<Vec<Table>>;

    /// Connects again to `server`, which it was connected to.
    fn again(&self, server: ConnInfo) -> Asked<Box<dyn ControlLink>>;

    /// Ready with the reason when the connection has ended; not to be polled again then.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Error>;
}

/// A question that is under way.
pub(super) type Asked<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Publication and slot.
pub(super) type State = (Option<Publication>, Option<Box<Slot>>);

impl ControlLink for Control {
    fn state(&self, publication: &str, slot: &str, version_num: u32) -> Asked<State> {
        let (catalog, publication, slot) = (self.catalog(), publication.to_owned(), slot.to_owned());
        Box::pin(async move {
            let publication = catalog.publication(&publication, &slot, version_num).await?;
            Ok((publication, catalog.slot(&slot).await?.map(Box::new)))
        })
    }

    fn ancestors(&self, id: RelationId) -> Asked<Vec<Table>> {
        let catalog = self.catalog();
        Box::pin(async move { catalog.ancestors(id).await })
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
