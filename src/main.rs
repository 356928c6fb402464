//! outbox-relay: reads the command line and the configuration, then hands over to the library.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use outbox_relay::cli::{Cli, Command, EXIT_CONFIGURATION, log};
use outbox_relay::config::{self, Config};

fn main() -> ExitCode {
    let arguments = match Cli::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(answer) => return print_answer(&answer),
    };
    // The only place that looks at the environment.
    let config = match config::load(arguments.config.as_deref(), std::env::vars_os(), &arguments.set) {
        Ok(config) => config,
        Err(problems) => {
            print_error(&problems.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let result = match arguments.command {
        Command::Run => run(&config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("{error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Relays until told to stop.
fn run(config: &Config) -> anyhow::Result<()> {
    log::start(config.log).context("start logging")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        slot = config.postgres.slot,
        "outbox-relay starts"
    );
    Ok(())
}

/// Prints what clap has to say: help and version on stdout, wrong usage on stderr.
fn print_answer(answer: &clap::Error) -> ExitCode {
    // If nobody can be told, the exit status still tells.
    let _ = answer.print();
    u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn print_error(text: &str) {
    let _ = write!(std::io::stderr(), "error: {text}");
}
