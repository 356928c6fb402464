//! The worlds that are tried: many, and each that has once shown a mistake.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::faults::Fault;
use super::plan::Plan;
use super::{live, simulate};

/// About ten seconds' worth, on one core.
const WORLDS: u64 = 10_000;

/// So many broken worlds are enough to look at.
const ENOUGH: usize = 10;

/// The last so many lines of a broken world's trace are printed.
const LINES: usize = 200;

/// What many worlds came to.
#[derive(Default)]
struct Sum {
    worlds: u64,
    lived: f64,
    events: usize,
    duplicates: usize,
    sessions: u32,
    polls: u64,
    busiest: u32,
    settled: Vec<(Duration, u64)>,
    broken: Vec<u64>,
}

/// The value of a variable that says what to try.
fn chosen(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// Tries worlds from seed `from` on, on all cores, until `worlds` were tried or enough are broken.
fn try_worlds(from: u64, worlds: u64) -> Sum {
    let began = Instant::now();
    let (next, sum) = (AtomicU64::new(from), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + worlds || sum.lock().unwrap().broken.len() >= ENOUGH {
                        return;
                    }
                    let outcome = simulate(seed, false);
                    let mut sum = sum.lock().unwrap();
                    sum.worlds += 1;
                    sum.lived += outcome.lived.as_secs_f64();
                    sum.events += outcome.events;
                    sum.duplicates += outcome.duplicates;
                    sum.sessions += outcome.sessions;
                    sum.polls += outcome.polls;
                    sum.settled.push((outcome.settled, seed));
                    sum.busiest = sum.busiest.max(outcome.busiest);
                    if let Some(first) = outcome.wrong.first() {
                        println!("seed {seed}, after {:.1} s: {first}", began.elapsed().as_secs_f64());
                        sum.broken.push(seed);
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap();
    sum.settled.sort_unstable();
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} worlds in {took:.1} s ({:.0} a second): they lived {:.0} s, with {} sessions, {} events, {} duplicates and \
         {} wake-ups, at most {} in a second; when all was well again everything arrived within {:?}",
        sum.worlds,
        sum.worlds as f64 / took,
        sum.lived,
        sum.sessions,
        sum.events,
        sum.duplicates,
        sum.polls,
        sum.busiest,
        sum.settled.last()
    );
    sum
}

/// What is wrong in the world of `seed`, and what happened in it.
fn told(seed: u64, lines: usize) -> String {
    let outcome = simulate(seed, true);
    let mut text = String::new();
    for line in outcome.trace.iter().skip(outcome.trace.len().saturating_sub(lines)) {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "seed {seed}: {}", outcome.wrong.join("\n  "));
    text
}

/// Nothing is wrong in the world of `seed`.
#[track_caller]
fn is_right(seed: u64) {
    let broken = !simulate(seed, false).wrong.is_empty();
    assert!(!broken, "{}", told(seed, LINES));
}

#[test]
fn simulated_worlds_keep_every_promise() {
    if let Some(seed) = chosen("OUTBOX_SIMULATE_SEED") {
        println!("{}", told(seed, usize::MAX));
        return is_right(seed);
    }
    let from = chosen("OUTBOX_SIMULATE_FROM").unwrap_or(0);
    let worlds = chosen("OUTBOX_SIMULATE_WORLDS").unwrap_or(WORLDS);
    let mut broken = try_worlds(from, worlds).broken;
    broken.sort_unstable();
    if let Some(seed) = broken.first() {
        panic!(
            "{}\nbroken: {broken:?}\nOUTBOX_SIMULATE_SEED={seed} cargo test --lib simulated_worlds -- --nocapture shows all \
             of it",
            told(*seed, LINES)
        );
    }
}

/// The walsender of a server that shuts down waits for a relay that waits for Kafka.
#[test]
fn a_relay_that_drains_does_not_hold_up_the_shutdown_of_postgres() {
    let mut tried = 0;
    for seed in 0..300 {
        let mut plan = Plan::new(seed);
        if plan.length < Duration::from_secs(4) || !plan.hopeless().is_empty() {
            continue;
        }
        tried += 1;
        plan.length = plan.length.max(Duration::from_secs(60));
        plan.drain_timeout = Duration::from_secs(20);
        let faults =
            [(1_000, Fault::KafkaAway, 60_000), (2_000, Fault::Term, 1), (3_000, Fault::Restart, 20_000)];
        plan.faults = Some(faults.into());
        let outcome = live(plan, true);
        assert!(outcome.wrong.is_empty(), "seed {seed}: {:?}\n{}", outcome.wrong, outcome.trace.join("\n"));
    }
    assert!(tried > 20);
}

/// A record that its broker refused became a dead letter behind that of a later event, which had no topic. A consumer that
/// drops what lies below the highest position would never have seen it.
#[test]
fn dead_letters_are_in_the_order_of_their_events() {
    [72, 415, 503].into_iter().for_each(is_right);
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in 0..30 {
        assert_eq!(simulate(seed, true).trace, simulate(seed, true).trace, "seed {seed}");
    }
}
