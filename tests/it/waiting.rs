//! What is not there yet is waited for: PostgreSQL, Kafka, topics.

use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_AclOperation_t;

use crate::fixture::Outbox;
use crate::kafka::{broker, create_topic};
use crate::kafka_rights::{allow, settings_of};
use crate::proxy::Closed;
use crate::servers::superuser_tcp;

#[tokio::test]
async fn postgres_that_is_not_there_is_waited_for() {
    let outbox = Outbox::create().await;
    let port = Closed::new();
    let url = format!("postgres.url=postgres://outbox_relay@{}/{}", port.address, outbox.database.name);
    let relay = outbox.relay(&[&url]);
    let body = relay.ready_says(503, "blocked on postgres").await;
    assert!(body.contains(&format!("connect to {}: ", port.address)), "{body}");
    assert_eq!(relay.page("/live").await.unwrap(), (200, "live\n".to_owned()));
    assert_eq!(relay.metric("outbox_relay_state{state=\"connecting\"}").await, Some(1.0));

    let proxy = port.open(format!("127.0.0.1:{}", superuser_tcp().hosts[0].port));
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1"]);
    let log = relay.stop().await;
    assert!(log.contains("WARN") && log.contains("trying again"), "{log}");
    drop(proxy);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_stop_while_postgres_is_not_there_ends_at_once() {
    let outbox = Outbox::create().await;
    let port = Closed::new();
    let url = format!("postgres.url=postgres://outbox_relay@{}/{}", port.address, outbox.database.name);
    let relay = outbox.relay(&[&url]);
    relay.ready_says(503, "blocked on postgres").await;
    let asked = Instant::now();
    relay.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    outbox.database.drop().await;
}

#[tokio::test]
async fn kafka_that_is_not_there_at_the_start_is_waited_for() {
    let outbox = Outbox::create().await;
    let port = Closed::new();
    let relay = outbox.relay(&[&format!("kafka.bootstrap.servers={}", port.address)]);
    relay.ready_says(503, "blocked on kafka").await;
    // The slot is held meanwhile, so nothing that is committed now is lost.
    let slot = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND active";
    assert_eq!(outbox.text(slot).await, "1");
    outbox.insert("1").await;
    outbox.insert("2").await;
    let committed = outbox.insert_lsn().await;
    relay.log_says("events do not move").await;
    relay.metric_becomes("outbox_relay_state{state=\"blocked\"}", 1.0).await;
    assert!(outbox.confirmed_flush().await < committed);
    assert!(relay.metric("outbox_relay_blocked_seconds{on=\"kafka\"}").await.unwrap() > 0.0);

    // The broker tells its own address to whom asks; only the first question goes this way.
    let proxy = port.open(broker());
    relay.ready().await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1", "2"]);
    assert_eq!(relay.metric("outbox_relay_blocked_seconds{on=\"kafka\"}").await, Some(0.0));
    let log = relay.stop().await;
    assert!(log.contains("events move again"), "{log}");
    drop(proxy);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_topic_that_is_missing_is_waited_for_and_nothing_goes_past_it() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let refund = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('refund', 'r', 'x')";
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    outbox.sql(refund).await;
    let committed = outbox.insert_lsn().await;
    outbox.insert("after").await;
    let body = relay.ready_says(503, "blocked on topic").await;
    assert!(body.contains(&format!("topic \"{}\" does not exist", outbox.topic("refund"))), "{body}");
    assert!(relay.metric("outbox_relay_blocked_seconds{on=\"topic\"}").await.unwrap() > 0.0);
    assert!(outbox.confirmed_flush().await < committed);

    // There is nothing to drain: the stop is quick, and what waited comes again.
    let asked = Instant::now();
    relay.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(outbox.confirmed_flush().await < committed);

    let relay = outbox.relay(&[]);
    relay.ready_says(503, "blocked on topic").await;
    assert_eq!(outbox.keys(), ["before"]);
    create_topic(&outbox.topic("refund"), 1, &[]).await;
    relay.ready().await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.messages("refund").len(), 1);
    assert_eq!(outbox.keys(), ["after", "before"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_producer_that_may_not_write_at_all_is_not_ready_until_it_may() {
    let outbox = Outbox::create().await;
    let settings = settings_of("late");
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let relay = outbox.relay(&settings);
    let body = relay.ready_says(503, "blocked on kafka").await;
    assert!(body.contains("no broker") || body.contains("no producer id"), "{body}");
    relay.ready_says(503, "no producer id: grant it Write").await;
    outbox.insert("1").await;

    let topic = outbox.topic("order");
    allow("late", rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE, &topic);
    allow("late", rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_DESCRIBE, &topic);
    relay.ready().await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1"]);
    relay.stop().await;
    outbox.database.drop().await;
}
