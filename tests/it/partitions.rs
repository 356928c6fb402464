//! A partitioned outbox whose partitions come and go while its rows are streamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::fixture::{Outbox, eventually};
use crate::servers::client;

/// A partitioned outbox with a partition for day 0.
async fn partitioned() -> Outbox {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "DROP PUBLICATION outbox_relay;
             DROP TABLE outbox;
             CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), aggregate_type text, aggregate_id text,
                                  event_type text, payload jsonb, day int) PARTITION BY LIST (day);
             CREATE TABLE outbox_0 PARTITION OF outbox FOR VALUES IN (0);
             CREATE PUBLICATION outbox_relay FOR TABLE outbox
                 WITH (publish = 'insert', publish_via_partition_root = true)",
        )
        .await;
    outbox
}

/// Writes one event after the other, each a transaction, into the day that is set.
struct Writer {
    day: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    async fn start(outbox: &Outbox) -> Self {
        let (day, stop, written) =
            (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let client = client(&outbox.database.info()).await;
        let task = {
            let (day, stop, written) = (day.clone(), stop.clone(), written.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let number = written.load(Ordering::SeqCst);
                    let day = day.load(Ordering::SeqCst);
                    let sql = format!(
                        "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, day) VALUES ('order', 'w{number:05}', 'x', {day})"
                    );
                    client.batch_execute(&sql).await.unwrap();
                    written.store(number + 1, Ordering::SeqCst);
                }
            })
        };
        Self { day, stop, written, task }
    }

    /// Turns to another day, and waits until some events are there.
    async fn turns_to(&self, day: u32) {
        self.day.store(day, Ordering::SeqCst);
        let before = self.written.load(Ordering::SeqCst);
        eventually("rows are written", async || self.written.load(Ordering::SeqCst) > before + 20).await;
    }

    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.written.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn partitions_are_made_attached_detached_and_dropped_under_load_and_every_row_comes_once() {
    let outbox = partitioned().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let writer = Writer::start(&outbox).await;
    for day in 1..=6 {
        let columns = "aggregate_id text, day int, payload jsonb, id uuid DEFAULT gen_random_uuid(), event_type text, aggregate_type text";
        outbox
            .sql(&match day {
                // With its columns in another order.
                1 | 4 => format!(
                    "CREATE TABLE outbox_{day} ({columns}); ALTER TABLE outbox ATTACH PARTITION outbox_{day} FOR VALUES IN ({day})"
                ),
                // With partitions of its own.
                2 | 5 => format!(
                    "BEGIN;
                     CREATE TABLE outbox_{day} PARTITION OF outbox FOR VALUES IN ({day}) PARTITION BY HASH (aggregate_id);
                     CREATE TABLE outbox_{day}_a PARTITION OF outbox_{day} FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                     CREATE TABLE outbox_{day}_b PARTITION OF outbox_{day} FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                     COMMIT"
                ),
                _ => format!("CREATE TABLE outbox_{day} PARTITION OF outbox FOR VALUES IN ({day})"),
            })
            .await;
        writer.turns_to(day).await;
        let past = day - 1;
        let how = if day % 2 == 0 { "CONCURRENTLY" } else { "" };
        outbox.sql(&format!("ALTER TABLE outbox DETACH PARTITION outbox_{past} {how}")).await;
        outbox.sql(&format!("DROP TABLE outbox_{past}")).await;
    }
    // What no other partition takes.
    outbox.sql("CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT").await;
    writer.turns_to(99).await;
    outbox.sql("BEGIN; ALTER TABLE outbox DETACH PARTITION outbox_rest; ALTER TABLE outbox ATTACH PARTITION outbox_rest DEFAULT; COMMIT").await;
    writer.turns_to(99).await;
    outbox.looked_again().await;
    let written = writer.stop().await;
    outbox.all_confirmed().await;
    let expected: Vec<_> = (0..written).map(|number| format!("w{number:05}")).collect();
    assert_eq!(outbox.keys(), expected);
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn partitions_that_are_gone_before_they_are_read_still_come() {
    let outbox = partitioned().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    relay.stop().await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, day) VALUES ('order', '0', 'x', 0);
             CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
             INSERT INTO outbox (aggregate_type, aggregate_id, event_type, day) VALUES ('order', '1', 'x', 1);
             INSERT INTO outbox_1 (aggregate_type, aggregate_id, event_type, day) VALUES ('order', '2', 'x', 1);
             ALTER TABLE outbox DETACH PARTITION outbox_1;
             DROP TABLE outbox_1, outbox_0",
        )
        .await;
    let relay = outbox.relay(&[]);
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["0", "1", "2"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_of_a_detached_partition_are_none_of_the_outbox() {
    let outbox = partitioned().await;
    let relay = outbox.relay(&["outbox.tables=public.outbox*"]);
    relay.ready().await;
    let insert = |table: &str, key: &str| {
        format!(
            "INSERT INTO {table} (aggregate_type, aggregate_id, event_type, day) VALUES ('order', '{key}', 'x', 0)"
        )
    };
    outbox.sql(&insert("outbox_0", "attached")).await;
    outbox.all_confirmed().await;
    outbox.sql("ALTER TABLE outbox DETACH PARTITION outbox_0").await;
    outbox.sql(&insert("outbox_0", "detached")).await;
    outbox.sql("ALTER TABLE outbox ATTACH PARTITION outbox_0 FOR VALUES IN (0)").await;
    outbox.sql(&insert("outbox", "attached again")).await;
    outbox.all_confirmed().await;
    // Up to 14 the server keeps in mind, for a session, that it was a partition.
    let version: u32 = outbox.text("SELECT current_setting('server_version_num')").await.parse().unwrap();
    let found: Vec<_> =
        outbox.keys().into_iter().filter(|key| version >= 150_000 || key != "detached").collect();
    assert_eq!(found, ["attached", "attached again"]);
    relay.stop().await;
    outbox.database.drop().await;
}
