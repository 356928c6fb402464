//! The messages of the `pgoutput` plugin, protocol version 1.
//!
//! Version 1 sends a transaction after its commit, row by row: `Begin`, then relations, types and rows, then `Commit`.
//! A message lies in one [`Bytes`]; decoding checks all of it and copies names only. The columns of a row stay where
//! they are and are sliced on demand.

use bytes::Bytes;

use super::reader::{DecodeError, Reader};
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

impl Message {
    /// Decodes one message, checked to its last byte.
    ///
    /// # Errors
    /// If `data` is not exactly one message of protocol version 1.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("pgoutput", data);
        match reader.byte("kind")? {
            b'B' => begin(reader),
            b'C' => commit(reader),
            b'O' => origin(reader),
            b'R' => relation(reader),
            b'Y' => type_(reader),
            b'I' => insert(reader),
            b'U' => update(reader),
            b'D' => delete(reader),
            b'T' => truncate(reader),
            b'M' => logical(reader),
            other => Err(reader.unexpected("kind", 1, i64::from(other))),
        }
    }
}

fn begin(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Begin");
    let begin = Begin {
        commit_lsn: Lsn::new(reader.u64("final LSN")?),
        commit_time: PgTimestamp::from_micros(reader.i64("commit time")?),
        xid: reader.u32("xid")?,
    };
    reader.finish()?;
    Ok(Message::Begin(begin))
}

fn commit(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Commit");
    // "Flags (currently unused)". A server that begins to use them says something we do not understand.
    let flags = reader.byte("flags")?;
    if flags != 0 {
        return Err(reader.unexpected("flags", 1, i64::from(flags)));
    }
    let commit = Commit {
        commit_lsn: Lsn::new(reader.u64("commit LSN")?),
        end_lsn: Lsn::new(reader.u64("end LSN")?),
        commit_time: PgTimestamp::from_micros(reader.i64("commit time")?),
    };
    reader.finish()?;
    Ok(Message::Commit(commit))
}

fn origin(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Origin");
    let origin = Origin { commit_lsn: Lsn::new(reader.u64("commit LSN")?), name: reader.name("name")? };
    reader.finish()?;
    Ok(Message::Origin(origin))
}

fn relation(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Relation");
    let id = RelationId(reader.u32("relation id")?);
    let schema = reader.name("schema")?;
    let name = reader.name("name")?;
    let replica_identity = reader.byte("replica identity")?;
    let count = reader.u16("number of columns")?;
    let mut columns = Vec::with_capacity(usize::from(count.min(MAX_COLUMNS)));
    for _ in 0..count {
        let key = match reader.byte("column flags")? {
            0 => false,
            1 => true,
            other => return Err(reader.unexpected("column flags", 1, i64::from(other))),
        };
        columns.push(Column {
            key,
            name: reader.name("column name")?,
            type_id: reader.u32("column type")?,
            type_modifier: reader.i32("column type modifier")?,
        });
    }
    reader.finish()?;
    Ok(Message::Relation(Relation { id, schema, name, replica_identity, columns }))
}

fn type_(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Type");
    let described =
        Type { id: reader.u32("type id")?, schema: reader.name("schema")?, name: reader.name("name")? };
    reader.finish()?;
    Ok(Message::Type(described))
}

fn insert(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Insert");
    let relation = RelationId(reader.u32("relation id")?);
    match reader.byte("new row")? {
        b'N' => {}
        other => return Err(reader.unexpected("new row", 1, i64::from(other))),
    }
    let values = row(&mut reader)?;
    let message = reader.finish()?;
    Ok(Message::Insert(Insert { relation, new: Tuple { message, values } }))
}

fn update(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Update");
    let relation = RelationId(reader.u32("relation id")?);
    let mut kind = reader.byte("old or new row")?;
    let old = match kind {
        b'K' | b'O' => Some((kind, row(&mut reader)?)),
        _ => None,
    };
    if old.is_some() {
        kind = reader.byte("new row")?;
    }
    if kind != b'N' {
        return Err(reader.unexpected("new row", 1, i64::from(kind)));
    }
    let values = row(&mut reader)?;
    let message = reader.finish()?;
    let old = old.map(|(kind, values)| old_row(kind, message.clone(), values));
    Ok(Message::Update(Update { relation, old, new: Tuple { message, values } }))
}

fn delete(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Delete");
    let relation = RelationId(reader.u32("relation id")?);
    let kind = reader.byte("old row")?;
    if kind != b'K' && kind != b'O' {
        return Err(reader.unexpected("old row", 1, i64::from(kind)));
    }
    let values = row(&mut reader)?;
    let message = reader.finish()?;
    Ok(Message::Delete(Delete { relation, old: old_row(kind, message, values) }))
}

fn truncate(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Truncate");
    let count = reader.u32("number of relations")?;
    let options = reader.byte("options")?;
    let mut relations = Vec::new();
    for _ in 0..count {
        relations.push(RelationId(reader.u32("relation id")?));
    }
    reader.finish()?;
    Ok(Message::Truncate(Truncate { options, relations }))
}

fn logical(mut reader: Reader) -> Result<Message, DecodeError> {
    reader.rename("Message");
    let transactional = match reader.byte("flags")? {
        0 => false,
        1 => true,
        other => return Err(reader.unexpected("flags", 1, i64::from(other))),
    };
    let lsn = Lsn::new(reader.u64("LSN")?);
    let prefix = reader.name("prefix")?;
    let (at, len) = reader.counted("content")?;
    let message = reader.finish()?;
    let content = message.slice(at..at.saturating_add(len));
    Ok(Message::Logical(Logical { transactional, lsn, prefix, content }))
}

/// PostgreSQL's `MaxTupleAttributeNumber` and a little: what to reserve at most before the columns have been seen.
const MAX_COLUMNS: u16 = 1_664;

fn row(reader: &mut Reader) -> Result<Vec<Place>, DecodeError> {
    let count = reader.u16("number of columns")?;
    let mut values = Vec::with_capacity(usize::from(count.min(MAX_COLUMNS)));
    for _ in 0..count {
        values.push(match reader.byte("column kind")? {
            b'n' => Place::Null,
            b'u' => Place::Unchanged,
            b't' => {
                let (at, len) = reader.counted("column value")?;
                Place::Text { at, len }
            }
            b'b' => {
                let (at, len) = reader.counted("column value")?;
                Place::Binary { at, len }
            }
            other => return Err(reader.unexpected("column kind", 1, i64::from(other))),
        });
    }
    Ok(values)
}

fn old_row(kind: u8, message: Bytes, values: Vec<Place>) -> Old {
    let tuple = Tuple { message, values };
    if kind == b'K' { Old::Key(tuple) } else { Old::Row(tuple) }
}
