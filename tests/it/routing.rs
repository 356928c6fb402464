//! Where an event goes: topic, key, partition, timestamp, headers.

use std::collections::HashMap;

use tokio_postgres::Client;

use crate::fixture::{Outbox, Relay};
use crate::kafka::{Message, create_topic, grow_topic};
use crate::servers::client;

fn by_id(messages: Vec<Message>) -> HashMap<String, Message> {
    messages.into_iter().map(|message| (message.id(), message)).collect()
}

/// The server's clock in milliseconds since 1970.
async fn clock(client: &Client) -> i64 {
    let sql = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn columns_and_templates_are_named_as_the_configuration_says() {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "CREATE TABLE \"Events\" (\"Tenant\" text, body text, subject text, kind text, \"event id\" int8, what text);
             CREATE PUBLICATION other FOR TABLE \"Events\" WITH (publish = 'insert')",
        )
        .await;
    create_topic(&outbox.topic("eu.order"), 3, &[]).await;
    let relay = outbox.relay(&[
        "postgres.publication=other",
        "outbox.tables=public.\"Events\"",
        "outbox.columns.id=event id",
        "outbox.columns.aggregate_type=kind",
        "outbox.columns.aggregate_id=subject",
        "outbox.columns.event_type=what",
        "outbox.columns.payload=body",
        &format!("route.topic={}.{{Tenant}}.{{aggregate_type}}", outbox.database.name),
        "route.key={{{Tenant}}}/{aggregate_id}:{id}",
        "outbox.headers.zulu={event_type}",
        "outbox.headers.alpha=from {Tenant} for {kind}, {what}",
        "outbox.headers.fixed=v1",
        "outbox.headers.mike={subject}",
    ]);
    relay.ready().await;
    outbox
        .sql("INSERT INTO \"Events\" VALUES ('eu', 'hello', 'o-1', 'order', 7, 'Placed'), ('eu', '', 'o-2', 'order', 8, NULL)")
        .await;
    outbox.all_confirmed().await;
    let messages = by_id(outbox.messages("eu.order"));
    assert_eq!(messages["7"].key_text(), "{eu}/o-1:7");
    assert_eq!(messages["7"].value.as_deref(), Some(b"hello".as_slice()));
    let headers = |id: &str| {
        let headers = messages[id].headers.iter();
        let text = |(name, value): &(String, Option<Vec<u8>>)| {
            (name.clone(), value.clone().map(|value| String::from_utf8(value).unwrap()))
        };
        // `source` and `position` have a test of their own.
        headers
            .map(text)
            .filter(|(name, _)| !["source", "position"].contains(&name.as_str()))
            .collect::<Vec<_>>()
    };
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!(
        headers("7"),
        [
            header("id", Some("7")),
            header("zulu", Some("Placed")),
            header("alpha", Some("from eu for order, Placed")),
            header("fixed", Some("v1")),
            header("mike", Some("o-1")),
        ]
    );
    // One column that is NULL gives a null header, and so does text around it: there is nothing to say.
    assert_eq!(headers("8")[1..3], [header("zulu", None), header("alpha", None)]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn without_an_event_type_column_there_is_no_such_header() {
    let outbox = Outbox::create().await;
    outbox.sql("ALTER TABLE outbox DROP COLUMN event_type").await;
    let relay = outbox.relay(&["outbox.columns.event_type="]);
    relay.ready().await;
    outbox.sql("INSERT INTO outbox (aggregate_type, aggregate_id) VALUES ('order', 'k')").await;
    outbox.all_confirmed().await;
    let messages = outbox.messages("order");
    let names: Vec<_> = messages[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["id", "source", "position"]);
    relay.stop().await;
    outbox.database.drop().await;
}

/// Murmur2 of these keys, positive, modulo 3, 6, 12 and 50: what the Java client computes.
const PARTITIONS: [(&str, [i32; 4]); 6] = [
    ("ord-1", [0, 0, 0, 16]),
    ("1", [0, 3, 3, 9]),
    ("10711fa5", [2, 5, 11, 49]),
    ("", [0, 3, 9, 31]),
    ("59a42efd-b015-44a9-9dde-cb36d9002425", [1, 1, 7, 49]),
    ("Zoë", [1, 4, 10, 34]),
];

#[tokio::test]
async fn keys_lie_where_the_java_client_would_put_them() {
    let outbox = Outbox::create().await;
    for partitions in [3, 6, 12, 50] {
        create_topic(&outbox.topic(&format!("of-{partitions}")), partitions, &[]).await;
    }
    let relay = outbox.relay(&[]);
    relay.ready().await;
    for (key, _) in PARTITIONS {
        outbox
            .sql(&format!(
                "INSERT INTO outbox (aggregate_type, aggregate_id, event_type)
                 SELECT 'of-' || n, '{key}', 'x' FROM unnest('{{3,6,12,50}}'::int[]) n"
            ))
            .await;
    }
    outbox.all_confirmed().await;
    for (index, partitions) in [3, 6, 12, 50].into_iter().enumerate() {
        let messages = outbox.messages(&format!("of-{partitions}"));
        assert_eq!(messages.len(), PARTITIONS.len());
        for (key, expected) in PARTITIONS {
            let message =
                messages.iter().find(|message| message.key.as_deref() == Some(key.as_bytes())).unwrap();
            assert_eq!(message.partition, expected[index], "{key:?} of {partitions}");
        }
    }
    relay.stop().await;
    outbox.database.drop().await;
}

/// A relay with the partition in a column "lane", and an insert into it.
async fn lanes(outbox: &Outbox) -> Relay {
    outbox.sql("ALTER TABLE outbox ADD lane int8").await;
    let relay = outbox.relay(&["route.partition=lane"]);
    relay.ready().await;
    relay
}

async fn insert_lane(outbox: &Outbox, key: &str, lane: &str) {
    outbox
        .sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, lane) VALUES ('order', '{key}', 'x', {lane})"
        ))
        .await;
}

#[tokio::test]
async fn a_partition_column_decides_and_null_leaves_it_to_the_key() {
    let outbox = Outbox::create().await;
    let relay = lanes(&outbox).await;
    // By its key, "ord-1" would lie in partition 0.
    for lane in ["0", "1", "2", "NULL"] {
        insert_lane(&outbox, "ord-1", lane).await;
    }
    outbox.all_confirmed().await;
    let partitions: Vec<i32> = outbox.messages("order").iter().map(|message| message.partition).collect();
    assert_eq!(partitions, [0, 0, 1, 2]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_partition_that_was_added_while_streaming_is_found() {
    let outbox = Outbox::create().await;
    let relay = lanes(&outbox).await;
    insert_lane(&outbox, "before", "0").await;
    outbox.all_confirmed().await;
    grow_topic(&outbox.topic("order"), 5).await;
    insert_lane(&outbox, "after", "4").await;
    outbox.all_confirmed().await;
    let partitions: Vec<i32> = outbox.messages("order").iter().map(|message| message.partition).collect();
    assert_eq!(partitions, [0, 4]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_partition_that_is_not_there_stops_reading() {
    for (lane, detail) in [
        ("3", "has 3 partitions, none with number 3"),
        ("-1", "holds no partition number"),
        ("4294967296", "holds no partition number"),
    ] {
        let outbox = Outbox::create().await;
        let relay = lanes(&outbox).await;
        insert_lane(&outbox, "before", "0").await;
        outbox.all_confirmed().await;
        let confirmed = outbox.confirmed_flush().await;
        insert_lane(&outbox, "bad", lane).await;
        let id = outbox.text("SELECT id FROM outbox WHERE aggregate_id = 'bad'").await;
        let body = relay.ready_says(503, "blocked on event").await;
        assert!(body.contains(&id) && body.contains(detail), "{body}");
        let rejected = relay.metric("outbox_relay_events_rejected_total{reason=\"invalid_partition\"}").await;
        assert_eq!(rejected, Some(1.0));
        // Nothing after it is read, and the slot stays before it.
        insert_lane(&outbox, "after", "0").await;
        let log = relay.stop().await;
        assert!(log.contains("ERROR") && log.contains(&id) && log.contains("hint: "), "{log}");
        assert_eq!(outbox.keys(), ["before"]);
        let bad_or_before = outbox.confirmed_flush().await;
        assert!(bad_or_before >= confirmed);
        // With the cause mended, everything flows: nothing was lost.
        let relay = outbox.relay(&["route.partition="]);
        outbox.all_confirmed().await;
        relay.stop().await;
        assert_eq!(outbox.keys(), ["after", "bad", "before"]);
        outbox.database.drop().await;
    }
}

#[tokio::test]
async fn a_timestamp_column_of_each_type_is_the_records_timestamp() {
    let outbox = Outbox::create().await;
    let types = [("zoned", "timestamptz"), ("plain", "timestamp"), ("millis", "int8")];
    for (table, type_) in types {
        outbox
            .sql(&format!(
                "CREATE TABLE {table} (id text, aggregate_type text DEFAULT 'order', aggregate_id text,
                     event_type text, payload text, happened {type_});
                 ALTER PUBLICATION outbox_relay ADD TABLE {table}"
            ))
            .await;
    }
    let relay = outbox.relay(&[
        "outbox.tables=public.zoned,public.plain,public.millis",
        "outbox.columns.timestamp=happened",
    ]);
    relay.ready().await;
    let before = clock(&outbox.database.client).await;
    for value in ["2026-01-02 03:04:05.678901+02", "infinity", "1969-12-31 23:59:59+00"] {
        outbox.sql(&format!("INSERT INTO zoned (id, happened) VALUES ('zoned {value}', '{value}')")).await;
    }
    for value in ["2026-01-02 03:04:05.678", "-infinity"] {
        outbox.sql(&format!("INSERT INTO plain (id, happened) VALUES ('plain {value}', '{value}')")).await;
    }
    for value in ["1767323045678", "0", "-5"] {
        outbox.sql(&format!("INSERT INTO millis (id, happened) VALUES ('millis {value}', {value})")).await;
    }
    outbox
        .sql(
            "INSERT INTO zoned (id) VALUES ('null'), ('null too');
             INSERT INTO zoned (id, happened) VALUES ('soon', clock_timestamp() + interval '55 min');
             INSERT INTO zoned (id, happened) VALUES ('ahead', clock_timestamp() + interval '61 min')",
        )
        .await;
    outbox.all_confirmed().await;
    let after = clock(&outbox.database.client).await;
    let messages = by_id(outbox.messages("order"));
    let time = |id: &str| messages[id].timestamp.unwrap();
    assert_eq!(time("zoned 2026-01-02 03:04:05.678901+02"), 1_767_315_845_678);
    assert_eq!(time("plain 2026-01-02 03:04:05.678"), 1_767_323_045_678);
    assert_eq!(time("millis 1767323045678"), 1_767_323_045_678);
    assert!((before..=after).contains(&(time("soon") - 55 * 60_000)), "{}", time("soon"));
    // The commit time stands in for what a broker would refuse.
    let replaced = [
        "zoned infinity",
        "zoned 1969-12-31 23:59:59+00",
        "plain -infinity",
        "millis 0",
        "millis -5",
        "null",
        "null too",
        "ahead",
    ];
    for id in replaced {
        assert!((before..=after).contains(&time(id)), "{id}: {} is not in {before}..={after}", time(id));
    }
    // Counted, and said once.
    for (reason, count) in [("null", 2.0), ("out_of_range", 5.0), ("ahead", 1.0)] {
        relay
            .metric_becomes(&format!("outbox_relay_timestamps_replaced_total{{reason=\"{reason}\"}}"), count)
            .await;
    }
    let log = relay.stop().await;
    for reason in ["null", "out_of_range", "ahead"] {
        let warned = log.lines().filter(|line| line.contains("timestamp column") && line.contains(reason));
        assert_eq!(warned.count(), 1, "{reason}: {log}");
    }
    outbox.database.drop().await;
}

#[tokio::test]
async fn by_default_the_timestamp_is_that_of_the_commit_and_positions_grow_with_the_stream() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let slow = client(&outbox.database.info()).await;
    let row = |key: &str| {
        format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', '{key}', 'x')"
        )
    };
    // The one that begins first commits last, and its rows lie between those of the others.
    slow.batch_execute(&format!("BEGIN; {}", row("slow-1"))).await.unwrap();
    outbox.sql(&row("quick-1")).await;
    slow.batch_execute(&row("slow-2")).await.unwrap();
    outbox.sql(&format!("BEGIN; {}; {}; COMMIT", row("quick-2"), row("quick-3"))).await;
    // In a later millisecond than the commits so far.
    let after_quick = clock(&slow).await;
    let mut before_commit = after_quick;
    while before_commit <= after_quick {
        before_commit = clock(&slow).await;
    }
    slow.batch_execute("COMMIT").await.unwrap();
    let after_commit = clock(&slow).await;
    outbox.all_confirmed().await;

    let mut messages = outbox.messages("order");
    messages.sort_by_key(|message| message.header("position").unwrap());
    let keys: Vec<_> = messages.iter().map(Message::key_text).collect();
    assert_eq!(keys, ["quick-1", "quick-2", "quick-3", "slow-1", "slow-2"]);
    for message in &messages {
        assert!((message.timestamp.unwrap() >= before_commit) == message.key_text().starts_with("slow"));
        assert!(message.timestamp.unwrap() <= after_commit);
    }

    let system = outbox.text("SELECT system_identifier FROM pg_control_system()").await;
    let timeline =
        outbox.text("SELECT timeline_id FROM pg_control_checkpoint()").await.parse::<u32>().unwrap();
    let mut last_commits = Vec::new();
    for message in &messages {
        let names: Vec<_> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "source", "position", "event_type"]);
        assert_eq!(message.header("source").unwrap(), format!("{system}/{}", outbox.slot()));
        let position = message.header("position").unwrap();
        let parts: Vec<_> = position.split('-').collect();
        let widths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        assert_eq!((position.to_uppercase(), widths), (position.clone(), vec![8, 16, 8]));
        assert_eq!(u32::from_str_radix(parts[0], 16).unwrap(), timeline);
        last_commits.push((parts[1].to_owned(), u32::from_str_radix(parts[2], 16).unwrap()));
    }
    // One LSN a transaction, and rows counted from 1.
    let rows: Vec<_> = last_commits.iter().map(|(_, row)| *row).collect();
    assert_eq!(rows, [1, 1, 2, 1, 2]);
    assert!(last_commits[1].0 == last_commits[2].0 && last_commits[0].0 < last_commits[1].0);
    relay.stop().await;
    outbox.database.drop().await;
}
