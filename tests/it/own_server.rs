//! What needs a PostgreSQL of its own: it is kept waiting by open transactions, stopped and started.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outbox_relay::postgres::conninfo::ConnInfo;
use tokio_postgres::NoTls;

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::{Message, OwnKafka};
use crate::servers::{Database, client, conninfo, superuser};

/// A server of the same version as the shared one. Removed when dropped.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    pub(crate) superuser: ConnInfo,
    postmaster: u32,
    restarted: Option<Child>,
}

pub(crate) fn scripts_servers(arguments: &[&str], directory: &Path) -> String {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/servers"));
    command.args(arguments).arg(directory).stdin(Stdio::null());
    // What these name would be taken instead.
    for named in ["OUTBOX_TEST_POSTGRES", "OUTBOX_TEST_POSTGRES_TCP", "OUTBOX_TEST_KAFKA"] {
        command.env_remove(named);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With settings, `name=value`.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        let options: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        Self::start_with(&options).await
    }

    /// With `options` of `scripts/servers`.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let shared = client(&superuser()).await;
        let version = "SELECT (current_setting('server_version_num')::int / 10000)::text";
        let version: String = shared.query_one(version, &[]).await.unwrap().get(0);
        let directory = tempfile::tempdir().unwrap();
        let own = std::process::id().to_string();
        let mut arguments = vec!["start", "--only", "postgres", "--postgres", &version, "--while", &own];
        arguments.extend(options);
        let printed = scripts_servers(&arguments, directory.path());
        let line = printed.lines().find_map(|line| line.strip_prefix("export OUTBOX_TEST_POSTGRES='"));
        let superuser = conninfo(line.unwrap().trim_end_matches('\''));
        let pid = std::fs::read_to_string(directory.path().join("postgres.pid")).unwrap();
        Self { superuser, postmaster: pid.trim().parse().unwrap(), restarted: None, directory }
    }

    fn is_up(&mut self) -> bool {
        if let Some(child) = &mut self.restarted {
            return child.try_wait().unwrap().is_none();
        }
        // A process that has ended and was not waited for has no command line either.
        std::fs::read(format!("/proc/{}/cmdline", self.postmaster)).is_ok_and(|line| !line.is_empty())
    }

    /// `pg_ctl stop -m fast`, which the jar's user alone may do: SIGINT. Starts it again when `meanwhile` is over.
    pub(crate) async fn restart(&mut self, meanwhile: impl AsyncFnOnce()) {
        let process = format!("/proc/{}", self.postmaster);
        let line = std::fs::read(format!("{process}/cmdline")).unwrap();
        let line = String::from_utf8(line).unwrap();
        let mut words = line.trim_end_matches('\0').split('\0');
        let owner = std::fs::metadata(&process).unwrap();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).uid(owner.uid()).gid(owner.gid()).process_group(0).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());

        let asked = Instant::now();
        let stopped = Command::new("kill").args(["-INT", &self.postmaster.to_string()]).status().unwrap();
        assert!(stopped.success());
        while self.is_up() {
            assert!(asked.elapsed() < Duration::from_secs(5), "PostgreSQL is kept from shutting down");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        meanwhile().await;
        let child = command.spawn().unwrap();
        self.postmaster = child.id();
        self.restarted = Some(child);
        std::fs::write(self.directory.path().join("postgres.pid"), self.postmaster.to_string()).unwrap();
        let config = self.superuser.control_config();
        eventually("PostgreSQL is up again", async || config.connect(NoTls).await.is_ok()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        scripts_servers(&["stop"], self.directory.path());
        if let Some(child) = &mut self.restarted {
            let _ = child.wait();
        }
    }
}

async fn reconnect(outbox: &mut Outbox) {
    outbox.database.client = client(&outbox.database.info()).await;
}

/// Who keeps the slot from being made is named, and the relay waits for it.
async fn slot_waits_for_an_open_transaction(outbox: &Outbox, setting: &str) -> Relay {
    let writer = client(&outbox.database.info()).await;
    writer.batch_execute("BEGIN; CREATE TABLE being_written (n int)").await.unwrap();
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let relay = outbox.relay(&[setting]);
    relay.log_says(&format!("making the slot waits for open transactions: pid {pid}")).await;
    let reason = format!("making the slot waits for open transactions: pid {pid}");
    relay.ready_says(503, &reason).await;
    writer.batch_execute("COMMIT").await.unwrap();
    relay.ready().await;
    relay
}

/// Trap 4.24 of docs/traps.md.
#[tokio::test]
async fn postgres_makes_the_slot_when_transactions_end_and_shuts_down_fast_whatever_kafka_does() {
    let mut server = Server::start().await;
    let database = Database::create_on(server.superuser.clone(), "").await;
    let mut outbox = Outbox::create_on(database).await;
    // The shared Kafka shall not be switched off.
    let kafka = OwnKafka::with_topic(&outbox.topic("order"));
    let setting = kafka.setting();
    let relay = slot_waits_for_an_open_transaction(&outbox, &setting).await;

    // Idle.
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    server.restart(async || drop(relay.ready_says(503, "blocked on postgres").await)).await;
    reconnect(&mut outbox).await;
    relay.ready().await;
    outbox.insert("2").await;
    outbox.all_confirmed().await;

    // With events that Kafka has not confirmed, and cannot: the walsender would wait for them.
    kafka.switch_off();
    outbox.insert("3").await;
    relay.metric_becomes("outbox_relay_in_flight_records", 1.0).await;
    server.restart(async || drop(relay.ready_says(503, "blocked on postgres").await)).await;
    reconnect(&mut outbox).await;

    // And while nothing is read: a record waits for what Kafka says of its topic.
    relay.stop().await;
    let relay = outbox.relay(&[&setting]);
    for key in ["4", "5", "6", "7"] {
        outbox.insert(key).await;
    }
    relay.ready_says(503, "blocked on kafka").await;
    server.restart(async || drop(relay.ready_says(503, "blocked on postgres").await)).await;
    reconnect(&mut outbox).await;

    kafka.switch_on();
    relay.ready().await;
    outbox.all_confirmed().await;
    let messages = kafka.messages(&outbox.topic("order"));
    let mut keys: Vec<_> = messages.iter().map(Message::key_text).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys, ["1", "2", "3", "4", "5", "6", "7"]);
    relay.stop().await;
}
