//! A process that is measured.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::server::signal;
use crate::{Bench, process, role};

/// Nothing takes longer to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay, one of its references, or a peer. Killed when dropped.
pub(crate) struct Subject {
    child: Child,
    says: Option<BufReader<ChildStdout>>,
    pub(crate) started: Instant,
}

impl Subject {
    /// Starts it. What it says on stderr is of interest only if it fails, and then it is on the terminal.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let says = child.stdout.take().map(BufReader::new);
        Ok(Self { child, says, started })
    }

    /// The relay, with further `settings` as `--set` takes them. `url` says where PostgreSQL is.
    pub(crate) fn relay(bench: &Bench, url: &str, settings: &[String]) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(&bench.options.program);
        command.arg("run").env("OUTBOX_RELAY_LOG__LEVEL", "error");
        let own = [
            format!("http.listen=127.0.0.1:{port}"),
            format!("postgres.url={url}"),
            format!("kafka.bootstrap.servers={}", bench.world.broker),
        ];
        for setting in own.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        Self::start(&mut command)
    }

    /// This program in one of its roles.
    pub(crate) fn role(name: &str, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::start(command.args([role::ARGUMENT, name]).args(arguments))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Seconds of CPU it has used.
    pub(crate) fn cpu(&self) -> Result<f64> {
        process::cpu(self.pid())
    }

    /// The next line it says.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.says.as_mut().context("its words are read already")?.read_line(&mut line)?;
        if line.is_empty() {
            bail!("it ended without a word: {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended by itself: {status}"),
        }
    }

    /// Waits until it ends by itself.
    pub(crate) fn ends(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("it failed: {status}") }
    }

    /// SIGTERM, and waits for its end. A role ends when its input does.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let asked = Instant::now();
        // It may have ended already.
        let _ = signal(self.pid(), "TERM");
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > PATIENCE {
                bail!("process {} does not end on SIGTERM", self.pid());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
