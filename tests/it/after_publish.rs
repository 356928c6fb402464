//! What becomes of rows once Kafka has confirmed their records: deleted or marked, and never before.

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::{Message, OwnKafka, create_topic};
use crate::servers::client;

const DELETE: &str = "after_publish.action=delete";
const MARK: &str = "after_publish.action=mark";

/// An outbox whose relay may delete.
async fn to_be_deleted() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.sql("GRANT SELECT, DELETE, UPDATE (id) ON outbox TO outbox_relay").await;
    outbox
}

/// An outbox whose relay may mark.
async fn to_be_marked() -> Outbox {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "ALTER TABLE outbox ADD status text NOT NULL DEFAULT 'PENDING', ADD published_at timestamptz;
             CREATE INDEX ON outbox (created_at) WHERE status = 'PENDING';
             GRANT SELECT, UPDATE (status, published_at) ON outbox TO outbox_relay",
        )
        .await;
    outbox
}

/// The keys of the rows that meet `condition`, sorted.
async fn rows(outbox: &Outbox, condition: &str) -> Vec<String> {
    let sql =
        format!("SELECT string_agg(aggregate_id, ',' ORDER BY aggregate_id) FROM outbox WHERE {condition}");
    let keys = outbox.text(&sql).await;
    keys.split(',').filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

async fn rows_become(outbox: &Outbox, condition: &str, keys: &[&str]) {
    eventually(&format!("the rows with {condition} are {keys:?}"), async || {
        rows(outbox, condition).await == keys
    })
    .await;
}

/// No row that was there is gone and not in Kafka.
async fn nothing_is_missing(outbox: &Outbox, all: &[&str]) {
    // The rows first: what goes meanwhile must be in Kafka already.
    let there = rows(outbox, "true").await;
    let sent = outbox.keys();
    for key in all {
        assert!(
            there.iter().chain(&sent).any(|found| found == key),
            "{key} is neither in {there:?} nor in {sent:?}"
        );
    }
}

fn cleaned(action: &str) -> String {
    format!("outbox_relay_cleaned_total{{action=\"{action}\"}}")
}

#[tokio::test]
async fn published_rows_are_deleted() {
    let outbox = to_be_deleted().await;
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    for key in ["1", "2", "3"] {
        outbox.insert(key).await;
    }
    // Of a subtransaction, of one that was rolled back, and of many rows at once.
    outbox.sql("BEGIN; SAVEPOINT a").await;
    outbox.insert("4").await;
    outbox.sql("RELEASE a; SAVEPOINT b").await;
    outbox.insert("never").await;
    outbox.sql("ROLLBACK TO b; COMMIT").await;
    rows_become(&outbox, "true", &[]).await;
    assert_eq!(outbox.keys(), ["1", "2", "3", "4"]);
    relay.metric_becomes(&cleaned("delete"), 4.0).await;
    outbox
        .sql("INSERT INTO outbox (aggregate_type, aggregate_id, event_type) SELECT 'order', n, 'x' FROM generate_series(1, 5000) n")
        .await;
    rows_become(&outbox, "true", &[]).await;
    relay.metric_becomes(&cleaned("delete"), 5_004.0).await;
    assert_eq!(outbox.messages("order").len(), 5_004);
    let (_, page) = relay.page("/status").await.unwrap();
    assert!(page.contains("\"cleaned\": 5004") && page.contains("\"cleaning_error\": null"), "{page}");
    let log = relay.stop().await;
    assert!(!log.contains("published rows stay"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn published_rows_are_marked_and_others_left_alone() {
    let outbox = to_be_marked().await;
    let relay = outbox.relay(&[MARK]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.sql("ALTER TABLE outbox ALTER status SET DEFAULT 'HELD'").await;
    outbox.insert("held").await;
    outbox.sql("ALTER TABLE outbox ALTER status SET DEFAULT 'PENDING'").await;
    outbox.insert("2").await;
    rows_become(&outbox, "status = 'PUBLISHED' AND published_at BETWEEN created_at AND now()", &["1", "2"])
        .await;
    rows_become(&outbox, "status = 'HELD' AND published_at IS NULL", &["held"]).await;
    relay.metric_becomes(&cleaned("mark"), 2.0).await;
    outbox.all_confirmed().await;
    // To mark a row sends nothing.
    assert_eq!(outbox.keys(), ["1", "2", "held"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn columns_and_values_have_the_configured_names() {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "CREATE TYPE state AS ENUM ('new', 'it''s sent');
             ALTER TABLE outbox ADD \"The State\" state NOT NULL DEFAULT 'new';
             CREATE INDEX ON outbox (\"The State\");
             GRANT SELECT, UPDATE (\"The State\") ON outbox TO outbox_relay",
        )
        .await;
    let relay = outbox.relay(&[
        MARK,
        "after_publish.status_column=The State",
        "poll.pending_value=new",
        "after_publish.published_value=it's sent",
        "after_publish.published_at_column=",
    ]);
    relay.ready().await;
    outbox.insert("1").await;
    rows_become(&outbox, "\"The State\" = 'it''s sent'", &["1"]).await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn publications_with_updates_and_deletes_do_not_send_them() {
    let outbox = to_be_marked().await;
    outbox.sql("ALTER PUBLICATION outbox_relay SET (publish = 'insert, update, delete')").await;
    let relay = outbox.relay(&[MARK]);
    relay.ready().await;
    outbox.insert("1").await;
    rows_become(&outbox, "status = 'PUBLISHED'", &["1"]).await;
    relay.metric_becomes("outbox_relay_ignored_changes_total{operation=\"update\"}", 1.0).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_that_somebody_has_locked_are_left_for_later() {
    let outbox = to_be_deleted().await;
    let somebody = client(&outbox.database.info()).await;
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    outbox.sql("BEGIN").await;
    outbox.insert("1").await;
    outbox.insert("locked").await;
    outbox.insert("2").await;
    // From before anybody can delete it.
    outbox.sql("COMMIT").await;
    outbox.sql("BEGIN; LOCK outbox IN SHARE MODE").await;
    outbox.all_confirmed().await;
    let there = rows(&outbox, "true").await;
    assert!(there.is_empty() || there.len() == 3, "{there:?}");
    outbox.sql("COMMIT").await;
    rows_become(&outbox, "true", &[]).await;

    // The relay stands while the rows come, and meets them locked.
    relay.stop().await;
    for key in ["3", "locked", "4"] {
        outbox.insert(key).await;
    }
    somebody
        .batch_execute("BEGIN; SELECT FROM outbox WHERE aggregate_id = 'locked' FOR KEY SHARE")
        .await
        .unwrap();
    let relay = outbox.relay(&[DELETE]);
    rows_become(&outbox, "true", &["locked"]).await;
    outbox.all_confirmed().await;
    somebody.batch_execute("COMMIT").await.unwrap();
    rows_become(&outbox, "true", &[]).await;
    assert_eq!(outbox.keys(), ["1", "2", "3", "4", "locked", "locked"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_delays_no_acknowledgement() {
    let outbox = to_be_deleted().await;
    let somebody = client(&outbox.database.info()).await;
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    outbox.sql("BEGIN").await;
    outbox.insert("1").await;
    somebody.batch_execute("SET lock_timeout = 0").await.unwrap();
    // Nobody but this one can write, and it reads on: EXCLUSIVE lets readers in.
    outbox.sql("LOCK outbox IN EXCLUSIVE MODE; COMMIT; BEGIN; LOCK outbox IN EXCLUSIVE MODE").await;
    let end = outbox.insert_lsn().await;
    somebody.batch_execute("SELECT pg_logical_emit_message(true, 'test', 'more')").await.unwrap();
    eventually("it is acknowledged", async || outbox.confirmed_flush().await >= end).await;
    nothing_is_missing(&outbox, &["1"]).await;
    outbox.sql("COMMIT").await;
    rows_become(&outbox, "true", &[]).await;
    let log = relay.stop().await;
    assert!(!log.contains("published rows stay"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_row_that_is_committed_late_is_sent_before_it_is_touched() {
    let outbox = to_be_deleted().await;
    let late = client(&outbox.database.info()).await;
    let insert =
        "INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', 'late', 'x')";
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    outbox.insert("earlier").await;
    rows_become(&outbox, "true", &[]).await;
    late.batch_execute(&format!("BEGIN; {insert}")).await.unwrap();
    for key in ["1", "2", "3"] {
        outbox.insert(key).await;
        outbox.all_confirmed().await;
        nothing_is_missing(&outbox, &["1", "2", "3"][..key.parse().unwrap()]).await;
    }
    late.batch_execute("COMMIT").await.unwrap();
    nothing_is_missing(&outbox, &["1", "2", "3", "late"]).await;
    rows_become(&outbox, "true", &[]).await;
    assert_eq!(outbox.keys(), ["1", "2", "3", "earlier", "late"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_row_that_its_own_transaction_deletes_is_sent_once() {
    let outbox = to_be_deleted().await;
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    outbox.sql("BEGIN").await;
    outbox.insert("gone").await;
    outbox.sql("DELETE FROM outbox; COMMIT").await;
    outbox.insert("1").await;
    rows_become(&outbox, "true", &[]).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1", "gone"]);
    relay.metric_becomes(&cleaned("delete"), 1.0).await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn what_a_killed_relay_left_behind_is_done_by_the_next() {
    let outbox = to_be_marked().await;
    let mut relay = outbox.relay(&[MARK]);
    relay.ready().await;
    let many = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type) SELECT 'order', n, 'x' FROM generate_series(1, 4000) n";
    for round in 1..=5 {
        outbox.sql(many).await;
        let sql = "SELECT count(*) > 0 FROM outbox WHERE status = 'PUBLISHED'";
        // In the middle of it, or before, or after: another place each time.
        let some = format!("SELECT count(*) >= {} FROM outbox WHERE status = 'PUBLISHED'", round * 2_000);
        let wait = if round % 2 == 0 { some.as_str() } else { sql };
        eventually("some rows are marked", async || outbox.text(wait).await == "true").await;
        relay.kill().await;
        relay = outbox.relay(&[MARK]);
    }
    eventually("all rows are marked", async || {
        outbox.text("SELECT count(*) FROM outbox WHERE status = 'PUBLISHED'").await == "20000"
    })
    .await;
    let messages = outbox.messages("order");
    let ids: std::collections::BTreeSet<_> = messages.iter().map(Message::id).collect();
    assert_eq!(ids.len(), 20_000);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn nothing_goes_while_kafka_is_away() {
    let outbox = to_be_deleted().await;
    let kafka = OwnKafka::with_topic(&outbox.topic("order"));
    let relay = outbox.relay(&[DELETE, &kafka.setting()]);
    relay.ready().await;
    outbox.insert("1").await;
    rows_become(&outbox, "true", &[]).await;
    kafka.switch_off();
    outbox.insert("2").await;
    relay.ready_says(503, "blocked on kafka").await;
    // The sweep has had time for several passes: this is only said after 5 s.
    assert_eq!(rows(&outbox, "true").await, ["2"]);
    // A relay that starts now does not take it for published either.
    relay.kill().await;
    let relay = outbox.relay(&[DELETE, &kafka.setting()]);
    relay.ready_says(503, "blocked on kafka").await;
    assert_eq!(rows(&outbox, "true").await, ["2"]);
    kafka.switch_on();
    rows_become(&outbox, "true", &[]).await;
    assert_eq!(
        kafka.messages(&outbox.topic("order")).iter().map(Message::key_text).collect::<Vec<_>>(),
        ["1", "2"]
    );
    relay.stop().await;
    outbox.database.drop().await;
}

/// An event that Kafka never takes.
const TOO_LARGE: &str = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
     VALUES ('order', 'bad', 'x', to_jsonb(repeat('x', 2000)))";

#[tokio::test]
async fn a_rejected_event_keeps_its_row_until_it_is_passed_over() {
    let outbox = to_be_deleted().await;
    let limit = "kafka.message.max.bytes=1500";
    let relay = outbox.relay(&[DELETE, limit]);
    relay.ready().await;
    outbox.insert("1").await;
    rows_become(&outbox, "true", &[]).await;
    outbox.sql(TOO_LARGE).await;
    outbox.insert("2").await;
    relay.ready_says(503, "blocked on event").await;
    outbox.looked_again().await;
    assert_eq!(rows(&outbox, "true").await, ["2", "bad"]);
    let id = outbox.text("SELECT id FROM outbox WHERE aggregate_id = 'bad'").await;
    relay.stop().await;
    assert_eq!(rows(&outbox, "true").await, ["2", "bad"]);
    let relay = outbox.relay(&[DELETE, limit, &format!("delivery.skip={id}")]);
    rows_become(&outbox, "true", &[]).await;
    assert_eq!(outbox.keys(), ["1", "2"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn the_row_of_a_dead_letter_is_done_with() {
    let outbox = to_be_deleted().await;
    let dead = outbox.topic("dead");
    create_topic(&dead, 1, &[]).await;
    let letters = format!("delivery.dead_letter_topic={dead}");
    let relay =
        outbox.relay(&[DELETE, "delivery.on_rejected=dead-letter", &letters, "outbox.columns.headers=more"]);
    relay.refuses().await;
    outbox.sql("ALTER TABLE outbox ADD more text").await;
    let relay =
        outbox.relay(&[DELETE, "delivery.on_rejected=dead-letter", &letters, "outbox.columns.headers=more"]);
    relay.ready().await;
    outbox
        .sql("INSERT INTO outbox (aggregate_type, aggregate_id, event_type, more) VALUES ('order', 'bad', 'x', '[]')")
        .await;
    rows_become(&outbox, "true", &[]).await;
    assert_eq!(outbox.messages("dead").len(), 1);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_stay_for_the_retention() {
    let outbox = to_be_deleted().await;
    outbox.sql("CREATE INDEX ON outbox (created_at)").await;
    let settings = [DELETE, "after_publish.retention=1h"];
    // The slot. Then each relay's first pass finds what is there.
    has_streamed(&outbox, &settings).await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at) VALUES
                 ('order', 'young', 'x', now() - interval '58 minutes'), ('order', 'old', 'x', now() - interval '61 minutes')",
        )
        .await;
    all_ended(&outbox).await;
    let relay = outbox.relay(&settings);
    rows_become(&outbox, "true", &["young"]).await;
    relay.metric_becomes(&cleaned("delete"), 1.0).await;
    relay.stop().await;
    assert_eq!(rows(&outbox, "true").await, ["young"]);
    outbox.sql("UPDATE outbox SET created_at = created_at - interval '2 minutes'").await;
    all_ended(&outbox).await;
    let relay = outbox.relay(&settings);
    rows_become(&outbox, "true", &[]).await;
    relay.stop().await;
    outbox.database.drop().await;
}

/// Waits until all transactions have ended that are open now, other tests' among them: a pass leaves what was committed after
/// the oldest of them began to the next one, which with a retention may come a minute later.
pub(crate) async fn all_ended(outbox: &Outbox) {
    let next = outbox.text("pg_current_xact_id()").await;
    let sql = format!("SELECT pg_snapshot_xmin(pg_current_snapshot()) > '{next}'::xid8");
    eventually("all transactions have ended", async || outbox.text(&sql).await == "true").await;
}

/// Runs a relay, which makes the slot.
async fn has_streamed(outbox: &Outbox, settings: &[&str]) {
    let relay = outbox.relay(settings);
    relay.ready().await;
    relay.stop().await;
}

#[tokio::test]
async fn the_age_is_read_off_any_timestamp_column() {
    for (kind, now) in [
        ("bigint", "(extract(epoch FROM now()) * 1000)::int8 - 86400000 * age"),
        ("timestamp", "(now() AT TIME ZONE 'Asia/Tokyo') - interval '1 day' * age"),
    ] {
        let outbox = to_be_deleted().await;
        outbox.sql(&format!("ALTER TABLE outbox ADD at {kind}; CREATE INDEX ON outbox (at)")).await;
        let settings = [
            DELETE,
            "after_publish.retention=36h",
            "outbox.columns.timestamp=at",
            "outbox.columns.timestamp_zone=Asia/Tokyo",
        ];
        has_streamed(&outbox, &settings).await;
        outbox
            .sql(&format!(
                "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, at)
                 SELECT 'order', age, 'x', {now} FROM generate_series(0, 3) age"
            ))
            .await;
        all_ended(&outbox).await;
        let relay = outbox.relay(&settings);
        rows_become(&outbox, "true", &["0", "1"]).await;
        relay.stop().await;
        outbox.database.drop().await;
    }
}

#[tokio::test]
async fn partitions_are_swept_with_their_table() {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "DROP PUBLICATION outbox_relay;
             DROP TABLE outbox;
             CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), aggregate_type text, aggregate_id text, event_type text,
                                  payload jsonb, status text DEFAULT 'PENDING', day int) PARTITION BY LIST (day);
             CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
             CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES IN (2);
             CREATE PUBLICATION outbox_relay FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true);
             GRANT SELECT, UPDATE, DELETE ON outbox TO outbox_relay",
        )
        .await;
    let insert = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, day)
                  SELECT 'order', n, 'x', 1 + n % 2 FROM generate_series(1, 400) n";
    let somebody = client(&outbox.database.info()).await;
    let relay = outbox.relay(&[MARK, "after_publish.published_at_column="]);
    relay.ready().await;
    outbox.sql(insert).await;
    eventually("all are marked", async || rows(&outbox, "status = 'PUBLISHED'").await.len() == 400).await;
    relay.stop().await;
    // Rows of two partitions may lie at the same place.
    somebody
        .batch_execute("BEGIN; SELECT FROM outbox_2 WHERE aggregate_id IN ('1', '3') FOR UPDATE")
        .await
        .unwrap();
    let relay = outbox.relay(&[DELETE]);
    rows_become(&outbox, "true", &["1", "3"]).await;
    somebody.batch_execute("COMMIT").await.unwrap();
    rows_become(&outbox, "true", &[]).await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_that_the_publication_leaves_out_stay() {
    let outbox = to_be_deleted().await;
    if outbox.text("SELECT current_setting('server_version_num')::int >= 150000").await != "true" {
        return;
    }
    outbox.sql("ALTER PUBLICATION outbox_relay SET TABLE outbox WHERE (aggregate_id <> 'other')").await;
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    for key in ["1", "other", "2"] {
        outbox.insert(key).await;
    }
    rows_become(&outbox, "true", &["other"]).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1", "2"]);
    assert_eq!(rows(&outbox, "true").await, ["other"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn frozen_rows_and_a_log_at_a_segment_s_beginning_are_no_obstacles() {
    let outbox = to_be_deleted().await;
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    relay.stop().await;
    outbox.insert("1").await;
    outbox.sql("VACUUM FREEZE outbox").await;
    outbox.text("pg_switch_wal()").await;
    let relay = outbox.relay(&[DELETE]);
    rows_become(&outbox, "true", &[]).await;
    relay.stop().await;
    outbox.database.drop().await;
}

/// Waits until `/status` has `part` in it.
async fn status_says(relay: &Relay, part: &str) {
    eventually(part, async || relay.page("/status").await.is_some_and(|(_, page)| page.contains(part))).await;
}

#[tokio::test]
async fn a_sweep_that_fails_says_so_once_and_events_go_on() {
    let outbox = to_be_deleted().await;
    let relay = outbox.relay(&[DELETE]);
    relay.ready().await;
    outbox.insert("1").await;
    rows_become(&outbox, "true", &[]).await;
    outbox.sql("REVOKE DELETE ON outbox FROM outbox_relay").await;
    outbox.insert("2").await;
    status_says(&relay, "permission denied for table outbox").await;
    outbox.insert("3").await;
    outbox.all_confirmed().await;
    assert_eq!(relay.page("/ready").await.unwrap(), (200, "streaming\n".to_owned()));
    assert_eq!(outbox.keys(), ["1", "2", "3"]);
    assert_eq!(rows(&outbox, "true").await, ["2", "3"]);
    // Its connection may end as well.
    let end =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND
               usename = 'outbox_relay' AND query LIKE '%DELETE FROM%'";
    outbox.text(end).await;
    outbox.sql("GRANT DELETE ON outbox TO outbox_relay").await;
    rows_become(&outbox, "true", &[]).await;
    status_says(&relay, "\"cleaning_error\": null").await;
    let log = relay.stop().await;
    assert_eq!(log.matches("permission denied").count(), 1, "{log}");
    outbox.database.drop().await;
}

/// Level and id of what `check` finds.
async fn found(outbox: &Outbox, settings: &[&str]) -> Vec<String> {
    let output = outbox.program(&["check", "--json"], settings).output().await.unwrap();
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = checked["findings"].as_array().unwrap();
    let text = |finding: &serde_json::Value, part: &str| finding[part].as_str().unwrap().to_owned();
    let all = findings.iter().map(|found| format!("{} {}", text(found, "level"), text(found, "id")));
    all.filter(|found| found.contains("after_publish")).collect()
}

/// What `check` names as the way out, run as it stands there.
async fn mended(outbox: &Outbox, settings: &[&str], id: &str) {
    let output = outbox.program(&["check", "--json"], settings).output().await.unwrap();
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = checked["findings"].as_array().unwrap();
    let fixes: Vec<_> = findings.iter().filter(|found| found["id"] == id).collect();
    assert!(!fixes.is_empty(), "{checked}");
    for finding in fixes {
        let fix = finding["fix"].as_str().unwrap();
        let sql = fix.split("; or ").next().unwrap().trim_start_matches("as the table's owner: ");
        outbox.sql(sql).await;
    }
}

#[tokio::test]
async fn check_names_what_is_missing_and_what_it_names_mends_it() {
    let outbox = Outbox::create().await;
    outbox.sql(include_str!("../../sql/04_slot.sql").replace("outbox_relay", outbox.slot()).as_str()).await;
    assert_eq!(found(&outbox, &[DELETE]).await, ["stop after_publish_rights"]);
    mended(&outbox, &[DELETE], "after_publish_rights").await;
    assert_eq!(found(&outbox, &[DELETE]).await, [""; 0]);

    let old = [DELETE, "after_publish.retention=7d"];
    assert_eq!(found(&outbox, &old).await, ["warn after_publish_index"]);
    mended(&outbox, &old, "after_publish_index").await;
    assert_eq!(found(&outbox, &old).await, [""; 0]);
    let text = [&old[..], &["outbox.columns.timestamp=event_type"]].concat();
    assert_eq!(found(&outbox, &text).await[0], "stop after_publish_column_type");
    outbox.sql("ALTER TABLE outbox DROP created_at").await;
    assert_eq!(found(&outbox, &old).await, ["stop after_publish_column"]);
    mended(&outbox, &old, "after_publish_column").await;

    assert_eq!(found(&outbox, &[MARK]).await, ["stop after_publish_column", "stop after_publish_column"]);
    mended(&outbox, &[MARK], "after_publish_column").await;
    assert_eq!(found(&outbox, &[MARK]).await, ["stop after_publish_rights", "warn after_publish_index"]);
    mended(&outbox, &[MARK], "after_publish_rights").await;
    mended(&outbox, &[MARK], "after_publish_index").await;
    assert_eq!(found(&outbox, &[MARK]).await, [""; 0]);

    outbox.sql("ALTER TABLE outbox ENABLE ROW LEVEL SECURITY").await;
    assert_eq!(found(&outbox, &[MARK]).await, ["warn after_publish_row_security"]);
    assert_eq!(
        found(&outbox, &["after_publish.action=drop-partitions"]).await,
        ["stop after_publish_partitions"]
    );
    outbox.sql("ALTER TABLE outbox DISABLE ROW LEVEL SECURITY").await;

    if outbox.text("SELECT current_setting('server_version_num')::int >= 150000").await == "true" {
        outbox
            .sql(
                "ALTER PUBLICATION outbox_relay SET TABLE outbox WHERE (aggregate_id <> 'other');
                 ALTER TABLE outbox REPLICA IDENTITY FULL;
                 ALTER PUBLICATION outbox_relay SET (publish = 'insert, update')",
            )
            .await;
        assert_eq!(found(&outbox, &[MARK]).await, ["stop after_publish_feeds_itself"]);
        assert_eq!(found(&outbox, &[DELETE]).await, [""; 0]);
    }
    outbox
        .sql(
            "DROP TABLE outbox;
             CREATE TABLE outbox (id int, aggregate_type text, aggregate_id text, event_type text, payload text,
                                  created_at timestamptz, status text, published_at timestamptz) PARTITION BY LIST (status);
             GRANT ALL ON outbox TO outbox_relay; CREATE INDEX ON outbox (status);
             ALTER PUBLICATION outbox_relay ADD TABLE outbox",
        )
        .await;
    assert_eq!(found(&outbox, &[MARK]).await, ["stop after_publish_partition_key"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_that_were_never_sent_are_not_taken_for_published() {
    for (action, outbox) in [(DELETE, to_be_deleted().await), (MARK, to_be_marked().await)] {
        outbox.insert("before").await;
        assert_eq!(found(&outbox, &[action]).await, ["stop after_publish_unsent_rows"]);
        let log = outbox.relay(&[action]).refuses().await;
        assert!(log.contains("would never be sent") && log.contains("postgres.backfill"), "{log}");
        assert_eq!(rows(&outbox, "true").await, ["before"]);
        // The two that hold for rows which need not be sent.
        let done =
            if action == MARK { "UPDATE outbox SET status = 'PUBLISHED'" } else { "DELETE FROM outbox" };
        outbox.sql(done).await;
        assert_eq!(found(&outbox, &[action]).await, [""; 0]);
        let relay = outbox.relay(&[action]);
        relay.ready().await;
        relay.stop().await;
        outbox.database.drop().await;
    }
}
