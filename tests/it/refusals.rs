//! What the relay refuses: it ends with exit status 1, says what is wrong, and what to do.

use crate::fixture::Outbox;
use crate::servers::superuser_tcp;

/// The error at the log's end, with its hint.
fn last_words(log: &str) -> &str {
    &log[log.find("error: ").unwrap_or_else(|| panic!("no error: {log}"))..]
}

#[tokio::test]
async fn what_is_missing_or_not_as_needed_at_the_start_is_named_with_what_to_do() {
    let outbox = Outbox::create().await;
    let database = outbox.database.name.clone();
    outbox
        .sql(
            "CREATE TABLE elsewhere (n int);
             CREATE PUBLICATION updates FOR TABLE outbox WITH (publish = 'update');
             CREATE PUBLICATION other FOR TABLE elsewhere",
        )
        .await;
    for (settings, message, hint) in [
        (
            vec!["outbox.tables=public.outbox,public.nothing"],
            format!("table \"public.nothing\" does not exist in database \"{database}\""),
            "outbox.tables",
        ),
        (
            vec!["postgres.publication=nothing"],
            format!("publication \"nothing\" does not exist in database \"{database}\""),
            "CREATE PUBLICATION nothing FOR TABLE public.outbox WITH (publish = 'insert', publish_via_partition_root = true)",
        ),
        (
            vec!["postgres.publication=updates"],
            "publication \"updates\" does not publish INSERTs".to_owned(),
            "ALTER PUBLICATION updates SET (publish = 'insert')",
        ),
        (
            vec!["postgres.publication=other"],
            "publication \"other\" does not publish table \"public.outbox\"".to_owned(),
            "ALTER PUBLICATION other ADD TABLE public.outbox",
        ),
        (
            vec!["postgres.create_slot=false"],
            format!("replication slot \"{database}\" does not exist, and postgres.create_slot is false"),
            "pg_create_logical_replication_slot",
        ),
    ] {
        let log = outbox.relay(&settings).refuses().await;
        let (error, told) =
            last_words(&log).split_once("\n\nhint: ").unwrap_or_else(|| panic!("no hint: {log}"));
        assert_eq!(error, format!("error: {message}"));
        assert!(told.contains(hint), "{told}");
    }
    // Nothing was made on the way to a refusal.
    assert_eq!(
        outbox.text("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()").await,
        "0"
    );
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_slot_that_is_for_something_else_is_left_alone() {
    let (outbox, other) = (Outbox::create().await, Outbox::create().await);
    let slot = outbox.slot();
    outbox.sql(&format!("SELECT pg_create_physical_replication_slot('{slot}')")).await;
    let log = outbox.relay(&[]).refuses().await;
    let expected =
        format!("error: slot \"{slot}\": plugin is none (a physical slot), expected pgoutput\n\nhint: ");
    assert!(log.contains(&expected), "{log}");
    outbox.sql(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;

    other.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    let log = outbox.relay(&[]).refuses().await;
    let (theirs, ours) = (&other.database.name, &outbox.database.name);
    let expected = format!("error: slot \"{slot}\": database is {theirs}, expected {ours}\n\nhint: ");
    assert!(log.contains(&expected), "{log}");
    other.database.drop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_login_that_is_refused_ends_the_relay_and_shows_no_password() {
    let outbox = Outbox::create().await;
    let port = superuser_tcp().hosts[0].port;
    let database = &outbox.database.name;
    let url =
        |user: &str, database: &str| format!("postgres.url=postgres://{user}@127.0.0.1:{port}/{database}");
    // Without the role, the server asks for its password all the same.
    let log = outbox.relay(&[&url("auth_scram:open-sesame", database)]).refuses().await;
    assert!(log.contains("28P01: password authentication failed for user \"auth_scram\""), "{log}");
    assert!(!log.contains("sesame"), "{log}");
    let log = outbox.relay(&[&url("outbox_relay", "no_such_database")]).refuses().await;
    assert!(log.contains("3D000: database \"no_such_database\" does not exist"), "{log}");

    let role = format!("{database}_weak");
    outbox.sql(&format!("CREATE ROLE {role} LOGIN")).await;
    let log = outbox.relay(&[&url(&role, database)]).refuses().await;
    assert!(
        log.contains("42501")
            && last_words(&log).contains(&format!("hint: as a superuser: ALTER ROLE {role} REPLICATION")),
        "{log}"
    );
    outbox.sql(&format!("DROP ROLE {role}")).await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_publication_that_is_newer_than_the_slot_ends_the_relay_before_anything_is_lost() {
    let outbox = Outbox::create().await;
    let slot = outbox.slot();
    outbox.sql("DROP PUBLICATION outbox_relay").await;
    outbox.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    outbox.insert("before the publication").await;
    outbox.sql("CREATE PUBLICATION outbox_relay FOR TABLE outbox WITH (publish = 'insert')").await;
    let confirmed = outbox.confirmed_flush().await;
    let log = outbox.relay(&[]).refuses().await;
    let last_words = last_words(&log);
    assert!(last_words.contains("publication") && last_words.contains("outbox_relay"), "{log}");
    assert!(
        last_words.contains("hint: the publication was made, or made again, after the slot's position"),
        "{log}"
    );
    assert_eq!(outbox.confirmed_flush().await, confirmed);
    outbox.database.drop().await;
}

/// Changes the publication under a relay that streams, which ends it with this hint. With `insert`, an event comes right
/// after the change.
async fn changed_while_streaming(change: &str, insert: bool, hint: &str) {
    let outbox = Outbox::create().await;
    outbox.sql("CREATE TABLE elsewhere (n int); ALTER PUBLICATION outbox_relay ADD TABLE elsewhere").await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    outbox.sql(change).await;
    if insert {
        outbox.insert("after").await;
    }
    let log = relay.refuses().await;
    outbox.database.drop().await;
    let (_, told) = last_words(&log).split_once("\n\nhint: ").unwrap_or_else(|| panic!("{change}: {log}"));
    assert!(told.contains(hint), "{change}: {log}");
}

#[tokio::test]
async fn a_publication_that_changes_while_streaming_ends_the_relay() {
    // Each takes until the next look at the publication, so all at once.
    tokio::join!(
        changed_while_streaming(
            "ALTER PUBLICATION outbox_relay DROP TABLE outbox",
            false,
            "ALTER PUBLICATION outbox_relay ADD TABLE public.outbox",
        ),
        changed_while_streaming(
            "ALTER PUBLICATION outbox_relay SET (publish = 'update, delete')",
            false,
            "ALTER PUBLICATION outbox_relay SET (publish = 'insert')",
        ),
        changed_while_streaming(
            "DROP PUBLICATION outbox_relay",
            false,
            "CREATE PUBLICATION outbox_relay FOR TABLE public.outbox",
        ),
        changed_while_streaming("DROP PUBLICATION outbox_relay", true, "publication"),
        changed_while_streaming("DROP TABLE outbox", false, "in one transaction with that"),
    );
}

/// Trap 4.11 of docs/traps.md.
#[tokio::test]
async fn a_slot_that_is_dropped_while_the_relay_reconnects_is_not_made_anew_in_silence() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    // Nobody gets in while the slot is dropped.
    let limit = |limit| format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", outbox.database.name);
    outbox.sql(&limit(0)).await;
    let terminate = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                      WHERE usename = 'outbox_relay' AND datname = current_database()";
    outbox.sql(terminate).await;
    outbox.sql(&format!("SELECT pg_drop_replication_slot('{}')", outbox.slot())).await;
    outbox.insert("2").await;
    outbox.sql(&limit(-1)).await;
    let log = relay.refuses().await;
    assert!(log.contains(&format!("slot \"{}\" is gone: somebody has dropped it", outbox.slot())), "{log}");
    assert!(log.contains("hint: "), "{log}");
    assert_eq!(outbox.keys(), ["1"]);
    outbox.database.drop().await;
}
