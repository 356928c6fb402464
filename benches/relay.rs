//! The whole pure way of an event: `CopyData` body, record, confirmation, position.

#[path = "events/mod.rs"]
mod events;
#[path = "../tests/wire/mod.rs"]
mod wire;

use std::collections::{HashSet, VecDeque};
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use outbox_relay::ack::ConfirmedLsn;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::Token;
use outbox_relay::relay::{Error, Relay, Start, Step};
use outbox_relay::wal::Timelines;

/// Records in flight at a time, as with a broker that answers late.
const IN_FLIGHT: usize = 1_000;

fn relay(timestamp: Option<&str>) -> Relay {
    let mut spec = crate::wire::spec(&["public"]);
    spec.columns.timestamp = timestamp.map(str::to_owned);
    Relay::new(Start {
        spec,
        outboxes: Vec::new(),
        source: "7000000000000000001/outbox_relay".to_owned(),
        timelines: Timelines::only(1),
        confirmed_flush: Lsn::ZERO,
        max_in_flight: usize::MAX,
        skip: HashSet::new(),
        dead_letters: None,
    })
}

/// Takes in `bodies`; the oldest record is confirmed as soon as [`IN_FLIGHT`] others are.
fn follow(
    relay: &mut Relay,
    in_flight: &mut VecDeque<Token>,
    bodies: &[Bytes],
) -> Result<ConfirmedLsn, Error> {
    for body in bodies {
        if let Step::Record(record) = relay.wal(body.clone())? {
            in_flight.push_back(black_box(record).token);
        }
        if in_flight.len() > IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            black_box(relay.confirmed(oldest));
        }
    }
    Ok(relay.position())
}

fn benches(criterion: &mut Criterion) {
    let transaction = events::transaction(1_000);
    let mut group = criterion.benchmark_group("relay");
    group.throughput(events::throughput(1_000, &transaction));
    for (name, timestamp) in
        [("1,000 rows, commit time", None), ("1,000 rows, timestamp column", Some("created_at"))]
    {
        let mut relay = relay(timestamp);
        let mut in_flight = VecDeque::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| follow(&mut relay, &mut in_flight, black_box(&transaction)));
        });
    }
    group.finish();
}

criterion_group!(relaying, benches);
criterion_main!(relaying);
