//! Writes what a PostgreSQL server sends while it streams: `CopyData` bodies and the pgoutput messages in them.
//!
//! The counterpart of `outbox_relay::wal`, for tests and benches: [`Message`] has the same shape as the decoder's, but
//! its rows can be made. [`stream`] puts messages together to whole transactions.

#![allow(clippy::allow_attributes, reason = "`expect` fails where everything is used")]
#![allow(dead_code, reason = "each test and each bench uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "what does not fit the format must not be written")]

pub(crate) mod stream;

use std::collections::BTreeMap;

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{Columns, Route, Shape, Spec, TableName, Template, Zone};
use outbox_relay::wal::pgoutput::{
    self, Begin, Commit, Logical, Origin, Relation, RelationId, Truncate, Tuple, Type, Value,
};
use outbox_relay::wal::{Envelope, PgTimestamp};

/// A pgoutput message, as [`pgoutput::Message`], with rows that anybody can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Begin(Begin),
    Commit(Commit),
    Origin(Origin),
    Relation(Relation),
    Type(Type),
    Insert(RelationId, Row),
    Update(RelationId, Option<Old>, Row),
    Delete(RelationId, Old),
    Truncate(Truncate),
    Logical(Logical),
}

/// The columns of a row.
pub(crate) type Row = Vec<Value>;

/// What is sent of a row before its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Old {
    Key(Row),
    Full(Row),
}

/// A `CopyData` body.
pub(crate) fn envelope(envelope: &Envelope) -> Bytes {
    let mut out = Writer::default();
    match envelope {
        Envelope::XLogData(data) => {
            out.u8(b'w');
            out.u64(data.start.as_u64());
            out.u64(data.wal_end.as_u64());
            out.i64(data.sent.as_micros());
            out.bytes(&data.data);
        }
        Envelope::Keepalive(keepalive) => {
            out.u8(b'k');
            out.u64(keepalive.wal_end.as_u64());
            out.i64(keepalive.sent.as_micros());
            out.u8(u8::from(keepalive.reply_requested));
        }
    }
    out.0.into()
}

/// An `XLogData` body around `message`, sent at `sent`; its positions, which the relay does not use, are `at`.
pub(crate) fn xlog_data(at: Lsn, sent: PgTimestamp, message: &Message) -> Bytes {
    envelope(&Envelope::XLogData(outbox_relay::wal::XLogData {
        start: at,
        wal_end: at,
        sent,
        data: message.encode(),
    }))
}

impl Message {
    /// The message as pgoutput, protocol version 1, writes it.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        match self {
            Self::Begin(begin) => {
                out.u8(b'B');
                out.u64(begin.commit_lsn.as_u64());
                out.i64(begin.commit_time.as_micros());
                out.u32(begin.xid);
            }
            Self::Commit(commit) => {
                out.bytes(b"C\0");
                out.u64(commit.commit_lsn.as_u64());
                out.u64(commit.end_lsn.as_u64());
                out.i64(commit.commit_time.as_micros());
            }
            Self::Origin(origin) => {
                out.u8(b'O');
                out.u64(origin.commit_lsn.as_u64());
                out.name(&origin.name);
            }
            Self::Relation(relation) => out.relation(relation),
            Self::Type(described) => {
                out.u8(b'Y');
                out.u32(described.id);
                out.name(&described.schema);
                out.name(&described.name);
            }
            Self::Insert(relation, new) => {
                out.u8(b'I');
                out.u32(relation.0);
                out.row(b'N', new);
            }
            Self::Update(relation, old, new) => {
                out.u8(b'U');
                out.u32(relation.0);
                if let Some(old) = old {
                    out.old(old);
                }
                out.row(b'N', new);
            }
            Self::Delete(relation, old) => {
                out.u8(b'D');
                out.u32(relation.0);
                out.old(old);
            }
            Self::Truncate(truncate) => {
                out.u8(b'T');
                out.u32(u32::try_from(truncate.relations.len()).unwrap());
                out.u8(truncate.options);
                for relation in &truncate.relations {
                    out.u32(relation.0);
                }
            }
            Self::Logical(logical) => {
                out.u8(b'M');
                out.u8(u8::from(logical.transactional));
                out.u64(logical.lsn.as_u64());
                out.name(&logical.prefix);
                out.counted(&logical.content);
            }
        }
        out.0.into()
    }
}

/// What the decoder saw, read through its public interface.
impl From<&pgoutput::Message> for Message {
    fn from(seen: &pgoutput::Message) -> Self {
        let old = |old: &pgoutput::Old| match old {
            pgoutput::Old::Key(tuple) => Old::Key(values(tuple)),
            pgoutput::Old::Row(tuple) => Old::Full(values(tuple)),
        };
        match seen {
            pgoutput::Message::Begin(begin) => Self::Begin(*begin),
            pgoutput::Message::Commit(commit) => Self::Commit(*commit),
            pgoutput::Message::Origin(origin) => Self::Origin(origin.clone()),
            pgoutput::Message::Relation(relation) => Self::Relation(relation.clone()),
            pgoutput::Message::Type(described) => Self::Type(described.clone()),
            pgoutput::Message::Insert(insert) => Self::Insert(insert.relation, values(&insert.new)),
            pgoutput::Message::Update(update) => {
                Self::Update(update.relation, update.old.as_ref().map(old), values(&update.new))
            }
            pgoutput::Message::Delete(delete) => Self::Delete(delete.relation, old(&delete.old)),
            pgoutput::Message::Truncate(truncate) => Self::Truncate(truncate.clone()),
            pgoutput::Message::Logical(logical) => Self::Logical(logical.clone()),
        }
    }
}

/// All columns of a decoded row.
pub(crate) fn values(tuple: &Tuple) -> Row {
    (0..tuple.len()).map_while(|index| tuple.value(index)).collect()
}

/// A column sent as text.
pub(crate) fn text(text: impl Into<Bytes>) -> Value {
    Value::Text(text.into())
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn name(&mut self, name: &str) {
        self.bytes(name.as_bytes());
        self.u8(0);
    }

    fn counted(&mut self, bytes: &[u8]) {
        self.i32(i32::try_from(bytes.len()).unwrap());
        self.bytes(bytes);
    }

    fn count(&mut self, count: usize) {
        self.u16(u16::try_from(count).unwrap());
    }

    fn relation(&mut self, relation: &Relation) {
        self.u8(b'R');
        self.u32(relation.id.0);
        self.name(&relation.schema);
        self.name(&relation.name);
        self.u8(relation.replica_identity);
        self.count(relation.columns.len());
        for column in &relation.columns {
            self.u8(u8::from(column.key));
            self.name(&column.name);
            self.u32(column.type_id);
            self.i32(column.type_modifier);
        }
    }

    fn old(&mut self, old: &Old) {
        match old {
            Old::Key(row) => self.row(b'K', row),
            Old::Full(row) => self.row(b'O', row),
        }
    }

    fn row(&mut self, kind: u8, row: &[Value]) {
        self.u8(kind);
        self.count(row.len());
        for value in row {
            match value {
                Value::Null => self.u8(b'n'),
                Value::Unchanged => self.u8(b'u'),
                Value::Text(text) => {
                    self.u8(b't');
                    self.counted(text);
                }
                Value::Binary(binary) => {
                    self.u8(b'b');
                    self.counted(binary);
                }
            }
        }
    }
}

/// The columns by their default names, and no timestamp column.
pub(crate) fn columns() -> Columns {
    Columns {
        id: "id".to_owned(),
        aggregate_type: "aggregate_type".to_owned(),
        aggregate_id: "aggregate_id".to_owned(),
        event_type: Some("event_type".to_owned()),
        payload: "payload".to_owned(),
        headers: None,
        timestamp: None,
        timestamp_zone: Zone::utc(),
    }
}

/// Tables called `outbox`, one a schema, routed by default.
pub(crate) fn spec(schemas: &[&str]) -> Spec {
    let template = |text| Template::parse(text).unwrap();
    let table = |schema: &&str| TableName { schema: (*schema).to_owned(), name: "outbox".to_owned() }.into();
    let shape = Shape {
        columns: columns(),
        headers: vec![("event_type".to_owned(), template("{event_type}"))],
        route: Route {
            topic: template("outbox.event.{aggregate_type}"),
            key: template("{aggregate_id}"),
            partition: None,
        },
        own: BTreeMap::new(),
    };
    Spec { tables: schemas.iter().map(table).collect(), message_prefix: None, shape, overrides: Vec::new() }
}
