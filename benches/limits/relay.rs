//! The relay's process, and what it shows of itself.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

use crate::pages;
use crate::world::World;

/// The release build, running. Killed when dropped.
pub(crate) struct Relay {
    child: Child,
    pid: u32,
    port: u16,
}

/// Between two looks at its metrics.
const LOOK: Duration = Duration::from_millis(100);

impl Relay {
    /// Starts it; `settings` as `--set` takes them.
    pub(crate) fn start(world: &World, settings: &[&str]) -> Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
        command.arg("run").args(["--set", &format!("http.listen=127.0.0.1:{port}")]);
        command.args(["--set", &format!("postgres.url={}", world.url)]);
        command.args(["--set", &format!("kafka.bootstrap.servers={}", world.broker)]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        // What it says is of interest only if it fails, and then it is on the terminal.
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.env("OUTBOX_RELAY_LOG__LEVEL", "error").spawn().context("start the relay")?;
        let pid = child.id().context("the relay has no process id")?;
        Ok(Self { child, pid, port })
    }

    /// Waits until it has delivered `count` events since it was started; how long that took.
    pub(crate) async fn delivers(&mut self, count: u64) -> Result<Duration> {
        let start = Instant::now();
        while self.sum("outbox_relay_events_delivered_total").await < count {
            self.still_runs()?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(start.elapsed())
    }

    /// Waits until it says that it streams.
    pub(crate) async fn streams(&mut self) -> Result<()> {
        while self.page("/ready").await.is_none_or(|page| page != "streaming\n") {
            self.still_runs()?;
            tokio::time::sleep(LOOK / 10).await;
        }
        Ok(())
    }

    /// The sum of a metric over its labels; 0 while it does not answer.
    pub(crate) async fn sum(&self, name: &str) -> u64 {
        let page = self.page("/metrics").await.unwrap_or_default();
        let lines = page.lines().filter(|line| line.strip_prefix(name).is_some_and(is_value));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// The most memory it had resident so far, in MiB, rounded up.
    pub(crate) fn peak(&self) -> Result<u64> {
        let status = procfs::process::Process::new(self.pid.try_into()?)?.status()?;
        Ok(status.vmhwm.context("the kernel does not tell the peak")?.div_ceil(1024))
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the relay ended by itself: {status}"),
        }
    }

    async fn page(&self, path: &str) -> Option<String> {
        pages::answer(self.port, path).await.map(|(_, body)| body)
    }
}

/// After the whole name, and not in the middle of a longer one.
fn is_value(rest: &str) -> bool {
    rest.starts_with([' ', '{'])
}
