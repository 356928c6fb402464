//! Decoding alone: one INSERT of a usual event, and a transaction of 1,000 of them.

#[path = "events/mod.rs"]
mod events;
#[path = "events/follow.rs"]
mod follow;
#[path = "../tests/wire/mod.rs"]
mod wire;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};

use follow::decode;

fn benches(criterion: &mut Criterion) {
    let transaction = events::transaction(1_000);
    // Behind Begin and Relation.
    let insert = transaction.get(2).cloned().unwrap_or_default();

    let mut group = criterion.benchmark_group("decode");
    group.throughput(events::throughput(1, std::slice::from_ref(&insert)));
    group.bench_function("insert", |bencher| bencher.iter(|| decode(black_box(&insert))));
    group.throughput(events::throughput(1_000, &transaction));
    group.bench_function("transaction of 1,000 rows", |bencher| {
        bencher.iter(|| {
            for body in &transaction {
                let _ = black_box(decode(black_box(body)));
            }
        });
    });
    group.finish();
}

criterion_group!(decoding, benches);
criterion_main!(decoding);
