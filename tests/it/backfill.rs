//! Rows that are in the table before there is a slot (`postgres.backfill`, `outbox-relay setup --backfill`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::{Message, create_topic};
use crate::records::{blocks, shown};
use crate::servers::{Database, client};

const BACKFILL: &str = "postgres.backfill=true";

/// An outbox that the relay's role may read, with `rows` rows from before there is a slot: 1 is the youngest.
async fn outbox(rows: u32) -> Outbox {
    let outbox = Outbox::create().await;
    outbox.sql("GRANT SELECT ON outbox TO outbox_relay").await;
    outbox.sql(&old_rows(rows, "order")).await;
    outbox
}

fn old_rows(rows: u32, kind: &str) -> String {
    format!(
        "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, created_at)
         SELECT '{kind}', 'old ' || n, 'Placed', '{{}}', now() - interval '1 day' - n * interval '1 second'
           FROM generate_series(1, {rows}) n"
    )
}

/// The slots of this outbox: its own, and the temporary one.
async fn slots(outbox: &Outbox) -> String {
    let sql = "SELECT coalesce(string_agg(slot_name, ',' ORDER BY slot_name), '') FROM pg_replication_slots \
               WHERE database = current_database()";
    outbox.text(sql).await
}

/// The different ids in the topic of "order", and how many records there are.
fn ids(outbox: &Outbox) -> (BTreeSet<String>, usize) {
    let messages = outbox.messages("order");
    (messages.iter().map(Message::id).collect(), messages.len())
}

/// How many rows the table has.
async fn count(outbox: &Outbox) -> usize {
    outbox.text("SELECT count(*) FROM outbox").await.parse().unwrap()
}

/// A relay that cannot finish its backfill, because the topic of its last row is missing. It has sent all others.
async fn stuck(outbox: &Outbox) -> Relay {
    outbox.sql("INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('later', 'last', 'Placed')").await;
    let relay = outbox.relay(&[BACKFILL]);
    relay.ready_says(503, "later").await;
    relay
}

/// The example of docs/backfill.md.
#[tokio::test]
async fn the_example_of_the_page_does_what_it_says() {
    let (toml, sql, expected) = blocks(include_str!("../../docs/backfill.md"));
    let outbox = Outbox::create_on(Database::create("").await).await;
    create_topic(&outbox.topic("order"), 1, &[]).await;
    outbox.sql(&sql[0]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let relay = outbox.relay_of(file.path(), &[]);
    relay.ready().await;
    outbox.sql(&sql[1]).await;
    outbox.all_confirmed().await;
    let messages = outbox.messages("order");
    let records: Vec<_> = messages.iter().map(|message| shown("outbox.event.order", message)).collect();
    assert_eq!(records.join("\n\n"), expected);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn old_rows_come_first_in_the_order_of_their_time_and_then_the_stream() {
    let outbox = outbox(3).await;
    let relay = outbox.relay(&[BACKFILL, "outbox.columns.timestamp=created_at"]);
    relay.log_says("the stream goes on from there").await;
    outbox.insert("new").await;
    relay.ready().await;
    outbox.all_confirmed().await;
    let messages = outbox.messages("order");
    let mut old: Vec<_> = messages.iter().filter(|message| message.header("position").is_none()).collect();
    old.sort_by_key(|message| message.timestamp);
    let keys: Vec<_> = old.iter().map(|message| message.key_text()).collect();
    assert_eq!(keys, ["old 3", "old 2", "old 1"], "each has the time of its row");
    for message in old {
        let headers: Vec<_> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(headers, ["id", "event_type"]);
    }
    let new: Vec<_> = messages.iter().filter(|message| message.header("position").is_some()).collect();
    assert_eq!((new.len(), new[0].key_text()), (1, "new".to_owned()));
    assert_eq!(slots(&outbox).await, outbox.slot(), "the temporary slot is gone");
    relay.stop().await;
    // The slot is there now: nothing is sent again.
    let relay = outbox.relay(&[BACKFILL]);
    relay.ready().await;
    outbox.insert("newer").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.messages("order").len(), 5);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn one_key_keeps_the_order_of_its_rows_times() {
    let outbox = outbox(0).await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload, created_at)
             SELECT 'order', 'one', 'Placed', to_jsonb(n), now() - n * interval '1 second'
               FROM generate_series(1, 500) n ORDER BY md5(n::text)",
        )
        .await;
    let relay = outbox.relay(&[BACKFILL]);
    relay.log_says("the stream goes on from there").await;
    let values: Vec<u32> = outbox
        .messages("order")
        .iter()
        .map(|message| std::str::from_utf8(message.value.as_deref().unwrap()).unwrap().parse().unwrap())
        .collect();
    assert_eq!(values, (1..=500).rev().collect::<Vec<_>>());
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn what_is_committed_meanwhile_is_neither_lost_nor_sent_twice() {
    let outbox = outbox(20_000).await;
    let (stop, client) = (Arc::new(AtomicBool::new(false)), client(&outbox.database.info()).await);
    let writer = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            while !stop.load(Ordering::Relaxed) {
                let sql = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', 'n', 'Placed')";
                client.batch_execute(sql).await.unwrap();
            }
        }
    });
    let relay = outbox.relay(&[BACKFILL]);
    relay.log_says("the stream goes on from there").await;
    relay.ready().await;
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    outbox.all_confirmed().await;
    let (ids, records) = ids(&outbox);
    let rows = count(&outbox).await;
    assert!(rows > 20_000, "the writer wrote meanwhile");
    assert_eq!((ids.len(), records), (rows, rows));
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_transaction_that_is_open_at_the_beginning_comes_once() {
    let outbox = outbox(2).await;
    let client = client(&outbox.database.info()).await;
    let insert = "BEGIN; INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', 'open', 'Placed')";
    client.batch_execute(insert).await.unwrap();
    let relay = outbox.relay(&[BACKFILL]);
    relay.ready_says(503, "making the slot waits for open transactions").await;
    client.batch_execute("COMMIT").await.unwrap();
    relay.ready().await;
    outbox.insert("new").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["new", "old 1", "old 2", "open"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_backfill_that_is_killed_leaves_nothing_behind_and_begins_anew() {
    let outbox = outbox(50).await;
    let relay = stuck(&outbox).await;
    relay.metric_becomes("outbox_relay_backfill_rows_done", 50.0).await;
    assert_eq!(relay.metric("outbox_relay_backfill_rows").await, Some(51.0));
    let (_, status) = relay.page("/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["backfill"]["rows"], &status["backfill"]["done"]), (&51.into(), &50.into()));
    assert_eq!(slots(&outbox).await, format!("{}_backfill", outbox.slot()));
    relay.kill().await;
    eventually("the temporary slot is gone", async || slots(&outbox).await.is_empty()).await;
    outbox.insert("between").await;

    create_topic(&outbox.topic("later"), 1, &[]).await;
    let relay = outbox.relay(&[BACKFILL]);
    relay.log_says("the stream goes on from there").await;
    let (ids, records) = ids(&outbox);
    assert_eq!((ids.len(), records), (51, 101), "what was sent comes again");
    assert_eq!(outbox.messages("later").len(), 1);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_leaves_no_slot() {
    let outbox = outbox(5).await;
    let relay = stuck(&outbox).await;
    let log = relay.stop().await;
    assert!(!log.contains("error"), "{log}");
    eventually("the temporary slot is gone", async || slots(&outbox).await.is_empty()).await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_second_instance_waits_and_takes_over() {
    let outbox = outbox(5).await;
    let first = stuck(&outbox).await;
    let second = outbox.relay(&[BACKFILL]);
    second.ready_says(200, "standby").await;
    first.kill().await;
    create_topic(&outbox.topic("later"), 1, &[]).await;
    second.log_says("the stream goes on from there").await;
    second.ready().await;
    assert_eq!(ids(&outbox).0.len(), 5);
    assert_eq!(slots(&outbox).await, outbox.slot());
    second.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_that_may_not_be_read_are_a_finding() {
    let outbox = outbox(1).await;
    outbox.sql("REVOKE SELECT ON outbox FROM outbox_relay").await;
    let log = outbox.relay(&[BACKFILL]).refuses().await;
    assert!(log.contains("role \"outbox_relay\" may not read table \"public.outbox\""), "{log}");
    assert!(log.contains("GRANT SELECT ON public.outbox TO outbox_relay"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn what_kafka_never_takes_becomes_a_dead_letter() {
    let outbox = outbox(2).await;
    outbox.sql(&old_rows(1, "no topic!")).await;
    create_topic(&outbox.topic("dead"), 1, &[]).await;
    let letters = format!("delivery.dead_letter_topic={}", outbox.topic("dead"));
    let relay = outbox.relay(&[BACKFILL, "delivery.on_rejected=dead-letter", &letters]);
    relay.log_says("the stream goes on from there").await;
    assert_eq!((outbox.messages("order").len(), outbox.messages("dead").len()), (2, 1));
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn setup_sends_old_rows_as_who_may_read_them() {
    let outbox = outbox(3).await;
    outbox.sql("REVOKE SELECT ON outbox FROM outbox_relay").await;
    let mut setup = outbox.program(&["setup", "--backfill"], &[]);
    let output = setup.env("OUTBOX_RELAY_SETUP_URL", outbox.url("postgres")).output().await.unwrap();
    let (said, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}{told}");
    assert!(said.contains(&format!("created  slot {}", outbox.slot())), "{said}");
    assert!(!said.contains("not be sent") && !said.contains("not sent"), "{said}");
    assert_eq!(outbox.keys(), ["old 1", "old 2", "old 3"]);
    let version: u32 = outbox.text("current_setting('server_version_num')").await.parse().unwrap();
    if version >= 170_000 {
        let sql = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{}'", outbox.slot());
        assert_eq!(outbox.text(&sql).await, "true");
    }
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("new").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["new", "old 1", "old 2", "old 3"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn without_a_timestamp_column_an_old_row_has_the_present_time() {
    let outbox = outbox(1).await;
    let relay = outbox.relay(&[BACKFILL]);
    relay.log_says("the stream goes on from there").await;
    let age = "(extract(epoch FROM clock_timestamp()) * 1000)::int8";
    let now: i64 = outbox.text(age).await.parse().unwrap();
    let stamped = outbox.messages("order")[0].timestamp.unwrap();
    assert!((now - 60_000..=now).contains(&stamped), "a topic may keep no records of yesterday");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn of_marked_rows_only_pending_ones_are_sent() {
    let outbox = outbox(3).await;
    outbox
        .sql(
            "ALTER TABLE outbox ADD status text NOT NULL DEFAULT 'PENDING', ADD published_at timestamptz;
             UPDATE outbox SET status = 'PUBLISHED' WHERE aggregate_id = 'old 2';
             GRANT UPDATE (status, published_at) ON outbox TO outbox_relay",
        )
        .await;
    let relay = outbox.relay(&[BACKFILL, "after_publish.action=mark"]);
    relay.log_says("the stream goes on from there").await;
    let pending = "SELECT count(*) FROM outbox WHERE status = 'PENDING'";
    eventually("what was sent is marked", async || outbox.text(pending).await == "0").await;
    assert_eq!(outbox.keys(), ["old 1", "old 3"]);
    relay.stop().await;
    outbox.database.drop().await;
}
