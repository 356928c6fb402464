//! What the relay costs where it could cost most: its memory in six extremes, and what a SIGKILL sends again.
//!
//! Run by `scripts/limits`. Everything is real and private to the run: PostgreSQL with fsync, Kafka, the release build.
//! It prints one table, and exits with 1 if a figure is above its target.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod kafka;
#[path = "../../tests/torture/pages.rs"]
mod pages;
mod relay;
mod scenarios;
#[expect(dead_code, reason = "the torture does more to servers")]
#[path = "../../tests/torture/server.rs"]
mod server;
#[path = "../servers/topics.rs"]
mod topics;
#[expect(dead_code, reason = "nothing here is over TCP")]
#[path = "../servers/world.rs"]
mod world;

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use scenarios::ALL;

/// A figure and what it should be.
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) found: u64,
    pub(crate) target: u64,
    pub(crate) unit: &'static str,
    /// What else is worth knowing.
    pub(crate) note: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, target, unit, note } = self;
        let sign = if found > target { "  ABOVE" } else { "" };
        write!(f, "{what:<58} {found:>5} {unit:<6} {target:>5} {unit:<6}  {note}{sign}")
    }
}

/// How much of the full size to do: 1, or a fraction for a quick look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(f64);

impl Size {
    pub(crate) fn of(self, full: u32) -> u32 {
        (f64::from(full) * self.0) as u32
    }

    pub(crate) fn time(self, full: Duration) -> Duration {
        full.mul_f64(self.0)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("limits: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<bool> {
    let (mut names, mut size) = (Vec::new(), Size(1.0));
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            // From cargo.
            "--bench" => {}
            "--small" => size = Size(0.01),
            name if ALL.contains(&name) => names.push(name.to_owned()),
            _ => bail!("{argument}: unknown\n\nhint: --small, {}", ALL.join(", ")),
        }
    }
    if names.is_empty() {
        names = ALL.map(str::to_owned).into();
    }
    println!("{:<58} {:>12} {:>12}", "", "peak", "target");
    let mut good = true;
    for name in &names {
        let line = scenarios::run(name, size).await?;
        println!("{line}");
        good &= line.found <= line.target;
    }
    Ok(good)
}
