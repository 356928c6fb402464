//! Events that Kafka will never take: reading stops before them, and nothing of theirs is acknowledged.

use std::time::{Duration, Instant};

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::create_topic;

/// An event that cannot be sent.
struct Bad {
    settings: Vec<&'static str>,
    /// Made before the relay starts.
    prepare: &'static str,
    aggregate_type: &'static str,
    payload_bytes: usize,
    reason: &'static str,
    detail: &'static str,
}

/// Sends an event before it, the event itself, and one after it; checks what everybody sees. Gives the relay, which is
/// still running, and the id of the event.
async fn stops_at(outbox: &Outbox, bad: &Bad) -> (Relay, String) {
    outbox.sql(bad.prepare).await;
    create_topic(&outbox.topic("small"), 1, &[("max.message.bytes", "5000")]).await;
    let relay = outbox.relay(&bad.settings);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    outbox
        .sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ({}, 'bad', 'x', to_jsonb(repeat('x', {})))",
            bad.aggregate_type, bad.payload_bytes
        ))
        .await;
    let committed = outbox.insert_lsn().await;
    let body = relay.ready_says(503, "blocked on event").await;
    let id = outbox.text("SELECT id FROM outbox WHERE aggregate_id = 'bad'").await;
    assert!(body.contains(&id) && body.contains(bad.reason) && body.contains(bad.detail), "{body}");
    // What comes now is not read.
    outbox.insert("after").await;
    relay.metric_becomes("outbox_relay_state{state=\"blocked\"}", 1.0).await;
    let rejected = format!("outbox_relay_events_rejected_total{{reason=\"{}\"}}", bad.reason);
    assert_eq!(relay.metric(&rejected).await, Some(1.0));

    // The process and its slot stay, the feedback goes on, and the event is not acknowledged.
    assert_eq!(relay.page("/live").await.unwrap().0, 200);
    let reply = "SELECT extract(epoch FROM max(reply_time)) FROM pg_stat_replication r
                 JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.database = current_database()";
    let before = outbox.text(reply).await;
    eventually("a status update", async || outbox.text(reply).await > before).await;
    assert!(outbox.confirmed_flush().await < committed);
    assert_eq!(outbox.keys(), ["before"]);
    let log = relay.log();
    assert!(log.contains("ERROR") && log.contains(&id) && log.contains("\n\nhint: "), "{log}");
    // A payload is never logged.
    assert!(!log.contains("xxxx"), "{log}");
    (relay, id)
}

/// Stops the relay, which must be quick; starts another with `settings`, and waits until all is sent.
async fn flows_with(outbox: &Outbox, relay: Relay, settings: &[&str]) {
    let asked = Instant::now();
    relay.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let relay = outbox.relay(settings);
    outbox.all_confirmed().await;
    relay.stop().await;
}

#[tokio::test]
async fn an_event_larger_than_message_max_bytes() {
    let outbox = Outbox::create().await;
    let bad = Bad {
        settings: vec!["kafka.message.max.bytes=3000"],
        prepare: "",
        aggregate_type: "'order'",
        payload_bytes: 4000,
        reason: "too_large",
        detail: "message.max.bytes",
    };
    let (relay, _) = stops_at(&outbox, &bad).await;
    flows_with(&outbox, relay, &[]).await;
    assert_eq!(outbox.keys(), ["after", "bad", "before"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn an_event_larger_than_its_topics_max_message_bytes() {
    let outbox = Outbox::create().await;
    let bad = Bad {
        settings: vec![],
        prepare: "",
        aggregate_type: "'small'",
        payload_bytes: 6000,
        reason: "too_large",
        detail: "max.message.bytes",
    };
    let (relay, _) = stops_at(&outbox, &bad).await;
    let route = format!("route.topic={}.order", outbox.database.name);
    flows_with(&outbox, relay, &[&route]).await;
    assert_eq!(outbox.keys(), ["after", "bad", "before"]);
    assert_eq!(outbox.messages("small"), []);
    outbox.database.drop().await;
}

#[tokio::test]
async fn an_event_whose_topic_name_kafka_does_not_allow() {
    let outbox = Outbox::create().await;
    let bad = Bad {
        settings: vec![],
        prepare: "",
        aggregate_type: "'no such/topic'",
        payload_bytes: 1,
        reason: "invalid_topic",
        detail: "no such/topic",
    };
    let (relay, _) = stops_at(&outbox, &bad).await;
    let route = format!("route.topic={}.order", outbox.database.name);
    flows_with(&outbox, relay, &[&route]).await;
    assert_eq!(outbox.keys(), ["after", "bad", "before"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn an_event_without_an_aggregate_type() {
    let outbox = Outbox::create().await;
    let bad = Bad {
        settings: vec![],
        prepare: "ALTER TABLE outbox ALTER aggregate_type DROP NOT NULL",
        aggregate_type: "NULL",
        payload_bytes: 1,
        reason: "null",
        detail: "aggregate_type",
    };
    let (relay, _) = stops_at(&outbox, &bad).await;
    let route = format!("route.topic={}.order", outbox.database.name);
    flows_with(&outbox, relay, &[&route]).await;
    assert_eq!(outbox.keys(), ["after", "bad", "before"]);
    outbox.database.drop().await;
}
