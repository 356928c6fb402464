//! How much faster a backlog goes through where several relays share it: one, two, and four of them over the same rows, in turn.
//!
//! Each reads its own copy of one slot, over the unix socket, through a publication with the filter of its shard.

use anyhow::{Context as _, Result, ensure};
use outbox_relay::outbox::Shard;
use serde::Serialize;
use serde_json::json;

use crate::case::Case;
use crate::consumer::compare;
use crate::readable::Readable;
use crate::report::{Outcome, Runs, Section, number};
use crate::subject::Subject;
use crate::topic::Topics;
use crate::{Bench, drain, process, progress, slots};

/// The layouts, as numbers of relays.
const LAYOUTS: [u32; 3] = [1, 2, 4];

/// The slot that is copied, and what copies are called.
const BASE: &str = "bench_shards";
const TURN: &str = "bench_turn";

/// One run; CPU in microseconds a row, of all relays and of all walsenders together.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    relays: u32,
    rows_per_second: f64,
    relay_cpu: f64,
    walsender_cpu: f64,
    broker_cpu: f64,
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let case = Case { name: "shards", ..drain::many(bench) };
    prepare(bench, &case).await?;
    let mut samples = Vec::new();
    for round in 0..bench.options.runs {
        for relays in LAYOUTS {
            let sample = turn(bench, &case, relays, round == 0).await?;
            let rate = number(sample.rows_per_second, 0);
            progress(&format!("shards ({}): {relays} relays: {rate} rows/s", round + 1));
            samples.push(sample);
        }
    }
    slots::remove(&bench.world, BASE).await?;
    let mut outcome = Outcome::new(&bench.options);
    outcome.sections.push(section(&case, &samples));
    outcome.json = json!({ "case": case.title(), "runs": samples });
    Ok(outcome)
}

/// Publications first: a slot must find them at its position.
async fn prepare(bench: &Bench, case: &Case) -> Result<()> {
    let client = bench.world.client().await?;
    for shard in LAYOUTS.into_iter().filter(|count| *count > 1).flat_map(Shard::all) {
        let filter = shard.filter("aggregate_id", "text").context("a key of another type")?;
        let sql = format!(
            "CREATE PUBLICATION {} FOR TABLE outbox WHERE {filter} WITH (publish = 'insert')",
            shard.name("outbox_relay")
        );
        client.batch_execute(&sql).await?;
    }
    slots::make(&bench.world, BASE).await?;
    case.fill(&bench.world).await?;
    if !bench.options.quick {
        turn(bench, case, 1, false).await?;
    }
    Ok(())
}

async fn turn(bench: &Bench, case: &Case, count: u32, compares: bool) -> Result<Sample> {
    let world = &bench.world;
    let names: Vec<_> = match count {
        1 => vec![TURN.to_owned()],
        _ => Shard::all(count).map(|shard| shard.name(TURN)).collect(),
    };
    for name in &names {
        slots::copy(world, BASE, name).await?;
    }
    let topics = Topics::make(world, case.topics).await?;
    let readable = Readable::of(&world.broker, &topics.names)?;
    let broker = process::cpu(world.kafka.pid())?;
    let mut relays = Vec::new();
    for index in 0..count {
        let settings = [
            format!("postgres.slot={TURN}"),
            format!("route.topic={}", topics.route),
            format!("shard.count={count}"),
            format!("shard.index={index}"),
        ];
        relays.push(Subject::relay(bench, &world.url, &settings)?);
    }
    let filled = readable.fills(case.rows, || relays.iter_mut().try_for_each(Subject::still_runs))?;
    let per_row = |seconds: f64| seconds * 1e6 / case.rows as f64;
    let mut walsenders = 0.0;
    for name in &names {
        let pid = slots::walsender(world, name).await?.context("a relay has lost its slot")?;
        walsenders += process::cpu(pid)?;
    }
    let used: f64 = relays.iter().map(Subject::cpu).sum::<Result<f64>>()?;
    let (first, already) = filled.first;
    let sample = Sample {
        relays: count,
        rows_per_second: (case.rows - already) as f64 / (filled.last - first).as_secs_f64(),
        relay_cpu: per_row(used),
        walsender_cpu: per_row(walsenders),
        broker_cpu: per_row(process::cpu(world.kafka.pid())? - broker),
    };
    relays.into_iter().try_for_each(Subject::stop)?;
    let found = readable.count()?;
    ensure!(found == case.rows, "{found} records for {} rows in a run that nothing disturbed", case.rows);
    if compares {
        compare(&world.broker, &topics.names, case.rows)?;
    }
    topics.delete(world).await?;
    for name in &names {
        slots::remove(world, name).await?;
    }
    Ok(sample)
}

fn section(case: &Case, samples: &[Sample]) -> Section {
    let of = |count: u32| samples.iter().filter(move |sample| sample.relays == count);
    let figure = |count: u32, figure: fn(&Sample) -> f64| -> Runs { of(count).map(figure).collect() };
    let line = |count: u32| {
        let rate = figure(count, |sample| sample.rows_per_second);
        // Each run against one relay in the same round.
        let alone = of(1).map(|sample| sample.rows_per_second);
        let ratio: Runs = rate.0.iter().zip(alone).map(|(rate, alone)| rate / alone).collect();
        let median = |of: fn(&Sample) -> f64| number(figure(count, of).median(), 1);
        vec![
            if count == 1 { "one relay".to_owned() } else { format!("{count} shards") },
            number(rate.median(), 0),
            rate.range(0),
            number(ratio.median(), 2),
            median(|sample| sample.relay_cpu),
            median(|sample| sample.walsender_cpu),
            median(|sample| sample.broker_cpu),
        ]
    };
    Section {
        title: format!("shards: {}, unix socket", case.title()),
        head: vec!["", "rows/s", "least–most", "to one", "relay µs/row", "walsender", "broker"],
        lines: LAYOUTS.into_iter().map(line).collect(),
        notes: vec![
            "CPU of all relays and of all walsenders together; to one: the median of the rounds".to_owned(),
        ],
    }
}
