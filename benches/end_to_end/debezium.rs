//! Debezium in Kafka Connect standalone, the peer that does the same work: rows of the outbox in, its event router's
//! records out.
//!
//! `debezium/` has what it is configured with. `scripts/bench --peers` fetches it, and says by environment where it is.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use outbox_relay::postgres::conninfo::{Address, ConnInfo};

use crate::Bench;
use crate::subject::Subject;

/// What `connect-standalone.sh` gives the JVM when its user says nothing else.
const JVM: [&str; 8] = [
    "-Xms256M",
    "-Xmx2G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/end_to_end/debezium");

/// What it is tuned for: its users have to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tuned {
    /// As many records a second as it can.
    ForRate,
    /// As little delay as it can.
    ForDelay,
}

impl Tuned {
    /// `poll.interval.ms` and `linger.ms`.
    const fn waits(self) -> [&'static str; 2] {
        match self {
            Self::ForRate => ["50", "5"],
            Self::ForDelay => ["5", "0"],
        }
    }
}

/// Starts it. It reads `slot` over TCP, as its driver cannot do otherwise, and sends everything to `topic`.
pub(crate) fn start(bench: &Bench, slot: &str, topic: &str, tuned: Tuned) -> Result<Subject> {
    let postgres = ConnInfo::parse(&bench.tcp_url, &|_| None, &|_| None)?;
    let host = postgres.hosts.first().context("a connection string without a host")?;
    let Address::Tcp(name) = &host.address else { bail!("{host:?}: Debezium connects over TCP only") };
    let rest_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let [poll_interval, linger] = tuned.waits();

    let mut command = Command::new("java");
    command.args(JVM).arg(format!("-Dlog4j2.configurationFile={HERE}/log4j2.properties"));
    command.arg("-cp").arg(format!("{}/*", fetched("KAFKA_JARS")?));
    command.arg("org.apache.kafka.connect.cli.ConnectStandalone");
    command.args([format!("{HERE}/connect.properties"), format!("{HERE}/connector.properties")]);
    // Where connect.properties says that the plugin is.
    command.current_dir(fetched("DEBEZIUM")?);
    command.env("BROKER", &bench.world.broker).env("REST_PORT", rest_port.to_string());
    command.env("PG_HOST", name).env("PG_PORT", host.port.to_string());
    command.env("PG_USER", &postgres.user).env("PG_DATABASE", &postgres.dbname);
    command.env("SLOT", slot).env("TOPIC", topic);
    command.env("POLL_INTERVAL_MS", poll_interval).env("LINGER_MS", linger);
    Subject::start(&mut command)
}

/// Its version, as its plugin has it in the names of its files.
pub(crate) fn version() -> Result<String> {
    let plugin = Path::new(&fetched("DEBEZIUM")?).join("debezium-connector-postgres");
    for file in plugin.read_dir().with_context(|| plugin.display().to_string())? {
        let name = file?.file_name();
        let name = name.to_string_lossy();
        let version =
            name.strip_prefix("debezium-connector-postgres-").and_then(|name| name.strip_suffix(".jar"));
        if let Some(version) = version {
            return Ok(version.to_owned());
        }
    }
    bail!("{}: no debezium-connector-postgres-*.jar", plugin.display())
}

/// What `scripts/bench --peers` has put somewhere.
fn fetched(what: &str) -> Result<String> {
    let variable = format!("OUTBOX_BENCH_{what}");
    std::env::var(&variable)
        .with_context(|| format!("{variable} is not set\n\nhint: run scripts/bench --peers"))
}
