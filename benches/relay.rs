//! The whole pure way of an event: `CopyData` body, record, confirmation, position.

#[path = "events/mod.rs"]
mod events;
#[path = "events/follow.rs"]
mod follow;
#[path = "../tests/wire/mod.rs"]
mod wire;

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};

use follow::{follow, relay};

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
