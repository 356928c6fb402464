//! Topics that do not exist yet, with `topics.create = true`.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::bindings::rd_kafka_AclOperation_t::{
    RD_KAFKA_ACL_OPERATION_CREATE, RD_KAFKA_ACL_OPERATION_DESCRIBE, RD_KAFKA_ACL_OPERATION_WRITE,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::fixture::Outbox;
use crate::kafka::{Reader, broker};
use crate::kafka_rights::{allow, settings_of};

/// Number of partitions, and the settings.
async fn described(topic: &str) -> (usize, BTreeMap<String, String>) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker()).create().unwrap();
    let metadata = admin.inner().fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await;
    let settings = described.unwrap().remove(0).unwrap().entries.into_iter();
    let settings = settings.filter_map(|entry| Some((entry.name, entry.value?)));
    (metadata.topics()[0].partitions().len(), settings.collect())
}

async fn insert(outbox: &Outbox, aggregate_type: &str, key: &str) {
    outbox
        .sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('{aggregate_type}', '{key}', 'x', '{{}}')"
        ))
        .await;
}

#[tokio::test]
async fn a_missing_topic_is_made_as_configured() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[
        "topics.create=true",
        "topics.partitions=5",
        "topics.config.retention.ms=1234567",
        "topics.config.cleanup.policy=compact,delete",
    ]);
    relay.ready().await;
    outbox.insert("before").await;
    insert(&outbox, "refund", "one").await;
    insert(&outbox, "refund", "two").await;
    outbox.insert("after").await;
    outbox.all_confirmed().await;
    let (partitions, settings) = described(&outbox.topic("refund")).await;
    assert_eq!(partitions, 5);
    assert_eq!(settings["retention.ms"], "1234567");
    assert_eq!(settings["cleanup.policy"], "compact,delete");
    assert_eq!(outbox.messages("refund").len(), 2);
    assert_eq!(outbox.keys(), ["after", "before"]);
    // The one that was there is as it was.
    assert_eq!(described(&outbox.topic("order")).await.0, 3);
    let log = relay.stop().await;
    assert!(log.contains(&format!("topic=\"{}\"", outbox.topic("refund"))), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn the_topic_of_the_dead_letters_is_made_as_well() {
    let outbox = Outbox::create().await;
    let topic = outbox.topic("dead");
    let dead_letters = format!("delivery.dead_letter_topic={topic}");
    let relay = outbox.relay(&["topics.create=true", "delivery.on_rejected=dead-letter", &dead_letters]);
    relay.ready().await;
    insert(&outbox, "no such/topic", "one").await;
    outbox.all_confirmed().await;
    assert_eq!(Reader::new(&topic).read_to_end().len(), 1);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn relays_that_make_the_same_topic_at_once_do_not_mind() {
    let outboxes = [Outbox::create().await, Outbox::create().await, Outbox::create().await];
    let topic = format!("{}.shared", outboxes[0].database.name);
    let route = format!("route.topic={topic}");
    let mut relays = Vec::new();
    for outbox in &outboxes {
        let relay = outbox.relay(&["topics.create=true", &route]);
        relay.ready().await;
        relays.push(relay);
    }
    let [first, second, third] = &outboxes;
    tokio::join!(first.insert("one"), second.insert("one"), third.insert("one"));
    for outbox in &outboxes {
        outbox.all_confirmed().await;
    }
    assert_eq!(Reader::new(&topic).read_to_end().len(), 3);
    for relay in relays {
        let log = relay.stop().await;
        assert!(!log.contains("WARN"), "{log}");
    }
    for outbox in outboxes {
        outbox.database.drop().await;
    }
}

#[tokio::test]
async fn what_the_broker_says_of_a_topic_that_it_does_not_make_is_told() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["topics.create=true", "topics.config.retention.ms=forever"]);
    relay.ready().await;
    insert(&outbox, "refund", "one").await;
    outbox.insert("after").await;
    let body = relay.ready_says(503, "blocked on topic").await;
    for part in [outbox.topic("refund").as_str(), "retention.ms", "forever", "InvalidConfig", "[topics]"] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(outbox.keys(), [""; 0]);
    relay.stop().await;

    // More replicas than there are brokers.
    let relay = outbox.relay(&["topics.create=true", "topics.replication_factor=3"]);
    let body = relay.ready_says(503, "blocked on topic").await;
    assert!(body.contains("InvalidReplicationFactor"), "{body}");
    relay.stop().await;

    let relay = outbox.relay(&["topics.create=true"]);
    outbox.all_confirmed().await;
    assert_eq!(outbox.messages("refund").len(), 1);
    assert_eq!(outbox.keys(), ["after"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_topic_that_the_relay_may_not_make_is_told_and_made_when_it_may() {
    let outbox = Outbox::create().await;
    let (order, refund) = (outbox.topic("order"), outbox.topic("refund"));
    allow("writer", RD_KAFKA_ACL_OPERATION_WRITE, &order);
    allow("writer", RD_KAFKA_ACL_OPERATION_DESCRIBE, &refund);
    allow("writer", RD_KAFKA_ACL_OPERATION_WRITE, &refund);
    let settings = settings_of("writer");
    let mut settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    settings.push("topics.create=true");
    let relay = outbox.relay(&settings);
    relay.ready().await;
    insert(&outbox, "refund", "one").await;
    let body = relay.ready_says(503, "blocked on topic").await;
    assert!(body.contains(&refund) && body.contains("grant Create"), "{body}");
    allow("writer", RD_KAFKA_ACL_OPERATION_CREATE, &refund);
    outbox.all_confirmed().await;
    assert_eq!(outbox.messages("refund").len(), 1);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_no_missing_topic() {
    let outbox = Outbox::create().await;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = format!("kafka.bootstrap.servers=127.0.0.1:{port}");
    let relay = outbox.relay(&["topics.create=true", &away]);
    relay.ready_says(503, "blocked on kafka").await;
    outbox.insert("one").await;
    relay.metric_becomes("outbox_relay_in_flight_records", 1.0).await;
    let body = relay.ready_says(503, "blocked on kafka").await;
    assert!(!body.contains("exist"), "{body}");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn check_finds_no_fault_with_a_topic_that_the_relay_will_make() {
    let outbox = Outbox::create().await;
    let route = format!("route.topic={}.missing", outbox.database.name);
    for (create, found) in [("topics.create=false", true), ("topics.create=true", false)] {
        let output = outbox.program(&["check"], &[&route, create]).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains("topic_missing"), found, "{text}");
    }
    outbox.database.drop().await;
}
