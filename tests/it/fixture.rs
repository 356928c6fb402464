//! A test's own outbox, topics and relay.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use outbox_relay::postgres::conninfo::Address;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::kafka::{Message, Reader, broker, create_topic};
use crate::servers::Database;

/// Nothing that a test waits for takes this long, unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A database with the outbox of `sql/`, and a slot name of its own. Its topics are `<database>.<aggregate_type>`.
pub(crate) struct Outbox {
    pub(crate) database: Database,
}

impl Outbox {
    /// Table, role and publication as `sql/` makes them, and one topic for `aggregate_type` "order".
    pub(crate) async fn create() -> Self {
        Self::create_in("").await
    }

    /// The same in a database made with `options`.
    pub(crate) async fn create_in(options: &str) -> Self {
        let outbox = Self::create_on(Database::create(options).await).await;
        create_topic(&outbox.topic("order"), 3, &[]).await;
        outbox
    }

    /// The same in a database that is there; no topic.
    pub(crate) async fn create_on(database: Database) -> Self {
        database.client.batch_execute(include_str!("../../sql/01_table.sql")).await.unwrap();
        // Roles belong to the whole server: tests that start together must not both find it missing.
        let lock = "SELECT pg_advisory_lock(42)";
        let admin = crate::servers::client(&database.server).await;
        admin.batch_execute(lock).await.unwrap();
        database.client.batch_execute(include_str!("../../sql/02_role.sql")).await.unwrap();
        drop(admin);
        database.client.batch_execute(include_str!("../../sql/03_publication.sql")).await.unwrap();
        Self { database }
    }

    /// The topic of events of `aggregate_type`.
    pub(crate) fn topic(&self, aggregate_type: &str) -> String {
        format!("{}.{aggregate_type}", self.database.name)
    }

    /// The slot.
    pub(crate) fn slot(&self) -> &str {
        &self.database.name
    }

    /// Runs SQL in the database.
    pub(crate) async fn sql(&self, sql: &str) {
        self.database.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A query's first column of its first row, as text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let row = self.database.client.query_one(&format!("SELECT ({sql})::text"), &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// The slot's confirmed_flush_lsn, as a number; 0 if there is no slot.
    pub(crate) async fn confirmed_flush(&self) -> u64 {
        let sql = "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.database.client.query_opt(sql, &[&self.slot()]).await.unwrap();
        row.and_then(|row| row.get::<_, Option<i64>>(0)).map_or(0, |lsn| lsn.try_into().unwrap())
    }

    /// The server's insert position, as a number.
    pub(crate) async fn insert_lsn(&self) -> u64 {
        self.text("pg_current_wal_insert_lsn() - '0/0'").await.parse().unwrap()
    }

    /// Waits until everything committed so far is acknowledged.
    pub(crate) async fn all_confirmed(&self) {
        // A flushed record behind all commits, so that there is an end which can be reached.
        let end = self.text("pg_logical_emit_message(true, 'test', 'end') - '0/0'").await.parse().unwrap();
        eventually("everything is acknowledged", async || self.confirmed_flush().await >= end).await;
    }

    /// Inserts an event with key `key` and a payload into the table of `sql/`, in the topic of "order".
    pub(crate) async fn insert(&self, key: &str) {
        self.sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('order', '{key}', 'Placed', '{{\"key\": \"{key}\"}}')"
        ))
        .await;
    }

    /// Everything in the topic of `aggregate_type`.
    pub(crate) fn messages(&self, aggregate_type: &str) -> Vec<Message> {
        Reader::new(&self.topic(aggregate_type)).read_to_end()
    }

    /// The keys in the topic of "order", sorted: for events that only must arrive, once each.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.messages("order").iter().map(Message::key_text).collect();
        keys.sort();
        keys
    }

    /// Waits until a relay that streams has looked at its publication once more.
    pub(crate) async fn looked_again(&self) {
        let now = self.text("clock_timestamp()").await;
        // The last of its questions, asked and answered.
        let sql = format!(
            "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = 'outbox_relay'
                     AND query_start > '{now}' AND query LIKE '%pg_replication_slots%' AND state = 'idle')"
        );
        let sql = format!("SELECT {sql}");
        eventually("the relay looks at its publication", async || self.text(&sql).await == "true").await;
    }

    /// Starts a relay on the unix socket as `outbox_relay`; `settings` as `--set` takes them.
    pub(crate) fn relay(&self, settings: &[&str]) -> Relay {
        Relay::start(self, &["run"], settings)
    }

    /// The same with a configuration `file`, which `settings` may overrule.
    pub(crate) fn relay_of(&self, file: &Path, settings: &[&str]) -> Relay {
        Relay::start(self, &["run", "-c", file.to_str().unwrap()], settings)
    }

    /// The connection string of `user`, on the unix socket.
    pub(crate) fn url(&self, user: &str) -> String {
        let host = &self.database.server.hosts[0];
        let Address::Unix(directory) = &host.address else {
            panic!("OUTBOX_TEST_POSTGRES is no unix socket")
        };
        format!("host={} port={} user={user} dbname={}", directory.display(), host.port, self.database.name)
    }

    /// The program for this outbox, on the unix socket as `outbox_relay`; the HTTP address is left to `settings`.
    pub(crate) fn program(&self, arguments: &[&str], settings: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
        command.args(arguments).env("OUTBOX_RELAY_POSTGRES__URL", self.url("outbox_relay"));
        command.env("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", broker());
        command.args(["--set", &format!("postgres.slot={}", self.slot())]);
        command.args(["--set", &format!("route.topic={}.{{aggregate_type}}", self.database.name)]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// The real binary, running. Killed when dropped.
pub(crate) struct Relay {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Relay {
    fn start(outbox: &Outbox, arguments: &[&str], settings: &[&str]) -> Self {
        // A port that was free a moment ago; nobody else takes ports of this range in the same moment.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::env::temp_dir().join(format!("{}-{port}.log", outbox.database.name));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = outbox.program(arguments, &[&format!("http.listen=127.0.0.1:{port}")]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.stdout(Stdio::null()).stderr(file);
        Self { child: command.spawn().unwrap(), port, log }
    }

    /// Waits until it streams and Kafka answers.
    pub(crate) async fn ready(&self) {
        eventually("the relay is ready", async || {
            self.page("/ready").await == Some((200, "streaming\n".to_owned()))
        })
        .await;
    }

    /// Waits until `/ready` answers with `status` and a body that has `part` in it; the body.
    pub(crate) async fn ready_says(&self, status: u16, part: &str) -> String {
        let mut last = None;
        let start = Instant::now();
        loop {
            match self.page("/ready").await {
                Some((found, body)) if found == status && body.contains(part) => return body,
                page => last = page.or(last),
            }
            assert!(
                start.elapsed() < PATIENCE,
                "/ready never said {status} {part:?}; last {last:?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the log has `part` in it.
    pub(crate) async fn log_says(&self, part: &str) {
        let start = Instant::now();
        while !self.log().contains(part) {
            assert!(start.elapsed() < PATIENCE, "the log never said {part:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it ends by itself with exit status 1; the log.
    pub(crate) async fn refuses(self) -> String {
        let (status, log) = self.ended().await;
        assert_eq!(status.code(), Some(1), "{log}");
        log
    }

    /// Status and body of an HTTP page; `None` while nothing listens.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        self.answer(path).await.map(|(status, _, body)| (status, body))
    }

    /// Status, head and body of an HTTP page; `None` while nothing listens.
    pub(crate) async fn answer(&self, path: &str) -> Option<(u16, String, String)> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, head.to_lowercase(), body.to_owned()))
    }

    /// The value of a metric; `None` if it is not on the page.
    pub(crate) async fn metric(&self, name_and_labels: &str) -> Option<f64> {
        let (_, page) = self.page("/metrics").await?;
        value_in(&page, name_and_labels)
    }

    /// Waits until a metric has this value.
    pub(crate) async fn metric_becomes(&self, name_and_labels: &str, value: f64) {
        let mut last = None;
        let start = Instant::now();
        while last != Some(value) {
            assert!(start.elapsed() < PATIENCE, "{name_and_labels} is {last:?}, and never became {value}");
            last = self.metric(name_and_labels).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let killed = std::process::Command::new("kill").arg(pid.to_string()).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end; its status and what it wrote to stderr.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let log = self.log();
        let status = ended.unwrap_or_else(|_| panic!("the relay does not end; its log:\n{log}")).unwrap();
        let _ = std::fs::remove_file(&self.log);
        (status, log)
    }

    /// An orderly stop, which must succeed; the log.
    pub(crate) async fn stop(self) -> String {
        self.terminate();
        let (status, log) = self.ended().await;
        assert!(status.success(), "{status}; its log:\n{log}");
        log
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
        let _ = std::fs::remove_file(&self.log);
    }

    /// What it has written to stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// The value of a metric on a page; `None` if it is not there.
pub(crate) fn value_in(page: &str, name_and_labels: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '))?.parse().ok()
}

/// Waits until `state` holds.
pub(crate) async fn eventually(what: &str, mut state: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !state().await {
        assert!(start.elapsed() < PATIENCE, "this never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
