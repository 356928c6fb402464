//! How fast the relay is, on real servers: how quickly it drains a backlog, how long a commit takes to reach a consumer,
//! how soon it is there after its start, what it needs when Kafka is away, and when nothing happens.
//!
//! Run by `scripts/bench`. Everything is private to the run: PostgreSQL with fsync, Kafka, the release build. Each figure
//! stands beside references that were measured in turn with it, so that what else the machine does hits all of them. This
//! program is also its own references (`role.rs`): each is a process, because processes are what can be measured.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]

mod case;
mod charts;
mod clean;
mod consumer;
mod counted;
mod debezium;
mod delay;
mod drain;
mod growth;
mod idle;
mod machine;
mod options;
mod outage;
mod peers;
mod process;
mod producer;
mod program;
mod queried;
mod readable;
mod reader;
mod report;
mod role;
#[expect(dead_code, reason = "the torture does more to servers")]
#[path = "../../tests/torture/server.rs"]
mod server;
mod shards;
mod slots;
mod start;
mod subject;
mod topic;
#[path = "../servers/topics.rs"]
mod topics;
#[path = "../servers/world.rs"]
mod world;
mod writers;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use options::Options;
use report::Report;
use world::World;

/// What all scenarios use.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) world: World,
    /// The relay's connection string, over TCP.
    pub(crate) tcp_url: String,
}

/// Tells how far it is: the table comes at the end.
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

/// The scenarios, in the order in which they run.
pub(crate) const SCENARIOS: [&str; 10] =
    ["start", "idle", "delay", "drain", "shards", "clean", "queried", "growth", "peers", "outage"];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let ended = match arguments.split_first() {
        Some((first, rest)) if first == role::ARGUMENT => role::play(rest).map(|()| true),
        _ => Options::read(&arguments).and_then(|options| runtime()?.block_on(run(options))),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")
}

/// Runs the scenarios; whether all targets were met that must be.
async fn run(options: Options) -> Result<bool> {
    if let Some(folder) = &options.charts {
        for file in charts::draw(&options.json, folder)? {
            println!("{}", file.display());
        }
        return Ok(true);
    }
    if options.wants("peers") {
        // Missing, it would be missed late.
        debezium::version()?;
    }
    let world = World::start(&["--postgres", &options.postgres]).await?;
    let tcp_url = world.exported("OUTBOX_TEST_POSTGRES_TCP")?.replace("postgres@", "outbox_relay@");
    let mut bench = Bench { options, world, tcp_url };
    // Nothing reads it, so it would keep all of the log.
    slots::remove(&bench.world, "outbox_relay").await?;
    let mut report = Report::new(machine::look(&bench).await?);
    for name in SCENARIOS {
        if !bench.options.wants(name) {
            continue;
        }
        let found = match name {
            "start" => start::run(&bench).await,
            "idle" => idle::run(&bench).await,
            "delay" => delay::run(&bench).await,
            "drain" => drain::run(&bench).await,
            "clean" => clean::run(&bench).await,
            "queried" => queried::run(&bench).await,
            "shards" => shards::run(&bench).await,
            "growth" => growth::run(&bench).await,
            "peers" => peers::run(&bench).await,
            _ => outage::run(&mut bench).await,
        };
        match found {
            Ok(outcome) => report.add(name, outcome),
            // What was found before is worth having.
            Err(error) => {
                print!("{report}");
                return Err(error.context(name));
            }
        }
    }
    print!("{report}");
    report.write(&bench.options.json)?;
    // Small sizes say that everything works, not how fast it is.
    Ok(bench.options.quick || report.is_good())
}
