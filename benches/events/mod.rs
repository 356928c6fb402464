//! The events of the benches: rows of six columns with a jsonb payload of 240 bytes.

#![allow(dead_code, reason = "each bench uses its own part of this")]

use bytes::Bytes;
use criterion::Throughput;
use outbox_relay::lsn::Lsn;
use outbox_relay::wal::PgTimestamp;

use crate::wire::stream::{Sender, Transaction, table};
use crate::wire::text;

/// The `CopyData` bodies of a transaction: Begin, Relation, `rows` INSERTs, Commit.
pub(crate) fn transaction(rows: usize) -> Vec<Bytes> {
    let columns = [
        ("id", 2950),
        ("aggregate_type", 25),
        ("aggregate_id", 25),
        ("event_type", 25),
        ("payload", 3802),
        ("created_at", 1184),
    ];
    let outbox = table(16_384, "public", "outbox", &columns);
    let mut transaction = Transaction::new(Lsn::new(1 << 32), PgTimestamp::from_micros(848_642_341_123_456));
    for row in 0..rows {
        let mut payload = format!("{{\"order\": {row}, \"total\": 4200, \"currency\": \"EUR\", \"note\": \"");
        while payload.len() < 238 {
            payload.push('x');
        }
        payload.push_str("\"}");
        let values = vec![
            text(format!("6f9619ff-8b86-4011-b42d-{row:012x}")),
            text("order"),
            text(format!("order-{}", row % 100)),
            text("OrderPlaced"),
            text(payload),
            text("2026-11-22 05:59:01.123456+00"),
        ];
        transaction.insert(&outbox, values);
    }
    Sender::default().bodies(&transaction)
}

/// `rows` rows, and the bytes of the bodies they came in: criterion prints the rate of both.
pub(crate) fn throughput(rows: u64, bodies: &[Bytes]) -> Throughput {
    Throughput::ElementsAndBytes { elements: rows, bytes: bodies.iter().map(|body| body.len() as u64).sum() }
}
