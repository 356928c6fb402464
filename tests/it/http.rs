//! The pages: what each says in each state, and that they answer whatever PostgreSQL and Kafka do.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::{Reader, create_topic_on};
use crate::own_server::scripts_servers;
use crate::proxy::{Closed, behind_proxy};
use crate::servers::superuser_tcp;

/// Status, head and body of the answer to `request`, a method and a path, with further header lines.
async fn ask(relay: &Relay, request: &str, headers: &str) -> (u16, String, String) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", relay.port)).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

/// Every page answers at once. Gives their status codes: `/`, `/live`, `/ready`, `/active`, `/metrics`, `/status`.
async fn all_answer(relay: &Relay) -> [u16; 6] {
    let mut codes = [0; 6];
    for (code, path) in codes.iter_mut().zip(["/", "/live", "/ready", "/active", "/metrics", "/status"]) {
        let asked = Instant::now();
        *code = relay.page(path).await.unwrap().0;
        assert!(asked.elapsed() < Duration::from_secs(1), "{path} took {:?}", asked.elapsed());
    }
    codes
}

#[tokio::test]
async fn each_page_says_what_it_is_for() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    eventually("the delivery is counted", async || {
        relay.page("/status").await.unwrap().1.contains("\"events_delivered\": 1")
    })
    .await;

    let (code, head, text) = ask(&relay, "GET /", "").await;
    assert_eq!(code, 200);
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    for part in
        ["streaming, for ", "1 event, the last ", "/metrics  Prometheus", "wal_status            reserved"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let (_, head, html) = ask(&relay, "GET /", "Accept: text/html,*/*\r\n").await;
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(html.contains("<a href=\"/metrics\">") && html.contains("streaming, for "), "{html}");

    let (code, head, page) = ask(&relay, "GET /status", "").await;
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["state"], "streaming");
    assert_eq!(page["slot"], outbox.slot());
    assert_eq!(page["blocked"], serde_json::Value::Null);
    assert_eq!(page["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(page["slot_health"]["wal_status"], "reserved");

    assert_eq!(relay.page("/active").await.unwrap(), (200, "streaming\n".to_owned()));
    let (_, head, page) =
        ask(&relay, "GET /metrics", "Accept: application/openmetrics-text;version=1.0.0,*/*\r\n").await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(page.ends_with("# EOF\n"), "{page}");
    assert!(relay.metric("process_resident_memory_bytes").await.is_some_and(|bytes| bytes > 1e6));

    let (code, _, body) = ask(&relay, "GET /nothing", "").await;
    assert!(code == 404 && body.contains("/ready "), "{code} {body}");
    let (code, head, body) = ask(&relay, "POST /ready", "Content-Length: 0\r\n").await;
    assert!(
        code == 405 && body.contains("GET and HEAD") && head.contains("allow: get,head"),
        "{code} {head} {body}"
    );
    let (code, _, body) = ask(&relay, "HEAD /ready", "").await;
    assert_eq!((code, body.as_str()), (200, ""));
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_postgres_that_freezes_is_noticed_and_every_page_answers_meanwhile() {
    let outbox = Outbox::create().await;
    let (relay, proxy) = behind_proxy(&outbox);
    relay.ready().await;
    // A server that is well answers what it is asked while there is nothing to send. That nothing happens can be told
    // only by waiting: longer than a question and its answer may take.
    tokio::time::timeout(Duration::from_secs(6), relay.ready_says(503, "blocked on postgres"))
        .await
        .unwrap_err();

    proxy.freeze();
    let frozen = Instant::now();
    let body = relay.ready_says(503, "blocked on postgres").await;
    // Long before TCP would tell.
    assert!(frozen.elapsed() < Duration::from_secs(15), "{:?}", frozen.elapsed());
    assert!(body.contains("does not answer a request for a reply"), "{body}");
    assert_eq!(all_answer(&relay).await, [200, 200, 503, 200, 200, 200]);
    relay.metric_becomes("outbox_relay_state{state=\"blocked\"}", 1.0).await;
    assert!(relay.metric("outbox_relay_blocked_seconds{on=\"postgres\"}").await.unwrap() > 0.0);

    proxy.thaw();
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_postgres_that_is_frozen_at_the_start_is_named_as_the_reason() {
    let outbox = Outbox::create().await;
    let port = Closed::new();
    let address = port.address;
    let proxy = port.open(format!("127.0.0.1:{}", superuser_tcp().hosts[0].port));
    proxy.freeze();
    let name = &outbox.database.name;
    let url = format!("postgres.url=postgres://outbox_relay@{address}/{name}?connect_timeout=5");
    let relay = outbox.relay(&[&url]);
    relay.ready_says(503, "no stream yet: PostgreSQL has not answered").await;
    assert_eq!(all_answer(&relay).await, [200, 200, 503, 503, 200, 200]);
    let body = relay.ready_says(503, "no answer within 5s").await;
    assert!(body.contains(&format!("connect to {address}")), "{body}");
    proxy.thaw();
    relay.ready().await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_standby_whose_postgres_freezes_is_not_ready() {
    let outbox = Outbox::create().await;
    let active = outbox.relay(&[]);
    active.ready().await;
    let (standby, proxy) = behind_proxy(&outbox);
    standby.ready_says(200, "standby").await;
    proxy.freeze();
    let body = standby.ready_says(503, "blocked on postgres").await;
    assert!(body.contains("look at the replication slot: no answer within 10s"), "{body}");
    assert_eq!(active.page("/ready").await.unwrap().0, 200);
    proxy.thaw();
    standby.ready_says(200, "standby").await;
    standby.stop().await;
    active.stop().await;
    outbox.database.drop().await;
}

/// A broker of its own, which can be stopped like any process. Removed when dropped.
struct Broker {
    directory: tempfile::TempDir,
    address: String,
    pid: String,
}

impl Broker {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let own = std::process::id().to_string();
        let printed = scripts_servers(&["start", "--only", "kafka", "--while", &own], directory.path());
        let line = printed.lines().find_map(|line| line.strip_prefix("export OUTBOX_TEST_KAFKA='"));
        let address = line.unwrap().trim_end_matches('\'').to_owned();
        let pid = std::fs::read_to_string(directory.path().join("kafka.pid")).unwrap().trim().to_owned();
        Self { directory, address, pid }
    }

    fn signal(&self, signal: &str) {
        let sent = std::process::Command::new("kill").args([signal, &self.pid]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        scripts_servers(&["stop"], self.directory.path());
    }
}

#[tokio::test]
async fn a_kafka_that_freezes_is_noticed_and_every_page_answers_meanwhile() {
    let outbox = Outbox::create().await;
    let broker = Broker::start();
    let topic = outbox.topic("order");
    create_topic_on(&broker.address, &topic, 1, &[]).await;
    let relay = outbox.relay(&[&format!("kafka.bootstrap.servers={}", broker.address)]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;

    broker.signal("-STOP");
    outbox.insert("2").await;
    let inserted = Instant::now();
    relay.ready_says(503, "blocked on kafka").await;
    assert!(inserted.elapsed() < Duration::from_secs(10), "{:?}", inserted.elapsed());
    assert_eq!(all_answer(&relay).await, [200, 200, 503, 200, 200, 200]);
    assert_eq!(relay.metric("outbox_relay_in_flight_records").await, Some(1.0));
    let status: serde_json::Value = serde_json::from_str(&relay.page("/status").await.unwrap().1).unwrap();
    assert_eq!((&status["state"], &status["blocked"]["on"]), (&"blocked".into(), &"kafka".into()));
    assert!(status["oldest_unconfirmed_age_seconds"].as_f64().unwrap() > 1.0, "{status}");

    broker.signal("-CONT");
    relay.ready().await;
    outbox.all_confirmed().await;
    let messages = Reader::on(&broker.address, &topic).read_to_end();
    assert_eq!(messages.iter().map(|message| message.key_text()).collect::<Vec<_>>(), ["1", "2"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_rejected_event_keeps_the_slot_fresh_in_the_metrics_and_counts_its_session() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["kafka.message.max.bytes=3000"]);
    relay.ready().await;
    let standby = outbox.relay(&[]);
    standby.ready_says(200, "standby").await;
    assert_eq!(standby.page("/active").await.unwrap(), (503, "standby\n".to_owned()));
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('order', 'k', 'x', to_jsonb(repeat('secret', 1000)))",
        )
        .await;
    relay.ready_says(503, "blocked on event").await;
    // It cannot go on, and no other instance could: it is the one.
    assert_eq!(relay.page("/active").await.unwrap(), (200, "blocked\n".to_owned()));
    for path in ["/", "/ready", "/metrics", "/status"] {
        let (_, page) = relay.page(path).await.unwrap();
        assert!(!page.contains("secret"), "{path}: {page}");
    }

    // The slot moves no more, and what it holds grows with the log: both instances say so.
    let retained = "outbox_relay_slot_retained_wal_bytes";
    let before = relay.metric(retained).await.unwrap();
    outbox.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1048576))").await;
    for instance in [&relay, &standby] {
        eventually("the metric follows the slot", async || {
            instance.metric(retained).await.unwrap() >= before + 1_048_576.0
        })
        .await;
    }
    // The test server sets no limit.
    assert_eq!(relay.metric("outbox_relay_slot_safe_wal_bytes").await, None);

    standby.kill().await;
    // Its control connection as well, by which it notices: of the stream it reads nothing more.
    outbox
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND usename = 'outbox_relay'",
        )
        .await;
    relay.metric_becomes("outbox_relay_sessions_total{end=\"rejected\"}", 1.0).await;
    assert_eq!(relay.metric("outbox_relay_sessions_total{end=\"postgres\"}").await, Some(0.0));
    relay.ready_says(503, "blocked on event").await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn what_repeats_itself_is_said_once() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let start = Instant::now();
    for ended in 1..=4 {
        outbox
            .sql(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                 WHERE database = current_database() AND active",
            )
            .await;
        relay.metric_becomes("outbox_relay_sessions_total{end=\"postgres\"}", f64::from(ended)).await;
        relay.ready().await;
    }
    // On a machine that is slow enough the 30 s pass, and it is said once more.
    let again = usize::try_from(start.elapsed().as_secs() / 30).unwrap();
    let log = relay.stop().await;
    let count = |part: &str| log.matches(part).count();
    assert!((1..=1 + again).contains(&count("trying again")), "{log}");
    assert!((2..=2 + 2 * again).contains(&count("streaming from")), "{log}");
    outbox.database.drop().await;
}
