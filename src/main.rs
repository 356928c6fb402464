//! outbox-relay: reads the command line, the environment and the configuration, then hands over to the library.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context;
use outbox_relay::cli::{self, Cli, Command, EXIT_CONFIGURATION, log};
use outbox_relay::config::{self, Config, LogFormat, Problems};
use outbox_relay::http::{self, Pages};
use outbox_relay::metrics::Metrics;
use outbox_relay::postgres::conninfo::{ConnInfo, ConnInfoError, read_passfile};
use outbox_relay::session;
use outbox_relay::status::Status;
use outbox_relay::supervisor;
use outbox_relay::systemd::{self, ServiceManager};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

// The environment is looked at in this file, and nowhere else.
fn main() -> ExitCode {
    // Without OpenSSL's clean-up at exit, which librdkafka would ask for: a thread that ends in the same moment frees the same
    // memory (`init_thread_deregister` and `init_thread_stop` in OpenSSL's crypto/initthread.c), and the program ends with
    // SIGABRT. Who initialises it first decides.
    openssl_sys::init();
    let arguments = match Cli::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(answer) => return print_answer(&answer),
    };
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr());
    let ended = match &arguments.command {
        Command::Run => load(&arguments).and_then(|(config, server)| run(&config, &server)),
        Command::Check(output) => load(&arguments).and_then(|(config, server)| {
            let runtime = runtime()?;
            let findings = runtime.block_on(cli::check::look(&config, &server));
            // A question to Kafka that is still under way is not waited for; nobody needs the answer.
            runtime.shutdown_background();
            Ok(cli::check::print(&findings, output, &mut out)?)
        }),
        Command::Setup(options) => {
            cli::setup::run(&arguments, options, std::env::vars_os(), &mut out, &mut err)
                .map_err(anyhow::Error::from)
        }
        Command::Status(options) => load(&arguments).and_then(|(config, server)| {
            let runtime = runtime()?;
            let terminal = std::io::stdout().is_terminal();
            let fine = runtime.block_on(cli::status::run(options, &config, &server, terminal));
            runtime.shutdown_background();
            Ok(u8::from(!fine?))
        }),
        Command::Republish(options) => load(&arguments).and_then(|(config, server)| {
            let runtime = runtime()?;
            let mut stdin = std::io::stdin().is_terminal().then(|| std::io::stdin().lock());
            let answers = stdin.as_mut().map(|stdin| stdin as &mut dyn std::io::BufRead);
            let ended =
                runtime.block_on(cli::republish::run(options, &config, &server, answers, &mut out, &mut err));
            runtime.shutdown_background();
            Ok(ended?)
        }),
        Command::Config(output) => {
            config::effective(arguments.config.as_deref(), std::env::vars_os(), &arguments.set)
                .map_err(anyhow::Error::from)
                .and_then(|settings| Ok(cli::config::print(&settings, output, &mut out)?))
        }
    };
    ended.map_or_else(|error| print_error(&error), ExitCode::from)
}

/// The configuration, and the server that it names.
fn load(arguments: &Cli) -> anyhow::Result<(Config, ConnInfo)> {
    let config = config::load(arguments.config.as_deref(), std::env::vars_os(), &arguments.set)?;
    let environment = |name: &str| std::env::var(name).ok();
    // The configuration has been checked without the password file; a bad one changes nothing but the password.
    let server = ConnInfo::parse(config.postgres.url.reveal(), &environment, &read_passfile)
        .context("postgres.url")?;
    Ok((config, server))
}

/// Relays until told to stop.
fn run(config: &Config, server: &ConnInfo) -> anyhow::Result<u8> {
    log::start(config.log).context("start logging")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "outbox-relay starts");
    let runtime = runtime()?;
    // Before anybody can see that the relay is there, and tell it to stop.
    let signals = runtime.block_on(async { Signals::new() }).context("wait for signals")?;
    let status = Arc::new(Status::new(Instant::now(), SystemTime::now()));
    let metrics = Arc::new(Metrics::new());
    if let Some(listen) = &config.http {
        let pages = Pages {
            status: Arc::clone(&status),
            metrics: Arc::clone(&metrics),
            postgres: Arc::new(config.postgres.clone()),
        };
        let http =
            http::serve(listen, pages).with_context(|| format!("listen on http.listen = \"{listen}\""))?;
        tracing::info!("status, probes and metrics are on http://{}/", http.address);
    }
    let manager = service_manager();
    manager.ready();
    let ended = runtime.block_on(async {
        let (stop, shutdown) = watch::channel(false);
        tokio::select! {
            ended = supervisor::run(config, server, &status, &metrics, shutdown) => ended.map_err(anyhow::Error::from),
            () = signals.obey(stop, &manager) => Ok(()),
            never = manager.follow(&status) => match never {},
        }
    });
    runtime.shutdown_background();
    let Err(error) = ended else {
        return Ok(0);
    };
    let hint = error.downcast_ref::<session::Error>().and_then(|error| error.hint(server));
    let text = format!("{error:#}{}", hint.map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default());
    manager.failed(&text);
    if config.log.format == LogFormat::Json {
        // Each line is an object, the last one too.
        tracing::error!("{text}");
        return Ok(FAILURE);
    }
    Err(anyhow::Error::msg(text))
}

/// Exit status of a program that was stopped by an error.
const FAILURE: u8 = 1;

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// systemd, if it has started the relay with `Type=notify`.
fn service_manager() -> ServiceManager {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return ServiceManager::default();
    };
    let variable = |name: &str| std::env::var(name).ok();
    let (period, process) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
    let watchdog = systemd::watchdog(period.as_deref(), process.as_deref(), std::process::id());
    ServiceManager::at(&socket, watchdog).unwrap_or_else(|error| {
        tracing::warn!("NOTIFY_SOCKET={}: {error}: systemd is told nothing", socket.display());
        ServiceManager::default()
    })
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they end the program no more. To be called on the runtime.
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The first signal asks for an orderly stop; the second returns, which ends the program at once.
    async fn obey(mut self, stop: watch::Sender<bool>, manager: &ServiceManager) {
        // Not inside the macros: what a log level leaves out is not evaluated.
        let first = self.next().await;
        tracing::info!("{first}: stopping");
        manager.stopping();
        stop.send_replace(true);
        let second = self.next().await;
        tracing::warn!("{second}: ending at once; what is not confirmed is sent again by the next start");
    }
}

/// Prints what clap has to say: help and version on stdout, wrong usage on stderr.
fn print_answer(answer: &clap::Error) -> ExitCode {
    // If nobody can be told, the exit status still tells.
    let _ = answer.print();
    u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn print_error(error: &anyhow::Error) -> ExitCode {
    let text = format!("{error:#}");
    let _ = writeln!(std::io::stderr(), "error: {}", text.trim_end());
    let configuration = error.is::<Problems>() || error.is::<ConnInfoError>();
    if configuration { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::FAILURE }
}
