//! Why a session ended, and whether another one may do better.

use std::time::Duration;

use crate::disposition::Disposition;
use crate::findings::{self, Finding, Findings};
use crate::metrics::End;
use crate::outbox::TableError;
use crate::postgres::conninfo::ConnInfo;
use crate::wal::TimelineHistoryError;
use crate::{kafka, postgres, relay};

/// The end of a session that was not asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A connection to PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::error::Error),
    /// The replication connection could not be had.
    #[error(transparent)]
    Replication(postgres::error::Error),
    /// The stream's content.
    #[error(transparent)]
    Stream(#[from] relay::Error),
    /// The producer is of no use any more.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// Something in PostgreSQL is not as the relay needs it.
    #[error(transparent)]
    Found(#[from] Findings),
    /// The server's timeline history.
    #[error(transparent)]
    TimelineHistory(#[from] TimelineHistoryError),
    /// The server shuts down and waits for this connection.
    #[error("PostgreSQL is shutting down: {0}")]
    ServerStopping(&'static str),
    /// The server ended the stream.
    #[error("PostgreSQL ended the replication stream")]
    StreamEnded,
    /// All rows that were in the table are sent, and the slot is made.
    #[error("the backfill is done")]
    Backfilled,
    /// The replication connection is open and of no use.
    #[error("the replication connection is lost: {0}")]
    Lost(String),
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Found(finding.into())
    }
}

impl Error {
    /// Whether to try again. Each side decides for its own errors; here is what lies between them.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Postgres(error) | Self::Replication(error) => error.disposition(),
            Self::Found(findings) => findings.disposition(),
            Self::Kafka(error) => error.disposition(),
            Self::ServerStopping(_) | Self::StreamEnded | Self::Backfilled | Self::Lost(_) => {
                Disposition::Retry
            }
            Self::Stream(_) | Self::TimelineHistory(_) => Disposition::Stop,
        }
    }

    /// The shortest time until the next try. A server that shuts down must first be let go.
    #[must_use]
    pub fn least_delay(&self) -> Duration {
        match self {
            Self::ServerStopping(_) => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }

    /// Kafka has refused a batch: the next session looks for the record at fault.
    #[must_use]
    pub fn is_refused_batch(&self) -> bool {
        matches!(self, Self::Kafka(error) if error.is_refused_batch())
    }

    /// It in one line, for a page.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Found(findings) => findings.line(),
            // Whom to ask for what is worth a second one.
            Self::Kafka(error) => match error.hint() {
                Some(hint) => format!("{error}; {hint}"),
                None => error.to_string(),
            },
            other => other.to_string(),
        }
    }

    /// How a session that it ended is counted.
    #[must_use]
    pub fn end(&self) -> End {
        match self {
            Self::Kafka(_) => End::Kafka,
            Self::Backfilled => End::Stopped,
            _ => End::Postgres,
        }
    }

    /// What to do about it, for a person.
    #[must_use]
    pub fn hint(&self, info: &ConnInfo) -> Option<String> {
        match self {
            Self::Postgres(error) => Some(findings::of_login(error, info).fix),
            Self::Replication(error) => Some(findings::of_replication(error, info).fix),
            Self::Stream(relay::Error::Table(TableError::Unknown { table, .. })) => {
                Some(format!("add \"{table}\" to outbox.tables, or take it out of the publication"))
            }
            Self::Stream(relay::Error::Mapping(_)) => {
                Some(
                    "set [outbox.columns], [outbox.headers] and [route] to the table's columns. A row that was written \
                     before the table was changed comes as the table was then: where a column was renamed, start once \
                     with the old names, until the relay has passed those rows. A column that the table has, and the \
                     message does not list, is left out by the publication's column list (outbox-relay check shows it)"
                        .to_owned(),
                )
            }
            Self::Stream(_)
            | Self::TimelineHistory(_)
            | Self::ServerStopping(_)
            | Self::StreamEnded
            | Self::Backfilled
            | Self::Lost(_) => None,
            Self::Kafka(error) => error.hint(),
            Self::Found(findings) => findings.hint().map(str::to_owned),
        }
    }
}
