//! The messages of the `pgoutput` plugin, protocol version 1.
//!
//! Version 1 sends a transaction after its commit, row by row: `Begin`, then relations, types and rows, then `Commit`.
//! A message lies in one [`Bytes`]; decoding checks all of it and copies names only. The columns of a row stay where
//! they are and are sliced on demand.

mod decode;

use bytes::{Bytes, BytesMut};

use super::timestamp::PgTimestamp;
use crate::lsn::Lsn;

/// One pgoutput message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction starts.
    Begin(Begin),
    /// The transaction ends.
    Commit(Commit),
    /// The transaction was replicated to the server from elsewhere.
    Origin(Origin),
    /// Describes a table; comes before its first row and again after it was changed.
    Relation(Relation),
    /// Describes a column type that is not built in; comes before the relation that uses it.
    Type(Type),
    /// A new row.
    Insert(Insert),
    /// A changed row.
    Update(Update),
    /// A removed row.
    Delete(Delete),
    /// Emptied tables.
    Truncate(Truncate),
    /// Content of `pg_logical_emit_message`.
    Logical(Logical),
}

/// `Begin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Position of the commit record: unique, and grows in stream order.
    pub commit_lsn: Lsn,
    /// When it was committed.
    pub commit_time: PgTimestamp,
    /// Transaction id.
    pub xid: u32,
}

/// `Commit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Position of the commit record, as in `Begin`.
    pub commit_lsn: Lsn,
    /// End of the commit record. Confirming it tells the server that the transaction is not needed again.
    pub end_lsn: Lsn,
    /// When it was committed.
    pub commit_time: PgTimestamp,
}

/// `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Position of the commit on the origin server.
    pub commit_lsn: Lsn,
    /// Name of the origin.
    pub name: String,
}

/// `Relation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Object id of the table.
    pub id: RelationId,
    /// Schema; empty for `pg_catalog`.
    pub schema: String,
    /// Name of the table.
    pub name: String,
    /// `pg_class.relreplident`.
    pub replica_identity: u8,
    /// The published columns, in the order of a row.
    pub columns: Vec<Column>,
}

/// Object id of a table: rows name it, a `Relation` message explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

/// A column in a `Relation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Part of the replica identity.
    pub key: bool,
    /// Its name.
    pub name: String,
    /// Object id of its type.
    pub type_id: u32,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
}

/// `Type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Object id of the type; for a domain, the domain's.
    pub id: u32,
    /// Schema; empty for `pg_catalog`. For a domain, that of its base type.
    pub schema: String,
    /// Name. For a domain, that of its base type.
    pub name: String,
}

/// `Insert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The table.
    pub relation: RelationId,
    /// The new row.
    pub new: Tuple,
}

/// `Update`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The table.
    pub relation: RelationId,
    /// The old row or its key, if the replica identity asks for it.
    pub old: Option<Old>,
    /// The new row.
    pub new: Tuple,
}

/// `Delete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The table.
    pub relation: RelationId,
    /// The removed row or its key.
    pub old: Old,
}

/// What is known of a row before its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old {
    /// The columns of the replica identity; the others are NULL.
    Key(Tuple),
    /// The whole row (`REPLICA IDENTITY FULL`).
    Row(Tuple),
}

/// `Truncate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// 1: CASCADE, 2: RESTART IDENTITY.
    pub options: u8,
    /// The tables.
    pub relations: Vec<RelationId>,
}

/// `Message`: content of `pg_logical_emit_message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logical {
    /// Part of the surrounding transaction; else it stands for itself.
    pub transactional: bool,
    /// Its position.
    pub lsn: Lsn,
    /// Its prefix.
    pub prefix: String,
    /// Its content.
    pub content: Bytes,
}

/// The columns of one row: the message it came in, and where each value lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    message: Bytes,
    values: Vec<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Null,
    Unchanged,
    Text { at: usize, len: usize },
    Binary { at: usize, len: usize },
}

/// The value of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A TOASTed value that an UPDATE did not touch, and that is therefore not sent.
    Unchanged,
    /// As the type's output function prints it, in the client's encoding.
    Text(Bytes),
    /// As the type's send function writes it; only with `binary 'true'`, which the relay does not ask for.
    Binary(Bytes),
}

/// A row that no table has: its values as text, `None` for NULL.
impl FromIterator<Option<Bytes>> for Tuple {
    fn from_iter<I: IntoIterator<Item = Option<Bytes>>>(values: I) -> Self {
        let mut message = BytesMut::new();
        let place = |value: Option<Bytes>| {
            let Some(text) = value else { return Place::Null };
            let at = message.len();
            message.extend_from_slice(&text);
            Place::Text { at, len: text.len() }
        };
        let values = values.into_iter().map(place).collect();
        Self { message: message.freeze(), values }
    }
}

impl Tuple {
    /// How many columns it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// A row of a table without columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value at `index`, counted from 0: a slice of the message, not a copy. `None` beyond the last column.
    #[must_use]
    pub fn value(&self, index: usize) -> Option<Value> {
        let slice = |at: usize, len: usize| self.message.slice(at..at.saturating_add(len));
        Some(match *self.values.get(index)? {
            Place::Null => Value::Null,
            Place::Unchanged => Value::Unchanged,
            Place::Text { at, len } => Value::Text(slice(at, len)),
            Place::Binary { at, len } => Value::Binary(slice(at, len)),
        })
    }
}
