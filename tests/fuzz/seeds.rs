//! Where a fuzzer starts from: one input of each kind, and the captured streams of a real server.

#[path = "../golden/streams.rs"]
mod streams;

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::wal::pgoutput::{Logical, Origin, RelationId, Truncate, Type, Value};
use outbox_relay::wal::{Envelope, PgTimestamp, XLogData};

use crate::wire::stream::{Sender, Transaction, keepalive, table};
use crate::wire::{Message, Old, envelope, text};

/// pgoutput messages of every kind.
pub(crate) fn messages() -> Vec<Bytes> {
    let mut sender = Sender::default();
    let sent = transactions().into_iter().flat_map(|transaction| sender.messages(&transaction));
    let written = sent.map(|message| message.encode());
    written.chain(captured().into_iter().flatten()).collect()
}

/// `CopyData` bodies of both kinds.
pub(crate) fn envelopes() -> Vec<Bytes> {
    let mut envelopes = vec![keepalive(Lsn::new(7), true), keepalive(Lsn::ZERO, false)];
    envelopes.extend(messages().into_iter().map(enveloped));
    envelopes
}

/// Sessions: `CopyData` bodies, each after its length.
pub(crate) fn sessions() -> Vec<Bytes> {
    let mut sender = Sender::default();
    let mut made = vec![keepalive(Lsn::new(5), false)];
    for transaction in transactions() {
        let mut bodies = sender.bodies(&transaction);
        bodies.insert(2, keepalive(Lsn::new(9_000), false));
        made.append(&mut bodies);
        made.push(keepalive(transaction.end_lsn(), true));
    }
    let captured = captured().into_iter().map(|stream| stream.into_iter().map(enveloped).collect());
    std::iter::once(made).chain(captured).map(session).collect()
}

/// Timeline history files.
pub(crate) fn histories() -> Vec<Bytes> {
    let files = [
        "1\t0/3000060\tno recovery target specified\n\n# a comment\n2\t0/5000000\tbefore 2000-01-01\n",
        "1\t16/B374D848\tx\r\n3\tFFFFFFFF/FFFFFFFF\t\n",
    ];
    files.map(|file| Bytes::from_static(file.as_bytes())).into()
}

fn session(bodies: Vec<Bytes>) -> Bytes {
    let mut session = Vec::new();
    for body in bodies {
        let Ok(len) = u16::try_from(body.len()) else {
            continue;
        };
        session.extend_from_slice(&len.to_be_bytes());
        session.extend_from_slice(&body);
    }
    session.into()
}

fn enveloped(data: Bytes) -> Bytes {
    envelope(&Envelope::XLogData(XLogData {
        start: Lsn::ZERO,
        wal_end: Lsn::ZERO,
        sent: PgTimestamp::from_micros(0),
        data,
    }))
}

/// The captured streams of all versions, a message an element.
fn captured() -> Vec<Vec<Bytes>> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(golden)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .collect();
    files.sort();
    let streams = files.iter().flat_map(|path| streams::read(&std::fs::read_to_string(path).unwrap()));
    streams.map(|stream| stream.messages).collect()
}

fn transactions() -> Vec<Transaction> {
    let outbox = table(
        16_384,
        "public",
        "outbox",
        &[("id", 2950), ("aggregate_type", 25), ("aggregate_id", 25), ("event_type", 25), ("payload", 3802)],
    );
    let other = table(16_385, "public", "orders", &[("id", 20), ("note", 40_000)]);
    let row =
        |id: &'static str| vec![text(id), text("order"), text("4711"), Value::Null, text("{\"total\": 5}")];

    let mut inserts = Transaction::new(Lsn::new(100), PgTimestamp::from_micros(1));
    for id in ["a", "b", "c", "d", "e"] {
        inserts.insert(&outbox, row(id));
        inserts.insert(&other, vec![text("1"), Value::Null]);
    }
    let mut rest = Transaction::new(Lsn::new(1_000), PgTimestamp::from_micros(2));
    rest.message(Message::Origin(Origin { commit_lsn: Lsn::new(3), name: "elsewhere".to_owned() }));
    rest.message(Message::Type(Type { id: 40_000, schema: String::new(), name: "bytea".to_owned() }));
    rest.change(&other, Message::Update(other.id, None, vec![text("1"), Value::Unchanged]));
    let key = Old::Key(vec![text("1"), Value::Null]);
    rest.change(&other, Message::Update(other.id, Some(key.clone()), vec![text("2"), text("\\x00")]));
    rest.change(&other, Message::Delete(other.id, Old::Full(vec![text("2"), text("\\x00")])));
    rest.change(&outbox, Message::Delete(outbox.id, key));
    rest.message(Message::Truncate(Truncate { options: 3, relations: vec![outbox.id, RelationId(1)] }));
    rest.message(Message::Logical(Logical {
        transactional: true,
        lsn: Lsn::new(4),
        prefix: "audit".to_owned(),
        content: Bytes::from_static(b"\0\xFF"),
    }));
    rest.insert(&outbox, vec![Value::Binary(Bytes::from_static(b"x"))]);
    vec![inserts, rest]
}
