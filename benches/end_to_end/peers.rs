//! The relay beside Debezium: the same rows, the same servers, in turn, and measured in the same way.
//!
//! Both reach PostgreSQL over TCP, the only way that Debezium has. It is tuned for the rate where the rate is measured, and
//! for the delay elsewhere; the relay is as it comes.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::case::thousands;
use crate::debezium::{self, Tuned};
use crate::delay::{self, Length, Relayed};
use crate::drain::{self, Over, Sample, Who};
use crate::program::Program;
use crate::report::{Limit, Outcome, Runs, Section, Target, number};
use crate::{Bench, progress, slots, start};

/// Transactions a second, for the delay.
const RATE: u64 = 1_000;

/// What go-pq-cdc-kafka has reached, with `acks=all` and batches of 10,000, on a 2-core machine with everything on it. Unlike
/// Debezium it cannot be fetched from here, so it is quoted.
mod go_pq_cdc_kafka {
    pub(super) const NAME: &str = "go-pq-cdc-kafka 1.3.1";
    pub(super) const ROWS_PER_SECOND: f64 = 65_700.0;
    pub(super) const CPU: f64 = 21.0;
    pub(super) const PEAK: f64 = 70.0;
    pub(super) const P50: f64 = 5.8;
    pub(super) const P99: f64 = 17.0;
    pub(super) const START: f64 = 1_040.0;
}

/// One figure of both.
struct Both {
    what: &'static str,
    relay: Runs,
    debezium: Runs,
    digits: usize,
    quoted: Option<f64>,
}

impl Both {
    fn median(&self) -> f64 {
        self.relay.median()
    }

    /// Of its cells, those of the relay and of how many times better it is are the caller's.
    fn cells(&self, relay: String, better: String) -> Vec<String> {
        let Self { what, debezium, digits, quoted, .. } = self;
        vec![
            (*what).to_owned(),
            relay,
            self.relay.range(*digits),
            number(debezium.median(), *digits),
            debezium.range(*digits),
            better,
            quoted.map_or_else(|| "–".to_owned(), |quoted| number(quoted, *digits)),
        ]
    }

    /// The line of a figure of which less is better.
    fn less(&self) -> Vec<String> {
        let better = self.debezium.median() / self.median();
        // Beside a delay of about nothing a factor would say nothing.
        let better = if better > 0.0 { format!("{better:.1}") } else { "–".to_owned() };
        self.cells(number(self.median(), self.digits), better)
    }

    fn json(&self) -> Value {
        json!({ "what": self.what, "relay": self.relay, "debezium": self.debezium, "quoted": self.quoted })
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let started = started(bench).await.context("start")?;
    let delayed = delayed(bench).await.context("delay")?;
    let [rate, cpu, peak] = drained(bench).await.context("drain")?;

    let mut outcome = Outcome::new(&bench.options);
    let target = |what: &str, found, limit| Target {
        what: format!("peers: {what}"),
        found,
        limit: Limit::AtLeast(limit),
        must: false,
    };
    let quoted = 2.0 * go_pq_cdc_kafka::ROWS_PER_SECOND;
    let relay = target("drain, rows/s, against twice those of go-pq-cdc-kafka", rate.median(), quoted);
    let better = target("drain, times the rows/s of Debezium", rate.median() / rate.debezium.median(), 3.5);
    let (relay, better) = (outcome.target(relay, 0), outcome.target(better, 1));

    let mut lines = vec![rate.cells(relay, better)];
    let others = [&cpu, &peak].into_iter().chain(&delayed).chain([&started]);
    lines.extend(others.map(Both::less));
    let all = [&rate, &cpu, &peak].into_iter().chain(&delayed).chain([&started]);
    outcome.json = all.map(Both::json).collect();
    outcome.sections.push(Section {
        title: format!(
            "peers: the relay and Debezium {} on Kafka Connect, both over TCP",
            debezium::version()?
        ),
        head: vec!["", "relay", "least–most", "Debezium", "least–most", "times better", go_pq_cdc_kafka::NAME],
        lines,
        notes: vec![
            format!("drain: {}; CPU from exec to the last row", drain::many(bench).title()),
            format!(
                "delay: {} commits/s of one row each, from the answer to COMMIT to a consumer; Debezium with \
                 poll.interval.ms=5 and linger.ms=0",
                thousands(RATE)
            ),
            format!(
                "{}: quoted (its library cannot be had here) from a 2-core machine with everything on it; acks=all, batches of \
                 10,000",
                go_pq_cdc_kafka::NAME
            ),
        ],
    });
    Ok(outcome)
}

/// Rows per second, µs of CPU for each, and MiB.
async fn drained(bench: &Bench) -> Result<[Both; 3]> {
    let case = drain::many(bench);
    drain::prepare(bench, &case).await?;
    let (mut relay, mut debezium) = (Vec::new(), Vec::new());
    for round in 1..=bench.options.runs {
        for (who, samples) in [(Who::Relay, &mut relay), (Who::Debezium, &mut debezium)] {
            let name = who.name();
            let sample = drain::turn(bench, &case, who, Over::Tcp, round == 1).await.with_context(|| name)?;
            progress(&format!(
                "peers, drain ({round}): {name}: {} rows/s",
                number(sample.rows_per_second, 0)
            ));
            samples.push(sample);
        }
    }
    drain::clear(bench, &case).await?;
    let both = |what, figure: fn(&Sample) -> Option<f64>, digits, quoted| Both {
        what,
        relay: relay.iter().filter_map(figure).collect(),
        debezium: debezium.iter().filter_map(figure).collect(),
        digits,
        quoted,
    };
    Ok([
        both(
            "drain: rows/s",
            |sample| Some(sample.rows_per_second),
            0,
            Some(go_pq_cdc_kafka::ROWS_PER_SECOND),
        ),
        both("drain: CPU, µs/row", |sample| sample.own_cpu, 1, Some(go_pq_cdc_kafka::CPU)),
        both("drain: peak MiB", |sample| sample.peak, 0, Some(go_pq_cdc_kafka::PEAK)),
    ])
}

/// ms, ms, and MiB.
async fn delayed(bench: &Bench) -> Result<[Both; 3]> {
    let length = Length::of(bench);
    let (mut relay, mut debezium) = (Vec::new(), Vec::new());
    for round in 1..=bench.options.runs {
        for (program, found) in
            [(Program::Relay, &mut relay), (Program::Debezium(Tuned::ForDelay), &mut debezium)]
        {
            let name = program.name();
            let relayed = delay::relayed(bench, RATE, &length, program, Over::Tcp).await;
            let relayed = relayed.with_context(|| name)?;
            progress(&format!("peers, delay ({round}): {name}: p50 {:.2} ms", relayed.from_answer.p50));
            found.push(relayed);
        }
    }
    let both = |what, figure: fn(&Relayed) -> f64, digits, quoted| Both {
        what,
        relay: relay.iter().map(figure).collect(),
        debezium: debezium.iter().map(figure).collect(),
        digits,
        quoted,
    };
    Ok([
        both("delay: p50, ms", |found| found.from_answer.p50, 2, Some(go_pq_cdc_kafka::P50)),
        both("delay: p99, ms", |found| found.from_answer.p99, 2, Some(go_pq_cdc_kafka::P99)),
        both("delay: peak MiB", |found| found.peak, 0, None),
    ])
}

/// Milliseconds from exec to the first record at a consumer.
async fn started(bench: &Bench) -> Result<Both> {
    start::prepare(bench).await?;
    let (mut relay, mut debezium) = (Runs::default(), Runs::default());
    // One more, whose figures are not counted: the programs are read from disk.
    for run in 0..=bench.options.runs {
        for (program, runs) in
            [(Program::Relay, &mut relay), (Program::Debezium(Tuned::ForDelay), &mut debezium)]
        {
            let name = program.name();
            let took = start::once(bench, program, Over::Tcp).await.with_context(|| name)?;
            if run > 0 {
                progress(&format!("peers, start ({run}): {name}: {} ms", number(took, 0)));
                runs.0.push(took);
            }
        }
    }
    slots::remove(&bench.world, start::BASE).await?;
    Ok(Both { what: "start: ms", relay, debezium, digits: 0, quoted: Some(go_pq_cdc_kafka::START) })
}
