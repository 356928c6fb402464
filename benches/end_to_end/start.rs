//! How soon the relay is there: from its start until the one row that waited can be read.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::drain::Over;
use crate::program::Program;
use crate::readable::Readable;
use crate::report::{Limit, Outcome, Runs, Section, Target};
use crate::{Bench, progress, slots, topic};

/// Nothing warm takes longer, not even Java.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions whether the row is there.
const PAUSE: Duration = Duration::from_millis(1);

/// The slot before the row.
pub(crate) const BASE: &str = "bench_start";

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let runs = bench.options.runs.max(if bench.options.quick { 3 } else { 10 });
    prepare(bench).await?;
    // One more, whose figure is not counted: the program is read from disk.
    once(bench, Program::Relay, Over::Unix).await?;
    let mut found = Runs::default();
    for _ in 0..runs {
        found.0.push(once(bench, Program::Relay, Over::Unix).await?);
    }
    slots::remove(&bench.world, BASE).await?;
    progress(&format!("start ({runs})"));

    let mut outcome = Outcome::new(&bench.options);
    outcome.json = json!({ "milliseconds": found });
    let target = Target {
        what: "start: ms from exec to the first record that can be read".to_owned(),
        found: found.median(),
        limit: Limit::AtMost(150.0),
        must: false,
    };
    let cell = outcome.target(target, 0);
    outcome.sections.push(Section {
        title: "start: exec to the first record that can be read, one row waiting".to_owned(),
        head: vec!["", "ms", "least–most"],
        lines: vec![vec![format!("relay, unix socket, {runs} runs"), cell, found.range(0)]],
        notes: Vec::new(),
    });
    Ok(outcome)
}

/// Makes the slot and the row behind it.
pub(crate) async fn prepare(bench: &Bench) -> Result<()> {
    slots::make(&bench.world, BASE).await?;
    let sql = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
               VALUES ('order', '1', 'Placed', '{\"n\": 1}')";
    Ok(bench.world.client().await?.batch_execute(sql).await?)
}

/// One start; milliseconds.
pub(crate) async fn once(bench: &Bench, program: Program, over: Over) -> Result<f64> {
    let (world, slot) = (&bench.world, "bench_start_turn");
    slots::copy(world, BASE, slot).await?;
    let topic = topic::make(world).await?;
    let readable = Readable::of(&world.broker, std::slice::from_ref(&topic))?;
    let began = Instant::now();
    let subject = program.start(bench, over, slot, &topic)?;
    while readable.count()? == 0 {
        ensure!(began.elapsed() < PATIENCE, "the row did not come");
        std::thread::sleep(PAUSE);
    }
    let took = began.elapsed();
    subject.stop()?;
    topic::delete(world, &topic).await?;
    slots::remove(world, slot).await?;
    Ok(took.as_secs_f64() * 1e3)
}
