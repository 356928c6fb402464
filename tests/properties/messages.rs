//! Random messages and envelopes of every kind, as a server could send them.

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::wal::pgoutput::{
    Begin, Column, Commit, Logical, Origin, Relation, RelationId, Truncate, Type, Value,
};
use outbox_relay::wal::{Envelope, Keepalive, PgTimestamp, XLogData};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::wire::{Message, Old, Row};

pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    let data = (lsn(), lsn(), time(), content(200))
        .prop_map(|(start, wal_end, sent, data)| Envelope::XLogData(XLogData { start, wal_end, sent, data }));
    let keepalive = (lsn(), time(), any::<bool>()).prop_map(|(wal_end, sent, reply_requested)| {
        Envelope::Keepalive(Keepalive { wal_end, sent, reply_requested })
    });
    prop_oneof![data, keepalive]
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (lsn(), time(), any::<u32>()).prop_map(|(commit_lsn, commit_time, xid)| {
            Message::Begin(Begin { commit_lsn, commit_time, xid })
        }),
        (lsn(), lsn(), time()).prop_map(|(commit_lsn, end_lsn, commit_time)| {
            Message::Commit(Commit { commit_lsn, end_lsn, commit_time })
        }),
        (lsn(), name()).prop_map(|(commit_lsn, name)| Message::Origin(Origin { commit_lsn, name })),
        relation().prop_map(Message::Relation),
        (any::<u32>(), name(), name()).prop_map(|(id, schema, name)| Message::Type(Type {
            id,
            schema,
            name
        })),
        (id(), row()).prop_map(|(relation, new)| Message::Insert(relation, new)),
        (id(), proptest::option::of(old()), row())
            .prop_map(|(relation, old, new)| Message::Update(relation, old, new)),
        (id(), old()).prop_map(|(relation, old)| Message::Delete(relation, old)),
        (any::<u8>(), vec(id(), 0..4))
            .prop_map(|(options, relations)| Message::Truncate(Truncate { options, relations })),
        (any::<bool>(), lsn(), name(), content(60)).prop_map(|(transactional, lsn, prefix, content)| {
            Message::Logical(Logical { transactional, lsn, prefix, content })
        }),
    ]
}

fn relation() -> impl Strategy<Value = Relation> {
    let column = (any::<bool>(), name(), any::<u32>(), any::<i32>())
        .prop_map(|(key, name, type_id, type_modifier)| Column { key, name, type_id, type_modifier });
    (id(), name(), name(), any::<u8>(), vec(column, 0..6)).prop_map(
        |(id, schema, name, replica_identity, columns)| Relation {
            id,
            schema,
            name,
            replica_identity,
            columns,
        },
    )
}

fn old() -> impl Strategy<Value = Old> {
    prop_oneof![row().prop_map(Old::Key), row().prop_map(Old::Full)]
}

fn row() -> impl Strategy<Value = Row> {
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        content(40).prop_map(Value::Text),
        content(40).prop_map(Value::Binary),
    ];
    vec(value, 0..7)
}

fn id() -> impl Strategy<Value = RelationId> {
    any::<u32>().prop_map(RelationId)
}

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn::new)
}

fn time() -> impl Strategy<Value = PgTimestamp> {
    any::<i64>().prop_map(PgTimestamp::from_micros)
}

/// An identifier: everything but the zero byte, which ends it.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_]{0,12}", "[^\0]{0,12}"]
}

fn content(longest: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..longest).prop_map(Bytes::from)
}
