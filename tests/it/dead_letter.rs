//! Events that Kafka will never take, with `delivery.on_rejected = "dead-letter"`: found among their neighbours, sent to a
//! topic of their own, and acknowledged when they are stored there.

use std::collections::HashSet;

use crate::fixture::{Outbox, Relay};
use crate::kafka::{Message, Reader, create_topic};

const RULES: &str = "delivery.on_rejected=dead-letter";

fn dead_letter_topic(outbox: &Outbox) -> String {
    outbox.topic("dead-letter")
}

/// A relay that makes dead letters, with more `settings`.
fn relay(outbox: &Outbox, settings: &[&str]) -> Relay {
    let topic = format!("delivery.dead_letter_topic={}", dead_letter_topic(outbox));
    let settings: Vec<&str> = [RULES, &topic].into_iter().chain(settings.iter().copied()).collect();
    outbox.relay(&settings)
}

fn dead_letters(outbox: &Outbox) -> Vec<Message> {
    Reader::new(&dead_letter_topic(outbox)).read_to_end()
}

/// Inserts `events` of topic "small" in one transaction: key `key-<number modulo 10>`, payload of `bytes` letters; the one
/// with number `bad` has `bad_bytes`.
async fn insert(outbox: &Outbox, events: u32, bytes: u32, bad: u32, bad_bytes: u32) {
    outbox
        .sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             SELECT 'small', 'key-' || n % 10, n,
                    to_jsonb(repeat('x', CASE n WHEN {bad} THEN {bad_bytes} ELSE {bytes} END))
             FROM generate_series(1, {events}) n"
        ))
        .await;
}

/// The events in the order in which each came first; they must be `expected`, for each key in ascending order.
fn assert_first_occurrences(messages: &[Message], expected: impl Iterator<Item = u32>) {
    let mut seen = HashSet::new();
    let number = |message: &Message| message.header("event_type").unwrap().parse::<u32>().unwrap();
    let first: Vec<u32> = messages.iter().map(number).filter(|number| seen.insert(*number)).collect();
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected.collect::<Vec<_>>());
    for key in 0..10 {
        let of_key: Vec<u32> = first.iter().copied().filter(|number| number % 10 == key).collect();
        assert!(of_key.is_sorted(), "key-{key}: {of_key:?}");
    }
}

/// Trap 4.21 of docs/traps.md: the other events of its key keep their order.
#[tokio::test]
async fn one_bad_event_among_a_thousand_good_ones_in_one_batch_gives_exactly_one_dead_letter() {
    let outbox = Outbox::create().await;
    // The thousand together are below it.
    create_topic(&outbox.topic("small"), 1, &[("max.message.bytes", "400000")]).await;
    create_topic(&dead_letter_topic(&outbox), 3, &[]).await;
    let relay = relay(&outbox, &["kafka.linger.ms=300"]);
    relay.ready().await;
    insert(&outbox, 1001, 100, 500, 450_000).await;
    outbox.all_confirmed().await;

    let letters = dead_letters(&outbox);
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(letter.key_text(), "key-0");
    assert_eq!(letter.value.as_ref().unwrap().len(), 450_002);
    let id = outbox.text("SELECT id FROM outbox WHERE event_type = '500'").await;
    assert_eq!(letter.id(), id);
    assert_eq!(letter.header("event_type").unwrap(), "500");
    assert_eq!(letter.header("dead-letter-reason").unwrap(), "too_large");
    assert_eq!(letter.header("dead-letter-topic").unwrap(), outbox.topic("small"));
    assert!(letter.header("source").is_some() && letter.header("position").is_some());

    assert_first_occurrences(&outbox.messages("small"), (1..=1001).filter(|number| *number != 500));
    assert_eq!(relay.metric("outbox_relay_events_rejected_total{reason=\"too_large\"}").await, Some(1.0));
    // It goes on with batches as before.
    insert(&outbox, 1000, 100, 0, 0).await;
    outbox.all_confirmed().await;
    let log = relay.stop().await;
    assert!(log.contains(&id) && log.contains("as a dead letter"), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("xxxx"), "{log}");
    assert!(!log.contains("batches have at most"), "{log}");
    assert!(log.contains("suspects=1001"), "the batch was not one: {log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn each_of_many_bad_events_is_found() {
    let outbox = Outbox::create().await;
    create_topic(&outbox.topic("small"), 1, &[("max.message.bytes", "200000")]).await;
    create_topic(&dead_letter_topic(&outbox), 1, &[]).await;
    let relay = relay(&outbox, &["kafka.linger.ms=300"]);
    relay.ready().await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             SELECT 'small', 'key-' || n % 10, n,
                    to_jsonb(repeat('x', CASE WHEN n % 7 = 0 THEN 210000 ELSE 100 END))
             FROM generate_series(1, 100) n",
        )
        .await;
    outbox.all_confirmed().await;
    let bad = |number: &u32| number.is_multiple_of(7);
    assert_first_occurrences(&outbox.messages("small"), (1..=100).filter(|number| !bad(number)));
    // Each once: that one is stored is remembered as long as its row may come again.
    assert_eq!(dead_letters(&outbox).len(), 14);
    assert_first_occurrences(&dead_letters(&outbox), (1..=100).filter(bad));
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn small_events_that_are_too_large_only_as_a_batch_are_all_delivered() {
    let outbox = Outbox::create().await;
    create_topic(&outbox.topic("small"), 1, &[("max.message.bytes", "5000")]).await;
    create_topic(&dead_letter_topic(&outbox), 1, &[]).await;
    let relay = relay(&outbox, &["kafka.linger.ms=300"]);
    relay.ready().await;
    insert(&outbox, 100, 100, 0, 0).await;
    outbox.all_confirmed().await;
    assert_first_occurrences(&outbox.messages("small"), 1..=100);
    // Batches that fit were found: a transaction of many of them is not refused again and again.
    insert(&outbox, 3000, 100, 0, 0).await;
    outbox.all_confirmed().await;
    assert_first_occurrences(&outbox.messages("small"), 1..=3000);
    assert_eq!(dead_letters(&outbox), []);
    for reason in ["too_large", "refused"] {
        let metric = format!("outbox_relay_events_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(relay.metric(&metric).await, Some(0.0));
    }
    let log = relay.stop().await;
    println!("{log}");
    assert!(log.contains("batches have at most") && log.contains("batch.size"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn events_that_have_no_topic_become_dead_letters_with_all_that_is_known_of_them() {
    let outbox = Outbox::create().await;
    outbox.sql("ALTER TABLE outbox ALTER aggregate_type DROP NOT NULL").await;
    let route = format!("route.topic={}.{{aggregate_type}}", outbox.database.name);
    let relay = relay(&outbox, &[&route, "outbox.headers.kind={event_type}"]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('no such/topic', 'one', 'Paid', '{\"n\": 1}'), (NULL, 'two', 'Paid', '{\"n\": 2}')",
        )
        .await;
    outbox.insert("after").await;

    // Their topic is waited for, and nothing goes past.
    let body = relay.ready_says(503, "blocked on topic").await;
    assert!(body.contains(&dead_letter_topic(&outbox)), "{body}");
    assert_eq!(outbox.keys(), ["before"]);
    create_topic(&dead_letter_topic(&outbox), 1, &[]).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["after", "before"]);

    let letters = dead_letters(&outbox);
    let shown = |letter: &Message| {
        let value = String::from_utf8(letter.value.clone().unwrap()).unwrap();
        let header = |name: &str| letter.header(name).unwrap_or_else(|| "null".to_owned());
        let names: Vec<&str> = letter.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "source", "position", "kind", "dead-letter-reason", "dead-letter-topic"]);
        let (reason, topic) = (header("dead-letter-reason"), header("dead-letter-topic"));
        format!("{} {value} {} {reason} {topic}", letter.key_text(), header("kind"))
    };
    let shown: Vec<String> = letters.iter().map(shown).collect();
    let expected = format!("one {{\"n\": 1}} Paid invalid_topic {}.no such/topic", outbox.database.name);
    assert_eq!(shown, [expected.as_str(), "two {\"n\": 2} Paid null null"]);
    for reason in ["invalid_topic", "null"] {
        let metric = format!("outbox_relay_events_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(relay.metric(&metric).await, Some(1.0));
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_dead_letter_that_kafka_does_not_take_either_stops_reading() {
    let outbox = Outbox::create().await;
    for topic in [outbox.topic("small"), dead_letter_topic(&outbox)] {
        create_topic(&topic, 1, &[("max.message.bytes", "5000")]).await;
    }
    let relay = relay(&outbox, &[]);
    relay.ready().await;
    insert(&outbox, 3, 100, 2, 6000).await;
    let body = relay.ready_says(503, "max.message.bytes = 5000").await;
    assert!(body.contains("blocked on event") && body.contains("this is its dead letter"), "{body}");
    let id = outbox.text("SELECT id FROM outbox WHERE event_type = '2'").await;
    assert!(body.contains(&id) && body.contains(&dead_letter_topic(&outbox)), "{body}");
    assert!(body.contains("delivery.skip") && !body.contains("on_rejected"), "{body}");
    relay.stop().await;

    let skip = format!("delivery.skip={id}");
    let relay = self::relay(&outbox, &[&skip]);
    outbox.all_confirmed().await;
    assert_first_occurrences(&outbox.messages("small"), [1, 3].into_iter());
    assert_eq!(dead_letters(&outbox), []);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_dead_letter_counts_when_it_is_stored_and_not_before() {
    let outbox = Outbox::create().await;
    create_topic(&outbox.topic("small"), 1, &[("max.message.bytes", "5000")]).await;
    let before = outbox.insert_lsn().await;
    // Its topic does not exist.
    let first = relay(&outbox, &[]);
    first.ready().await;
    insert(&outbox, 3, 100, 2, 6000).await;
    let committed = outbox.insert_lsn().await;
    first.ready_says(503, "blocked on topic").await;
    assert!(outbox.confirmed_flush().await >= before && outbox.confirmed_flush().await < committed);
    first.kill().await;

    // Another one has to find out again.
    create_topic(&dead_letter_topic(&outbox), 1, &[]).await;
    let second = relay(&outbox, &[]);
    outbox.all_confirmed().await;
    assert_eq!(dead_letters(&outbox).len(), 1);
    assert_first_occurrences(&outbox.messages("small"), [1, 3].into_iter());
    second.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn an_event_too_large_for_the_client_stops_reading_because_a_dead_letter_would_be_no_smaller() {
    let outbox = Outbox::create().await;
    create_topic(&outbox.topic("small"), 1, &[]).await;
    create_topic(&dead_letter_topic(&outbox), 1, &[]).await;
    let relay = relay(&outbox, &["kafka.message.max.bytes=3000"]);
    relay.ready().await;
    insert(&outbox, 3, 100, 2, 4000).await;
    let body = relay.ready_says(503, "blocked on event").await;
    assert!(body.contains("message.max.bytes\" = 3000") && body.contains("its dead letter"), "{body}");
    let rejected = "outbox_relay_events_rejected_total{reason=\"too_large\"}";
    assert_eq!(relay.metric(rejected).await, Some(1.0));
    relay.stop().await;
    assert_eq!(dead_letters(&outbox), []);
    outbox.database.drop().await;
}

#[tokio::test]
async fn an_event_for_a_partition_that_is_not_there_keeps_its_key() {
    let outbox = Outbox::create().await;
    create_topic(&dead_letter_topic(&outbox), 3, &[]).await;
    let relay = relay(&outbox, &["route.partition=event_type"]);
    relay.ready().await;
    let row = |partition: &str, key: &str| format!("('order', '{key}', '{partition}', '{{}}')");
    let rows = [row("2", "two"), row("7", "seven"), row("many", "many"), row("0", "zero")].join(", ");
    outbox
        .sql(&format!("INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES {rows}"))
        .await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["two", "zero"]);
    let mut letters: Vec<String> = dead_letters(&outbox).iter().map(Message::key_text).collect();
    letters.sort();
    assert_eq!(letters, ["many", "seven"]);
    let rejected = "outbox_relay_events_rejected_total{reason=\"invalid_partition\"}";
    assert_eq!(relay.metric(rejected).await, Some(2.0));
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn an_event_that_the_broker_finds_invalid_is_refused_and_its_neighbours_are_not() {
    let outbox = Outbox::create().await;
    outbox.sql("ALTER TABLE outbox ALTER aggregate_id DROP NOT NULL").await;
    // Such a topic takes no null key.
    create_topic(&outbox.topic("small"), 1, &[("cleanup.policy", "compact")]).await;
    create_topic(&dead_letter_topic(&outbox), 1, &[]).await;
    let relay = relay(&outbox, &["kafka.linger.ms=300"]);
    relay.ready().await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             SELECT 'small', CASE n WHEN 20 THEN NULL ELSE 'key-' || n % 10 END, n, '{}'
             FROM generate_series(1, 50) n",
        )
        .await;
    outbox.all_confirmed().await;
    assert_first_occurrences(&outbox.messages("small"), (1..=50).filter(|number| *number != 20));
    let letters = dead_letters(&outbox);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].key, None);
    assert_eq!(letters[0].header("dead-letter-reason").unwrap(), "refused");
    let log = relay.stop().await;
    assert!(log.contains("InvalidRecord"), "{log}");
    outbox.database.drop().await;
}

/// Trap 4.5 of docs/traps.md.
#[tokio::test]
async fn whatever_ends_a_session_while_the_bad_event_is_looked_for_nothing_is_lost() {
    let outbox = Outbox::create().await;
    create_topic(&outbox.topic("small"), 1, &[("max.message.bytes", "400000")]).await;
    // The dead letters' topic is missing, so that none of these gets to the end.
    let first = relay(&outbox, &["kafka.linger.ms=300"]);
    first.ready().await;
    insert(&outbox, 1001, 100, 900, 450_000).await;
    first.log_says("are sent one at a time").await;
    let walsender = format!(
        "pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        outbox.slot()
    );
    // Between two sessions there is none.
    crate::fixture::eventually("the walsender is ended", async || {
        let ended = format!("coalesce((SELECT {walsender} AND active), false)");
        outbox.text(&ended).await == "true"
    })
    .await;
    first.log_says("trying again").await;
    // An orderly stop, and a kill, at some moment of the search.
    first.stop().await;
    let second = relay(&outbox, &["kafka.linger.ms=300"]);
    second.log_says("are sent one at a time").await;
    second.kill().await;

    create_topic(&dead_letter_topic(&outbox), 1, &[]).await;
    let last = relay(&outbox, &["kafka.linger.ms=300"]);
    outbox.all_confirmed().await;
    assert_first_occurrences(&outbox.messages("small"), (1..=1001).filter(|number| *number != 900));
    assert_first_occurrences(&dead_letters(&outbox), [900].into_iter());
    last.stop().await;
    outbox.database.drop().await;
}
