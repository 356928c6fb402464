//! How long an event takes to a consumer, at a steady rate of transactions of one row.
//!
//! Services commit by the clock, not when the server is ready for the next. The relay's delay is counted from the answer to
//! COMMIT: before it nobody knows of the event, and what comes before it is the server's own work (its flush to disk above
//! all). It can be negative, as the walsender does not wait for the answer; what a service sees, from the begin of its
//! INSERT, stands beside it. The reference is a bare producer with the relay's own properties and without lingering, counted
//! from its call of send, to the same consumer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::consumer::{Arrival, Listener};
use crate::report::{Limit, Outcome, Runs, Section, Target, number};
use crate::subject::Subject;
use crate::writers::Writers;
use crate::{Bench, slots, topic};

/// Transactions a second.
const RATES: [u64; 3] = [100, 1_000, 5_000];

/// What has not come by then will not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The relay has begun to stream by then.
const START: Duration = Duration::from_secs(2);

/// Delays of one run, in ms.
#[derive(Debug, Clone, Copy, Serialize)]
struct Delays {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

/// One run of one rate.
#[derive(Debug, Serialize)]
struct Sample {
    /// Events a second that were really sent.
    reached: f64,
    producer: Delays,
    relay: Delays,
    /// The same from the begin of the INSERT.
    relay_from_insert: Delays,
}

/// How long each run takes.
struct Length {
    warm_up: u64,
    counted: u64,
}

impl Length {
    const fn all(&self) -> u64 {
        self.warm_up + self.counted
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let size = |full, quick| bench.options.size(full, quick);
    let length = Length { warm_up: size(5, 1), counted: size(45, 5) };
    let mut outcome = Outcome::new(&bench.options);
    let mut found = Vec::new();
    for rate in RATES {
        let mut samples = Vec::new();
        for _ in 0..bench.options.runs {
            let producer = bare(bench, rate, &length).await.context("bare producer")?;
            let (reached, relay, relay_from_insert) = relayed(bench, rate, &length).await.context("relay")?;
            samples.push(Sample { reached, producer, relay, relay_from_insert });
        }
        let section = section(rate, &samples, &length, &mut outcome);
        outcome.sections.push(section);
        found.push(json!({ "rate": rate, "runs": samples }));
    }
    outcome.json = json!({ "warm_up_seconds": length.warm_up, "seconds": length.counted, "rates": found });
    Ok(outcome)
}

async fn bare(bench: &Bench, rate: u64, length: &Length) -> Result<Delays> {
    let topic = topic::make(&bench.world).await?;
    let listener = Listener::start(&bench.world.broker, &topic)?;
    let arguments = [&bench.world.broker, &topic, &rate.to_string(), &length.all().to_string()];
    let producer = Subject::role("paced", &arguments.map(String::as_str))?;
    let arrivals = arrivals(&listener, rate * length.all())?;
    producer.stop()?;
    topic::delete(&bench.world, &topic).await?;
    let counted = arrivals.iter().filter(|arrival| arrival.n >= rate * length.warm_up);
    Ok(Delays::of(counted.map(|arrival| milliseconds(arrival.sent, arrival.received)).collect()))
}

/// The rate that was reached, the delays from the answer to COMMIT, and those from the begin of the INSERT.
async fn relayed(bench: &Bench, rate: u64, length: &Length) -> Result<(f64, Delays, Delays)> {
    let (world, slot) = (&bench.world, "bench_delay");
    slots::make(world, slot).await?;
    let topic = topic::make(world).await?;
    let listener = Listener::start(&world.broker, &topic)?;
    let settings = [format!("postgres.slot={slot}"), format!("route.topic={topic}")];
    let mut relay = Subject::relay(bench, &world.url, &settings)?;
    tokio::time::sleep(START).await;
    let rows = rate * length.all();
    let mut writers = Writers::start(world, rate, rows).await?;
    writers.end().await?;
    relay.still_runs()?;
    let arrivals = tokio::task::block_in_place(|| arrivals(&listener, rows))?;
    relay.stop()?;
    topic::delete(world, &topic).await?;
    slots::remove(world, slot).await?;

    let counted: Vec<_> = arrivals.iter().filter(|arrival| arrival.n >= rate * length.warm_up).collect();
    let answered = |arrival: &Arrival| {
        let answered = usize::try_from(arrival.n).ok().and_then(|n| writers.answered.get(n));
        milliseconds(answered.map_or(0, |answered| answered.load(Ordering::Relaxed)), arrival.received)
    };
    let sent = || counted.iter().map(|arrival| arrival.sent);
    let took = sent().max().unwrap_or(0).saturating_sub(sent().min().unwrap_or(0));
    Ok((
        (counted.len() - 1) as f64 / (took as f64 / 1e9),
        Delays::of(counted.iter().map(|arrival| answered(arrival)).collect()),
        Delays::of(counted.iter().map(|arrival| milliseconds(arrival.sent, arrival.received)).collect()),
    ))
}

/// Waits for `rows` events.
fn arrivals(listener: &Listener, rows: u64) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    while (arrivals.len() as u64) < rows {
        let next = listener.arrivals.recv_timeout(PATIENCE);
        arrivals.push(next.with_context(|| format!("{} of {rows} events came", arrivals.len()))?);
    }
    ensure!(arrivals.iter().all(|arrival| arrival.n < rows), "an event that nobody has written");
    Ok(arrivals)
}

fn milliseconds(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e6
}

impl Delays {
    fn of(mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (delays.len() as f64 * share).ceil() as usize;
            delays.get(index.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

fn section(rate: u64, samples: &[Sample], length: &Length, outcome: &mut Outcome) -> Section {
    let figure = |of: fn(&Sample) -> Delays, part: fn(Delays) -> f64| -> Runs {
        samples.iter().map(|sample| part(of(sample))).collect()
    };
    let parts: [fn(Delays) -> f64; 4] = [|d| d.p50, |d| d.p95, |d| d.p99, |d| d.max];
    let producer = |part| figure(|sample| sample.producer, part).median();
    let mut lines = Vec::new();
    let mut line = |what: &str, of: fn(&Sample) -> Delays, outcome: Option<&mut Outcome>| {
        let mut cells: Vec<_> = parts.iter().map(|part| number(figure(of, *part).median(), 2)).collect();
        if let Some(outcome) = outcome {
            for (cell, target) in cells.iter_mut().zip(targets(
                rate,
                figure(of, |d| d.p50).median(),
                producer(|d| d.p50),
                figure(of, |d| d.p99).median(),
                producer(|d| d.p99),
            )) {
                if let Some(target) = target {
                    *cell = outcome.target(target, 2);
                }
            }
        }
        cells.insert(0, what.to_owned());
        cells.extend([figure(of, |d| d.p50).range(2), figure(of, |d| d.p99).range(2)]);
        lines.push(cells);
    };
    line("bare producer, from send", |sample| sample.producer, None);
    line("relay, from the answer to COMMIT", |sample| sample.relay, Some(outcome));
    line("relay, from the begin of the INSERT", |sample| sample.relay_from_insert, None);
    let reached: Runs = samples.iter().map(|sample| sample.reached).collect();
    Section {
        title: format!(
            "delay: {} commits/s for {} s, one row each, to a consumer; ms",
            number(rate as f64, 0),
            length.counted
        ),
        head: vec!["", "p50", "p95", "p99", "max", "p50 least–most", "p99 least–most"],
        lines,
        notes: vec![format!("{} commits/s were reached", number(reached.median(), 0))],
    }
}

/// For p50, p95 and p99.
fn targets(rate: u64, p50: f64, bare_p50: f64, p99: f64, bare_p99: f64) -> [Option<Target>; 3] {
    let at_most = |which: &str, found, limit| {
        let what = format!("delay at {rate} commits/s: {which}, ms");
        Some(Target { what, found, limit: Limit::AtMost(limit), must: true })
    };
    [
        (rate == 1_000).then(|| at_most("p50", p50, bare_p50 + 1.0)).flatten(),
        None,
        (rate >= 1_000).then(|| at_most("p99", p99, bare_p99 * 1.5 + 2.0)).flatten(),
    ]
}
