//! The main job under load: nothing lost, nothing invented, in order, and acknowledged only when it is in Kafka.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::fixture::{Outbox, eventually};
use crate::kafka::{Message, Reader};
use crate::servers::client;
use crate::writers::{Committed, Plan, Writers};

/// What the consumer must find: each committed event at least once, byte for byte, nothing else, and the first
/// occurrences of each key in the order in which they were committed.
fn check(committed: &[Committed], messages: &[Message]) -> usize {
    let by_id: HashMap<&str, &Committed> = committed.iter().map(|event| (event.id.as_str(), event)).collect();
    let mut seen = HashSet::new();
    let mut last_of_key: HashMap<&str, i64> = HashMap::new();
    for message in messages {
        let id = message.id();
        let Some(event) = by_id.get(id.as_str()) else { panic!("event {id} was never committed") };
        assert_eq!(message.key.as_deref(), Some(event.key.as_bytes()), "key of {id}");
        assert_eq!(message.value, event.payload, "payload of {id}");
        assert_eq!(message.header("event_type").as_deref(), Some("Changed"), "event_type of {id}");
        if seen.insert(id.clone()) {
            let last = last_of_key.entry(&event.key).or_insert(0);
            assert!(
                event.number_of_key > *last,
                "{id}: number {} of {} after {last}",
                event.number_of_key,
                event.key
            );
            *last = event.number_of_key;
        }
    }
    let lost: Vec<&str> = by_id.keys().filter(|id| !seen.contains(**id)).copied().collect();
    assert!(
        lost.is_empty(),
        "{} of {} events are lost: {:?}",
        lost.len(),
        committed.len(),
        &lost[..lost.len().min(5)]
    );
    messages.len() - committed.len()
}

#[tokio::test]
async fn ten_thousand_events_of_eight_writers_arrive_once_each_in_commit_order() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;

    let writers = Writers::start(&outbox, Plan { writers: 8, events: 10_000 }).await;
    // A restart in between: an orderly one, so that nothing comes twice.
    eventually("some events are delivered", async || {
        let delivered = format!("outbox_relay_events_delivered_total{{topic=\"{}\"}}", outbox.topic("order"));
        relay.metric(&delivered).await.is_some_and(|events| events >= 1_000.0)
    })
    .await;
    let log = relay.stop().await;
    assert!(!log.contains("not confirmed within"), "{log}");
    let relay = outbox.relay(&[]);

    let committed = writers.finish().await;
    assert!(committed.len() >= 10_000);
    outbox.all_confirmed().await;
    relay.stop().await;
    let duplicates = check(&committed, &outbox.messages("order"));
    // What the first relay had sent of a transaction that it had not read to its end comes again with it.
    assert!(duplicates <= Plan::LONGEST_TRANSACTION, "{duplicates} events came twice");
    outbox.database.drop().await;
}

/// Trap 4.1 of docs/traps.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_can_be_read_in_kafka() {
    let outbox = Outbox::create().await;
    // Records wait in librdkafka's queue for a while: who acknowledges what is only queued is seen here.
    let relay = outbox.relay(&["kafka.linger.ms=200"]);
    relay.ready().await;
    let writers = Writers::start(&outbox, Plan { writers: 4, events: 2_000 }).await;
    let writing = Arc::new(AtomicBool::new(true));

    let watch = {
        let (so_far, writing) = (writers.so_far(), Arc::clone(&writing));
        let (info, slot) = (outbox.database.info(), outbox.slot().to_owned());
        let mut reader = Reader::new(&outbox.topic("order"));
        tokio::spawn(async move {
            let catalog = client(&info).await;
            let sql =
                "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = $1";
            let (mut readable, mut checks) = (HashSet::new(), 0);
            while writing.load(Ordering::Relaxed) {
                let confirmed: i64 = catalog.query_one(sql, &[&slot]).await.unwrap().get(0);
                // First the position, then the topic: what was acknowledged then must be readable now.
                let messages = tokio::task::block_in_place(|| reader.read_to_end());
                readable.extend(messages.iter().map(Message::id));
                for event in so_far.lock().await.iter().filter(|event| event.committed_before <= confirmed) {
                    assert!(readable.contains(&event.id), "{} is acknowledged and not in Kafka", event.id);
                    checks += 1;
                }
            }
            checks
        })
    };
    let committed = writers.finish().await;
    outbox.all_confirmed().await;
    writing.store(false, Ordering::Relaxed);
    assert!(watch.await.unwrap() > committed.len(), "the check hardly looked");
    relay.stop().await;
    assert_eq!(check(&committed, &outbox.messages("order")), 0);
    outbox.database.drop().await;
}

/// Trap 4.17 of docs/traps.md.
#[tokio::test]
async fn sigterm_under_load_ends_in_time_and_loses_nothing() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["delivery.drain_timeout=5s"]);
    relay.ready().await;
    let writers = Writers::start(&outbox, Plan { writers: 8, events: 6_000 }).await;
    let so_far: Arc<Mutex<Vec<Committed>>> = writers.so_far();
    eventually("the load is on", async || so_far.lock().await.len() >= 1_000).await;

    let asked = Instant::now();
    let log = relay.stop().await;
    // The drain, the goodbye, and a machine that is busy with the load.
    assert!(
        asked.elapsed() < Duration::from_secs(5 + 2 + 3),
        "it took {:?}; its log:\n{log}",
        asked.elapsed()
    );
    let sent_by_first = outbox.messages("order").len();

    let relay = outbox.relay(&[]);
    let committed = writers.finish().await;
    outbox.all_confirmed().await;
    relay.stop().await;
    assert!(sent_by_first > 0);
    let duplicates = check(&committed, &outbox.messages("order"));
    assert!(duplicates <= Plan::LONGEST_TRANSACTION, "{duplicates} of {} events came twice", committed.len());
    outbox.database.drop().await;
}

/// Trap 4.9 of docs/traps.md.
#[tokio::test]
async fn a_killed_relay_loses_nothing() {
    let outbox = Outbox::create().await;
    // Before the first event: what was committed before the slot was made is not sent.
    outbox.sql(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", outbox.slot())).await;
    let writers = Writers::start(&outbox, Plan { writers: 4, events: 3_000 }).await;
    let so_far = writers.so_far();
    for round in 1..=3 {
        let relay = outbox.relay(&[]);
        eventually("events flow", async || {
            let delivered =
                format!("outbox_relay_events_delivered_total{{topic=\"{}\"}}", outbox.topic("order"));
            relay.metric(&delivered).await.is_some_and(|events| events >= 50.0)
        })
        .await;
        eventually("the writers go on", async || so_far.lock().await.len() >= 500 * round).await;
        relay.kill().await;
    }
    let relay = outbox.relay(&[]);
    let committed = writers.finish().await;
    outbox.all_confirmed().await;
    relay.stop().await;
    check(&committed, &outbox.messages("order"));
    outbox.database.drop().await;
}

/// Trap 4.4 of docs/traps.md.
#[tokio::test]
async fn an_idle_outbox_beside_a_busy_table_does_not_retain_wal() {
    let outbox = Outbox::create().await;
    outbox.sql("CREATE TABLE busy (n int, pad text)").await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let before = outbox.confirmed_flush().await;
    for _ in 0..20 {
        outbox.sql("INSERT INTO busy SELECT n, repeat('x', 500) FROM generate_series(1, 2000) n").await;
    }
    let end = outbox.insert_lsn().await;
    assert!(end - before > 10_000_000, "the busy table wrote only {} bytes", end - before);
    eventually("the slot follows", async || outbox.confirmed_flush().await >= end).await;
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    outbox.database.drop().await;
}
