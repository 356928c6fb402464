//! A PostgreSQL and a Kafka of the run's own, which it freezes, kills and starts again.

use anyhow::{Context as _, Result};
use outbox_relay::postgres::conninfo::ConnInfo;

use crate::server::{Server, scripts_servers};

/// Both, running. Stopped and removed when dropped.
pub(crate) struct Servers {
    pub(crate) postgres: Server,
    pub(crate) kafka: Server,
    /// The superuser, over the unix socket: past all proxies.
    pub(crate) superuser: ConnInfo,
    /// `host:port` of PostgreSQL.
    pub(crate) postgres_address: String,
    /// `host:port` of the broker, past the proxy.
    pub(crate) kafka_address: String,
    /// `host:port` of the listener that tells clients to come to the proxy.
    pub(crate) kafka_behind: String,
    directory: tempfile::TempDir,
}

impl Servers {
    /// Starts them; clients of Kafka shall come to `advertised`, a port of this machine.
    pub(crate) fn start(postgres: &str, advertised: u16) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (own, port) = (std::process::id().to_string(), advertised.to_string());
        let mut arguments = vec!["start", "--postgres", postgres, "--advertise", &port, "--while", &own];
        arguments.extend(["--set", "wal_sender_timeout=4s", "--set", "max_wal_size=256MB"]);
        let printed = scripts_servers(&arguments, directory.path())?;
        let line = |name: &str| {
            let start = format!("export {name}='");
            let value = printed.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('\''));
            value.map(str::to_owned).with_context(|| format!("scripts/servers did not print {name}"))
        };
        let conninfo = |text: String| ConnInfo::parse(&text, &|_| None, &|_| None);
        let tcp = conninfo(line("OUTBOX_TEST_POSTGRES_TCP")?)?;
        let port = tcp.hosts.first().context("no host")?.port;
        Ok(Self {
            postgres: Server::of("postgres", directory.path())?,
            kafka: Server::of("kafka", directory.path())?,
            superuser: conninfo(line("OUTBOX_TEST_POSTGRES")?)?,
            postgres_address: format!("127.0.0.1:{port}"),
            kafka_address: line("OUTBOX_TEST_KAFKA")?,
            kafka_behind: line("OUTBOX_TEST_KAFKA_BEHIND")?,
            directory,
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // One that is frozen cannot end.
        for server in [&self.postgres, &self.kafka] {
            let _ = server.signal("CONT");
        }
        let _ = scripts_servers(&["stop"], self.directory.path());
        for server in [&mut self.postgres, &mut self.kafka] {
            if let Some(child) = &mut server.child {
                let _ = child.wait();
            }
        }
    }
}
