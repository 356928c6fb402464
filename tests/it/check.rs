//! What `check` finds in PostgreSQL: each finding staged on a real server. Their texts are in `src/findings/tests.rs`.

use serde_json::Value;

use crate::fixture::{Outbox, eventually};
use crate::kafka::create_topic;
use crate::own_server::Server;
use crate::proxy::Closed;
use crate::servers::{Database, client, superuser_tcp};

/// What `check --json` says with these settings: `level id` of each finding, the gravest first. Its exit status must fit.
///
/// Whether the publication may be newer than the slot depends on other slots of the server, which are other tests'.
async fn found(outbox: &Outbox, settings: &[&str]) -> Vec<String> {
    let mut all = all_found(outbox, settings).await;
    all.retain(|finding| finding != PERHAPS_NEWER);
    all
}

const PERHAPS_NEWER: &str = "warn publication_perhaps_newer";

async fn all_found(outbox: &Outbox, settings: &[&str]) -> Vec<String> {
    let output = outbox.program(&["check", "--json"], settings).output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let checked: Value = serde_json::from_str(&printed)
        .unwrap_or_else(|error| panic!("{error}: {printed:?} {:?}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&output.stderr));
    let text = |finding: &Value, part: &str| {
        let text = finding[part].as_str().unwrap().to_owned();
        assert!(!text.is_empty(), "{checked}");
        text
    };
    let mut all = Vec::new();
    for finding in checked["findings"].as_array().unwrap() {
        text(finding, "message");
        text(finding, "fix");
        all.push(format!("{} {}", text(finding, "level"), text(finding, "id")));
    }
    let ok = all.iter().all(|finding| finding.starts_with("warn"));
    assert_eq!(
        (checked["ok"].as_bool(), output.status.code()),
        (Some(ok), Some(i32::from(!ok))),
        "{checked}"
    );
    all
}

/// The same for people.
async fn text(outbox: &Outbox, settings: &[&str]) -> String {
    let output = outbox.program(&["check"], settings).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_outbox_as_the_sql_files_make_it_is_fine() {
    let outbox = Outbox::create().await;
    assert_eq!(found(&outbox, &[]).await, [""; 0]);
    assert_eq!(text(&outbox, &[]).await, "ok: nothing keeps the relay from working\n");

    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    // Beside a relay that streams, this one would be its standby.
    let beside = found(&outbox, &[]).await;
    assert!(beside.contains(&"wait slot_in_use".to_owned()), "{beside:?}");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn everything_is_told_at_once_and_nothing_is_changed() {
    let outbox = Outbox::create().await;
    outbox.sql("DROP PUBLICATION outbox_relay; ALTER TABLE outbox RENAME payload TO body").await;
    let settings = ["postgres.create_slot=false", "outbox.tables=public.outbox,public.nothing"];
    assert_eq!(
        found(&outbox, &settings).await,
        ["stop column_missing", "stop table_missing", "stop publication_missing", "stop slot_missing"]
    );
    let printed = text(&outbox, &settings).await;
    assert!(printed.ends_with("no: 4 to mend\n"), "{printed}");
    // `run` looks at the same list.
    let log = outbox.relay(&settings).refuses().await;
    assert!(
        log.contains(
            "error: 4 findings in PostgreSQL\n\n  stop: table \"public.outbox\" has no column \"payload\""
        ),
        "{log}"
    );
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!(outbox.text(slots).await, "0");
    outbox.database.drop().await;
}

#[tokio::test]
async fn kafka_is_looked_at_as_well_with_what_the_rows_tell_if_the_role_may_read_them() {
    let outbox = Outbox::create().await;
    let closed = Closed::new();
    let away = format!("kafka.bootstrap.servers={}", closed.address);
    assert_eq!(
        found(&outbox, &["postgres.publication=nothing", &away]).await,
        ["stop publication_missing", "wait broker_unreachable"]
    );
    // A topic that could be meant is there.
    outbox.insert("1").await;
    outbox
        .sql("INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('refund', '1', 'x')")
        .await;
    outbox.sql(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", outbox.slot())).await;
    assert_eq!(found(&outbox, &[]).await, [""; 0]);
    outbox.sql("GRANT SELECT ON outbox TO outbox_relay").await;
    assert_eq!(found(&outbox, &[]).await, ["wait topic_missing"]);
    let printed = text(&outbox, &[]).await;
    assert!(printed.contains(&format!("topic \"{}\"", outbox.topic("refund"))), "{printed}");

    outbox.sql("DELETE FROM outbox WHERE aggregate_type = 'refund'").await;
    outbox.sql("UPDATE outbox SET payload = jsonb_build_object('x', repeat('x', 1500000))").await;
    assert_eq!(found(&outbox, &[]).await, ["warn topic_message_size"; 2]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_server_that_is_away_or_does_not_let_the_relay_in() {
    let outbox = Outbox::create().await;
    let port = superuser_tcp().hosts[0].port;
    let database = outbox.database.name.clone();
    let closed = Closed::new();
    let away = format!("postgres.url=postgres://outbox_relay@{}/{database}", closed.address);
    assert_eq!(found(&outbox, &[&away]).await, ["wait server_unreachable"]);

    let tcp =
        |user: &str, database: &str| format!("postgres.url=postgres://{user}@127.0.0.1:{port}/{database}");
    // Without the role, the server asks for its password all the same.
    assert_eq!(found(&outbox, &[&tcp("auth_scram:wrong", &database)]).await, ["stop wrong_password"]);
    assert_eq!(found(&outbox, &[&tcp("auth_scram", &database)]).await, ["stop wrong_password"]);
    assert_eq!(found(&outbox, &[&tcp("no_such_role", &database)]).await, ["stop login_refused"]);
    assert_eq!(found(&outbox, &[&tcp("outbox_relay", "no_such_database")]).await, ["stop database_missing"]);

    let role = format!("{database}_weak");
    outbox.sql(&format!("CREATE ROLE {role} LOGIN")).await;
    assert_eq!(found(&outbox, &[&tcp(&role, &database)]).await, ["stop replication_missing"]);
    outbox.sql(&format!("REVOKE CONNECT ON DATABASE {database} FROM public")).await;
    assert_eq!(found(&outbox, &[&tcp(&role, &database)]).await, ["stop privilege_missing"]);
    outbox.sql(&format!("DROP ROLE {role}; ALTER DATABASE {database} CONNECTION LIMIT 0")).await;
    assert_eq!(found(&outbox, &[]).await, ["wait no_free_connection"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_table_that_is_locked_makes_the_relay_wait_and_leaves_no_connections_behind() {
    let outbox = Outbox::create().await;
    let locker = client(&outbox.database.info()).await;
    locker.batch_execute("BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let relay = outbox.relay(&[]);
    // The server itself ends the question.
    relay.log_says("57014").await;
    relay.log_says("hint: something holds a lock on the outbox").await;
    let waiting = "SELECT count(*) <= 2 FROM pg_stat_activity WHERE usename = 'outbox_relay' AND datname = current_database()";
    assert_eq!(outbox.text(waiting).await, "true");
    locker.batch_execute("COMMIT").await.unwrap();
    relay.ready().await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn limits_that_somebody_has_set_for_the_role_are_harmless() {
    let outbox = Outbox::create().await;
    let role = format!("{}_limited", outbox.database.name);
    outbox
        .sql(&format!(
            "CREATE ROLE {role} LOGIN REPLICATION;
             ALTER ROLE {role} SET statement_timeout = '1ms';
             ALTER ROLE {role} SET work_mem = '1MB';
             ALTER ROLE {role} IN DATABASE {} SET idle_session_timeout = '10ms'",
            outbox.database.name
        ))
        .await;
    let port = superuser_tcp().hosts[0].port;
    let url = format!("postgres.url=postgres://{role}@127.0.0.1:{port}/{}", outbox.database.name);
    assert_eq!(found(&outbox, &[&url]).await, ["warn role_limit", "warn role_limit"]);
    let relay = outbox.relay(&[&url]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    relay.stop().await;
    outbox.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_table_that_cannot_be_relayed() {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "CREATE VIEW seen AS SELECT * FROM outbox;
             CREATE UNLOGGED TABLE fast (LIKE outbox);
             CREATE TABLE computed (LIKE outbox, body text GENERATED ALWAYS AS (upper(aggregate_id)) STORED);
             ALTER PUBLICATION outbox_relay ADD TABLE computed",
        )
        .await;
    let publication = "stop publication_without_table";
    assert_eq!(found(&outbox, &["outbox.tables=public.seen"]).await, ["stop table_kind", publication]);
    assert_eq!(found(&outbox, &["outbox.tables=public.fast"]).await, ["stop table_unlogged", publication]);
    let computed = ["outbox.tables=public.computed", "outbox.columns.payload=body"];
    assert_eq!(found(&outbox, &computed).await, ["stop column_generated"]);
    assert_eq!(found(&outbox, &["outbox.columns.timestamp=payload"]).await, ["stop column_type"]);
    let both = ["outbox.columns.timestamp=payload", "route.partition=shard"];
    assert_eq!(found(&outbox, &both).await, ["stop column_missing", "stop column_type"]);
    assert_eq!(found(&outbox, &["route.partition=event_type"]).await, ["warn partition_column_type"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_publication_that_leaves_something_out() {
    let outbox = Outbox::create().await;
    let server: i32 = outbox.text("current_setting('server_version_num')").await.parse().unwrap();
    outbox
        .sql(
            "CREATE TABLE parts (LIKE outbox) PARTITION BY LIST (aggregate_type);
             CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
             CREATE PUBLICATION updates FOR TABLE outbox WITH (publish = 'update');
             CREATE PUBLICATION leaves FOR TABLE parts WITH (publish = 'insert');
             CREATE PUBLICATION everything FOR ALL TABLES",
        )
        .await;
    let with = async |settings: &[&str]| found(&outbox, settings).await;
    assert_eq!(with(&["postgres.publication=nothing"]).await, ["stop publication_missing"]);
    assert_eq!(with(&["postgres.publication=updates"]).await, ["stop publication_without_inserts"]);
    assert_eq!(with(&["postgres.publication=leaves"]).await, ["stop publication_without_table"]);
    let root = ["postgres.publication=leaves", "outbox.tables=public.parts"];
    assert_eq!(with(&root).await, ["stop publication_without_root"]);
    assert_eq!(
        with(&["postgres.publication=everything"]).await,
        ["warn publication_all_tables", "warn publication_further_operations"]
    );
    // Since PostgreSQL 15 a publication can leave out columns and rows.
    if server >= 150_000 {
        outbox
            .sql(
                "CREATE PUBLICATION narrow FOR TABLE outbox (id, aggregate_type, aggregate_id, event_type) WITH (publish = 'insert');
                 CREATE PUBLICATION filtered FOR TABLE outbox WHERE (aggregate_id <> 'x') WITH (publish = 'insert')",
            )
            .await;
        assert_eq!(with(&["postgres.publication=narrow"]).await, ["stop publication_columns"]);
        assert_eq!(with(&["postgres.publication=filtered"]).await, ["warn publication_row_filter"]);
    }
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_publication_that_may_be_newer_than_the_slot_is_warned_of_until_the_relay_has_caught_up() {
    let outbox = Outbox::create().await;
    outbox.sql("DROP PUBLICATION outbox_relay").await;
    outbox.sql(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", outbox.slot())).await;
    outbox.sql("CREATE PUBLICATION outbox_relay FOR TABLE outbox WITH (publish = 'insert')").await;
    assert_eq!(all_found(&outbox, &[]).await, [PERHAPS_NEWER]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_slot_that_is_not_ours_to_use() {
    let (outbox, other) = (Outbox::create().await, Outbox::create().await);
    let slot = outbox.slot();
    outbox.sql(&format!("SELECT pg_create_physical_replication_slot('{slot}')")).await;
    assert_eq!(found(&outbox, &[]).await, ["stop slot_of_another"]);
    outbox.sql(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    other.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    assert_eq!(found(&outbox, &[]).await, ["stop slot_of_another"]);
    other.database.drop().await;
    // The rows that are there when the slot is made are not sent.
    outbox.insert("early").await;
    assert_eq!(found(&outbox, &[]).await, ["warn rows_before_slot"]);
    outbox.database.drop().await;
}

/// An outbox on a server of its own.
async fn on(server: &Server) -> Outbox {
    let outbox = Outbox::create_on(Database::create_on(server.superuser.clone(), "").await).await;
    create_topic(&outbox.topic("order"), 1, &[]).await;
    outbox
}

#[tokio::test]
async fn a_server_that_is_not_set_up_for_logical_decoding() {
    let settings = ["wal_level=replica", "synchronous_standby_names=*", "synchronous_commit=local"];
    let server = Server::with(&settings).await;
    let outbox = on(&server).await;
    assert_eq!(found(&outbox, &[]).await, ["stop wal_level", "stop synchronous_standby"]);
    assert_eq!(
        found(&outbox, &["postgres.create_slot=false"]).await,
        ["stop wal_level", "stop synchronous_standby", "stop slot_missing"]
    );
}

#[tokio::test]
async fn a_server_without_a_free_slot_or_walsender_and_a_slot_that_is_lost() {
    let settings =
        ["max_replication_slots=1", "max_wal_senders=1", "max_slot_wal_keep_size=1MB", "min_wal_size=32MB"];
    let server = Server::with(&settings).await;
    let outbox = on(&server).await;
    outbox.sql("SELECT pg_create_physical_replication_slot('another')").await;
    assert_eq!(found(&outbox, &[]).await, ["wait no_free_slot"]);
    // `run` waits it out.
    let relay = outbox.relay(&[]);
    relay.ready_says(503, "no replication slot is free").await;
    outbox.sql("SELECT pg_drop_replication_slot('another')").await;
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    assert_eq!(found(&outbox, &[]).await, ["wait slot_in_use", "wait no_free_walsender"]);
    relay.stop().await;
    eventually("its walsender is gone", async || found(&outbox, &[]).await.is_empty()).await;

    // More WAL than the server keeps for a slot.
    let segment =
        "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) FROM generate_series(1, 20)";
    for _ in 0..3 {
        outbox.sql(&format!("{segment}; SELECT pg_switch_wal()")).await;
    }
    assert_eq!(found(&outbox, &[]).await, ["warn slot_almost_lost"]);
    outbox.sql("CHECKPOINT").await;
    let superuser = client(&outbox.database.info()).await;
    eventually("the slot is lost", async || {
        let sql = "SELECT wal_status = 'lost' FROM pg_replication_slots";
        superuser.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
    assert_eq!(found(&outbox, &[]).await, ["stop slot_lost"]);
    let log = outbox.relay(&[]).refuses().await;
    assert!(log.contains("is lost (wal_status = lost)"), "{log}");
}
