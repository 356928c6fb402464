//! The traps that others fell into, as far as it takes servers to fall into them. `docs/traps.md` lists all of them.

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::{Message, OwnKafka};

/// A relay whose sessions begin with more `options`, as the server's command line takes them.
fn with_options(outbox: &Outbox, options: &str, settings: &[&str]) -> Relay {
    let server = outbox.database.info();
    let host = &server.hosts[0];
    let url = format!(
        "postgres.url=host={} port={} user=outbox_relay dbname={} options='{options}'",
        host.socket_path().unwrap().parent().unwrap().display(),
        host.port,
        outbox.database.name
    );
    outbox.relay(&[&[url.as_str()], settings].concat())
}

/// The `event_type`s in the order in which they lie in Kafka: numbers.
fn numbers(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(|message| message.header("event_type").unwrap().parse().unwrap()).collect()
}

/// SQL that inserts events of one key, numbered from `first` to `last`.
fn numbered(first: u32, last: u32) -> String {
    format!(
        "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
         SELECT 'order', 'k', n, to_jsonb(repeat('x', 100)) FROM generate_series({first}, {last}) n;"
    )
}

/// Trap 4.8: the rows of one COPY share a position, which Debezium (DBZ-5915) took for the name of an event. They are as
/// many events as rows, with a `position` each.
#[tokio::test]
async fn rows_of_one_copy_are_as_many_events() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox
        .sql(
            "COPY outbox (aggregate_type, aggregate_id, event_type)
             FROM PROGRAM 'for n in $(seq 1000); do echo order,k,$n; done' (FORMAT csv)",
        )
        .await;
    outbox.all_confirmed().await;
    let messages = outbox.messages("order");
    assert_eq!(numbers(&messages), (1..=1000).collect::<Vec<_>>());
    let positions: Vec<_> = messages.iter().map(|message| message.header("position").unwrap()).collect();
    assert!(positions.is_sorted_by(|one, next| one < next));
    relay.stop().await;
    outbox.database.drop().await;
}

/// Trap 4.14: sequin acknowledged only when it was asked to, and a server without `wal_sender_timeout` never asks.
#[tokio::test]
async fn a_server_that_never_asks_is_told_all_the_same() {
    let outbox = Outbox::create().await;
    let relay = with_options(&outbox, "-c wal_sender_timeout=0", &[]);
    relay.ready().await;
    outbox.insert("1").await;
    let committed = outbox.insert_lsn().await;
    eventually("the slot follows", async || outbox.confirmed_flush().await >= committed).await;
    relay.stop().await;
    outbox.database.drop().await;
}

/// Trap 4.16: pgwire-replication (spiceai#11616) stopped to answer PostgreSQL while the way to its sink was full, and the
/// server ended the connection.
#[tokio::test]
async fn postgres_hears_of_the_relay_while_kafka_is_away_and_nothing_is_read() {
    let outbox = Outbox::create().await;
    let kafka = OwnKafka::with_topic(&outbox.topic("order"));
    let setting = kafka.setting();
    let relay =
        with_options(&outbox, "-c wal_sender_timeout=2s", &[&setting, "delivery.max_in_flight=16KiB"]);
    relay.ready().await;
    outbox.sql(&numbered(1, 1)).await;
    outbox.all_confirmed().await;
    let walsender = "SELECT pid FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid
                     WHERE slot_name = current_database()";
    let before = outbox.text(walsender).await;
    assert!(!before.is_empty());

    kafka.switch_off();
    outbox.sql(&numbered(2, 2_000)).await;
    relay.ready_says(503, "blocked on kafka").await;
    // That the server does not give up can be told only by waiting: for a few of its time-outs.
    let asked = outbox.text("clock_timestamp()").await;
    let waited = format!("SELECT clock_timestamp() > timestamptz '{asked}' + interval '7 s'");
    eventually("three time-outs have passed", async || outbox.text(&waited).await == "true").await;
    assert_eq!(outbox.text(walsender).await, before, "{}", relay.log());

    kafka.switch_on();
    outbox.all_confirmed().await;
    assert_eq!(outbox.text(walsender).await, before, "{}", relay.log());
    let mut numbers = numbers(&kafka.messages(&outbox.topic("order")));
    // Not a real broker: it may store again what it did not tell of.
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (1..=2_000).collect::<Vec<_>>());
    relay.stop().await;
    outbox.database.drop().await;
}

/// Trap 4.20: rust-rdkafka's `FutureProducer` tries each record again by itself when the queue is full, so that later ones
/// overtake it (DeltaForge sends so).
#[tokio::test]
async fn a_full_queue_neither_drops_nor_overtakes() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["kafka.queue.buffering.max.messages=3", "kafka.linger.ms=1"]);
    relay.ready().await;
    outbox.sql(&numbered(1, 500)).await;
    outbox.sql(&numbered(501, 1_000)).await;
    outbox.all_confirmed().await;
    assert_eq!(numbers(&outbox.messages("order")), (1..=1_000).collect::<Vec<_>>());
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    outbox.database.drop().await;
}

/// Trap 4.25: go-pq-cdc, in protocol 2, drops a whole transaction when one of its savepoints is rolled back and the
/// transaction is larger than `logical_decoding_work_mem`: 10,000 of 20,000 rows. And trap 4.19: with that protocol rows
/// come before their commit (go-pq-cdc#86), so that rolled back ones are sent. The relay asks for protocol 1.
#[tokio::test]
async fn of_a_transaction_that_spills_all_is_sent_but_what_its_savepoints_took_back() {
    let outbox = Outbox::create().await;
    let relay = with_options(&outbox, "-c logical_decoding_work_mem=64kB", &[]);
    relay.ready().await;
    let (kept, again) = (numbered(1, 10_000), numbered(10_001, 20_000));
    let taken_back = numbered(900_001, 903_000);
    outbox
        .sql(&format!(
            "BEGIN; {kept} SAVEPOINT a; {taken_back} SAVEPOINT b; {taken_back} ROLLBACK TO SAVEPOINT a;
             {again} COMMIT;
             BEGIN; {taken_back} ROLLBACK"
        ))
        .await;
    outbox.all_confirmed().await;
    assert_eq!(numbers(&outbox.messages("order")), (1..=20_000).collect::<Vec<_>>());
    // What is told to the statistics at the latest when the walsender ends.
    relay.stop().await;
    let spilled = "SELECT spill_txns > 0 FROM pg_stat_replication_slots WHERE slot_name = current_database()";
    eventually("the transaction did spill", async || outbox.text(spilled).await == "true").await;
    outbox.database.drop().await;
}
