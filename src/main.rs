//! outbox-relay: reads the command line and the configuration, then hands over to the library.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use outbox_relay::cli::{self, Cli, Command, EXIT_CONFIGURATION, log};
use outbox_relay::config::{self, Config};
use outbox_relay::http::{self, Pages};
use outbox_relay::metrics::Metrics;
use outbox_relay::postgres::conninfo::{ConnInfo, read_passfile};
use outbox_relay::status::Status;
use outbox_relay::{session, supervisor};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

fn main() -> ExitCode {
    let arguments = match Cli::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(answer) => return print_answer(&answer),
    };
    // The environment is looked at here, and nowhere else.
    if let Command::Setup(options) = &arguments.command {
        // It needs less of the configuration.
        let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
        let done = cli::setup::run(&arguments, options, std::env::vars_os(), &mut out, &mut err);
        return done.map_or(ExitCode::FAILURE, ExitCode::from);
    }
    let config = match config::load(arguments.config.as_deref(), std::env::vars_os(), &arguments.set) {
        Ok(config) => config,
        Err(problems) => {
            print_error(&problems.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let environment = |name: &str| std::env::var(name).ok();
    // The configuration has been checked without the password file; a bad one changes nothing but the password.
    let server = match ConnInfo::parse(config.postgres.url.reveal(), &environment, &read_passfile) {
        Ok(server) => server,
        Err(problem) => {
            print_error(&format!("postgres.url: {problem}\n"));
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let result = match arguments.command {
        Command::Run => run(&config, &server).map(|()| ExitCode::SUCCESS),
        Command::Check(_) => Err(anyhow::anyhow!("check is not there yet")),
        Command::Setup(_) => Ok(ExitCode::SUCCESS), // has gone its own way above
        Command::Status(_) => Err(anyhow::anyhow!("status is not there yet")),
        Command::Config(_) => Err(anyhow::anyhow!("config is not there yet")),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let hint = error.downcast_ref::<session::Error>().and_then(session::Error::hint);
            print_error(&format!(
                "{error:#}\n{}",
                hint.map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default()
            ));
            ExitCode::FAILURE
        }
    }
}

/// Relays until told to stop.
fn run(config: &Config, server: &ConnInfo) -> anyhow::Result<()> {
    log::start(config.log).context("start logging")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "outbox-relay starts");
    let status = Arc::new(Status::new(Instant::now()));
    let metrics = Arc::new(Metrics::new());
    if let Some(listen) = &config.http {
        let pages = Pages { status: Arc::clone(&status), metrics: Arc::clone(&metrics) };
        let http =
            http::serve(listen, pages).with_context(|| format!("listen on http.listen = \"{listen}\""))?;
        tracing::info!("/live, /ready and /metrics are on http://{}", http.address);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let ended = runtime.block_on(async {
        let (stop, shutdown) = watch::channel(false);
        tokio::select! {
            ended = supervisor::run(config, server, &status, &metrics, shutdown) => ended.map_err(anyhow::Error::from),
            signals = signals(stop) => signals.context("wait for signals"),
        }
    });
    // A question to Kafka may still be under way on a thread of its own; nobody needs the answer.
    runtime.shutdown_background();
    ended
}

/// The first signal asks for an orderly stop; the second returns, which ends the program at once.
async fn signals(stop: watch::Sender<bool>) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    for _ in 0..2 {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        stop.send_replace(true);
    }
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
