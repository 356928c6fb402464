//! From start to end: standby and takeover, broken connections, orderly stops, and what is shown meanwhile.

use std::time::{Duration, Instant};

use crate::fixture::{Outbox, Relay, eventually, value_in};
use crate::kafka::{Message, OwnKafka};
use crate::servers::client;

/// The `n` of payloads `{"n": …}`, in the order in which they lie in Kafka; all have one key.
fn numbers(messages: &[Message]) -> Vec<u32> {
    let number = |message: &Message| {
        let text = String::from_utf8(message.value.clone().unwrap()).unwrap();
        text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    messages.iter().map(number).collect()
}

/// Every number of `expected` came, and the first occurrences are in order.
fn check(numbers: &[u32], expected: std::ops::RangeInclusive<u32>) {
    let mut first = Vec::new();
    for number in numbers {
        if !first.contains(number) {
            first.push(*number);
        }
    }
    assert_eq!(first, expected.collect::<Vec<_>>(), "of {numbers:?}");
}

async fn insert_number(outbox: &Outbox, n: u32) {
    outbox
        .sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('order', 'k', 'x', '{{\"n\": {n}}}')"
        ))
        .await;
}

#[tokio::test]
async fn a_standby_is_ready_and_takes_over_when_the_other_stops_or_is_killed() {
    let outbox = Outbox::create().await;
    let mut active = outbox.relay(&[]);
    active.ready().await;
    for (n, kill) in [(1, false), (2, true)] {
        let standby = outbox.relay(&[]);
        assert_eq!(standby.ready_says(200, "standby").await, "standby\n");
        assert_eq!(standby.metric("outbox_relay_state{state=\"standby\"}").await, Some(1.0));
        insert_number(&outbox, n).await;
        outbox.all_confirmed().await;
        let gone = Instant::now();
        if kill {
            active.kill().await;
        } else {
            active.stop().await;
        }
        standby.ready_says(200, "streaming").await;
        assert!(gone.elapsed() < Duration::from_secs(5), "it took {:?}", gone.elapsed());
        active = standby;
    }
    insert_number(&outbox, 3).await;
    outbox.all_confirmed().await;
    // Everything was confirmed before the changes, so nothing comes twice.
    assert_eq!(numbers(&outbox.messages("order")), [1, 2, 3]);
    // A standby stops as well as any.
    let standby = outbox.relay(&[]);
    standby.ready_says(200, "standby").await;
    standby.stop().await;
    active.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn connections_that_postgres_ends_are_made_again_and_nothing_is_lost() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let admin = client(&outbox.database.info()).await;
    let mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = 'outbox_relay'";
    let mut n = 0;
    for which in ["backend_type = 'walsender'", "true", "backend_type <> 'walsender'", "true"] {
        for _ in 0..25 {
            n += 1;
            insert_number(&outbox, n).await;
        }
        // The control connection may be on its way back.
        let ends = format!("{mine} AND {which}");
        eventually("there is one to end", async || !admin.query(&ends, &[]).await.unwrap().is_empty()).await;
        for _ in 0..25 {
            n += 1;
            insert_number(&outbox, n).await;
        }
        outbox.all_confirmed().await;
        relay.ready().await;
    }
    let numbers = numbers(&outbox.messages("order"));
    check(&numbers, 1..=n);
    assert!(numbers.len() < 2 * usize::try_from(n).unwrap(), "{} of {n}", numbers.len());
    let sessions = relay.metric("outbox_relay_sessions_total{end=\"postgres\"}").await.unwrap();
    assert!((3.0..=4.0).contains(&sessions), "{sessions}");
    let log = relay.stop().await;
    assert!(log.contains("57P01") && log.contains("trying again"), "{log}");
    outbox.database.drop().await;
}

/// A relay that has sent number 1 to a Kafka of its own, which is switched off then.
async fn with_own_kafka(outbox: &Outbox, settings: &[&str]) -> (Relay, OwnKafka) {
    let kafka = OwnKafka::with_topic(&outbox.topic("order"));
    let leads_there = kafka.setting();
    let settings: Vec<&str> = settings.iter().copied().chain([leads_there.as_str()]).collect();
    let relay = outbox.relay(&settings);
    relay.ready().await;
    insert_number(outbox, 1).await;
    outbox.all_confirmed().await;
    kafka.switch_off();
    relay.ready_says(503, "blocked on kafka").await;
    (relay, kafka)
}

/// Trap 4.17 of docs/traps.md.
#[tokio::test]
async fn sigterm_while_kafka_is_away_ends_in_time_and_loses_nothing() {
    let outbox = Outbox::create().await;
    let (relay, kafka) = with_own_kafka(&outbox, &["delivery.drain_timeout=2s"]).await;
    for n in 2..=20 {
        insert_number(&outbox, n).await;
    }
    relay.metric_becomes("outbox_relay_in_flight_records", 19.0).await;
    assert!(relay.metric("outbox_relay_oldest_unconfirmed_age_seconds").await.unwrap() > 0.0);
    let asked = Instant::now();
    let log = relay.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(2 + 3), "{:?}: {log}", asked.elapsed());
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}: {log}", asked.elapsed());
    assert!(
        log.contains(
            "not confirmed within 2s: 19 of the events that were sent; the next start sends them again"
        ),
        "{log}"
    );

    kafka.switch_on();
    let relay = outbox.relay(&[&kafka.setting()]);
    outbox.all_confirmed().await;
    let messages = kafka.messages(&outbox.topic("order"));
    check(&numbers(&messages), 1..=20);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_second_sigterm_ends_the_relay_at_once() {
    let outbox = Outbox::create().await;
    let (relay, _kafka) = with_own_kafka(&outbox, &["delivery.drain_timeout=5m"]).await;
    insert_number(&outbox, 2).await;
    relay.metric_becomes("outbox_relay_in_flight_records", 1.0).await;
    relay.terminate();
    relay.ready_says(503, "draining").await;
    let asked = Instant::now();
    relay.terminate();
    let (status, log) = relay.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}: {log}", asked.elapsed());
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("WARN SIGTERM: ending at once"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn an_error_that_ends_the_relay_is_a_line_of_the_log_where_programs_read_it() {
    let outbox = Outbox::create().await;
    let log = outbox.relay(&["log.format=json", "postgres.publication=nothing"]).refuses().await;
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let message = last["message"].as_str().unwrap();
    assert_eq!(last["level"], "ERROR", "{last}");
    assert!(
        message.starts_with("publication \"nothing\" does not exist") && message.contains("\n\nhint: "),
        "{last}"
    );
    outbox.database.drop().await;
}

#[tokio::test]
async fn kafka_that_goes_and_comes_back_within_a_session_costs_nothing() {
    let outbox = Outbox::create().await;
    let (relay, kafka) = with_own_kafka(&outbox, &[]).await;
    for n in 2..=50 {
        insert_number(&outbox, n).await;
    }
    let committed = outbox.insert_lsn().await;
    relay.metric_becomes("outbox_relay_in_flight_records", 49.0).await;
    assert!(outbox.confirmed_flush().await < committed);
    kafka.switch_on();
    relay.ready().await;
    outbox.all_confirmed().await;
    let messages = kafka.messages(&outbox.topic("order"));
    assert_eq!(numbers(&messages), (1..=50).collect::<Vec<_>>());
    assert_eq!(relay.metric("outbox_relay_sessions_total{end=\"kafka\"}").await, Some(0.0));
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn kafka_that_goes_away_while_there_is_nothing_to_send_is_missed() {
    let outbox = Outbox::create().await;
    let (relay, kafka) = with_own_kafka(&outbox, &[]).await;
    relay.metric_becomes("outbox_relay_state{state=\"blocked\"}", 1.0).await;
    assert_eq!(relay.metric("outbox_relay_in_flight_records").await, Some(0.0));
    kafka.switch_on();
    relay.ready().await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn the_pages_say_what_they_are_and_the_metrics_add_up() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    for key in 1..=30 {
        outbox.insert(&key.to_string()).await;
    }
    outbox.all_confirmed().await;
    let messages = outbox.messages("order");
    relay.metric_becomes("outbox_relay_in_flight_records", 0.0).await;
    let (status, head, page) = relay.answer("/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let topic = format!("{{topic=\"{}\"}}", outbox.topic("order"));
    let value = |name: &str| {
        value_in(&page, &format!("outbox_relay_{name}")).unwrap_or_else(|| panic!("{name}: {page}"))
    };
    let bytes =
        |message: &Message| message.key.as_ref().unwrap().len() + message.value.as_ref().unwrap().len();
    let bytes: u32 = messages.iter().map(bytes).sum::<usize>().try_into().unwrap();
    assert_eq!(messages.len(), 30);
    assert_eq!(value(&format!("events_delivered_total{topic}")), 30.0);
    assert_eq!(value(&format!("delivered_bytes_total{topic}")), f64::from(bytes));
    assert!(value("transactions_confirmed_total") >= 30.0);
    assert_eq!(value("commit_to_delivery_seconds_count"), 30.0);
    assert_eq!(value("commit_to_delivery_seconds_bucket{le=\"60.0\"}"), 30.0);
    assert_eq!(value("in_flight_bytes"), 0.0);
    assert_eq!(value("oldest_unconfirmed_age_seconds"), 0.0);
    assert_eq!(value("state{state=\"streaming\"}"), 1.0);
    assert_eq!(value("state{state=\"blocked\"}"), 0.0);
    assert_eq!(value("blocked_seconds{on=\"kafka\"}"), 0.0);
    assert_eq!(value(&format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    assert!(value("received_lsn") >= value("confirmed_lsn"));
    // Tests beside this one write WAL, and the slot follows it.
    eventually("the metric says what the slot says", async || {
        let metric = relay.metric("outbox_relay_confirmed_lsn").await.unwrap();
        let Ok(slot) = u32::try_from(outbox.confirmed_flush().await) else { return true };
        metric == f64::from(slot)
    })
    .await;

    for (path, status) in [("/live", 200), ("/ready", 200), ("/nothing", 404)] {
        let (found, head, _) = relay.answer(path).await.unwrap();
        assert_eq!(found, status, "{path}");
        assert!(status == 404 || head.contains("content-type: text/plain; charset=utf-8"), "{path}: {head}");
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_relay_that_logs_little_goes_on_until_it_is_told_to_stop() {
    let outbox = Outbox::create().await;
    for level in ["warn", "error"] {
        let relay = outbox.relay(&[&format!("log.level={level}")]);
        relay.ready().await;
        outbox.insert(level).await;
        outbox.all_confirmed().await;
        assert_eq!(relay.stop().await, "");
    }
    assert_eq!(outbox.keys(), ["error", "warn"]);
    outbox.database.drop().await;
}
