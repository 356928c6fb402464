//! The worlds that are tried: many, and each that has once shown a mistake.

use std::fmt::Write as _;
use std::time::Instant;

use super::simulate;

/// About ten seconds' worth.
const WORLDS: u64 = 2_000;

/// So many broken worlds are enough to look at.
const ENOUGH: usize = 20;

/// The value of a variable that says what to try.
fn chosen(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

/// Tries a seed; what is wrong in its world, with all that happened in it.
fn wrong_in(seed: u64) -> Option<String> {
    let outcome = simulate(seed, false);
    if outcome.wrong.is_empty() {
        return None;
    }
    let again = simulate(seed, true);
    let mut text = format!("seed {seed}: {}\n", again.wrong.join("\n  "));
    let skipped = again.trace.len().saturating_sub(200);
    for line in again.trace.iter().skip(skipped) {
        let _ = writeln!(text, "{line}");
    }
    Some(
        text + &format!(
            "OUTBOX_SIMULATE_SEED={seed} cargo test --lib simulation -- --nocapture shows all of it"
        ),
    )
}

#[test]
fn simulated_worlds_keep_every_promise() {
    if let Some(seed) = chosen("OUTBOX_SIMULATE_SEED") {
        let outcome = simulate(seed, true);
        println!("{}", outcome.trace.join("\n"));
        assert!(outcome.wrong.is_empty(), "seed {seed}: {:#?}", outcome.wrong);
        return;
    }
    let from = chosen("OUTBOX_SIMULATE_FROM").unwrap_or(0);
    let worlds = chosen("OUTBOX_SIMULATE_WORLDS").unwrap_or(WORLDS);
    let began = Instant::now();
    let (mut events, mut duplicates, mut sessions, mut polls, mut lived) = (0, 0, 0, 0, 0.0);
    let mut failed = Vec::new();
    for seed in from..from + worlds {
        let outcome = simulate(seed, false);
        events += outcome.events;
        duplicates += outcome.duplicates;
        sessions += outcome.sessions;
        polls += outcome.polls;
        lived += outcome.lived.as_secs_f64();
        if let Some(first) = outcome.wrong.first() {
            println!("seed {seed}, after {:.1} s: {first}", began.elapsed().as_secs_f64());
            failed.push(seed);
        }
        if failed.len() >= ENOUGH {
            break;
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{worlds} worlds in {took:.1} s ({:.0} a second): {lived:.0} s lived, {sessions} sessions, {events} events, \
         {duplicates} duplicates, {polls} wake-ups",
        worlds as f64 / took
    );
    if let Some(seed) = failed.first() {
        panic!("{}", wrong_in(*seed).unwrap_or_default());
    }
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in 0..20 {
        assert_eq!(simulate(seed, true).trace, simulate(seed, true).trace, "seed {seed}");
    }
}
