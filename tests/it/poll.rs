//! `outbox.source = "poll"`: rows are sent by their status, without logical replication.

use std::collections::BTreeMap;

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::{Message, create_topic};
use crate::records::{blocks, shown};
use crate::servers::{Database, client};

const MARK: [&str; 2] = ["outbox.source=poll", "after_publish.action=mark"];
const DELETE: [&str; 2] = ["outbox.source=poll", "after_publish.action=delete"];
const OFTEN: [&str; 3] = [MARK[0], MARK[1], "poll.interval=50ms"];

/// An outbox whose rows have a status, and a role of its own that may do nothing but what a poller needs.
struct Site {
    outbox: Outbox,
    url: String,
}

impl Site {
    async fn create() -> Self {
        let outbox = Outbox::create().await;
        let role = format!("{}_poller", outbox.database.name);
        outbox
            .sql(&format!(
                "ALTER TABLE outbox ADD status text NOT NULL DEFAULT 'PENDING', ADD published_at timestamptz,
                                    ALTER created_at SET DEFAULT clock_timestamp();
                 CREATE INDEX ON outbox (created_at, id) WHERE status = 'PENDING';
                 CREATE ROLE {role} LOGIN;
                 GRANT SELECT, UPDATE, DELETE ON outbox TO {role}"
            ))
            .await;
        let url = format!("postgres.url={}", outbox.url(&role));
        Self { outbox, url }
    }

    fn relay(&self, settings: &[&str]) -> Relay {
        let settings: Vec<_> = settings.iter().copied().chain([self.url.as_str()]).collect();
        self.outbox.relay(&settings)
    }

    /// Waits until nothing is pending.
    async fn all_published(&self) {
        eventually("nothing is pending", async || self.pending().await == "0").await;
    }

    async fn pending(&self) -> String {
        self.outbox.text("SELECT count(*) FROM outbox WHERE status = 'PENDING'").await
    }

    async fn drop(self) {
        let role = format!("{}_poller", self.outbox.database.name);
        self.outbox.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
        self.outbox.database.drop().await;
    }
}

/// An event of this kind and key.
fn insert(kind: &str, key: &str) -> String {
    format!(
        "INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('{kind}', '{key}', 'Placed')"
    )
}

/// How often each key came.
fn keys(messages: &[Message]) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for message in messages {
        *keys.entry(message.key_text()).or_default() += 1;
    }
    keys
}

/// The example of docs/poll.md.
#[tokio::test]
async fn the_example_of_the_page_does_what_it_says() {
    let (toml, sql, expected) = blocks(include_str!("../../docs/poll.md"));
    let outbox = Outbox::create_on(Database::create("").await).await;
    // The records are as old as the rows of the example.
    create_topic(&outbox.topic("order"), 1, &[("retention.ms", "-1")]).await;
    outbox.sql("DROP TABLE outbox").await;
    outbox.sql(&sql[0]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let relay = outbox.relay_of(file.path(), &[]);
    relay.ready().await;
    outbox.sql(&sql[1]).await;
    let pending = "SELECT count(*) FROM outbox WHERE status = 'PENDING'";
    eventually("all is published", async || outbox.text(pending).await == "0").await;
    let messages = outbox.messages("order");
    let records: Vec<_> = messages.iter().map(|message| shown("outbox.event.order", message)).collect();
    assert_eq!(records.join("\n\n"), expected);
    assert_eq!(messages[0].timestamp, Some(1_769_860_800_000));
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn check_and_status_know_of_no_slot() {
    let site = Site::create().await;
    site.outbox.insert("one").await;
    let run = async |arguments: &[&str]| {
        let settings = [MARK[0], MARK[1], site.url.as_str()];
        let output = site.outbox.program(arguments, &settings).output().await.unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    };
    let checked: serde_json::Value = serde_json::from_str(&run(&["check", "--json"]).await).unwrap();
    assert_eq!(checked["findings"], serde_json::json!([]));
    let status: serde_json::Value = serde_json::from_str(&run(&["status", "--json"]).await).unwrap();
    assert_eq!(status["pending"], serde_json::json!({ "public.outbox": 1 }));
    assert_eq!((&status["slot"], &status["problems"]), (&serde_json::Value::Null, &serde_json::json!([])));
    let text = run(&["status"]).await;
    assert!(text.contains("Pending rows\n  public.outbox         1\n"), "{text}");
    site.drop().await;
}

#[tokio::test]
async fn pending_rows_are_sent_in_the_order_of_their_time_and_marked() {
    let site = Site::create().await;
    site.outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, created_at)
             SELECT 'order', 'one', 'Placed', to_jsonb(n), now() - n * interval '1 second'
               FROM generate_series(1, 3000) n ORDER BY md5(n::text);
             UPDATE outbox SET status = 'PUBLISHED' WHERE payload = '7'",
        )
        .await;
    let relay = site.relay(&MARK);
    site.all_published().await;
    let messages = site.outbox.messages("order");
    let values: Vec<u32> = messages
        .iter()
        .map(|message| std::str::from_utf8(message.value.as_deref().unwrap()).unwrap().parse().unwrap())
        .collect();
    assert_eq!(values, (1..=3000).rev().filter(|n| *n != 7).collect::<Vec<_>>());
    let headers: Vec<_> = messages[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["id", "event_type"]);
    let times = "SELECT bool_and(published_at > now() - interval '1 hour') FROM outbox WHERE payload <> '7'";
    assert_eq!(site.outbox.text(times).await, "true");
    relay.ready().await;
    let metric = format!("outbox_relay_events_delivered_total{{topic=\"{}\"}}", site.outbox.topic("order"));
    relay.metric_becomes(&metric, 2999.0).await;
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    // There is no position in any log that could be told.
    assert!(log.contains("INFO stopped\n") && !log.contains("confirmed="), "{log}");
    site.drop().await;
}

#[tokio::test]
async fn published_rows_are_deleted() {
    let site = Site::create().await;
    let relay = site.relay(&DELETE);
    for key in ["a", "b", "c"] {
        site.outbox.insert(key).await;
    }
    let count = "SELECT count(*) FROM outbox";
    eventually("the table is empty", async || site.outbox.text(count).await == "0").await;
    assert_eq!(site.outbox.keys(), ["a", "b", "c"]);
    relay.stop().await;
    site.drop().await;
}

/// What order there is: of the rows that one look sees. A transaction that commits late is not passed over.
#[tokio::test]
async fn a_transaction_that_commits_late_is_sent_late_and_not_passed_over() {
    let site = Site::create().await;
    let late = client(&site.outbox.database.info()).await;
    late.batch_execute(&format!("BEGIN; {}", insert("order", "first written"))).await.unwrap();
    let relay = site.relay(&MARK);
    site.outbox.sql(&insert("order", "first committed")).await;
    eventually("the committed row is sent", async || site.outbox.keys() == ["first committed"]).await;
    late.batch_execute("COMMIT").await.unwrap();
    site.all_published().await;
    assert_eq!(site.outbox.keys(), ["first committed", "first written"]);
    relay.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn a_notification_ends_the_wait_for_the_next_look() {
    let site = Site::create().await;
    site.outbox.sql(include_str!("../../sql/optional/notify.sql")).await;
    let relay = site.relay(&[MARK[0], MARK[1], "poll.interval=1d"]);
    relay.ready().await;
    let listens = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN%'";
    eventually("it listens", async || site.outbox.text(listens).await == "1").await;
    for key in ["a", "b", "c"] {
        site.outbox.insert(key).await;
        site.all_published().await;
    }
    assert_eq!(site.outbox.keys(), ["a", "b", "c"]);
    relay.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn one_polls_and_the_other_takes_over() {
    let site = Site::create().await;
    let first = site.relay(&MARK);
    first.ready().await;
    let second = site.relay(&MARK);
    second.ready_says(200, "standby").await;
    site.outbox.insert("by the first").await;
    site.all_published().await;
    first.kill().await;
    site.outbox.insert("by the second").await;
    site.all_published().await;
    second.ready().await;
    assert_eq!(site.outbox.keys(), ["by the first", "by the second"]);
    second.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn nothing_is_marked_that_kafka_does_not_have() {
    let site = Site::create().await;
    site.outbox.insert("before").await;
    site.outbox.sql(&insert("later", "stuck")).await;
    site.outbox.insert("behind").await;
    let relay = site.relay(&MARK);
    relay.ready_says(503, "later").await;
    eventually("what came before is marked", async || site.pending().await == "2").await;
    relay.kill().await;
    create_topic(&site.outbox.topic("later"), 1, &[]).await;
    let relay = site.relay(&MARK);
    site.all_published().await;
    assert_eq!((site.outbox.keys().len(), site.outbox.messages("later").len()), (2, 1));
    relay.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_is_sent_once_and_marked_later() {
    let site = Site::create().await;
    site.outbox.insert("locked").await;
    let other = client(&site.outbox.database.info()).await;
    other.batch_execute("BEGIN; SELECT FROM outbox FOR UPDATE").await.unwrap();
    let relay = site.relay(&OFTEN);
    eventually("it is sent", async || site.outbox.keys() == ["locked"]).await;
    site.outbox.insert("free").await;
    eventually("the free one is marked", async || site.pending().await == "1").await;
    other.batch_execute("COMMIT").await.unwrap();
    site.all_published().await;
    assert_eq!(site.outbox.keys(), ["free", "locked"], "each once");
    relay.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn a_row_made_pending_again_is_sent_again() {
    let site = Site::create().await;
    site.outbox.insert("twice").await;
    let relay = site.relay(&OFTEN);
    site.all_published().await;
    site.outbox.sql("UPDATE outbox SET status = 'PENDING'").await;
    site.all_published().await;
    assert_eq!(keys(&site.outbox.messages("order")), BTreeMap::from([("twice".to_owned(), 2)]));
    relay.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn an_event_that_kafka_never_takes_stops_what_is_behind_it_or_becomes_a_dead_letter() {
    let site = Site::create().await;
    site.outbox.insert("before").await;
    site.outbox.sql(&insert("no topic!", "bad")).await;
    site.outbox.insert("behind").await;
    let relay = site.relay(&MARK);
    relay.ready_says(503, "no topic!").await;
    eventually("what came before is marked", async || site.pending().await == "2").await;
    relay.stop().await;
    create_topic(&site.outbox.topic("dead"), 1, &[]).await;
    let letters = format!("delivery.dead_letter_topic={}", site.outbox.topic("dead"));
    let relay = site.relay(&[MARK[0], MARK[1], "delivery.on_rejected=dead-letter", &letters]);
    site.all_published().await;
    assert_eq!((site.outbox.keys().len(), site.outbox.messages("dead").len()), (2, 1));
    relay.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn large_rows_do_not_fill_the_memory_and_all_arrive() {
    let site = Site::create().await;
    site.outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             SELECT 'order', n, 'Placed', to_jsonb(repeat('x', 500000)) FROM generate_series(1, 200) n",
        )
        .await;
    let relay = site.relay(&MARK);
    site.all_published().await;
    assert_eq!(site.outbox.messages("order").len(), 200);
    let memory = relay.metric("process_resident_memory_bytes").await.unwrap();
    assert!(memory < 90e6, "{memory} bytes for 100 MB of rows");
    relay.stop().await;
    site.drop().await;
}

#[tokio::test]
async fn what_a_poller_lacks_is_said_with_the_sql_that_mends_it() {
    let site = Site::create().await;
    let role = format!("{}_poller", site.outbox.database.name);
    let found = async |settings: &[&str]| -> Vec<(String, String)> {
        let settings: Vec<_> = settings.iter().copied().chain([site.url.as_str()]).collect();
        let output = site.outbox.program(&["check", "--json"], &settings).output().await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap().to_owned();
        let findings = said["findings"].as_array().unwrap();
        findings.iter().map(|finding| (text(finding, "id"), text(finding, "fix"))).collect()
    };
    site.outbox.sql(&format!("REVOKE ALL ON outbox FROM {role}; GRANT SELECT ON outbox TO {role}")).await;
    for (settings, right) in [(MARK, "UPDATE (status, published_at)"), (DELETE, "DELETE, UPDATE (id)")] {
        let [(id, fix)] = found(&settings).await.try_into().unwrap();
        assert_eq!(id, "after_publish_rights");
        assert!(fix.contains(&format!("{right} ON public.outbox TO {role}")), "{fix}");
    }
    site.outbox
        .sql(&format!("GRANT UPDATE, DELETE ON outbox TO {role}; ALTER TABLE outbox DROP status"))
        .await;
    for settings in [MARK, DELETE] {
        let [(id, fix)] = found(&settings).await.try_into().unwrap();
        assert_eq!(id, "after_publish_column");
        assert!(fix.contains("ADD COLUMN status text NOT NULL DEFAULT 'PENDING'"), "{fix}");
    }
    site.drop().await;
}
