//! `outbox-relay republish`.

use std::process::Output;

use crate::fixture::Outbox;
use crate::kafka::Message;

/// An outbox with rows that the relay's role may read, and that no relay has sent: three of order 1, two of order 2.
async fn outbox() -> Outbox {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "GRANT SELECT ON outbox TO outbox_relay;
             ALTER TABLE outbox ADD status text DEFAULT 'PENDING';
             INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload, created_at, status)
             SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'order', 1 + n / 4, 'Placed', jsonb_build_object('n', n),
                    timestamptz '2026-01-31 12:00Z' - n * interval '1 hour', CASE n WHEN 3 THEN 'PUBLISHED' ELSE 'PENDING' END
               FROM generate_series(1, 5) n",
        )
        .await;
    outbox
}

async fn republish(outbox: &Outbox, arguments: &[&str]) -> Output {
    let arguments: Vec<_> = ["republish"].into_iter().chain(arguments.iter().copied()).collect();
    outbox.program(&arguments, &[]).output().await.unwrap()
}

/// The same, which must succeed; what it prints.
async fn prints(outbox: &Outbox, arguments: &[&str]) -> String {
    let output = republish(outbox, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same, which must fail; what it says.
async fn says(outbox: &Outbox, arguments: &[&str]) -> (Option<i32>, String) {
    let output = republish(outbox, arguments).await;
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn numbers(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.id().trim_start_matches(['0', '-']).to_owned()).collect()
}

#[tokio::test]
async fn a_row_is_sent_again_as_it_is_and_says_so() {
    let outbox = outbox().await;
    let printed = prints(&outbox, &["--id", "00000000-0000-0000-0000-000000000002"]).await;
    assert_eq!(printed, "1 of 1 events sent again, and confirmed by Kafka\n");
    let messages = outbox.messages("order");
    assert_eq!((messages.len(), messages[0].key_text()), (1, "1".to_owned()));
    assert_eq!(messages[0].value.as_deref(), Some(br#"{"n": 2}"#.as_slice()));
    let headers: Vec<_> = messages[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["id", "event_type", "republished"]);
    assert_eq!(messages[0].header("republished").as_deref(), Some("true"));
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_are_chosen_by_time_status_and_aggregate_in_the_order_of_their_time() {
    let outbox = outbox().await;
    let count = async |arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--dry-run", "--json"]).collect();
        let found: serde_json::Value = serde_json::from_str(&prints(&outbox, &arguments).await).unwrap();
        found["matched"].as_u64().unwrap()
    };
    assert_eq!(count(&["--since", "2026-01-31 10:00Z"]).await, 2);
    assert_eq!(count(&["--until", "2026-01-31 10:00Z"]).await, 3);
    assert_eq!(count(&["--since", "2026-01-31 09:00Z", "--until", "2026-01-31 11:00Z"]).await, 2);
    assert_eq!(count(&["--status", "PENDING"]).await, 4);
    assert_eq!(count(&["--aggregate", "order"]).await, 5);
    assert_eq!(count(&["--aggregate", "order/2"]).await, 2);
    assert_eq!(count(&["--aggregate", "order/1", "--status", "PUBLISHED"]).await, 1);
    assert_eq!(count(&["--aggregate", "it's"]).await, 0);
    assert!(outbox.messages("order").is_empty());

    prints(&outbox, &["--aggregate", "order/1"]).await;
    // The oldest has the greatest number.
    assert_eq!(numbers(&outbox.messages("order")), ["3", "2", "1"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_sent() {
    let outbox = outbox().await;
    outbox.sql("UPDATE outbox SET aggregate_type = 'no topic' WHERE aggregate_id = '2'").await;
    let printed = prints(&outbox, &["--status", "PENDING", "--dry-run"]).await;
    let topic = outbox.topic("order");
    assert!(printed.starts_with("4 rows would be sent again\n"), "{printed}");
    assert!(printed.contains(&format!("000000000002 to {topic}, key 1\n")), "{printed}");
    assert!(printed.contains("not to be sent: ") && printed.contains("is not a topic name"), "{printed}");
    assert!(outbox.messages("order").is_empty());
    outbox.database.drop().await;
}

#[tokio::test]
async fn what_kafka_cannot_take_is_told_and_the_rest_is_sent() {
    let outbox = outbox().await;
    outbox.sql("UPDATE outbox SET aggregate_type = 'no topic' WHERE aggregate_id = '2'").await;
    let output = republish(&outbox, &["--since", "2026-01-01"]).await;
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("3 of 5 events sent again"), "{printed}");
    assert!(printed.contains("2 rejected, the first"), "{printed}");
    assert_eq!(outbox.messages("order").len(), 3);
    outbox.database.drop().await;
}

#[tokio::test]
async fn many_rows_are_not_sent_by_mistake() {
    let outbox = outbox().await;
    outbox
        .sql("INSERT INTO outbox (aggregate_type, aggregate_id, event_type) SELECT 'order', n, 'Many' FROM generate_series(1, 2500) n")
        .await;
    let (code, text) = says(&outbox, &["--aggregate", "order"]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("2505 rows would be sent again") && text.contains("--yes"), "{text}");
    assert!(outbox.messages("order").is_empty());
    let printed = prints(&outbox, &["--aggregate", "order", "--yes", "--rate", "5000"]).await;
    assert!(printed.starts_with("2505 of 2505 events"), "{printed}");
    assert_eq!(outbox.messages("order").len(), 2_505);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_relay_that_runs_is_not_disturbed() {
    let outbox = outbox().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("from the stream").await;
    prints(&outbox, &["--aggregate", "order/2"]).await;
    outbox.all_confirmed().await;
    relay.ready().await;
    assert_eq!(outbox.keys(), ["2", "2", "from the stream"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let outbox = outbox().await;
    let (code, text) = says(&outbox, &[]).await;
    assert_eq!(code, Some(2), "{text}");
    outbox.sql("REVOKE SELECT ON outbox FROM outbox_relay").await;
    let (code, text) = says(&outbox, &["--status", "PENDING"]).await;
    assert_eq!(code, Some(1));
    assert!(
        text.contains("may not read") && text.contains("GRANT SELECT ON public.outbox TO outbox_relay"),
        "{text}"
    );
    outbox.sql("GRANT SELECT ON outbox TO outbox_relay; ALTER TABLE outbox DROP COLUMN status").await;
    let (code, text) = says(&outbox, &["--status", "PENDING"]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("has no column \"status\", by which --status chooses"), "{text}");
    let (code, text) = says(&outbox, &["--id", "no uuid"]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("invalid input syntax for type uuid"), "{text}");
    outbox.database.drop().await;
}
