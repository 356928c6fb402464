//! A PostgreSQL and a Kafka of the run's own, which it freezes, kills and starts again.

use anyhow::{Context as _, Result};
use outbox_relay::postgres::conninfo::ConnInfo;

use crate::machine::Disk;
use crate::server::{Server, exported, scripts_servers};

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
    /// Their disks, if they have small ones.
    pub(crate) postgres_disk: Option<Disk>,
    pub(crate) kafka_disk: Option<Disk>,
    pub(crate) kafka_version: String,
    directory: tempfile::TempDir,
}

/// The size of a server's disk in MiB: several times what is ever on one.
const DISK: &str = "1024";

impl Servers {
    /// Starts them; clients of Kafka shall come to `advertised`, a `host:port`. With `disks`, each has a small one.
    pub(crate) fn start(postgres: &str, advertised: &str, disks: bool) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let own = std::process::id().to_string();
        let mut arguments = vec!["start", "--postgres", postgres, "--advertise", advertised, "--while", &own];
        if disks {
            arguments.extend(["--disks", DISK]);
        }
        arguments.extend(["--set", "wal_sender_timeout=4s", "--set", "max_wal_size=256MB"]);
        let printed = scripts_servers(&arguments, directory.path())?;
        let value = |name| exported(&printed, name);
        let conninfo = |text: String| ConnInfo::parse(&text, &|_| None, &|_| None);
        let tcp = conninfo(value("OUTBOX_TEST_POSTGRES_TCP")?)?;
        let port = tcp.hosts.first().context("no host")?.port;
        Ok(Self {
            postgres: Server::of("postgres", directory.path())?,
            kafka: Server::of("kafka", directory.path())?,
            superuser: conninfo(value("OUTBOX_TEST_POSTGRES")?)?,
            postgres_address: format!("127.0.0.1:{port}"),
            kafka_address: value("OUTBOX_TEST_KAFKA")?,
            kafka_behind: value("OUTBOX_TEST_KAFKA_BEHIND")?,
            postgres_disk: value("OUTBOX_TEST_POSTGRES_DISK").ok().map(|folder| Disk::at(&folder)),
            kafka_disk: value("OUTBOX_TEST_KAFKA_DISK").ok().map(|folder| Disk::at(&folder)),
            kafka_version: kafka_version().context("the version of Kafka in tests/servers/pom.xml")?,
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
            server.wait();
        }
    }
}

/// The one that is pinned.
fn kafka_version() -> Option<String> {
    let (_, kafka) = include_str!("../servers/pom.xml").split_once("<artifactId>kafka_2.13</artifactId>")?;
    let (version, _) = kafka.split_once("<version>")?.1.split_once("</version>")?;
    Some(version.to_owned())
}
