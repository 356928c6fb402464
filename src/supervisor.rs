//! The life of the relay: one session after the other, until it is told to stop or cannot go on.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::watch;

use crate::clock;
use crate::config::Config;
use crate::disposition::Disposition;
use crate::metrics::Metrics;
use crate::postgres::conninfo::ConnInfo;
use crate::session::{Error, Known, Outlet, Session};
use crate::status::{On, STREAMING, State, Status};

/// The first pause between two sessions; each further one is twice as long. As much again at most is added at random, so
/// the first is below 200 ms, and none is longer than 30 s.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A session that lived this long was healthy: the pauses begin anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// A start that takes longer than this is worth a reason.
const SLOW_START: Duration = Duration::from_secs(3);

/// The session task's sign of life.
const TURN: Duration = Duration::from_secs(1);

/// Relays until `shutdown` becomes true. The producer is kept from one session to the next, unless it failed.
///
/// # Errors
/// The first error that would come again: what it names must be changed by somebody.
pub async fn run(
    config: &Config,
    info: &ConnInfo,
    status: &Status,
    metrics: &Metrics,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let turning = async {
        loop {
            status.turn(clock::now());
            tokio::time::sleep(TURN).await;
        }
    };
    tokio::select! {
        ended = sessions(config, info, status, metrics, shutdown, Until::ToldToStop) => ended,
        () = turning => Ok(()),
    }
}

/// Sends the rows that are in the outbox before there is a slot, and makes it. Waits for what will pass.
///
/// # Errors
/// As [`run`].
pub async fn backfill(
    config: &Config,
    info: &ConnInfo,
    status: &Status,
    metrics: &Metrics,
) -> Result<(), Error> {
    let (_stop, shutdown) = watch::channel(false);
    sessions(config, info, status, metrics, shutdown, Until::Backfilled).await
}

/// When there are no further sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    ToldToStop,
    Backfilled,
}

async fn sessions(
    config: &Config,
    info: &ConnInfo,
    status: &Status,
    metrics: &Metrics,
    mut shutdown: watch::Receiver<bool>,
    until: Until,
) -> Result<(), Error> {
    let mut outlet = Outlet::new(config.kafka.clone(), config.topics.clone())?;
    let mut known = Known::default();
    let mut pauses = pauses();
    loop {
        let began = clock::now();
        let ended = session(config, info, &mut known, &mut outlet, status, metrics, &mut shutdown).await;
        let error = match ended {
            Ok(()) => return Ok(()),
            // The slot is there now, and waits.
            Err(Error::Backfilled) if until == Until::Backfilled => return Ok(()),
            Err(Error::Backfilled) => continue,
            Err(error) => error,
        };
        if error.disposition() == Disposition::Stop {
            return Err(error);
        }
        if matches!(error, Error::Kafka(_)) {
            outlet.renew()?;
        }
        // Each refused batch is a step forward: its records are sent one by one next.
        if clock::since(began) >= HEALTHY || error.is_refused_batch() {
            pauses = self::pauses();
        }
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE).max(error.least_delay());
        let text = error.to_string();
        let now = clock::now();
        if status.is_news(&text, now) {
            let hint = error.hint(info).map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default();
            tracing::warn!("trying again: {text}{hint}");
            status.forget(STREAMING);
        }
        let on = if matches!(error, Error::Kafka(_)) { On::Kafka } else { On::Postgres };
        status.block(State::Connecting, on, &error.line(), now);
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn session(
    config: &Config,
    info: &ConnInfo,
    known: &mut Known,
    outlet: &mut Outlet,
    status: &Status,
    metrics: &Metrics,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<(), Error> {
    let session = tokio::select! {
        // Nothing has been sent yet: there is nothing to drain.
        _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
        session = Session::start(config, info, known, outlet, status, metrics) => session?,
        () = tell_of_a_slow_start(status) => return Ok(()),
    };
    session.run(shutdown).await
}

/// A start that neither fails nor gets anywhere is shown as what it is. Never ends.
async fn tell_of_a_slow_start(status: &Status) {
    loop {
        tokio::time::sleep(TURN).await;
        let snapshot = status.snapshot();
        if snapshot.state == State::Connecting
            && snapshot.blocked.is_none()
            && clock::since(snapshot.since) >= SLOW_START
        {
            let reason =
                "no stream yet: PostgreSQL has not answered, or making the slot waits for open transactions";
            status.block(State::Connecting, On::Postgres, reason, clock::now());
        }
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_comes_within_200_ms_and_none_after_more_than_30_s() {
        for _ in 0..100 {
            let mut pauses = pauses();
            assert!(pauses.next().is_some_and(|pause| pause < Duration::from_millis(200)));
            let later: Vec<_> = pauses.take(100).collect();
            assert_eq!(later.len(), 100, "it never gives up");
            assert!(later.iter().all(|pause| *pause <= Duration::from_secs(30)), "{later:?}");
            assert!(later.iter().skip(10).all(|pause| *pause >= LONGEST_PAUSE), "{later:?}");
        }
    }
}
