//! What it costs to delete or mark published rows: the same backlog with each action, in turn.
//!
//! All was committed before the start, so rows go when all of it is sent: the drain itself should be as fast as with "keep".
//! The second figure is the time until nothing is left to do, which with "keep" is the drain's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;

use crate::case::Case;
use crate::drain::{at_least, many};
use crate::readable::Readable;
use crate::report::{Outcome, Runs, Section, number};
use crate::subject::Subject;
use crate::topic::Topics;
use crate::{Bench, progress, slots};

const ACTIONS: [&str; 3] = ["keep", "delete", "mark"];

/// The same table for all of them.
const PREPARED: &str = "
    ALTER TABLE outbox ADD status text NOT NULL DEFAULT 'PENDING', ADD published_at timestamptz;
    CREATE INDEX outbox_pending ON outbox (created_at) WHERE status = 'PENDING';
    GRANT SELECT, DELETE, UPDATE ON outbox TO outbox_relay";

/// As the other scenarios have it.
const RESTORED: &str = "
    TRUNCATE outbox;
    DROP INDEX outbox_pending;
    ALTER TABLE outbox DROP status, DROP published_at;
    REVOKE ALL ON outbox FROM outbox_relay";

const SLOT: &str = "bench_clean";

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(100);

/// Nothing takes that long.
const PATIENCE: Duration = Duration::from_secs(600);

/// One run.
#[derive(Debug, Serialize)]
struct Sample {
    action: &'static str,
    /// Of the drain, from the first record to the last.
    rows_per_second: f64,
    /// From the first record until no row is left to be deleted or marked.
    seconds_until_clean: f64,
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let case = Case { name: "clean", ..many(bench) };
    bench.world.client().await?.batch_execute(PREPARED).await?;
    if !bench.options.quick {
        turn(bench, &case, ACTIONS[0]).await?;
    }
    let mut samples = Vec::new();
    for round in 1..=bench.options.runs {
        for action in ACTIONS {
            let sample = turn(bench, &case, action).await.with_context(|| action.to_owned())?;
            let (rate, clean) = (number(sample.rows_per_second, 0), number(sample.seconds_until_clean, 1));
            progress(&format!("clean ({round}): {action}: {rate} rows/s, {clean} s until clean"));
            samples.push(sample);
        }
    }
    bench.world.client().await?.batch_execute(RESTORED).await?;
    Ok(outcome(bench, &case, &samples))
}

async fn turn(bench: &Bench, case: &Case, action: &'static str) -> Result<Sample> {
    let world = &bench.world;
    slots::make(world, SLOT).await?;
    case.fill(world).await?;
    let topics = Topics::make(world, case.topics).await?;
    let readable = Readable::of(&world.broker, &topics.names)?;
    let settings = [
        format!("postgres.slot={SLOT}"),
        format!("route.topic={}", topics.route),
        format!("after_publish.action={action}"),
    ];
    let mut subject = Subject::relay(bench, &world.url, &settings)?;
    let filled = readable.fills(case.rows, || subject.still_runs())?;
    let (first, already) = filled.first;
    let left = match action {
        "delete" => "SELECT EXISTS (SELECT FROM outbox)",
        "mark" => "SELECT EXISTS (SELECT FROM outbox WHERE status = 'PENDING')",
        _ => "SELECT false",
    };
    let client = world.client().await?;
    let mut clean = filled.last;
    while client.query_one(left, &[]).await?.get(0) {
        subject.still_runs()?;
        ensure!(first.elapsed() < PATIENCE, "rows are left after {PATIENCE:?}");
        std::thread::sleep(PAUSE);
        clean = Instant::now();
    }
    subject.stop()?;
    let count = readable.count()?;
    ensure!(count == case.rows, "{count} records for {} rows in a run that nothing disturbed", case.rows);
    topics.delete(world).await?;
    slots::remove(world, SLOT).await?;
    Ok(Sample {
        action,
        rows_per_second: (case.rows - already) as f64 / (filled.last - first).as_secs_f64(),
        seconds_until_clean: (clean - first).as_secs_f64(),
    })
}

fn outcome(bench: &Bench, case: &Case, samples: &[Sample]) -> Outcome {
    let of = |action: &str, figure: fn(&Sample) -> f64| -> Runs {
        samples.iter().filter(|sample| sample.action == action).map(figure).collect()
    };
    let rates = |action| of(action, |sample| sample.rows_per_second);
    let times = |action| of(action, |sample| sample.seconds_until_clean);
    let mut outcome = Outcome::new(&bench.options);
    let mut lines = Vec::new();
    for action in ACTIONS {
        let (rate, time) = (rates(action), times(action));
        // Each run against that of its own round.
        let ratio = |found: &Runs, kept: &Runs| -> Runs {
            found.0.iter().zip(&kept.0).map(|(found, kept)| found / kept).collect()
        };
        let drained = ratio(&rate, &rates("keep"));
        let whole: Runs = ratio(&times("keep"), &time);
        let drained = match action {
            "keep" => String::new(),
            _ => outcome
                .target(at_least(format!("clean: drain with {action} against keep"), &drained, 0.6, true), 2),
        };
        lines.push(vec![
            action.to_owned(),
            number(rate.median(), 0),
            rate.range(0),
            drained,
            number(time.median(), 1),
            number(whole.median(), 2),
        ]);
    }
    outcome.sections.push(Section {
        title: format!("clean: {}", case.title()),
        head: vec!["", "rows/s", "least–most", "ratio", "s until clean", "ratio of the whole"],
        lines,
        notes: vec![
            "unix socket; all committed before the start; ratios to keep in the same round".to_owned(),
        ],
    });
    outcome.json = json!({ "case": case.title(), "runs": samples });
    outcome
}
