//! A server's process, to be frozen, killed and started again; and how it is reached as soon as it is up.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use outbox_relay::postgres::conninfo::ConnInfo;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio_postgres::{Client, NoTls};

/// A server's process.
pub(crate) struct Server {
    name: &'static str,
    pid: u32,
    pid_file: PathBuf,
    /// Once it was started again.
    child: Option<Child>,
    command: Command,
}

/// No server takes longer to stop or to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `scripts/servers`; what it prints.
pub(crate) fn scripts_servers(arguments: &[&str], directory: &Path) -> Result<String> {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers"));
    command.args(arguments).arg(directory).stdin(Stdio::null()).stderr(Stdio::inherit());
    // What these name would be taken instead.
    for named in ["OUTBOX_TEST_POSTGRES", "OUTBOX_TEST_POSTGRES_TCP", "OUTBOX_TEST_KAFKA"] {
        command.env_remove(named);
    }
    let output = command.output().context("run scripts/servers")?;
    if !output.status.success() {
        bail!("scripts/servers {}: {}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The value of the variable `name` in what `scripts/servers start` has printed.
pub(crate) fn exported(printed: &str, name: &str) -> Result<String> {
    let start = format!("export {name}='");
    let value = printed.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('\''));
    value.map(str::to_owned).with_context(|| format!("scripts/servers did not print {name}"))
}

impl Server {
    /// The one that `scripts/servers` has started as `name` in `directory`.
    pub(crate) fn of(name: &'static str, directory: &Path) -> Result<Self> {
        let pid_file = directory.join(format!("{name}.pid"));
        let pid = fs::read_to_string(&pid_file)?.trim().parse()?;
        // As it was started: program, arguments, user.
        let process = format!("/proc/{pid}");
        let line = String::from_utf8(fs::read(format!("{process}/cmdline"))?)?;
        let mut words = line.trim_end_matches('\0').split('\0');
        let owner = fs::metadata(&process)?;
        let mut command = Command::new(words.next().context("a process without a command line")?);
        command.args(words).uid(owner.uid()).gid(owner.gid()).process_group(0).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { name, pid, pid_file, child: None, command })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        self::signal(self.pid(), signal)
    }

    /// Sends `signal`, and waits until it has ended; how long that took.
    pub(crate) async fn end(&mut self, signal: &str) -> Result<Duration> {
        let asked = Instant::now();
        self.signal(signal)?;
        while self.is_up() {
            if asked.elapsed() > PATIENCE {
                bail!("{} does not end on SIG{signal}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(asked.elapsed())
    }

    /// Starts it again.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let child = self.command.spawn().with_context(|| format!("start {}", self.name))?;
        self.pid = child.id();
        self.child = Some(child);
        Ok(fs::write(&self.pid_file, self.pid.to_string())?)
    }

    /// Waits for its end, if it was started again and is our child.
    pub(crate) fn wait(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }

    /// Stops it where it is, with all its children.
    pub(crate) fn freeze(&self) -> Result<Frozen> {
        self.signal("STOP")?;
        let mut frozen = Frozen(vec![self.pid]);
        for process in procfs::process::all_processes()?.flatten() {
            let Ok(stat) = process.stat() else { continue };
            if u32::try_from(stat.ppid).is_ok_and(|parent| parent == self.pid) {
                let child = stat.pid.try_into()?;
                // One that ends at this moment needs not be frozen.
                if self::signal(child, "STOP").is_ok() {
                    frozen.0.push(child);
                }
            }
        }
        Ok(frozen)
    }

    pub(crate) fn is_up(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            return matches!(child.try_wait(), Ok(None));
        }
        // A process that has ended and was not waited for has no command line either.
        fs::read(format!("/proc/{}/cmdline", self.pid)).is_ok_and(|line| !line.is_empty())
    }
}

/// Processes that stand still until this is dropped.
pub(crate) struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = signal(*pid, "CONT");
        }
    }
}

/// Sends a signal, by its name without SIG.
pub(crate) fn signal(pid: u32, signal: &str) -> Result<()> {
    let status =
        Command::new("kill").args(["-s", signal, &pid.to_string()]).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { bail!("kill -s {signal} {pid}: {status}") }
}

/// Connects, in less than two seconds.
pub(crate) async fn client(info: &ConnInfo) -> Result<Client> {
    let config = info.control_config();
    let (client, connection) = tokio::time::timeout(Duration::from_secs(2), config.connect(NoTls)).await??;
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

/// Connects as soon as the server lets us.
pub(crate) async fn patient_client(info: &ConnInfo) -> Result<Client> {
    let start = Instant::now();
    loop {
        match client(info).await {
            Ok(client) => return Ok(client),
            Err(error) if start.elapsed() > PATIENCE => return Err(error.context("PostgreSQL is not up")),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Waits until the broker leads all partitions of `topics`: after it was started again, the cluster first waits until the
/// broker's old session has ended. Blocks its thread.
pub(crate) fn await_leader(broker: &str, topics: &[String]) -> Result<()> {
    let start = Instant::now();
    while !leads(broker, topics)? {
        if start.elapsed() > PATIENCE {
            bail!("Kafka is not up");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn leads(broker: &str, topics: &[String]) -> Result<bool> {
    // Anew each time: a client that found nobody waits longer and longer.
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", broker).set("log_level", "0").create()?;
    Ok(topics.iter().all(|topic| {
        let metadata = client.fetch_metadata(Some(topic), Duration::from_millis(300));
        metadata.is_ok_and(|metadata| {
            let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions()).peekable();
            // A broker that has not read its cluster's metadata yet knows no partitions.
            partitions.peek().is_some()
                && partitions.all(|partition| partition.error().is_none() && partition.leader() >= 0)
        })
    }))
}
