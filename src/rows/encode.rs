//! What a walsender writes: messages of `pgoutput` in `XLogData`, keepalives, and an error as its last words.
//!
//! The counterpart of [`crate::wal`], for rows that come by a query. Sources: PostgreSQL documentation, "Message Formats",
//! "Logical Replication Message Formats", "Streaming Replication Protocol".

use bytes::{BufMut as _, BytesMut};

use crate::lsn::Lsn;
use crate::wal::pgoutput::{Begin, Commit, Relation, RelationId};
use crate::wal::{Keepalive, PgTimestamp};

/// A `CopyData` message with an `XLogData` around what `message` writes. `at` is where the stream is, `sent` the server's clock.
pub(super) fn xlog_data(out: &mut BytesMut, at: Lsn, sent: PgTimestamp, message: impl FnOnce(&mut BytesMut)) {
    framed(out, b'd', |out| {
        out.put_u8(b'w');
        out.put_u64(at.as_u64());
        out.put_u64(at.as_u64());
        out.put_i64(sent.as_micros());
        message(out);
    });
}

/// A `CopyData` message with a keepalive.
pub(super) fn keepalive(out: &mut BytesMut, keepalive: Keepalive) {
    framed(out, b'd', |out| {
        out.put_u8(b'k');
        out.put_u64(keepalive.wal_end.as_u64());
        out.put_i64(keepalive.sent.as_micros());
        out.put_u8(u8::from(keepalive.reply_requested));
    });
}

/// The stream ends: `CopyDone` and `CommandComplete`.
pub(super) fn end(out: &mut BytesMut) {
    framed(out, b'c', |_| ());
    framed(out, b'C', |out| out.put_slice(b"COPY 0\0"));
}

/// An `ErrorResponse`: SQLSTATE and message. A NUL byte would end a field, and no message has one.
pub(super) fn error(out: &mut BytesMut, code: &str, message: &str) {
    framed(out, b'E', |out| {
        for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
            out.put_u8(field);
            name(out, &value.replace('\0', " "));
        }
        out.put_u8(0);
    });
}

pub(super) fn begin(out: &mut BytesMut, begin: Begin) {
    out.put_u8(b'B');
    out.put_u64(begin.commit_lsn.as_u64());
    out.put_i64(begin.commit_time.as_micros());
    out.put_u32(begin.xid);
}

pub(super) fn commit(out: &mut BytesMut, commit: Commit) {
    out.put_slice(b"C\0");
    out.put_u64(commit.commit_lsn.as_u64());
    out.put_u64(commit.end_lsn.as_u64());
    out.put_i64(commit.commit_time.as_micros());
}

pub(super) fn relation(out: &mut BytesMut, relation: &Relation) {
    out.put_u8(b'R');
    out.put_u32(relation.id.0);
    name(out, &relation.schema);
    name(out, &relation.name);
    out.put_u8(relation.replica_identity);
    out.put_u16(u16::try_from(relation.columns.len()).unwrap_or(u16::MAX));
    for column in &relation.columns {
        out.put_u8(u8::from(column.key));
        name(out, &column.name);
        out.put_u32(column.type_id);
        out.put_i32(column.type_modifier);
    }
}

/// An `Insert` of `values` as text; `None` is NULL.
pub(super) fn insert<'a>(
    out: &mut BytesMut,
    relation: RelationId,
    values: impl ExactSizeIterator<Item = Option<&'a str>>,
) {
    out.put_u8(b'I');
    out.put_u32(relation.0);
    out.put_u8(b'N');
    // A table has 1,600 columns at most.
    out.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
    for value in values {
        match value {
            None => out.put_u8(b'n'),
            Some(text) => {
                out.put_u8(b't');
                // A value has 1 GiB at most.
                out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                out.put_slice(text.as_bytes());
            }
        }
    }
}

fn name(out: &mut BytesMut, name: &str) {
    out.put_slice(name.as_bytes());
    out.put_u8(0);
}

/// Type byte, length (which counts itself), and what `body` writes.
fn framed(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len().saturating_sub(at)).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at.saturating_add(4)) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
