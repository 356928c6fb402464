//! Connections to PostgreSQL that are open and of no use any more.

use std::time::{Duration, Instant};

use crate::fixture::Outbox;
use crate::proxy::behind_proxy;

/// What `scripts/servers` sets: a server that heard nothing for so long would end the stream itself.
const WAL_SENDER_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_stream_that_is_swallowed_on_the_way_is_made_anew_before_postgres_gives_it_up() {
    let outbox = Outbox::create().await;
    let (relay, proxy) = behind_proxy(&outbox);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;

    proxy.freeze_replication();
    let frozen = Instant::now();
    outbox.insert("2").await;
    relay.log_says("trying again: the replication connection is lost: PostgreSQL's walsender (pid ").await;
    assert!(frozen.elapsed() < WAL_SENDER_TIMEOUT, "{:?}", frozen.elapsed());
    assert!(
        relay.log().contains(") waits for the relay, but nothing has come from it for "),
        "{}",
        relay.log()
    );
    proxy.thaw();
    relay.ready().await;
    outbox.all_confirmed().await;
    relay.stop().await;
    assert_eq!(outbox.keys(), ["1", "2"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_postgres_that_stays_frozen_loses_its_session_and_gets_a_new_one_when_it_is_back() {
    let outbox = Outbox::create().await;
    let (relay, proxy) = behind_proxy(&outbox);
    relay.ready().await;
    proxy.freeze();
    let frozen = Instant::now();
    relay.log_says("trying again: the replication connection is lost: PostgreSQL has been silent for ").await;
    assert!(frozen.elapsed() < WAL_SENDER_TIMEOUT, "{:?}", frozen.elapsed());
    outbox.insert("1").await;
    proxy.thaw();
    relay.ready().await;
    outbox.all_confirmed().await;
    relay.stop().await;
    assert_eq!(outbox.keys(), ["1"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_slot_that_our_own_lost_connection_holds_is_taken_back_at_once() {
    let outbox = Outbox::create().await;
    let (relay, proxy) = behind_proxy(&outbox);
    relay.ready().await;
    let cut = Instant::now();
    proxy.cut();
    relay.log_says("trying again: ").await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    assert!(cut.elapsed() < WAL_SENDER_TIMEOUT / 2, "{:?}", cut.elapsed());
    let log = relay.stop().await;
    assert!(!log.contains("standby"), "{log}");
    assert_eq!(outbox.keys(), ["1"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_slot_that_our_own_frozen_walsender_holds_is_waited_for() {
    let outbox = Outbox::create().await;
    let (relay, _proxy) = behind_proxy(&outbox);
    relay.ready().await;
    let slot = outbox.slot();
    let pid =
        outbox.text(&format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'")).await;
    let signal = |signal: &str| std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(signal("-STOP").success());
    relay
        .ready_says(
            503,
            &format!("PostgreSQL holds the slot for the last connection of this relay (pid {pid})"),
        )
        .await;
    outbox.insert("1").await;
    assert!(signal("-CONT").success());
    relay.ready().await;
    outbox.all_confirmed().await;
    let log = relay.stop().await;
    assert!(!log.contains("standby"), "{log}");
    assert_eq!(outbox.keys(), ["1"]);
    outbox.database.drop().await;
}
