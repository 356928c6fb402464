//! The same work as `decode` and `relay` do, a given number of times: `scripts/instructions` counts what it executes.

#![expect(clippy::print_stderr, reason = "a program that says what is wrong")]

#[path = "events/mod.rs"]
mod events;
#[path = "events/follow.rs"]
mod follow;
#[path = "../tests/wire/mod.rs"]
mod wire;

use std::collections::VecDeque;
use std::hint::black_box;
use std::process::ExitCode;

use follow::{decode, follow, relay};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(case), Some(Ok(times))) =
        (arguments.next(), arguments.next().map(|times| times.parse::<u32>()))
    else {
        eprintln!("usage: instructions decode|relay|timestamp TIMES");
        return ExitCode::from(2);
    };
    let transaction = events::transaction(1_000);
    let mut relay = relay((case == "timestamp").then_some("created_at"));
    let mut in_flight = VecDeque::new();
    for _ in 0..times {
        if case == "decode" {
            for body in &transaction {
                let _ = black_box(decode(black_box(body)));
            }
        } else if let Err(error) = follow(&mut relay, &mut in_flight, black_box(&transaction)) {
            eprintln!("instructions: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
