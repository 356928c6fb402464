//! How long an event takes to a consumer, at a steady rate of transactions of one row.
//!
//! Services commit by the clock, not when the server is ready for the next. The relay's delay is counted from the answer to
//! COMMIT: before it nobody knows of the event, and what comes before it is the server's own work (its flush to disk above
//! all). It can be negative, as the walsender does not wait for the answer; what a service sees, from the begin of its
//! INSERT, stands beside it.
//!
//! The reference is a bare producer with the relay's own properties and without lingering, counted from its call of send, to the
//! same consumer: once alone, and once beside the same commits, which nobody relays. The latter is the floor: no relay can be
//! faster than whoever need not read PostgreSQL at all, on a machine that has as much to do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::case::thousands;
use crate::consumer::{Arrival, Listener};
use crate::drain::Over;
use crate::program::Program;
use crate::report::{Limit, Outcome, Runs, Section, Target, number};
use crate::subject::Subject;
use crate::writers::Writers;
use crate::{Bench, process, progress, slots, topic};

/// Transactions a second.
const RATES: [u64; 3] = [100, 1_000, 5_000];

/// What has not come by then will not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What else is to do once the slot is taken is done by then.
const START: Duration = Duration::from_secs(2);

/// Between two looks at whether it is taken.
const LOOK: Duration = Duration::from_millis(50);

/// Delays of one run, in ms.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Delays {
    pub(crate) p50: f64,
    p95: f64,
    pub(crate) p99: f64,
    max: f64,
    /// Shares of the events, and what delay so many have at most.
    distribution: Vec<(f64, f64)>,
}

/// The shares in a distribution.
const SHARES: [f64; 16] =
    [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];

/// What came through the relay, or its peer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Relayed {
    /// Events a second that were really sent.
    reached: f64,
    pub(crate) from_answer: Delays,
    /// From the begin of the INSERT.
    from_insert: Delays,
    /// MiB.
    pub(crate) peak: f64,
}

/// One run of one rate.
#[derive(Debug, Serialize)]
struct Sample {
    producer: Delays,
    /// The producer beside the same commits, which nobody relays.
    loaded: Delays,
    relay: Relayed,
}

/// How long each run takes.
pub(crate) struct Length {
    warm_up: u64,
    counted: u64,
}

impl Length {
    pub(crate) const fn of(bench: &Bench) -> Self {
        let options = &bench.options;
        Self { warm_up: options.size(5, 1), counted: options.size(45, 5) }
    }

    const fn all(&self) -> u64 {
        self.warm_up + self.counted
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let length = Length::of(bench);
    let mut outcome = Outcome::new(&bench.options);
    let mut found = Vec::new();
    let rates = if bench.options.rates.is_empty() { &RATES[..] } else { &bench.options.rates };
    for &rate in rates {
        let mut samples = Vec::new();
        for round in 0..bench.options.runs {
            let producer = bare(bench, rate, &length, false).await.context("bare producer")?;
            let loaded =
                bare(bench, rate, &length, true).await.context("bare producer beside the commits")?;
            let relay = relayed(bench, rate, &length, Program::Relay, Over::Unix).await.context("relay")?;
            progress(&format!(
                "delay at {rate}/s ({}): p50 {:.2} ms, bare producer {:.2}, beside the commits {:.2}",
                round + 1,
                relay.from_answer.p50,
                producer.p50,
                loaded.p50
            ));
            samples.push(Sample { producer, loaded, relay });
        }
        let section = section(rate, &samples, &length, &mut outcome);
        outcome.sections.push(section);
        found.push(json!({ "rate": rate, "runs": samples }));
    }
    outcome.json = json!({ "warm_up_seconds": length.warm_up, "seconds": length.counted, "rates": found });
    Ok(outcome)
}

/// One run of the bare producer; if `commits`, PostgreSQL has as many to do as with the relay.
async fn bare(bench: &Bench, rate: u64, length: &Length, commits: bool) -> Result<Delays> {
    let topic = topic::make(&bench.world).await?;
    let listener = Listener::start(&bench.world.broker, &topic)?;
    let arguments = [&bench.world.broker, &topic, &rate.to_string(), &length.all().to_string()];
    let rows = rate * length.all();
    let mut writers = Writers::start(&bench.world, rate, if commits { rows } else { 0 }).await?;
    let producer = Subject::role("paced", &arguments.map(String::as_str))?;
    writers.end().await?;
    let arrivals = tokio::task::block_in_place(|| arrivals(&listener, rows))?;
    producer.stop()?;
    topic::delete(&bench.world, &topic).await?;
    let counted = arrivals.iter().filter(|arrival| arrival.n >= rate * length.warm_up);
    Ok(Delays::of(counted.map(|arrival| milliseconds(arrival.sent, arrival.received)).collect()))
}

/// One run of `program`.
pub(crate) async fn relayed(
    bench: &Bench,
    rate: u64,
    length: &Length,
    program: Program,
    over: Over,
) -> Result<Relayed> {
    let (world, slot) = (&bench.world, "bench_delay");
    slots::make(world, slot).await?;
    let topic = topic::make(world).await?;
    let listener = Listener::start(&world.broker, &topic)?;
    let mut subject = program.start(bench, over, slot, &topic)?;
    while slots::walsender(world, slot).await?.is_none() {
        subject.still_runs()?;
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(START).await;
    let rows = rate * length.all();
    let mut writers = Writers::start(world, rate, rows).await?;
    writers.end().await?;
    subject.still_runs()?;
    let arrivals = tokio::task::block_in_place(|| arrivals(&listener, rows))?;
    let peak = process::peak(subject.pid())?;
    subject.stop()?;
    topic::delete(world, &topic).await?;
    slots::remove(world, slot).await?;

    let counted: Vec<_> = arrivals.iter().filter(|arrival| arrival.n >= rate * length.warm_up).collect();
    let answered = |arrival: &Arrival| milliseconds(writers.answered(arrival.n), arrival.received);
    let sent = || counted.iter().map(|arrival| arrival.sent);
    let took = sent().max().unwrap_or(0).saturating_sub(sent().min().unwrap_or(0));
    Ok(Relayed {
        reached: counted.len().saturating_sub(1) as f64 / (took as f64 / 1e9),
        from_answer: Delays::of(counted.iter().map(|arrival| answered(arrival)).collect()),
        from_insert: Delays::of(
            counted.iter().map(|arrival| milliseconds(arrival.sent, arrival.received)).collect(),
        ),
        peak,
    })
}

/// Waits for `rows` events.
pub(crate) fn arrivals(listener: &Listener, rows: u64) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    while (arrivals.len() as u64) < rows {
        let next = listener.arrivals.recv_timeout(PATIENCE);
        arrivals.push(next.with_context(|| format!("{} of {rows} events came", arrivals.len()))?);
    }
    ensure!(arrivals.iter().all(|arrival| arrival.n < rows), "an event that nobody has written");
    Ok(arrivals)
}

pub(crate) fn milliseconds(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e6
}

impl Delays {
    pub(crate) fn of(mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (delays.len() as f64 * share).ceil() as usize;
            delays.get(index.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        };
        let distribution = SHARES.map(|share| (share, at(share))).to_vec();
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0), distribution }
    }
}

fn section(rate: u64, samples: &[Sample], length: &Length, outcome: &mut Outcome) -> Section {
    let of = |who: fn(&Sample) -> &Delays| Found(samples.iter().map(who).cloned().collect());
    let relay = of(|sample| &sample.relay.from_answer);
    let (bare, loaded) = (of(|sample| &sample.producer), of(|sample| &sample.loaded));
    let mut judge = |which: &str, found, limit| {
        let what = format!("delay at {rate} commits/s: {which}, ms");
        outcome.target(Target { what, found, limit: Limit::AtMost(limit), must: true }, 2)
    };
    let mut judged = relay.line("relay, from the answer to COMMIT");
    if let (Some(cell), 1_000) = (judged.get_mut(1), rate) {
        *cell = judge("p50", relay.median(P50), loaded.median(P50) + 1.0);
    }
    if let (Some(cell), 1_000..) = (judged.get_mut(3), rate) {
        *cell = judge("p99", relay.median(P99), loaded.median(P99) * 1.5 + 2.0);
    }
    let reached: Runs = samples.iter().map(|sample| sample.relay.reached).collect();
    let peak: Runs = samples.iter().map(|sample| sample.relay.peak).collect();
    let limit = Limit::AtMost(48.0);
    let what = format!("delay at {rate} commits/s: peak MiB");
    let peak = outcome.target(Target { what, found: peak.median(), limit, must: false }, 0);
    Section {
        title: format!(
            "delay: {} commits/s for {} s, one row each, to a consumer; ms",
            thousands(rate),
            length.counted
        ),
        head: vec!["", "p50", "p95", "p99", "max", "p50 least–most", "p99 least–most"],
        lines: vec![
            bare.line("bare producer, from send"),
            loaded.line("bare producer beside the same commits"),
            judged,
            of(|sample| &sample.relay.from_insert).line("relay, from the begin of the INSERT"),
        ],
        notes: vec![format!(
            "{} commits/s were reached; relay: peak MiB {peak}",
            number(reached.median(), 0)
        )],
    }
}

type Part = fn(&Delays) -> f64;
const P50: Part = |delays| delays.p50;
const P95: Part = |delays| delays.p95;
const P99: Part = |delays| delays.p99;
const MAX: Part = |delays| delays.max;

/// The delays of all runs.
struct Found(Vec<Delays>);

impl Found {
    fn runs(&self, part: Part) -> Runs {
        self.0.iter().map(part).collect()
    }

    fn median(&self, part: Part) -> f64 {
        self.runs(part).median()
    }

    fn line(&self, what: &str) -> Vec<String> {
        let medians = [P50, P95, P99, MAX].map(|part| number(self.median(part), 2));
        let ranges = [P50, P99].map(|part| self.runs(part).range(2));
        std::iter::once(what.to_owned()).chain(medians).chain(ranges).collect()
    }
}
