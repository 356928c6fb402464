//! The relay as a user runs it: the real binary, two environment variables, its HTTP endpoint.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Connecting takes milliseconds; a broker that `DEMO_KAFKA` names may be far.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Longer than the relay's own `drain_timeout`.
const STOP_DEADLINE: Duration = Duration::from_secs(25);
/// How much of the relay's log a failure quotes.
const QUOTED_LINES: usize = 15;

/// The running child; killed when dropped.
pub(crate) struct Relay {
    child: Child,
    http: SocketAddr,
    started: Instant,
    /// Taken when it is quoted.
    last_lines: Option<JoinHandle<VecDeque<String>>>,
}

impl Relay {
    pub(crate) fn start(postgres_url: &str, bootstrap_servers: &str) -> Result<Self> {
        // Cargo puts examples one directory below the binaries.
        let example = std::env::current_exe()?;
        let directory = example.parent().and_then(|examples| examples.parent()).context("find the relay")?;
        let http = free_address()?;

        let mut command = Command::new(directory.join("outbox-relay"));
        for (name, _) in std::env::vars_os() {
            // The user's own settings are for another relay.
            if name.to_string_lossy().starts_with("OUTBOX_RELAY_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("run")
            .env("OUTBOX_RELAY_POSTGRES__URL", postgres_url)
            .env("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", bootstrap_servers)
            .env("OUTBOX_RELAY_HTTP__LISTEN", http.to_string())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}/outbox-relay", directory.display()))?;
        let log = child.stderr.take().context("take the relay's log")?;
        Ok(Self {
            child,
            http,
            started: Instant::now(),
            last_lines: Some(tokio::spawn(keep_last_lines(log))),
        })
    }

    /// Waits until `GET /ready` answers 200; returns how long that took since the start.
    pub(crate) async fn ready(&mut self) -> Result<Duration> {
        let mut answer = String::from("no answer yet");
        while self.started.elapsed() < READY_DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                bail!("the relay ended: {status}");
            }
            match get(self.http, "/ready").await {
                Ok((200, _)) => return Ok(self.started.elapsed()),
                Ok((status, body)) => answer = format!("{status} {body}"),
                // Not listening yet.
                Err(_) => {}
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("the relay was not ready after {} s: {answer}", READY_DEADLINE.as_secs())
    }

    /// Resolves when the relay ends, which it should not, with the reason.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow!("the relay ended: {status}"),
            Err(error) => anyhow!(error).context("wait for the relay"),
        }
    }

    /// As an operator would: SIGTERM, and the relay finishes what it has in hand.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().context("the relay ended by itself")?;
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await.context("run kill")?;
        let Ok(status) = timeout(STOP_DEADLINE, self.child.wait()).await else {
            bail!("the relay did not stop within {} s of SIGTERM", STOP_DEADLINE.as_secs());
        };
        let status = status.context("wait for the relay")?;
        if !status.success() {
            bail!("the relay did not stop cleanly: {status}");
        }
        Ok(())
    }

    /// Ends the relay and gives the last lines of its log, indented.
    pub(crate) async fn kill_and_quote(&mut self) -> String {
        // Only then does the log end. Killing fails only where the relay has ended already.
        let _ = self.child.kill().await;
        let lines = match self.last_lines.take() {
            Some(reader) => reader.await.unwrap_or_default(),
            None => VecDeque::new(),
        };
        lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// Reads the log to its end, so that the relay never waits for a full pipe, and keeps the last lines.
async fn keep_last_lines(log: ChildStderr) -> VecDeque<String> {
    let mut last = VecDeque::new();
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if last.len() == QUOTED_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}

/// An address nobody listens on. Another process could take it before the relay does; then the relay says so.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The smallest HTTP client that can ask for readiness: status and body.
async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let status = response.split(' ').nth(1).context("read the status line")?.parse()?;
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.trim().to_owned()))
}
