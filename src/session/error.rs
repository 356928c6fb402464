//! Why a session ended, and whether another one may do better.

use std::time::Duration;

use crate::disposition::Disposition;
use crate::lsn::Lsn;
use crate::metrics::End;
use crate::outbox::{TableError, TableName};
use crate::postgres::error::ServerError;
use crate::wal::TimelineHistoryError;
use crate::{kafka, postgres, relay};

/// The end of a session that was not asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A connection to PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::error::Error),
    /// The stream's content.
    #[error(transparent)]
    Stream(#[from] relay::Error),
    /// The producer is of no use any more.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// Something in PostgreSQL is not as the relay needs it.
    #[error(transparent)]
    Setting(#[from] Setting),
    /// The server's timeline history.
    #[error(transparent)]
    TimelineHistory(#[from] TimelineHistoryError),
    /// The server shuts down and waits for this connection.
    #[error("PostgreSQL is shutting down: {0}")]
    ServerStopping(&'static str),
    /// The server ended the stream.
    #[error("PostgreSQL ended the replication stream")]
    StreamEnded,
}

/// Something in PostgreSQL that somebody has to put right. The relay refuses to go on: it would lose events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Setting {
    /// No such publication.
    #[error("publication \"{publication}\" does not exist in database \"{database}\"")]
    NoPublication {
        /// Its name.
        publication: String,
        /// The database.
        database: String,
        /// What it should publish.
        tables: Vec<TableName>,
    },
    /// It does not publish INSERTs.
    #[error("publication \"{0}\" does not publish INSERTs")]
    NoInserts(String),
    /// It lacks an outbox table.
    #[error("publication \"{publication}\" does not publish table \"{table}\"")]
    NotPublished {
        /// Its name.
        publication: String,
        /// The table.
        table: TableName,
    },
    /// No such table.
    #[error("table \"{table}\" does not exist in database \"{database}\"")]
    NoTable {
        /// Its name.
        table: TableName,
        /// The database.
        database: String,
    },
    /// No such slot, and `postgres.create_slot` is off.
    #[error("replication slot \"{0}\" does not exist, and postgres.create_slot is false")]
    NoSlot(String),
    /// The slot was there, and was dropped by somebody.
    #[error(
        "slot \"{slot}\" is gone: somebody has dropped it. It was confirmed up to {confirmed} when it was seen last"
    )]
    SlotGone {
        /// Its name.
        slot: String,
        /// What it had confirmed when it was seen last.
        confirmed: Lsn,
    },
    /// The slot is for something else.
    #[error("slot \"{slot}\": {what} is {found}, expected {expected}")]
    OtherSlot {
        /// Its name.
        slot: String,
        /// What does not fit.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The server has removed WAL that the slot needs.
    #[error("slot \"{slot}\" is lost (wal_status = lost): the WAL after {} was removed", at(.confirmed))]
    SlotLost {
        /// Its name.
        slot: String,
        /// What it had confirmed.
        confirmed: Option<Lsn>,
    },
    /// Commits would wait until Kafka has confirmed.
    #[error(
        "synchronous_standby_names = '{setting}' includes the relay (\"{name}\"): commits would wait for Kafka"
    )]
    Synchronous {
        /// The server's setting.
        setting: String,
        /// The relay's application_name.
        name: String,
    },
    /// The server passes over a publication it cannot find at the slot's position (PostgreSQL 18 only warns).
    #[error("PostgreSQL skips rows of the outbox: {0}")]
    PublicationSkipped(Box<ServerError>),
    /// A partition came by itself, not as its root.
    #[error("rows of partition \"{partition}\" are published under its own name, not that of its table")]
    PartitionLeaf {
        /// The partition.
        partition: TableName,
    },
    /// A published table that is gone from the catalog: it may have been an outbox.
    #[error("rows of table \"{table}\" are in the stream, but the table is not in the catalog any more")]
    TableGone {
        /// The table.
        table: TableName,
    },
}

/// A table's name for SQL.
fn quoted(TableName { schema, name }: &TableName) -> String {
    format!("\"{}\".\"{}\"", schema.replace('"', "\"\""), name.replace('"', "\"\""))
}

fn at(position: &Option<Lsn>) -> Lsn {
    position.unwrap_or(Lsn::ZERO)
}

impl Error {
    /// Whether to try again. Each side decides for its own errors; here is what lies between them.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Postgres(error) => error.disposition(),
            Self::Kafka(error) => error.disposition(),
            Self::ServerStopping(_) | Self::StreamEnded => Disposition::Retry,
            Self::Stream(_) | Self::TimelineHistory(_) | Self::Setting(_) => Disposition::Stop,
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

    /// How a session that it ended is counted.
    #[must_use]
    pub fn end(&self) -> End {
        match self {
            Self::Kafka(_) => End::Kafka,
            _ => End::Postgres,
        }
    }

    /// What to do about it, for a person.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Postgres(error) => {
                let server = error.server()?;
                server.hint.clone().or_else(|| of_code(server).map(str::to_owned))
            }
            Self::Stream(relay::Error::Table(TableError::Unknown { table, .. })) => {
                Some(format!("add \"{table}\" to outbox.tables, or take it out of the publication"))
            }
            Self::Stream(relay::Error::Mapping(_)) => {
                Some("set [outbox.columns], [outbox.headers] and [route] to the table's columns".to_owned())
            }
            Self::Stream(_) | Self::TimelineHistory(_) | Self::ServerStopping(_) | Self::StreamEnded => None,
            Self::Kafka(error) => error.hint(),
            Self::Setting(setting) => Some(setting.hint()),
        }
    }
}

/// What to do about an error of the server that has no hint of its own.
fn of_code(error: &ServerError) -> Option<&'static str> {
    match error.code.as_str() {
        "28P01" => Some("correct the password in postgres.url, PGPASSWORD or the password file (~/.pgpass)"),
        "42501" => Some(
            "the relay's role needs LOGIN, REPLICATION and, on the database, CONNECT: as a superuser, \
             ALTER ROLE … LOGIN REPLICATION",
        ),
        // Said while a change is decoded: the server looks for the publication as it was at that change.
        "42704" if error.where_.is_some() => Some(NEW_PUBLICATION),
        _ => None,
    }
}

const NEW_PUBLICATION: &str = "the publication was made, or made again, after the slot's position, or is gone. Make it, if it is gone; then drop \
     the slot, let the relay make a new one, and send the rows that were written before that from the table";

impl Setting {
    fn hint(&self) -> String {
        match self {
            Self::NoPublication { publication, tables, .. } => format!(
                "as the table's owner: CREATE PUBLICATION \"{publication}\" FOR TABLE {} WITH (publish = 'insert', \
                 publish_via_partition_root = true)",
                tables.iter().map(quoted).collect::<Vec<_>>().join(", ")
            ),
            Self::NoInserts(publication) => {
                format!("ALTER PUBLICATION \"{publication}\" SET (publish = 'insert')")
            }
            Self::NotPublished { publication, table } => format!(
                "ALTER PUBLICATION \"{publication}\" ADD TABLE {}; for a partitioned table also SET \
                 (publish_via_partition_root = true). Rows that were written meanwhile will not be sent",
                quoted(table)
            ),
            Self::NoTable { .. } => "create it, or name the right one in outbox.tables".to_owned(),
            Self::NoSlot(slot) => format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"),
            Self::SlotGone { .. } => "what was committed after that position and not sent will not come again by itself. \
                                      Start the relay: it makes the slot anew, from then on; and send those rows again \
                                      from the table"
                .to_owned(),
            Self::OtherSlot { .. } => {
                "name another slot in postgres.slot, or drop this one if nobody needs it".to_owned()
            }
            Self::SlotLost { slot, .. } => format!(
                "what was committed after that position and not sent is lost to this slot. Send those rows again from \
                 the table, then SELECT pg_drop_replication_slot('{slot}') and start the relay, and raise \
                 max_slot_wal_keep_size"
            ),
            Self::Synchronous { .. } => {
                "name the physical standbys in synchronous_standby_names, or give the relay an \
                                        application_name that is not there, in postgres.url"
                    .to_owned()
            }
            Self::PublicationSkipped(_) => NEW_PUBLICATION.to_owned(),
            Self::PartitionLeaf { .. } => {
                "ALTER PUBLICATION … SET (publish_via_partition_root = true)".to_owned()
            }
            Self::TableGone { .. } => {
                "if it was no outbox, take it out of the publication and make a new slot; if it was \
                                       one, its last events are in the WAL that this slot holds"
                    .to_owned()
            }
        }
    }
}
