//! How soon the relay is there: from its start until a consumer has the one row that waited.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::consumer::Listener;
use crate::producer::now;
use crate::report::{Limit, Outcome, Runs, Section, Target};
use crate::subject::Subject;
use crate::{Bench, progress, slots, topic};

/// Nothing warm takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let runs = bench.options.runs.max(if bench.options.quick { 3 } else { 10 });
    let world = &bench.world;
    let (base, slot) = ("bench_start", "bench_start_turn");
    slots::make(world, base).await?;
    let sql = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
               VALUES ('order', '1', 'Placed', '{\"n\": 1}')";
    world.client().await?.batch_execute(sql).await?;
    let mut found = Vec::new();
    // One more, whose figure is not counted: the program is read from disk.
    for run in 0..=runs {
        slots::copy(world, base, slot).await?;
        let topic = topic::make(world).await?;
        let listener = Listener::start(&world.broker, &topic)?;
        let settings = [format!("postgres.slot={slot}"), format!("route.topic={topic}")];
        let began = now();
        let relay = Subject::relay(bench, &world.url, &settings)?;
        let arrival = listener.arrivals.recv_timeout(PATIENCE).context("the row did not come")?;
        if run > 0 {
            found.push(arrival.received.saturating_sub(began) as f64 / 1e6);
        }
        relay.stop()?;
        topic::delete(world, &topic).await?;
        slots::remove(world, slot).await?;
    }
    slots::remove(world, base).await?;
    progress(&format!("start ({runs})"));

    let found = Runs(found);
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
