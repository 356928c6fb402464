//! How fast a backlog goes through: rows that were committed before, from the first record that can be read to the last.
//!
//! All read the same rows, each from a copy of one slot that nobody moves, and write into a topic of their own. They take
//! turns, so that what else the machine does hits all of them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::case::{Case, PARTITIONS};
use crate::consumer::compare;
use crate::debezium::Tuned;
use crate::program::Program;
use crate::readable::Readable;
use crate::report::{Limit, Outcome, Runs, Section, Target, number};
use crate::role::Read;
use crate::subject::Subject;
use crate::topic::Topics;
use crate::{Bench, process, progress, slots};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// Drains the slot; no Kafka.
    Reader,
    /// Sends the same records; no PostgreSQL.
    Producer,
    /// The relay with a client that only counts.
    Counted,
    Relay,
    /// PostgreSQL's own program.
    PgRecvlogical,
    /// Takes part only in `peers.rs`.
    Debezium,
}

/// How PostgreSQL is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Over {
    Unix,
    Tcp,
    /// PostgreSQL is not part of it.
    Nothing,
}

/// What takes turns.
const TURNS: [(Who, Over); 9] = [
    (Who::Reader, Over::Unix),
    (Who::Producer, Over::Nothing),
    (Who::Counted, Over::Unix),
    (Who::Relay, Over::Unix),
    (Who::PgRecvlogical, Over::Unix),
    (Who::Reader, Over::Tcp),
    (Who::Counted, Over::Tcp),
    (Who::Relay, Over::Tcp),
    (Who::PgRecvlogical, Over::Tcp),
];

impl Who {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader alone",
            Self::Producer => "producer alone",
            Self::Counted => "relay without Kafka",
            Self::Relay => "relay",
            Self::PgRecvlogical => "pg_recvlogical",
            Self::Debezium => "Debezium",
        }
    }

    const fn writes(self) -> bool {
        matches!(self, Self::Producer | Self::Relay | Self::Debezium)
    }
}

impl Over {
    const fn name(self) -> &'static str {
        match self {
            Self::Unix => ", unix socket",
            Self::Tcp => ", TCP",
            Self::Nothing => "",
        }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) who: Who,
    pub(crate) over: Over,
    /// From the first row to the last; for pg_recvlogical, which does not say when the first came, from its start.
    pub(crate) rows_per_second: f64,
    /// Of payloads.
    pub(crate) bytes_per_second: f64,
    /// From its start to the last row.
    pub(crate) seconds_from_start: f64,
    /// Microseconds of CPU for each row; `None`: it has no part in it, or was gone before it could be asked.
    pub(crate) own_cpu: Option<f64>,
    pub(crate) walsender_cpu: Option<f64>,
    pub(crate) broker_cpu: Option<f64>,
    /// MiB.
    pub(crate) peak: Option<f64>,
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let size = |full, quick| bench.options.size(full, quick);
    let cases = [
        many(bench),
        Case { name: "one", rows: size(2_000_000, 40_000), transactions: 1, payload: 240, topics: 1 },
        Case { name: "large", rows: size(100_000, 4_000), transactions: 100, payload: 4_096, topics: 1 },
    ];
    let mut outcome = Outcome::new(&bench.options);
    let mut found = Vec::new();
    for case in &cases {
        let samples = samples(bench, case).await.with_context(|| case.title())?;
        let section = section(case, &samples, &mut outcome);
        outcome.sections.push(section);
        found.push(json!({ "case": case.title(), "runs": samples }));
    }
    outcome.json = json!({ "partitions": PARTITIONS, "cases": found });
    Ok(outcome)
}

/// The backlog that peers are compared with.
pub(crate) const fn many(bench: &Bench) -> Case {
    let options = &bench.options;
    Case {
        name: "many",
        rows: options.size(1_000_000, 20_000),
        transactions: options.size(1_000, 20),
        payload: 240,
        topics: 1,
    }
}

async fn samples(bench: &Bench, case: &Case) -> Result<Vec<Sample>> {
    prepare(bench, case).await?;
    let mut samples = Vec::new();
    for round in 0..bench.options.runs {
        for (who, over) in TURNS {
            if who == Who::PgRecvlogical && pg_recvlogical_version().is_none() {
                continue;
            }
            let what = format!("{}{}", who.name(), over.name());
            let sample = turn(bench, case, who, over, round == 0).await.with_context(|| what.clone())?;
            let rate = number(sample.rows_per_second, 0);
            progress(&format!("drain, {} ({}): {what}: {rate} rows/s", case.title(), round + 1));
            samples.push(sample);
        }
    }
    clear(bench, case).await?;
    Ok(samples)
}

/// The slot that is copied for each turn.
fn base(case: &Case) -> String {
    format!("bench_{}", case.name)
}

/// Makes the slot and the rows behind it, and warms the servers up.
pub(crate) async fn prepare(bench: &Bench, case: &Case) -> Result<()> {
    slots::make(&bench.world, &base(case)).await?;
    case.fill(&bench.world).await?;
    if !bench.options.quick {
        // The broker's code is compiled while it runs.
        for (who, over) in [(Who::Producer, Over::Nothing), (Who::Relay, Over::Unix)] {
            turn(bench, case, who, over, false).await?;
        }
    }
    Ok(())
}

pub(crate) async fn clear(bench: &Bench, case: &Case) -> Result<()> {
    slots::remove(&bench.world, &base(case)).await
}

/// One run. `compares`: all that was written is read again afterwards.
pub(crate) async fn turn(bench: &Bench, case: &Case, who: Who, over: Over, compares: bool) -> Result<Sample> {
    let world = &bench.world;
    let slot = "bench_turn";
    if over != Over::Nothing {
        slots::copy(world, &base(case), slot).await?;
    }
    let topics = if who.writes() { Topics::make(world, case.topics).await? } else { Topics::none() };
    let topic = &topics.route;
    let one = topics.names.first().unwrap_or(topic);
    let end: String =
        world.client().await?.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?.get(0);
    let readable = who.writes().then(|| Readable::of(&world.broker, &topics.names)).transpose()?;
    let broker = process::cpu(world.kafka.pid())?;

    let url = if over == Over::Tcp { &bench.tcp_url } else { &world.url };
    let (rows, payload) = (case.rows.to_string(), case.payload.to_string());
    let mut subject = match who {
        Who::Reader => Subject::role("reader", &[url, slot, &rows])?,
        Who::Producer => Subject::role("producer", &[&world.broker, one, &rows, &payload])?,
        Who::Counted => Subject::role("counted", &[url, slot, topic, &rows])?,
        Who::Relay => Program::Relay.start(bench, over, slot, topic)?,
        Who::Debezium => Program::Debezium(Tuned::ForRate).start(bench, over, slot, topic)?,
        Who::PgRecvlogical => Subject::start(&mut pg_recvlogical(url, slot, &end))?,
    };
    let (count, took, from_start) = match (who, &readable) {
        (Who::Reader | Who::Counted, _) => {
            let read = Read::heard(&subject.line()?)?;
            (read.rows, read.took, subject.started.elapsed())
        }
        (Who::PgRecvlogical, _) => {
            subject.ends()?;
            (case.rows, subject.started.elapsed(), subject.started.elapsed())
        }
        (_, Some(readable)) => {
            let filled = readable.fills(case.rows, || subject.still_runs())?;
            let (first, already) = filled.first;
            (case.rows - already, filled.last - first, filled.last - subject.started)
        }
        (_, None) => (0, Default::default(), Default::default()),
    };

    let per_row = |seconds: f64| seconds * 1e6 / case.rows as f64;
    let is_there = who != Who::PgRecvlogical;
    let walsender = if over == Over::Nothing { None } else { slots::walsender(world, slot).await? };
    let sample = Sample {
        who,
        over,
        rows_per_second: count as f64 / took.as_secs_f64(),
        bytes_per_second: (count * case.payload) as f64 / took.as_secs_f64(),
        seconds_from_start: from_start.as_secs_f64(),
        own_cpu: is_there.then(|| subject.cpu()).transpose()?.map(per_row),
        walsender_cpu: walsender.map(process::cpu).transpose()?.map(per_row),
        broker_cpu: who
            .writes()
            .then(|| process::cpu(world.kafka.pid()))
            .transpose()?
            .map(|cpu| per_row(cpu - broker)),
        peak: is_there.then(|| process::peak(subject.pid())).transpose()?,
    };
    subject.stop()?;
    if let Some(readable) = &readable {
        let count = readable.count()?;
        ensure!(count == case.rows, "{count} records for {} rows in a run that nothing disturbed", case.rows);
        if compares && who != Who::Producer {
            compare(&world.broker, &topics.names, case.rows)?;
        }
        topics.delete(world).await?;
    }
    if over != Over::Nothing {
        slots::remove(world, slot).await?;
    }
    Ok(sample)
}

/// Its version, if it is installed.
fn pg_recvlogical_version() -> Option<String> {
    let output = Command::new("pg_recvlogical").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// It ends where the log does.
fn pg_recvlogical(url: &str, slot: &str, end: &str) -> Command {
    let mut command = Command::new("pg_recvlogical");
    command.args(["--dbname", url, "--slot", slot, "--start", "--no-loop", "--endpos", end]);
    command.args(["--option", "proto_version=1", "--option", "publication_names=outbox_relay"]);
    command.args(["--fsync-interval", "0", "--file", "/dev/null"]);
    command
}

fn section(case: &Case, samples: &[Sample], outcome: &mut Outcome) -> Section {
    let of =
        |who: Who, over: Over| samples.iter().filter(move |sample| (sample.who, sample.over) == (who, over));
    let rates = |who, over| -> Vec<f64> { of(who, over).map(|sample| sample.rows_per_second).collect() };
    let mut lines = Vec::new();
    for (who, over) in TURNS {
        let rate: Runs = rates(who, over).into_iter().collect();
        if rate.0.is_empty() {
            continue;
        }
        let what = format!("{}{}: {}", who.name(), over.name(), case.title());
        let figure =
            |figure: fn(&Sample) -> Option<f64>| -> Runs { of(who, over).filter_map(figure).collect() };
        // Each run against the references of its own round.
        let readers = rates(Who::Reader, over).into_iter();
        let references: Vec<f64> = match who {
            Who::Counted => readers.collect(),
            Who::Relay => readers.zip(rates(Who::Producer, Over::Nothing)).map(|(a, b)| a.min(b)).collect(),
            Who::Reader | Who::Producer | Who::PgRecvlogical | Who::Debezium => Vec::new(),
        };
        let ratio: Runs = rate.0.iter().zip(&references).map(|(rate, reference)| rate / reference).collect();
        let ratio = match (who, over) {
            _ if ratio.0.is_empty() => String::new(),
            (Who::Counted, _) => {
                outcome.target(at_least(format!("{what}: against the reader"), &ratio, 0.95, false), 2)
            }
            (Who::Relay, Over::Unix) => outcome.target(
                at_least(format!("{what}: against the slower of reader and producer"), &ratio, 0.7, true),
                2,
            ),
            _ => number(ratio.median(), 2),
        };
        let (own, peak) = (figure(|sample| sample.own_cpu), figure(|sample| sample.peak));
        let (own, peak) = if who == Who::Relay {
            let memory = at_most(format!("{what}: peak MiB"), &peak, 48.0);
            let cpu = at_most(format!("{what}: µs of CPU a row"), &own, 4.0);
            // The target is for small rows: a large one costs by its bytes.
            let cpu = if case.is_small() { outcome.target(cpu, 1) } else { shown(&own, 1) };
            (cpu, outcome.target(memory, 0))
        } else {
            (shown(&own, 1), shown(&peak, 0))
        };
        lines.push(vec![
            format!("{}{}", who.name(), over.name()),
            number(rate.median(), 0),
            rate.range(0),
            ratio,
            own,
            shown(&figure(|sample| sample.walsender_cpu), 1),
            shown(&figure(|sample| sample.broker_cpu), 1),
            peak,
            number(figure(|sample| Some(sample.seconds_from_start)).median(), 1),
        ]);
    }
    let recvlogical = match pg_recvlogical_version() {
        Some(version) => {
            format!("{version} does not say when the first row came: its rate is from its start")
        }
        None => "pg_recvlogical: not found on this machine (Debian: postgresql-client)".to_owned(),
    };
    let ratio =
        "ratio: the relay to the slower of reader and producer, the relay without Kafka to the reader";
    let notes = vec![format!("{PARTITIONS} partitions; {ratio}"), recvlogical];
    Section {
        title: format!("drain: {}", case.title()),
        head: vec![
            "",
            "rows/s",
            "least–most",
            "ratio",
            "CPU µs/row",
            "walsender",
            "broker",
            "peak MiB",
            "s from start",
        ],
        lines,
        notes,
    }
}

/// Nothing where there is nothing.
fn shown(runs: &Runs, digits: usize) -> String {
    if runs.0.is_empty() { "–".to_owned() } else { number(runs.median(), digits) }
}

pub(crate) fn at_least(what: String, found: &Runs, limit: f64, must: bool) -> Target {
    Target { what, found: found.median(), limit: Limit::AtLeast(limit), must }
}

fn at_most(what: String, found: &Runs, limit: f64) -> Target {
    Target { what, found: found.median(), limit: Limit::AtMost(limit), must: false }
}
