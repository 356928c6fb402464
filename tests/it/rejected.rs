//! Events that Kafka will never take: reading stops before them, and nothing of theirs is acknowledged.

use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_AclOperation_t::{
    RD_KAFKA_ACL_OPERATION_DESCRIBE, RD_KAFKA_ACL_OPERATION_WRITE,
};

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::create_topic;
use crate::kafka_rights::{allow, settings_of};

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
    let body = relay.ready_says(503, bad.detail).await;
    assert!(body.contains("blocked on event"), "{body}");
    let id = outbox.text("SELECT id FROM outbox WHERE aggregate_id = 'bad'").await;
    assert!(body.contains(&id) && body.contains(bad.reason), "{body}");
    assert!(body.contains(&format!("delivery.skip = [\"{id}\"]")), "{body}");
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
        detail: "its key and value have 4005 bytes, and with its headers it is larger than kafka.\"message.max.bytes\" = 3000",
    };
    let (relay, _) = stops_at(&outbox, &bad).await;
    flows_with(&outbox, relay, &[]).await;
    assert_eq!(outbox.keys(), ["after", "bad", "before"]);
    outbox.database.drop().await;
}

/// Trap 4.21 of docs/traps.md.
#[tokio::test]
async fn an_event_larger_than_its_topics_max_message_bytes() {
    let outbox = Outbox::create().await;
    let bad = Bad {
        settings: vec![],
        prepare: "",
        aggregate_type: "'small'",
        payload_bytes: 6000,
        reason: "too_large",
        detail: "larger than max.message.bytes = 5000 of topic",
    };
    let (relay, id) = stops_at(&outbox, &bad).await;
    let (_, body) = relay.page("/ready").await.unwrap();
    let topic = outbox.topic("small");
    for part in [
        "its key and value have 6005 bytes".to_owned(),
        "delivery.on_rejected = \"dead-letter\"".to_owned(),
        format!("--alter --entity-type topics --entity-name {topic} --add-config max.message.bytes=10701"),
    ] {
        assert!(body.contains(&part), "{part}: {body}");
    }
    let log = relay.log();
    let told = log.lines().find(|line| line.contains("ERROR")).unwrap();
    assert!(told.contains("= 5000") && told.contains(&topic) && told.contains(&id), "{log}");
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

#[tokio::test]
async fn an_event_that_is_named_in_skip_is_passed_over() {
    let outbox = Outbox::create().await;
    let bad = Bad {
        settings: vec![],
        prepare: "",
        aggregate_type: "'small'",
        payload_bytes: 6000,
        reason: "too_large",
        detail: "= 5000",
    };
    let (relay, id) = stops_at(&outbox, &bad).await;
    relay.stop().await;
    let skip = format!("delivery.skip=some-other-id,{id}");
    let relay = outbox.relay(&[&skip]);
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["after", "before"]);
    assert_eq!(outbox.messages("small"), []);
    assert_eq!(relay.metric("outbox_relay_events_rejected_total{reason=\"skipped\"}").await, Some(1.0));
    assert_eq!(relay.metric("outbox_relay_events_rejected_total{reason=\"too_large\"}").await, Some(0.0));
    let log = relay.stop().await;
    assert_eq!(log.matches(&format!("event \"{id}\" is passed over")).count(), 1, "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_missing_right_to_write_rejects_nothing_and_is_named() {
    let outbox = Outbox::create().await;
    let (order, refund) = (outbox.topic("order"), outbox.topic("refund"));
    create_topic(&refund, 1, &[]).await;
    allow("writer", RD_KAFKA_ACL_OPERATION_WRITE, &order);
    allow("writer", RD_KAFKA_ACL_OPERATION_DESCRIBE, &refund);
    let dead = format!("delivery.dead_letter_topic={}", outbox.topic("dead"));
    let mut settings = settings_of("writer");
    settings.extend(["delivery.on_rejected=dead-letter".to_owned(), dead]);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let relay = outbox.relay(&settings);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('refund', 'denied', 'x', '{}')",
        )
        .await;
    outbox.insert("after").await;
    let body = relay.ready_says(503, "blocked on kafka").await;
    assert!(body.contains(&refund) && body.contains("Write"), "{body}");
    // It stays so, also behind the first tries.
    relay.ready_says(503, "grant Describe and Write").await;
    relay.metric_becomes("outbox_relay_state{state=\"blocked\"}", 1.0).await;
    assert_eq!(outbox.messages("refund"), []);

    allow("writer", RD_KAFKA_ACL_OPERATION_WRITE, &refund);
    outbox.all_confirmed().await;
    assert_eq!(outbox.messages("refund").len(), 1);
    assert!(outbox.keys().starts_with(&["after".to_owned()]));
    let (_, page) = relay.page("/metrics").await.unwrap();
    let rejected = page.lines().filter(|line| line.starts_with("outbox_relay_events_rejected_total{"));
    assert!(rejected.clone().count() >= 6 && rejected.clone().all(|line| line.ends_with(" 0")), "{page}");
    let log = relay.stop().await;
    assert!(log.contains(&format!("grant Write and Describe on topic \"{refund}\"")), "{log}");
    outbox.database.drop().await;
}
