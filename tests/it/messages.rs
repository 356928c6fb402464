//! Events that are logical messages (`outbox.message_prefix`).

use crate::fixture::Outbox;
use crate::kafka::create_topic;

/// A transactional message with this content.
fn emit(content: &str) -> String {
    format!("SELECT pg_logical_emit_message(true, 'outbox', '{content}');")
}

#[tokio::test]
async fn rows_and_messages_of_a_transaction_keep_their_order() {
    let outbox = Outbox::create().await;
    outbox.sql(include_str!("../../sql/optional/messages.sql")).await;
    let relay = outbox.relay(&["outbox.message_prefix=outbox"]);
    relay.ready().await;
    outbox
        .sql(
            "BEGIN;
             SELECT outbox_emit('order', 'one', 'Placed', '{\"n\": 1}');
             INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', 'one', 'Paid');
             SELECT outbox_emit('order', 'one', 'Sent', '{\"n\": 3}', '6f9619ff-8b86-4011-b42d-00c04fc964ff');
             COMMIT",
        )
        .await;
    outbox.all_confirmed().await;
    let messages = outbox.messages("order");
    let kinds: Vec<_> = messages.iter().map(|message| message.header("event_type").unwrap()).collect();
    assert_eq!(kinds, ["Placed", "Paid", "Sent"]);
    assert_eq!(messages[0].value.as_deref(), Some(br#"{"n": 1}"#.as_slice()));
    assert_eq!(messages[2].id(), "6f9619ff-8b86-4011-b42d-00c04fc964ff");
    let positions: Vec<_> = messages.iter().map(|message| message.header("position").unwrap()).collect();
    assert!(
        positions.is_sorted() && positions[0].ends_with("-00000001") && positions[2].ends_with("-00000003")
    );
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn what_was_rolled_back_and_what_belongs_to_others_is_no_event() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["outbox.message_prefix=outbox"]);
    relay.ready().await;
    let event = |key: &str| {
        format!("{{\"id\": \"{key}\", \"aggregate_type\": \"order\", \"aggregate_id\": \"{key}\"}}")
    };
    outbox.sql(&format!("BEGIN; {} ROLLBACK", emit(&event("rolled back")))).await;
    outbox.sql(&format!("SELECT pg_logical_emit_message(false, 'outbox', '{}')", event("at once"))).await;
    outbox.sql(&format!("SELECT pg_logical_emit_message(true, 'other', '{}')", event("of others"))).await;
    outbox.sql(&emit(&event("ours"))).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["ours"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn without_a_prefix_no_message_is_an_event() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.sql(&emit("{\"id\": \"1\", \"aggregate_type\": \"order\", \"aggregate_id\": \"1\"}")).await;
    outbox.insert("row").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["row"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_message_that_nobody_can_read_stops_reading() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["outbox.message_prefix=outbox"]);
    relay.ready().await;
    outbox.sql(&emit("no JSON")).await;
    let body = relay.ready_says(503, "is no JSON object").await;
    assert!(
        body.contains("the content of the message at ") && body.contains("with prefix \"outbox\""),
        "{body}"
    );
    assert!(body.contains("outbox.message_prefix"), "{body}");
    outbox.insert("behind it").await;
    relay.kill().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_message_that_nobody_can_read_becomes_a_dead_letter_as_it_is() {
    let outbox = Outbox::create().await;
    let dead = outbox.topic("dead");
    create_topic(&dead, 1, &[]).await;
    let letters = format!("delivery.dead_letter_topic={dead}");
    let relay = outbox.relay(&["outbox.message_prefix=outbox", "delivery.on_rejected=dead-letter", &letters]);
    relay.ready().await;
    outbox.sql(&emit("no JSON")).await;
    outbox.sql(&emit("{\"aggregate_type\": \"order\", \"aggregate_id\": \"no id\"}")).await;
    outbox.sql(&emit("{\"id\": 8, \"aggregate_type\": \"order\", \"aggregate_id\": \"good\"}")).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["good"]);
    let letters = outbox.messages("dead");
    let shown: Vec<_> = letters
        .iter()
        .map(|letter| {
            (letter.header("dead-letter-reason").unwrap(), letter.header("id"), letter.value.clone())
        })
        .collect();
    assert_eq!(
        shown,
        [("invalid_message".to_owned(), None, Some(b"no JSON".to_vec())), ("null".to_owned(), None, None)]
    );
    assert_eq!(outbox.messages("order")[0].id(), "8");
    relay.stop().await;
    outbox.database.drop().await;
}
