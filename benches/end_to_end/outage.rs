//! Kafka is away for a minute while services write: memory, and how soon the relay has caught up.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::case::thousands;
use crate::process::Memory;
use crate::readable::Readable;
use crate::report::{Limit, Outcome, Runs, Section, Target, number};
use crate::server::await_leader;
use crate::subject::Subject;
use crate::writers::Writers;
use crate::{Bench, process, progress, slots, topic};

/// Rows a second.
const RATE: u64 = 2_000;

/// Caught up: what cannot be read yet was committed within this.
const BEHIND: Duration = Duration::from_millis(100);

/// More is a failure.
const PATIENCE: Duration = Duration::from_secs(300);

/// One outage.
struct Sample {
    peak: f64,
    /// Seconds since the relay's start, and MiB.
    memory: Vec<(f64, f64)>,
    /// Seconds since the relay's start at which the broker was killed, led again, and the relay had caught up.
    marks: [f64; 3],
    /// From the moment at which the broker leads its partitions again.
    flows: f64,
    caught_up: f64,
    rows: u64,
}

pub(crate) async fn run(bench: &mut Bench) -> Result<Outcome> {
    let away = Duration::from_secs(bench.options.size(60, 5));
    let mut samples = Vec::new();
    for round in 0..bench.options.runs {
        let sample = sample(bench, away).await?;
        progress(&format!("outage ({}): caught up after {:.1} s", round + 1, sample.caught_up));
        samples.push(sample);
    }
    let figure = |figure: fn(&Sample) -> f64| -> Runs { samples.iter().map(figure).collect() };
    let (peak, flows, caught_up) =
        (figure(|sample| sample.peak), figure(|sample| sample.flows), figure(|sample| sample.caught_up));
    let mut outcome = Outcome::new(&bench.options);
    outcome.json = json!({
        "rows_per_second": RATE,
        "away_seconds": away.as_secs(),
        "peak_mib": peak,
        "seconds_until_records_flow": flows,
        "seconds_until_caught_up": caught_up,
        "memory": samples.iter().map(|sample| &sample.memory).collect::<Vec<_>>(),
        "killed_leads_caught_up": samples.iter().map(|sample| sample.marks).collect::<Vec<_>>(),
        "rows": figure(|sample| sample.rows as f64),
    });
    let limit = Limit::AtMost(48.0);
    let target = Target { what: "outage: peak MiB".to_owned(), found: peak.median(), limit, must: false };
    let memory = outcome.target(target, 0);
    let line = |what: &str, cell: String, runs: &Runs| vec![what.to_owned(), cell, runs.range(1)];
    outcome.sections.push(Section {
        title: format!(
            "outage: broker killed, and away for {} s, at {} rows/s",
            away.as_secs(),
            thousands(RATE)
        ),
        head: vec!["", "relay", "least–most"],
        lines: vec![
            line("peak MiB", memory, &peak),
            line("s until records flow again", number(flows.median(), 1), &flows),
            line("s until caught up", number(caught_up.median(), 1), &caught_up),
        ],
        notes: vec![
            "seconds from the moment at which the broker leads its partitions again; the writing goes on"
                .to_owned(),
        ],
    });
    Ok(outcome)
}

async fn sample(bench: &mut Bench, away: Duration) -> Result<Sample> {
    let slot = "bench_outage";
    slots::make(&bench.world, slot).await?;
    let topic = topic::make(&bench.world).await?;
    let settings = [format!("postgres.slot={slot}"), format!("route.topic={topic}")];
    let mut relay = Subject::relay(bench, &bench.world.url, &settings)?;
    let memory = Memory::watch(relay.pid());
    let writers = Writers::start(&bench.world, RATE, RATE * (away + PATIENCE).as_secs()).await?;
    let readable = Readable::of(&bench.world.broker, std::slice::from_ref(&topic))?;
    readable.fills(RATE, || relay.still_runs())?;
    drop(readable);

    let killed = relay.started.elapsed();
    bench.world.kafka.end("KILL").await?;
    tokio::time::sleep(away).await;
    bench.world.kafka.start_again()?;
    tokio::task::block_in_place(|| await_leader(&bench.world.broker, std::slice::from_ref(&topic)))?;
    let leads = Instant::now();
    let readable = Readable::of(&bench.world.broker, std::slice::from_ref(&topic))?;
    let before = readable.count()?;
    let allowed = RATE * BEHIND.as_millis() as u64 / 1_000;
    let mut flows = None;
    loop {
        // In this order: what is committed meanwhile is not missed.
        let committed = writers.committed();
        let count = readable.count()?;
        if count > before {
            flows.get_or_insert_with(|| leads.elapsed());
        }
        if count + allowed >= committed {
            break;
        }
        relay.still_runs()?;
        ensure!(leads.elapsed() < PATIENCE, "{count} of {committed} rows came within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let caught_up = leads.elapsed();
    let marks = [killed, leads - relay.started, leads + caught_up - relay.started];
    let rows = writers.stop().await?;
    readable.fills(rows, || relay.still_runs())?;
    let peak = process::peak(relay.pid())?;
    relay.stop()?;
    topic::delete(&bench.world, &topic).await?;
    slots::remove(&bench.world, slot).await?;
    Ok(Sample {
        peak,
        memory: memory.end(),
        marks: marks.map(|mark| mark.as_secs_f64()),
        flows: flows.unwrap_or(caught_up).as_secs_f64(),
        caught_up: caught_up.as_secs_f64(),
        rows,
    })
}
