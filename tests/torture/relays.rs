//! The relay's processes: the real program, as a service manager would run it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

use crate::dice::Dice;
use crate::machine::{Clock, Names};
use crate::mode::Mode;
use crate::pages;
use crate::server::signal;

/// How relays are started.
pub(crate) struct Relays {
    program: PathBuf,
    /// What is the same for all of them.
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    log: PathBuf,
    dice: Dice,
    started: u32,
    shards: u32,
}

/// One of them, running. Killed when dropped.
pub(crate) struct Relay {
    child: Child,
    pid: u32,
    port: u16,
    log: PathBuf,
    number: u32,
}

/// `delivery.drain_timeout`, the goodbye to PostgreSQL, and a machine that is busy.
const STOP: Duration = Duration::from_secs(3 + 2 + 5);

/// More than any state of a relay that is waited for takes to come.
const PATIENCE: Duration = Duration::from_secs(60);

impl Relays {
    /// The ports are those of the proxies to PostgreSQL and to Kafka; the logs of all relays go to the file `log`.
    pub(crate) fn new(
        program: PathBuf,
        [postgres, kafka]: [u16; 2],
        mode: Mode,
        log: &Path,
        dice: Dice,
    ) -> Result<Self> {
        File::create(log)?;
        let postgres = format!("postgres://outbox_relay@{}:{postgres}/postgres", crate::machine::POSTGRES);
        let arguments = [
            format!("postgres.url={postgres}"),
            format!("kafka.bootstrap.servers={}:{kafka}", crate::machine::KAFKA),
            "delivery.drain_timeout=3s".to_owned(),
        ];
        let arguments = arguments.into_iter().chain(mode.settings().iter().copied().map(str::to_owned));
        Ok(Self {
            program,
            arguments: arguments.collect(),
            environment: Vec::new(),
            log: log.to_owned(),
            dice,
            started: 0,
            shards: 1,
        })
    }

    /// Each relay asks `names` for hosts, and `clock` for the time of day; `library` makes it do so.
    pub(crate) fn live_with(&mut self, library: &str, names: &Names, clock: &Clock) {
        self.environment.push(("LD_PRELOAD", library.into()));
        self.environment.extend([names.environment(), clock.environment()]);
    }

    /// So many share the outbox.
    pub(crate) fn share(&mut self, shards: u32) {
        self.shards = shards;
        self.arguments.push(format!("shard.count={shards}"));
    }

    /// Starts one; of several shards, the first.
    pub(crate) fn start(&mut self) -> Result<Relay> {
        self.start_shard(0)
    }

    /// Starts the one of a shard, with limits that are now generous and now narrow.
    pub(crate) fn start_shard(&mut self, index: u32) -> Result<Relay> {
        self.started += 1;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut log = OpenOptions::new().append(true).open(&self.log)?;
        writeln!(log, "\nrelay {} starts", self.started)?;
        let mut command = Command::new(&self.program);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("run").args(["--set", &format!("http.listen=127.0.0.1:{port}")]);
        for argument in &self.arguments {
            command.args(["--set", argument]);
        }
        if self.shards > 1 {
            command.args(["--set", &format!("shard.index={index}")]);
        }
        // One of them at a time: together they would be slower than the writers.
        match self.dice.between(0, 4) {
            // The queue is full in every larger transaction.
            0 | 1 => command.args(["--set", "kafka.queue.buffering.max.messages=100"]),
            2 => command.args(["--set", "delivery.max_in_flight=64KiB"]),
            3 => command.args(["--set", "kafka.linger.ms=50"]),
            _ => &mut command,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        let pid = child.id().context("the relay has no process id")?;
        Ok(Relay { child, pid, port, log: self.log.clone(), number: self.started })
    }
}

impl Relay {
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        signal(self.pid, name)
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.still_runs()?;
        Ok(self.child.kill().await?)
    }

    /// SIGTERM. It must end in time, and well.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        // One that has just been started does not know signals yet, and would be killed.
        let asked = Instant::now();
        while self.page("/live").await.is_none() && asked.elapsed() < STOP {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.still_runs()?;
        self.signal("TERM")?;
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => {
                bail!("relay {} ended badly on SIGTERM: {status:?}\n{}", self.number, self.log_end())
            }
            Err(_) => {
                bail!("relay {} does not end on SIGTERM within {STOP:?}\n{}", self.number, self.log_end())
            }
        }
    }

    /// A relay never ends by itself here: nothing is wrong that does not pass.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("relay {} ended by itself: {status}\n{}", self.number, self.log_end()),
        }
    }

    /// Waits until `/ready` says `state`.
    pub(crate) async fn is(&mut self, state: &str) -> Result<()> {
        let start = Instant::now();
        while !self.says(state).await? {
            if start.elapsed() > PATIENCE {
                bail!("relay {} never said \"{state}\"\n{}", self.number, self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Whether `/ready` says `state` now.
    pub(crate) async fn says(&mut self, state: &str) -> Result<bool> {
        self.still_runs()?;
        Ok(self.page("/ready").await.is_some_and(|page| page.trim() == state))
    }

    /// Records in flight, as it shows them; 0 while it does not answer.
    pub(crate) async fn in_flight(&self) -> u64 {
        let page = self.page("/metrics").await.unwrap_or_default();
        let value = page.lines().find_map(|line| line.strip_prefix("outbox_relay_in_flight_records "));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// How far its clock is ahead, in seconds; `None` while it does not answer.
    pub(crate) async fn ahead(&self) -> Option<i64> {
        // Every HTTP answer says what time it is.
        let (head, _) = pages::answer(self.port, "/live").await?;
        let (_, date) = head.split_once("\r\ndate: ")?;
        let date = jiff::fmt::rfc2822::parse(date.lines().next()?).ok()?.timestamp().as_second();
        let now = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
        Some(date - i64::try_from(now).ok()?)
    }

    /// The number of file descriptors that it may have open; `None` if it has ended.
    pub(crate) fn descriptors(&self) -> Option<String> {
        let limits = procfs::process::Process::new(self.pid.try_into().ok()?).ok()?.limits().ok()?;
        match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit.to_string()),
            procfs::process::LimitValue::Unlimited => Some("unlimited".to_owned()),
        }
    }

    /// From now on it may have so many.
    pub(crate) fn limit_descriptors(&self, limit: &str) -> Result<()> {
        let mut prlimit = std::process::Command::new("prlimit");
        let status =
            prlimit.args(["--pid", &self.pid.to_string(), &format!("--nofile={limit}:")]).status()?;
        if status.success() { Ok(()) } else { bail!("prlimit --nofile={limit}: {status}") }
    }

    /// The time it has computed so far.
    pub(crate) fn computed(&self) -> Option<Duration> {
        let stat = procfs::process::Process::new(self.pid.try_into().ok()?).ok()?.stat().ok()?;
        Some(Duration::from_millis((stat.utime + stat.stime) * 1_000 / procfs::ticks_per_second().max(1)))
    }

    /// The body of a page.
    async fn page(&self, path: &str) -> Option<String> {
        pages::answer(self.port, path).await.map(|(_, body)| body)
    }

    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        format!("the end of {}:\n{}", self.log.display(), end.join("\n"))
    }
}
