//! How events get from the table to the relay, and what that changes for the torture.

use crate::cleaning::Action;
use crate::schedule::Fault;

/// The ways there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By logical replication.
    Log,
    /// The same; the outbox is partitioned, and partitions come and go.
    Partitions,
    /// By logical replication; and now and then the slot is dropped, and a backfill makes it anew.
    Backfill,
    /// By logical replication, and the relay does this with published rows.
    Swept(Action),
    /// By the status of rows, which are then marked.
    Mark,
    /// By the status of rows, which are then deleted.
    Delete,
}

impl Mode {
    /// Rows stay until they are sent, because they are read from the table; and their order is that of `created_at`, so no two
    /// have the same.
    pub(crate) const fn reads_the_table(self) -> bool {
        !matches!(self, Self::Log | Self::Partitions | Self::Swept(_))
    }

    /// There is no slot.
    pub(crate) const fn polls(self) -> bool {
        matches!(self, Self::Mark | Self::Delete)
    }

    /// What the table needs beside what the files of `sql/` make.
    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Log | Self::Partitions | Self::Swept(_) => "",
            _ => {
                "CREATE SEQUENCE written;
                 ALTER TABLE outbox
                     ALTER created_at SET DEFAULT timestamptz '2026-01-01' + nextval('written') * interval '1 microsecond',
                     ADD status text NOT NULL DEFAULT 'PENDING', ADD published_at timestamptz;
                 CREATE INDEX ON outbox (created_at, id) WHERE status = 'PENDING';
                 GRANT SELECT, UPDATE, DELETE ON outbox TO outbox_relay;
                 ALTER SEQUENCE written CACHE 1"
            }
        }
    }

    /// The relay's settings.
    pub(crate) const fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Log | Self::Partitions => &["outbox.message_prefix=outbox"],
            Self::Swept(action) => action.settings(),
            Self::Backfill => &["postgres.backfill=true"],
            Self::Mark => &["outbox.source=poll", "after_publish.action=mark", "poll.interval=100ms"],
            Self::Delete => &["outbox.source=poll", "after_publish.action=delete", "poll.interval=100ms"],
        }
    }

    /// How old rows are removed, as a service does it; `None`: they are not.
    pub(crate) fn clean(self, kept: &str) -> Option<String> {
        match self {
            Self::Log | Self::Partitions => {
                Some(format!("DELETE FROM outbox WHERE created_at < now() - interval '{kept}'"))
            }
            Self::Mark => Some(format!(
                "DELETE FROM outbox WHERE status = 'PUBLISHED' AND published_at < now() - interval '{kept}'"
            )),
            Self::Backfill | Self::Delete | Self::Swept(_) => None,
        }
    }

    /// What the relay does with published rows beside the stream.
    pub(crate) const fn swept(self) -> Option<Action> {
        if let Self::Swept(action) = self { Some(action) } else { None }
    }

    /// What does not happen here.
    pub(crate) const fn missing(self) -> &'static [Fault] {
        match self {
            Self::Log | Self::Partitions | Self::Swept(_) => &[Fault::SlotDropped],
            Self::Backfill => &[],
            // There is no walsender.
            Self::Mark | Self::Delete => {
                &[Fault::SlotDropped, Fault::WalsenderEnded, Fault::WalsenderFrozen, Fault::BackendKilled]
            }
        }
    }
}
