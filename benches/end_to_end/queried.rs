//! Rows that come by a query: a backlog by a backfill and by polling, beside the same by the log; how long an event takes that is polled
//! for; and what the notification that wakes the relay costs those who commit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::case::Case;
use crate::consumer::Listener;
use crate::delay::{Delays, arrivals, milliseconds};
use crate::readable::Readable;
use crate::report::{Limit, Outcome, Runs, Section, Target, number};
use crate::subject::Subject;
use crate::topic::Topics;
use crate::world::World;
use crate::writers::Writers;
use crate::{Bench, process, progress, slots, topic};

/// How the backlog gets to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum How {
    Log,
    Backfill,
    Mark,
    Delete,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    how: How,
    rows_per_second: f64,
    /// From the first record until no row is pending; the same where nothing is marked.
    rows_per_second_done: f64,
    /// MiB.
    peak: f64,
}

const TURNS: [How; 4] = [How::Log, How::Backfill, How::Mark, How::Delete];

const SLOT: &str = "bench_queried";

/// Transactions a second.
const RATES: [u64; 2] = [100, 1_000];

/// More than anybody can commit: each commits as fast as it can.
const UNTHROTTLED: u64 = 1_000_000;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

const PATIENCE: Duration = Duration::from_secs(60);

impl How {
    const fn name(self) -> &'static str {
        match self {
            Self::Log => "by the log",
            Self::Backfill => "backfill",
            Self::Mark => "poll, mark",
            Self::Delete => "poll, delete",
        }
    }

    fn settings(self, topic: &str) -> Vec<String> {
        let own: &[&str] = match self {
            Self::Log => &[],
            Self::Backfill => &["postgres.backfill=true"],
            Self::Mark => &["outbox.source=poll", "after_publish.action=mark"],
            Self::Delete => &["outbox.source=poll", "after_publish.action=delete"],
        };
        let own = own.iter().copied().map(str::to_owned);
        own.chain([format!("postgres.slot={SLOT}"), format!("route.topic={topic}")]).collect()
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let client = bench.world.client().await?;
    let has_status =
        "ALTER TABLE outbox ADD status text NOT NULL DEFAULT 'PENDING', ADD published_at timestamptz;
                      ALTER TABLE outbox ALTER created_at SET DEFAULT clock_timestamp();
                      CREATE INDEX bench_pending ON outbox (created_at, id) WHERE status = 'PENDING';
                      GRANT SELECT, UPDATE, DELETE ON outbox TO outbox_relay";
    client.batch_execute(has_status).await?;
    let found = measure(bench).await;
    let as_before = "ALTER TABLE outbox DROP status, DROP published_at; DROP TRIGGER IF EXISTS outbox_notify ON outbox;
                     ALTER TABLE outbox ALTER created_at SET DEFAULT now(); REVOKE ALL ON outbox FROM outbox_relay";
    client.batch_execute(as_before).await?;
    found
}

async fn measure(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::new(&bench.options);
    let rows = bench.options.size(500_000, 10_000);
    let case = Case { name: "queried", rows, transactions: rows / 1_000, payload: 240, topics: 1 };
    let mut samples = Vec::new();
    for round in 0..bench.options.runs {
        for how in TURNS {
            let sample = drain(bench, &case, how).await?;
            progress(&format!(
                "queried ({}): {}: {} rows/s",
                round + 1,
                how.name(),
                number(sample.rows_per_second, 0)
            ));
            samples.push(sample);
        }
    }
    outcome.sections.push(of_drains(&case, &samples));

    let client = bench.world.client().await?;
    let mut free = Vec::new();
    let mut notifying = Vec::new();
    for _ in 0..bench.options.runs {
        client.batch_execute("DROP TRIGGER IF EXISTS outbox_notify ON outbox").await?;
        free.push(commits(bench).await?);
        client.batch_execute(include_str!("../../sql/optional/notify.sql")).await?;
        notifying.push(commits(bench).await?);
    }
    let mut delays = Vec::new();
    for rate in RATES {
        let mut of_rate = Vec::new();
        for _ in 0..bench.options.runs {
            let delays = delay(bench, rate).await?;
            progress(&format!("queried: {rate} commits/s, woken by NOTIFY: p50 {:.2} ms", delays.p50));
            of_rate.push(delays);
        }
        delays.push((rate, of_rate));
    }
    let section = of_delays(&delays, &mut outcome);
    outcome.sections.push(section);
    outcome.sections.push(of_commits(&free, &notifying));
    outcome.json =
        json!({ "drains": samples, "delays": delays, "commits": free, "commits_notifying": notifying });
    Ok(outcome)
}

/// Sends a backlog.
async fn drain(bench: &Bench, case: &Case, how: How) -> Result<Sample> {
    let world = &bench.world;
    if how == How::Log {
        slots::make(world, SLOT).await?;
    }
    case.fill(world).await?;
    let topics = Topics::make(world, 1).await?;
    let readable = Readable::of(&world.broker, &topics.names)?;
    let mut subject = Subject::relay(bench, &world.url, &how.settings(&topics.route))?;
    let filled = readable.fills(case.rows, || subject.still_runs())?;
    let (first, already) = filled.first;
    let done = if matches!(how, How::Mark | How::Delete) { none_pending(world).await? } else { filled.last };
    let peak = process::peak(subject.pid())?;
    if how == How::Backfill {
        slot_is_made(world).await?;
    }
    subject.stop()?;
    let count = readable.count()?;
    ensure!(count == case.rows, "{count} records for {} rows in a run that nothing disturbed", case.rows);
    topics.delete(world).await?;
    if matches!(how, How::Log | How::Backfill) {
        slots::remove(world, SLOT).await?;
    }
    let rate = |end: Instant| (case.rows - already) as f64 / (end - first).as_secs_f64();
    Ok(Sample { how, rows_per_second: rate(filled.last), rows_per_second_done: rate(done), peak })
}

/// When no row was pending any more.
async fn none_pending(world: &World) -> Result<Instant> {
    let client = world.client().await?;
    let start = Instant::now();
    loop {
        let sql = "SELECT EXISTS (SELECT FROM outbox WHERE status = 'PENDING')";
        if !client.query_one(sql, &[]).await?.get::<_, bool>(0) {
            return Ok(Instant::now());
        }
        ensure!(start.elapsed() < PATIENCE, "rows are still pending {PATIENCE:?} after all are in Kafka");
        tokio::time::sleep(LOOK).await;
    }
}

async fn slot_is_made(world: &World) -> Result<()> {
    let client = world.client().await?;
    let start = Instant::now();
    while client.query_opt("SELECT FROM pg_replication_slots WHERE slot_name = $1", &[&SLOT]).await?.is_none()
    {
        ensure!(start.elapsed() < PATIENCE, "the backfill has made no slot");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Commits a second of those who commit as fast as they can.
async fn commits(bench: &Bench) -> Result<f64> {
    bench.world.client().await?.batch_execute("TRUNCATE outbox").await?;
    let length = Duration::from_secs(bench.options.size(10, 2));
    let writers = Writers::start(&bench.world, UNTHROTTLED, UNTHROTTLED).await?;
    let start = Instant::now();
    tokio::time::sleep(length).await;
    let committed = writers.stop().await?;
    Ok(committed as f64 / start.elapsed().as_secs_f64())
}

/// From the answer to COMMIT to a consumer, with a relay that NOTIFY wakes.
async fn delay(bench: &Bench, rate: u64) -> Result<Delays> {
    let world = &bench.world;
    let client = world.client().await?;
    client.batch_execute("TRUNCATE outbox").await?;
    let topic = topic::make(world).await?;
    let listener = Listener::start(&world.broker, &topic)?;
    let mut subject = Subject::relay(bench, &world.url, &How::Mark.settings(&topic))?;
    let start = Instant::now();
    let listens = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'";
    while client.query_one(listens, &[]).await?.get::<_, i64>(0) == 0 {
        subject.still_runs()?;
        ensure!(start.elapsed() < PATIENCE, "the relay does not listen");
        tokio::time::sleep(LOOK).await;
    }
    let (warm_up, seconds) = (bench.options.size(3, 1), bench.options.size(20, 3));
    let rows = rate * (warm_up + seconds);
    let mut writers = Writers::start(world, rate, rows).await?;
    writers.end().await?;
    let arrivals = tokio::task::block_in_place(|| arrivals(&listener, rows))?;
    subject.still_runs()?;
    subject.stop()?;
    topic::delete(world, &topic).await?;
    let counted = arrivals.iter().filter(|arrival| arrival.n >= rate * warm_up);
    Ok(Delays::of(
        counted.map(|arrival| milliseconds(writers.answered(arrival.n), arrival.received)).collect(),
    ))
}

fn of_drains(case: &Case, samples: &[Sample]) -> Section {
    let runs = |how: How, part: fn(&Sample) -> f64| -> Runs {
        samples.iter().filter(|sample| sample.how == how).map(part).collect()
    };
    let log = runs(How::Log, |sample| sample.rows_per_second).median();
    let line = |how: How| {
        let rate = runs(how, |sample| sample.rows_per_second);
        let done = runs(how, |sample| sample.rows_per_second_done);
        vec![
            how.name().to_owned(),
            number(rate.median(), 0),
            rate.range(0),
            number(rate.median() / log, 2),
            number(done.median(), 0),
            number(runs(how, |sample| sample.peak).median(), 0),
        ]
    };
    Section {
        title: format!("rows by a query: {}, unix socket", case.title()),
        head: vec!["", "rows/s", "least–most", "of the log", "marked or deleted/s", "peak MiB"],
        lines: TURNS.map(line).to_vec(),
        notes: Vec::new(),
    }
}

fn of_delays(delays: &[(u64, Vec<Delays>)], outcome: &mut Outcome) -> Section {
    let mut lines = Vec::new();
    for (rate, runs) in delays {
        let p50: Runs = runs.iter().map(|delays| delays.p50).collect();
        let p99: Runs = runs.iter().map(|delays| delays.p99).collect();
        let what = format!("poll, woken by NOTIFY, at {rate} commits/s: p50, ms");
        let target = Target { what, found: p50.median(), limit: Limit::AtMost(20.0), must: false };
        lines.push(vec![
            format!("{rate} commits/s"),
            outcome.target(target, 2),
            p50.range(2),
            number(p99.median(), 2),
        ]);
    }
    Section {
        title: "poll, woken by NOTIFY: from the answer to COMMIT to a consumer, ms".to_owned(),
        head: vec!["", "p50", "least–most", "p99"],
        lines,
        notes: Vec::new(),
    }
}

fn of_commits(free: &[f64], notifying: &[f64]) -> Section {
    let line = |what: &str, found: &[f64]| {
        let runs: Runs = found.iter().copied().collect();
        vec![what.to_owned(), number(runs.median(), 0), runs.range(0)]
    };
    Section {
        title: "what NOTIFY costs: commits/s of 16 connections, one row each, as fast as they can".to_owned(),
        head: vec!["", "commits/s", "least–most"],
        lines: vec![line("without the trigger", free), line("with sql/optional/notify.sql", notifying)],
        notes: Vec::new(),
    }
}
