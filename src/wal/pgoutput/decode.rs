//! From the bytes of a message to the message.

use bytes::Bytes;

use super::{
    Begin, Column, Commit, Delete, Insert, Logical, Message, Old, Origin, Place, Relation, RelationId,
    Truncate, Tuple, Type, Update,
};
use crate::lsn::Lsn;
use crate::wal::reader::{DecodeError, Reader};
use crate::wal::timestamp::PgTimestamp;

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
