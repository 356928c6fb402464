//! What the relay does while nothing happens.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::report::{Limit, Outcome, Runs, Section, Target, number};
use crate::subject::Subject;
use crate::{Bench, consumer, process, progress, slots, topic};

/// What a start leaves to be done is done by then.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let length = Duration::from_secs(bench.options.size(30, 5));
    let (world, slot) = (&bench.world, "bench_idle");
    let (mut cpu, mut wakes, mut memory) = (Runs::default(), Runs::default(), Runs::default());
    // Where no consumer has ever committed an offset, librdkafka keeps asking for the topic by which the relay asks whether
    // Kafka is there. No cluster in use is like that.
    let topic = topic::make(world).await?;
    consumer::commit(&world.broker, &topic)?;
    topic::delete(world, &topic).await?;
    for round in 0..bench.options.runs {
        slots::make(world, slot).await?;
        let topic = topic::make(world).await?;
        let settings = [format!("postgres.slot={slot}"), format!("route.topic={topic}")];
        let mut relay = Subject::relay(bench, &world.url, &settings)?;
        tokio::time::sleep(SETTLE).await;
        slots::walsender(world, slot).await?.context("the relay does not stream")?;
        let before = process::threads(relay.pid())?;
        tokio::time::sleep(length).await;
        relay.still_runs()?;
        let after = process::threads(relay.pid())?;
        cpu.0.push((after.cpu - before.cpu) / length.as_secs_f64() * 100.0);
        wakes.0.push((after.sleeps.saturating_sub(before.sleeps)) as f64 / length.as_secs_f64());
        memory.0.push(process::peak(relay.pid())?);
        progress(&format!("idle ({})", round + 1));
        relay.stop()?;
        topic::delete(world, &topic).await?;
        slots::remove(world, slot).await?;
    }

    let mut outcome = Outcome::new(&bench.options);
    outcome.json = json!({ "seconds": length.as_secs(), "cpu_percent": cpu, "wakes_per_second": wakes, "peak_mib": memory });
    let mut at_most = |what: &str, runs: &Runs, limit, digits| {
        let limit = Limit::AtMost(limit);
        outcome.target(
            Target { what: format!("idle: {what}"), found: runs.median(), limit, must: false },
            digits,
        )
    };
    let lines = vec![
        vec!["CPU, % of a core".to_owned(), at_most("% of a core", &cpu, 0.1, 3), cpu.range(3)],
        // One broker: none further.
        vec![
            "wake-ups a second, all threads".to_owned(),
            at_most("wake-ups a second", &wakes, 5.0, 1),
            wakes.range(1),
        ],
        vec!["peak MiB".to_owned(), number(memory.median(), 1), memory.range(1)],
    ];
    outcome.sections.push(Section {
        title: format!("idle: nothing to do for {} s", length.as_secs()),
        head: vec!["", "relay", "least–most"],
        lines,
        notes: Vec::new(),
    });
    Ok(outcome)
}
