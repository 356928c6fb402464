//! The backfill as a step of `setup`: sessions as the relay has them, until the slot is made.

use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::findings::Finding;
use crate::metrics::Metrics;
use crate::postgres::conninfo::ConnInfo;
use crate::session::Error;
use crate::status::{Snapshot, Status};
use crate::supervisor;

/// Time between two lines about how far it is.
const TELL: Duration = Duration::from_secs(2);

/// Sends the rows that are in the tables of `config`, as the user of `server`, and makes the slot. How far it is goes to
/// `progress`. Gives what is wrong, if it cannot be done.
pub(super) async fn run(
    config: &Config,
    server: &ConnInfo,
    progress: &mut dyn FnMut(&str),
) -> Option<Finding> {
    let status = Status::new(Instant::now(), SystemTime::now());
    let metrics = Metrics::new();
    let done = supervisor::backfill(config, server, &status, &metrics);
    let mut done = std::pin::pin!(done);
    let mut told = String::new();
    loop {
        tokio::select! {
            done = &mut done => return done.err().map(|error| problem(&error, server)),
            () = tokio::time::sleep(TELL) => {
                let line = line(&status.snapshot(), Instant::now());
                if line != told {
                    progress(&line);
                    told = line;
                }
            }
        }
    }
}

fn line(snapshot: &Snapshot, now: Instant) -> String {
    match (&snapshot.blocked, &snapshot.progress.backfill) {
        (Some(blocked), _) => format!("the backfill waits for {}: {}", blocked.on.as_str(), blocked.reason),
        (None, Some(backfill)) => format!("backfill: {}", backfill.in_words(now)),
        (None, None) => format!("backfill: {}", snapshot.state.as_str()),
    }
}

fn problem(error: &Error, server: &ConnInfo) -> Finding {
    let fix = error
        .hint(server)
        .unwrap_or_else(|| "run setup --backfill again: nothing was left behind".to_owned());
    Finding::stop("backfill_failed", format!("the backfill has failed: {error}"), fix)
}
