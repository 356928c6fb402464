//! Tables that change while their rows are streamed, and tables that are none of the relay's.

use crate::fixture::{Outbox, eventually};
use crate::servers::client;

/// Counted since the relay began; 0 if never.
const IGNORED: &str = "outbox_relay_ignored_changes_total";

#[tokio::test]
async fn columns_may_be_added_dropped_renamed_and_put_in_another_order_while_streaming() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    for (key, change) in [
        ("2", "ALTER TABLE outbox ADD note text DEFAULT 'n', ADD COLUMN aaa int DEFAULT 7"),
        ("3", "ALTER TABLE outbox DROP COLUMN created_at"),
        ("4", "ALTER TABLE outbox RENAME COLUMN note TO remark"),
        // The mapped columns end up behind others, in another order. Nobody sees the table without them.
        (
            "5",
            "BEGIN;
             ALTER TABLE outbox DROP COLUMN payload, DROP COLUMN event_type;
             ALTER TABLE outbox ADD event_type text, ADD payload jsonb;
             COMMIT",
        ),
        ("6", "ALTER TABLE outbox ALTER aggregate_id TYPE varchar(100), ALTER payload TYPE text"),
    ] {
        outbox.sql(change).await;
        outbox.insert(key).await;
        // And with the change in the event's own transaction.
        outbox.sql(&format!("BEGIN; ALTER TABLE outbox ADD added_{key} int DEFAULT 1")).await;
        outbox.insert(&format!("{key} added")).await;
        outbox.sql(&format!("ALTER TABLE outbox DROP COLUMN added_{key}")).await;
        outbox.insert(&format!("{key} dropped")).await;
        outbox.sql("COMMIT").await;
    }
    outbox.all_confirmed().await;
    let messages = outbox.messages("order");
    assert_eq!(messages.len(), 1 + 5 * 3);
    for message in &messages {
        let expected = format!("{{\"key\": \"{}\"}}", message.key_text());
        assert_eq!(message.value.as_deref(), Some(expected.as_bytes()));
        assert_eq!(message.header("event_type").as_deref(), Some("Placed"));
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_renamed_table_goes_on_being_relayed() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.sql("ALTER TABLE outbox RENAME TO events").await;
    let insert = |key: &str| {
        format!(
            "INSERT INTO events (aggregate_type, aggregate_id, event_type) VALUES ('order', '{key}', 'x')"
        )
    };
    outbox.sql(&insert("renamed")).await;
    outbox.all_confirmed().await;
    // The publication, which has the table under its new name now, is nothing to stop for.
    outbox.looked_again().await;
    outbox.sql(&insert("later")).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["before", "later", "renamed"]);
    relay.stop().await;
    // The next start finds no table of the configured name, and says so.
    let log = outbox.relay(&[]).refuses().await;
    assert!(log.contains("table \"public.outbox\" does not exist") && log.contains("outbox.tables"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_table_may_be_dropped_and_made_again_while_streaming() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("old").await;
    outbox
        .sql(
            "BEGIN;
             DROP TABLE outbox;
             CREATE TABLE outbox (payload jsonb, event_type text, aggregate_id text, aggregate_type text,
                                  id int GENERATED ALWAYS AS IDENTITY);
             ALTER PUBLICATION outbox_relay ADD TABLE outbox;
             COMMIT",
        )
        .await;
    outbox.insert("new").await;
    outbox.all_confirmed().await;
    outbox.looked_again().await;
    outbox.insert("later").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["later", "new", "old"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_table_is_made_again_while_the_relay_waits_to_look_at_it() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.looked_again().await;
    let somebody = client(&outbox.database.info()).await;
    let began = outbox.text("clock_timestamp()").await;
    somebody
        .batch_execute(
            "BEGIN;
             ALTER TABLE outbox RENAME TO old;
             CREATE TABLE outbox (LIKE old INCLUDING ALL);
             DROP TABLE old;
             ALTER PUBLICATION outbox_relay ADD TABLE outbox",
        )
        .await
        .unwrap();
    // Not every release waits for a table that it looks at in the publication.
    let at_it = format!(
        "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = 'outbox_relay'
                 AND query_start > '{began}' AND (wait_event_type = 'Lock' OR query LIKE '%confirmed_flush_lsn%'))"
    );
    eventually("the relay looks at its publication", async || outbox.text(&at_it).await == "true").await;
    somebody.batch_execute("COMMIT").await.unwrap();
    outbox.insert("new").await;
    outbox.looked_again().await;
    outbox.insert("later").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["later", "new"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_mapped_column_that_is_dropped_stops_the_relay_with_its_name() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    outbox.sql("ALTER TABLE outbox RENAME COLUMN payload TO body").await;
    outbox
        .sql("INSERT INTO outbox (aggregate_type, aggregate_id, event_type, body) VALUES ('order', 'after', 'x', '1')")
        .await;
    let log = relay.refuses().await;
    assert!(
        log.contains(
            "error: table \"public.outbox\" has no column \"payload\", which outbox.columns.payload names; it has \
             id, aggregate_type, aggregate_id, event_type, body, created_at"
        ) && log.contains("\nhint: "),
        "{log}"
    );
    // Configured as the table is now, it goes on where it stopped.
    let relay = outbox.relay(&["outbox.columns.payload=body"]);
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["after", "before"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn several_tables_are_relayed_and_others_of_the_publication_passed_over() {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "CREATE SCHEMA \"Billing\";
             CREATE TABLE \"Billing\".\"out, box\" (LIKE public.outbox INCLUDING ALL);
             CREATE TABLE invoices (n int);
             ALTER PUBLICATION outbox_relay ADD TABLE \"Billing\".\"out, box\", invoices",
        )
        .await;
    let relay = outbox.relay(&["outbox.tables=public.outbox,\"Billing\".\"out, box\""]);
    relay.ready().await;
    for round in 1..=3 {
        outbox.sql("BEGIN; INSERT INTO invoices VALUES (1), (2)").await;
        outbox.insert(&format!("first {round}")).await;
        outbox
            .sql(&format!(
                "INSERT INTO invoices VALUES (3);
                 INSERT INTO \"Billing\".\"out, box\" (aggregate_type, aggregate_id, event_type)
                 VALUES ('order', 'second {round}', 'x');
                 ALTER TABLE invoices ADD c{round} int;
                 INSERT INTO invoices VALUES (4);
                 COMMIT"
            ))
            .await;
    }
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["first 1", "first 2", "first 3", "second 1", "second 2", "second 3"]);
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn updates_deletes_and_truncates_are_counted_warned_of_once_and_not_relayed() {
    let outbox = Outbox::create().await;
    outbox.sql("CREATE TABLE busy (n int PRIMARY KEY); CREATE PUBLICATION everything FOR ALL TABLES").await;
    let relay = outbox.relay(&["postgres.publication=everything"]);
    relay.ready().await;
    for key in ["1", "2", "3"] {
        outbox.insert(key).await;
    }
    for _ in 0..2 {
        outbox
            .sql(
                "INSERT INTO busy SELECT generate_series(1, 5);
                 UPDATE outbox SET event_type = event_type || '!' WHERE aggregate_id <> '3';
                 UPDATE busy SET n = n + 10;
                 DELETE FROM busy",
            )
            .await;
    }
    outbox.sql("DELETE FROM outbox WHERE aggregate_id = '1'; TRUNCATE outbox, busy; TRUNCATE busy").await;
    outbox.insert("4").await;
    outbox.all_confirmed().await;
    for (operation, count) in [("update", 4.0), ("delete", 1.0), ("truncate", 1.0)] {
        relay.metric_becomes(&format!("{IGNORED}{{operation=\"{operation}\"}}"), count).await;
    }
    assert_eq!(outbox.keys(), ["1", "2", "3", "4"]);
    let log = relay.stop().await;
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    for (warning, what) in warnings.iter().zip(["FOR ALL TABLES", "also publishes UPDATE, DELETE, TRUNCATE"])
    {
        assert!(warning.contains(what), "{warning}");
    }
    outbox.database.drop().await;
}

/// A partitioned outbox with one partition.
async fn partitioned(publish_via_root: bool) -> Outbox {
    let outbox = Outbox::create().await;
    outbox
        .sql(&format!(
            "DROP PUBLICATION outbox_relay;
             DROP TABLE outbox;
             CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), aggregate_type text, aggregate_id text,
                                  event_type text, payload jsonb, day int DEFAULT 1) PARTITION BY LIST (day);
             CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
             CREATE PUBLICATION outbox_relay FOR TABLE outbox
                 WITH (publish = 'insert', publish_via_partition_root = {publish_via_root})"
        ))
        .await;
    outbox
}

#[tokio::test]
async fn a_partitioned_table_is_relayed_under_its_own_name_whatever_is_attached() {
    let outbox = partitioned(true).await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    // With its columns in another order, and a row that came before it was attached, which is not sent. Up to 14, pgoutput
    // keeps in mind for a whole session that a table was not published when it first saw a row of it
    // (rel_sync_cache_relation_cb in pgoutput.c), and passes over all that follow.
    outbox
        .sql("CREATE TABLE outbox_2 (day int, payload jsonb, event_type text, aggregate_id text, aggregate_type text, id uuid)")
        .await;
    if outbox.text("SELECT current_setting('server_version_num')::int >= 150000").await == "true" {
        outbox
            .sql("INSERT INTO outbox_2 VALUES (2, '0', 'x', 'not published', 'order', gen_random_uuid())")
            .await;
    }
    outbox
        .sql(
            "ALTER TABLE outbox ATTACH PARTITION outbox_2 FOR VALUES IN (2);
             INSERT INTO outbox (aggregate_type, aggregate_id, event_type, day) VALUES ('order', '2', 'x', 2);
             INSERT INTO outbox_2 (aggregate_type, aggregate_id, event_type, day, id)
                 VALUES ('order', '2 itself', 'x', 2, gen_random_uuid());
             ALTER TABLE outbox DETACH PARTITION outbox_1;
             DROP TABLE outbox_1;
             CREATE TABLE outbox_3 PARTITION OF outbox FOR VALUES IN (1)",
        )
        .await;
    outbox.insert("3").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1", "2", "2 itself", "3"]);
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_partition_published_under_its_own_name_stops_the_relay() {
    let outbox = partitioned(true).await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    outbox.sql("ALTER PUBLICATION outbox_relay SET (publish_via_partition_root = false)").await;
    outbox.insert("2").await;
    let log = relay.refuses().await;
    assert!(
        log.contains("partition \"public.outbox_1\"") && log.contains("publish_via_partition_root = true"),
        "{log}"
    );
    assert_eq!(outbox.keys(), ["1"]);
    outbox.database.drop().await;
}
