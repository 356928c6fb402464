//! What goes wrong in a world, and when: from the seed, until the plan's writers have ended; then all is well again.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::World;
use super::dice::Dice;
use super::plan::{TOPICS, millis};

/// Something that goes wrong, for how long.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The replication connection breaks.
    Cut,
    /// The next replication connection breaks after so many bytes.
    CutAfter,
    /// The replication connection swallows everything.
    Freeze,
    /// The walsender is busy.
    Busy,
    /// PostgreSQL stands still.
    FreezeAll,
    /// PostgreSQL stops, as with `pg_ctl stop -m fast`, and comes back.
    Restart,
    /// PostgreSQL crashes, and comes back.
    Crash,
    /// The control connections break.
    CutControls,
    /// The catalog answers late.
    SlowCatalog,
    /// No broker answers.
    KafkaAway,
    /// Brokers are slow.
    SlowKafka,
    /// Questions for topics take long.
    SlowLookups,
    /// The client's queue takes few records.
    FullQueue,
    /// A topic may not be written to.
    Deny,
    /// The producer fails.
    Fatal,
    /// The relay is told to stop, and started again.
    Term,
    /// The relay is killed, and started again.
    Kill,
    /// The relay stands still.
    Pause,
}

const FAULTS: [Fault; 18] = [
    Fault::Cut,
    Fault::CutAfter,
    Fault::Freeze,
    Fault::Busy,
    Fault::FreezeAll,
    Fault::Restart,
    Fault::Crash,
    Fault::CutControls,
    Fault::SlowCatalog,
    Fault::KafkaAway,
    Fault::SlowKafka,
    Fault::SlowLookups,
    Fault::FullQueue,
    Fault::Deny,
    Fault::Fatal,
    Fault::Term,
    Fault::Kill,
    Fault::Pause,
];

/// What is done to the relay's process.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal {
    Term,
    Kill,
    /// SIGSTOP, and SIGCONT after so long.
    Pause(Duration),
}

/// A server whose relay is well must have stopped by then.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Lets everything go wrong that the seed says.
pub(super) async fn go_wrong(world: World, signals: mpsc::UnboundedSender<Signal>) {
    let mut dice = Dice::new(world.plan.seed, 3);
    let length = millis(world.plan.length);
    // In most worlds a few faults, so that it is easy to tell whose fault something is.
    let count = match dice.below(4) {
        0 => 0,
        1 => dice.between(1, 2),
        _ => dice.between(2, 10),
    };
    let mut times: Vec<u64> = (0..count).map(|_| dice.between(0, length)).collect();
    times.sort_unstable();
    let end = world.witness.at(world.plan.length);
    let mut ends = Vec::new();
    let mut schedule = Vec::new();
    for at in times {
        let fault = FAULTS[dice.below(FAULTS.len())];
        let most = if dice.once_in(4) { 40_000 } else { 2_000 };
        schedule.push((at, fault, dice.between(1, most)));
    }
    for (at, fault, length) in world.plan.faults.clone().unwrap_or(schedule) {
        sleep_until(world.witness.at(Duration::from_millis(at))).await;
        let until = end.min(Instant::now() + Duration::from_millis(length));
        world
            .witness
            .note(|| format!("-- {fault:?} for {:?}", until.saturating_duration_since(Instant::now())));
        if let Some(ending) = begin(&world, &mut dice, fault, until, &signals) {
            ends.push(ending);
        }
    }
    for ending in ends {
        let _ = ending.await;
    }
    sleep_until(end).await;
    world.witness.note(|| "-- all is well".to_owned());
}

/// Begins a fault; gives the task that ends it, if it does not end by itself.
fn begin(
    world: &World,
    dice: &mut Dice,
    fault: Fault,
    until: Instant,
    signals: &mpsc::UnboundedSender<Signal>,
) -> Option<tokio::task::JoinHandle<()>> {
    let now = Instant::now();
    let (postgres, kafka) = (&world.postgres, &world.kafka);
    let length = until.saturating_duration_since(now);
    match fault {
        Fault::Cut => postgres.change(|server| server.cut_all()),
        Fault::CutAfter => {
            let bytes = dice.between(1, 6_000);
            postgres.change(|server| {
                server.cut_after = Some(bytes);
                server.cut_all();
            });
        }
        Fault::Freeze => postgres.change(|server| {
            server.frozen_until = server.frozen_until.max(until);
            server.excused_until = server.excused_until.max(until + Duration::from_secs(2));
        }),
        Fault::Busy => postgres.change(|server| {
            server.busy_until = server.busy_until.max(until);
            server.excused_until = server.excused_until.max(until + Duration::from_secs(2));
        }),
        Fault::FreezeAll => {
            postgres.change(|server| {
                server.frozen_until = server.frozen_until.max(until);
                server.catalog_delay = length;
                server.excused_until = server.excused_until.max(until + Duration::from_secs(2));
            });
            return Some(later(until, world, |world| {
                world.postgres.change(|server| server.catalog_delay = Duration::from_millis(2));
            }));
        }
        Fault::Restart => return Some(tokio::spawn(restart(world.clone(), dice.between(0, 900), until))),
        Fault::Crash => {
            postgres.crash();
            return Some(later(until, world, |world| world.postgres.start()));
        }
        Fault::CutControls => postgres.cut_controls(),
        Fault::SlowCatalog => {
            let delay = Duration::from_millis(dice.between(100, 9_000));
            postgres.change(|server| server.catalog_delay = delay);
            return Some(later(until, world, |world| {
                world.postgres.change(|server| server.catalog_delay = Duration::from_millis(2));
            }));
        }
        Fault::KafkaAway => kafka.go_away(length),
        Fault::SlowKafka => {
            kafka.cluster().latency = dice.between(20, 1_500);
            return Some(later(until, world, |world| world.kafka.cluster().latency = world.plan.latency));
        }
        Fault::SlowLookups => {
            kafka.cluster().lookup = dice.between(100, 5_000);
            return Some(later(until, world, |world| world.kafka.cluster().lookup = 3));
        }
        Fault::FullQueue => {
            kafka.cluster().queue = dice.below(4) + 1;
            return Some(later(until, world, |world| world.kafka.cluster().queue = 100_000));
        }
        Fault::Deny => {
            kafka.cluster().denied.push(TOPICS[dice.below(TOPICS.len())]);
            return Some(later(until, world, |world| world.kafka.cluster().denied.clear()));
        }
        Fault::Fatal => {
            if let Some(client) = kafka.cluster().clients.last_mut() {
                client.fail("so it was decided");
            }
        }
        Fault::Term => _ = signals.send(Signal::Term),
        Fault::Kill => _ = signals.send(Signal::Kill),
        Fault::Pause => {
            let mut server = postgres.server();
            server.excused_until = server.excused_until.max(until + Duration::from_secs(2));
            let _ = signals.send(Signal::Pause(length));
        }
    }
    None
}

fn later(
    at: Instant,
    world: &World,
    end: impl FnOnce(&World) + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let world = world.clone();
    tokio::spawn(async move {
        sleep_until(at).await;
        end(&world);
    })
}

/// PostgreSQL stops: ordinary connections end soon, walsenders are waited for.
async fn restart(world: World, controls: u64, until: Instant) {
    let postgres = &world.postgres;
    let began = Instant::now();
    if postgres.server().stopping.is_some() || !postgres.server().up {
        return;
    }
    postgres.change(|server| server.stopping = Some(began));
    sleep(Duration::from_millis(controls)).await;
    postgres.cut_controls();
    loop {
        let (holder, excused) = {
            let server = postgres.server();
            (server.holder, server.excused_until)
        };
        if holder.is_none() {
            break;
        }
        if postgres.server().stopping.is_none() {
            // It has crashed meanwhile, and is back.
            return;
        }
        if began.max(excused) + SHUTDOWN < Instant::now() {
            world.witness.wrong("PostgreSQL cannot shut down: the relay does not let go");
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    postgres.change(|server| {
        server.up = false;
        server.cut_all();
    });
    sleep_until(until).await;
    postgres.start();
}
