//! How soon the relay is there: from its start until a consumer has the one row that waited.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::consumer::Listener;
use crate::drain::Over;
use crate::producer::now;
use crate::program::Program;
use crate::report::{Limit, Outcome, Runs, Section, Target};
use crate::{Bench, progress, slots, topic};

/// Nothing warm takes longer, not even Java.
const PATIENCE: Duration = Duration::from_secs(60);

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
        what: "start: ms from exec to the first record at a consumer".to_owned(),
        found: found.median(),
        limit: Limit::AtMost(150.0),
        must: false,
    };
    let cell = outcome.target(target, 0);
    outcome.sections.push(Section {
        title: "start: exec to the first record at a consumer, one row waiting".to_owned(),
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
    let listener = Listener::start(&world.broker, &topic)?;
    let began = now();
    let subject = program.start(bench, over, slot, &topic)?;
    let arrival = listener.arrivals.recv_timeout(PATIENCE).context("the row did not come")?;
    subject.stop()?;
    topic::delete(world, &topic).await?;
    slots::remove(world, slot).await?;
    Ok(arrival.received.saturating_sub(began) as f64 / 1e6)
}
