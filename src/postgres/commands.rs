//! The replication commands, and the simple query under them. Source: PostgreSQL documentation, "Streaming Replication
//! Protocol"; the grammar is `repl_gram.y`, whose strings know no backslash escapes.

use std::io;

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;

use super::connection::Connection;
use super::error::{Action, Error};
use super::messages::Received;
use crate::lsn::Lsn;

/// The first release that takes options of CREATE_REPLICATION_SLOT in parentheses.
const SLOT_OPTIONS_SINCE: u32 = 15;
/// The first release that can keep a logical slot on the standbys.
const FAILOVER_SINCE: u32 = 17;

/// The answer to IDENTIFY_SYSTEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Names the cluster, across its standbys.
    pub system_id: String,
    /// Its current timeline: one more after each promotion.
    pub timeline: u32,
    /// How far its log is flushed.
    pub xlog_pos: Lsn,
    /// The database we are connected to.
    pub database: Option<String>,
}

/// The answer to CREATE_REPLICATION_SLOT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Its name.
    pub name: String,
    /// Transactions that commit after this position come through the slot.
    pub consistent_point: Lsn,
}

/// The answer to CREATE_REPLICATION_SLOT where a snapshot was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporarySlot {
    /// What the snapshot shows was committed before this position, and nothing else was.
    pub consistent_point: Lsn,
    /// The name of the snapshot, for `SET TRANSACTION SNAPSHOT` until the next command on this connection.
    pub snapshot: String,
}

/// A row of a simple query: each column as text, or NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(Vec<Option<Bytes>>);

impl Row {
    /// The bytes of column `index`, from 0; `None`: NULL, or no such column.
    #[must_use]
    pub fn bytes(&self, index: usize) -> Option<&Bytes> {
        self.0.get(index)?.as_ref()
    }

    /// The text of column `index`, from 0; `None`: NULL, no such column, or not UTF-8.
    #[must_use]
    pub fn text(&self, index: usize) -> Option<&str> {
        self.bytes(index).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    fn read(body: &DataRowBody) -> io::Result<Self> {
        let whole = body.buffer_bytes();
        let columns = body.ranges().map(|range| Ok(range.map(|range| whole.slice(range))));
        Ok(Self(columns.collect()?))
    }
}

/// What a command led to.
enum Answer {
    Rows(Vec<Row>),
    CopyBoth,
}

impl Connection {
    /// IDENTIFY_SYSTEM.
    ///
    /// # Errors
    ///
    /// As [`Connection::simple_query`].
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, Error> {
        let rows = self.simple_query("identify system", "IDENTIFY_SYSTEM").await?;
        let identity = rows.first().and_then(|row| {
            Some(SystemIdentity {
                system_id: row.text(0)?.to_owned(),
                timeline: row.text(1)?.parse().ok()?,
                xlog_pos: row.text(2)?.parse().ok()?,
                database: row.text(3).map(str::to_owned),
            })
        });
        identity.ok_or_else(|| self.other_row("system identifier, timeline and position"))
    }

    /// TIMELINE_HISTORY: the content of the history file of `timeline`. Timeline 1 has none.
    ///
    /// # Errors
    ///
    /// As [`Connection::simple_query`]; 58P01 if there is no such file.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Vec<u8>, Error> {
        let action = format!("read the history of timeline {timeline}");
        let rows = self.simple_query(action, &format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.first().and_then(|row| row.bytes(1)).map(|bytes| bytes.to_vec());
        content.ok_or_else(|| self.other_row("a file name and its content"))
    }

    /// Makes a permanent logical slot for `pgoutput`, without a snapshot. `failover` asks for it to be kept on the
    /// standbys as well, where the server can (17 or newer). Waits for every transaction that is open now.
    ///
    /// # Errors
    ///
    /// As [`Connection::simple_query`]; 42710 if it exists.
    pub async fn create_slot(&mut self, name: &str, failover: bool) -> Result<CreatedSlot, Error> {
        let options = match self.server.major {
            major if major < SLOT_OPTIONS_SINCE => "NOEXPORT_SNAPSHOT",
            major if failover && major >= FAILOVER_SINCE => "(SNAPSHOT 'nothing', FAILOVER)",
            _ => "(SNAPSHOT 'nothing')",
        };
        let command = format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput {options}", identifier(name));
        let rows = self.simple_query(format!("create replication slot \"{name}\""), &command).await?;
        let created = rows.first().and_then(|row| {
            Some(CreatedSlot { name: row.text(0)?.to_owned(), consistent_point: row.text(1)?.parse().ok()? })
        });
        created.ok_or_else(|| self.other_row("slot name and consistent point"))
    }

    /// Makes a logical slot for `pgoutput` that lives as long as this connection, and exports the snapshot that belongs to its
    /// position. Waits for every transaction that is open now.
    ///
    /// # Errors
    ///
    /// As [`Connection::simple_query`]; 42710 if it exists.
    pub async fn create_temporary_slot(&mut self, name: &str) -> Result<TemporarySlot, Error> {
        let options =
            if self.server.major < SLOT_OPTIONS_SINCE { "EXPORT_SNAPSHOT" } else { "(SNAPSHOT 'export')" };
        let command =
            format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput {options}", identifier(name));
        let rows = self.simple_query(format!("create temporary slot \"{name}\""), &command).await?;
        let created = rows.first().and_then(|row| {
            let snapshot = row.text(2)?.to_owned();
            Some(TemporarySlot { consistent_point: row.text(1)?.parse().ok()?, snapshot })
        });
        created.ok_or_else(|| self.other_row("slot name, consistent point and snapshot"))
    }

    /// Makes the permanent slot `name` at the position of `temporary`, one of this connection's. It is kept on the standbys as well
    /// where the server can (17 or newer) and `failover` asks for it: a temporary slot cannot be, so it does not come with
    /// the copy.
    ///
    /// # Errors
    ///
    /// As [`Connection::simple_query`]; 42710 if it exists.
    pub async fn keep_slot(&mut self, temporary: &str, name: &str, failover: bool) -> Result<(), Error> {
        let copy = format!(
            "SELECT pg_copy_logical_replication_slot({}, {}, false)",
            literal(temporary),
            literal(name)
        );
        self.simple_query(format!("make slot \"{name}\""), &copy).await?;
        if failover && self.server.major >= FAILOVER_SINCE {
            let alter = format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", identifier(name));
            self.simple_query(format!("make slot \"{name}\" a failover slot"), &alter).await?;
        }
        Ok(())
    }

    /// Starts streaming from `slot`, at the position the slot has itself, and returns when the server has agreed.
    /// Then come [`Connection::next_frame`] and [`Connection::progress`]. With `messages`, those of `pg_logical_emit_message` are
    /// sent as well.
    ///
    /// # Errors
    ///
    /// As [`Connection::simple_query`]; 55006 if somebody else uses the slot.
    pub async fn start_replication(
        &mut self,
        slot: &str,
        publications: &[&str],
        messages: bool,
    ) -> Result<(), Error> {
        let action = format!("start replication from slot \"{slot}\"");
        match self.run(action.into(), &start_command(slot, publications, messages)).await? {
            Answer::CopyBoth => {
                self.action = format!("stream from slot \"{slot}\"").into();
                Ok(())
            }
            Answer::Rows(_) => Err(self.other_row("CopyBothResponse")),
        }
    }

    /// Runs `sql`, a replication command or one SQL statement, and returns its rows. Errors tell `action`.
    ///
    /// Not to be cancelled: the answer would be taken for that of the next command.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if the server refuses; unless it is FATAL, the connection can be used further.
    pub async fn simple_query(&mut self, action: impl Into<Action>, sql: &str) -> Result<Vec<Row>, Error> {
        match self.run(action.into(), sql).await? {
            Answer::Rows(rows) => Ok(rows),
            Answer::CopyBoth => Err(self.unexpected(&Received::CopyBothResponse, "rows")),
        }
    }

    async fn run(&mut self, action: Action, sql: &str) -> Result<Answer, Error> {
        self.action = action;
        self.queue(|output| frontend::query(sql, output))?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let received = match self.message().await {
                // The server goes on to ReadyForQuery after an ERROR, and away after anything worse.
                Err(error) if error.server().is_some_and(|e| e.severity == "ERROR") && refused.is_none() => {
                    refused = Some(error);
                    continue;
                }
                received => received?,
            };
            match received {
                Received::Other(Message::DataRow(body)) => {
                    rows.push(Row::read(&body).map_err(|_| self.other_row("a well-formed row"))?);
                }
                Received::Other(
                    Message::RowDescription(_) | Message::CommandComplete(_) | Message::EmptyQueryResponse,
                ) => {}
                Received::Other(Message::ReadyForQuery(_)) => {
                    return refused.map_or(Ok(Answer::Rows(rows)), Err);
                }
                Received::CopyBothResponse => return Ok(Answer::CopyBoth),
                other => return Err(self.unexpected(&other, "rows or the end of the command")),
            }
        }
    }

    /// Adds a message to what is to be written.
    pub(super) fn queue(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), Error> {
        let before = self.wire.output.len();
        write(&mut self.wire.output).map_err(|cause| {
            // A NUL in a name: the writer has stopped half way.
            self.wire.output.truncate(before);
            Error::Io { action: self.action.clone(), cause }
        })
    }

    fn other_row(&self, expected: &'static str) -> Error {
        Error::Protocol { action: self.action.clone(), came: "another answer".to_owned(), expected }
    }
}

fn start_command(slot: &str, publications: &[&str], messages: bool) -> String {
    let publications: Vec<String> = publications.iter().map(|name| identifier(name)).collect();
    // 0/0: the slot knows where to go on. Protocol 1: a transaction comes after its commit, whole, row by row.
    format!(
        "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {}{})",
        identifier(slot),
        literal(&publications.join(",")),
        if messages { ", messages 'true'" } else { "" }
    )
}

/// `name` as PostgreSQL reads it back, unfolded: `"a ""b"" c"`.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a string of the replication grammar.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_inside_and_outside() {
        assert_eq!(
            start_command("orders", &["a", "Ö \"b\"", "it's, \\"], false),
            "START_REPLICATION SLOT \"orders\" LOGICAL 0/0 (proto_version '1', publication_names \
             '\"a\",\"Ö \"\"b\"\"\",\"it''s, \\\"')"
        );
    }
    /// Trap 4.11 of docs/traps.md. A position of ours could only be too high, or be passed over.
    #[test]
    fn the_slot_says_where_streaming_starts() {
        let command = start_command("s", &["p"], true);
        assert!(command.contains(" LOGICAL 0/0 ("), "{command}");
    }

    /// Trap 4.19 of docs/traps.md. `streaming` is an option of later protocols.
    #[test]
    fn a_transaction_comes_after_its_commit() {
        let command = start_command("s", &["p"], true);
        assert!(command.contains("proto_version '1'") && !command.contains("streaming"), "{command}");
    }
}
