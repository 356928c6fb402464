//! `after_publish.action = "drop-partitions"`, with the table and the functions of `sql/optional/partitions.sql`.

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::{Message, OwnKafka};
use crate::servers::client;

const DROP: &str = "after_publish.action=drop-partitions";

/// A partitioned outbox with a partition that has ended, as the file makes it for the slot of this test.
pub(crate) async fn partitioned() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.sql("DROP PUBLICATION outbox_relay; DROP TABLE outbox").await;
    let file = include_str!("../../sql/optional/partitions.sql");
    outbox.sql(&file.replace("ARRAY['outbox_relay']", &format!("ARRAY['{}']", outbox.slot()))).await;
    outbox.sql(include_str!("../../sql/03_publication.sql")).await;
    outbox
}

/// Stops `relay`, and waits until the server has ended its sessions: one may still be looking for partitions to detach.
async fn stop(outbox: &Outbox, relay: Relay) {
    relay.stop().await;
    let ended = "SELECT count(*) = 0 FROM pg_stat_activity
                 WHERE datname = current_database() AND usename = 'outbox_relay'";
    eventually("its sessions have ended", async || outbox.text(ended).await == "true").await;
}

/// Makes a partition of a month that is over.
async fn old_partition(outbox: &Outbox, name: &str, month: u32) {
    outbox
        .sql(&format!(
            "CREATE TABLE {name} PARTITION OF outbox FOR VALUES FROM ('2020-{month:02}-01') TO ('2020-{:02}-01')",
            month + 1
        ))
        .await;
}

async fn insert(outbox: &Outbox, key: &str, time: &str) {
    outbox
        .sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at) VALUES ('order', '{key}', 'x', '{time}')"
        ))
        .await;
}

async fn is_there(outbox: &Outbox, table: &str) -> bool {
    outbox.text(&format!("SELECT to_regclass('{table}') IS NOT NULL")).await == "true"
}

async fn is_detached(outbox: &Outbox, table: &str) -> bool {
    outbox.text(&format!("SELECT NOT relispartition FROM pg_class WHERE oid = to_regclass('{table}')")).await
        == "true"
}

#[tokio::test]
async fn a_partition_goes_when_its_time_is_over_and_its_rows_are_sent() {
    let outbox = partitioned().await;
    let relay = outbox.relay(&[DROP]);
    relay.ready().await;
    stop(&outbox, relay).await;
    old_partition(&outbox, "outbox_old", 1).await;
    old_partition(&outbox, "outbox_older", 2).await;
    outbox.sql("CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT").await;
    insert(&outbox, "1", "2020-01-05").await;
    insert(&outbox, "2", "2020-02-05").await;
    insert(&outbox, "now", "now").await;
    insert(&outbox, "rest", "1999-01-01").await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass";
    let relay = outbox.relay(&[DROP]);
    eventually("both are gone", async || {
        !is_there(&outbox, "outbox_old").await && !is_there(&outbox, "outbox_older").await
    })
    .await;
    relay.metric_becomes("outbox_relay_cleaned_total{action=\"drop-partitions\"}", 2.0).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1", "2", "now", "rest"]);
    // Those of today and to come, and the one for all other values.
    assert_eq!(outbox.text(partitions).await, "9");
    assert_eq!(
        outbox.text("SELECT string_agg(aggregate_id, ',' ORDER BY aggregate_id) FROM outbox").await,
        "now,rest"
    );
    let log = relay.stop().await;
    assert!(!log.contains("published rows stay"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_partition_whose_rows_are_not_sent_is_not_dropped_whatever_is_killed() {
    let outbox = partitioned().await;
    let kafka = OwnKafka::with_topic(&outbox.topic("order"));
    let relay = outbox.relay(&[DROP, &kafka.setting()]);
    relay.ready().await;
    stop(&outbox, relay).await;
    kafka.switch_off();
    old_partition(&outbox, "outbox_old", 1).await;
    insert(&outbox, "1", "2020-01-05").await;
    let mut relay = outbox.relay(&[DROP, &kafka.setting()]);
    eventually("it is detached", async || is_detached(&outbox, "outbox_old").await).await;
    for _ in 0..2 {
        relay.kill().await;
        relay = outbox.relay(&[DROP, &kafka.setting()]);
        relay.ready_says(503, "blocked on kafka").await;
        assert!(is_detached(&outbox, "outbox_old").await);
    }
    // Not even if the relay asks for it.
    let ask = "SELECT drop_partition_of_outbox('outbox_old'::regclass)";
    assert_eq!(outbox.text(ask).await, "false");
    kafka.switch_on();
    eventually("it is dropped", async || !is_there(&outbox, "outbox_old").await).await;
    let sent: Vec<_> = kafka.messages(&outbox.topic("order")).iter().map(Message::key_text).collect();
    assert!(!sent.is_empty() && sent.iter().all(|key| key == "1"), "{sent:?}");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn who_writes_to_the_table_is_waited_for_later() {
    let outbox = partitioned().await;
    let somebody = client(&outbox.database.info()).await;
    let relay = outbox.relay(&[DROP]);
    relay.ready().await;
    stop(&outbox, relay).await;
    old_partition(&outbox, "outbox_old", 1).await;
    somebody
        .batch_execute("BEGIN; INSERT INTO outbox (aggregate_type, aggregate_id, event_type, created_at) VALUES ('order', 'late', 'x', '2020-01-05')")
        .await
        .unwrap();
    let relay = outbox.relay(&[DROP]);
    relay.ready().await;
    // Its tries hold nobody up for long.
    for _ in 0..20 {
        insert(&outbox, "other", "now").await;
    }
    assert!(!is_detached(&outbox, "outbox_old").await);
    somebody.batch_execute("COMMIT").await.unwrap();
    eventually("it is dropped", async || !is_there(&outbox, "outbox_old").await).await;
    assert_eq!(outbox.keys().iter().filter(|key| *key == "late").count(), 1);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn the_functions_do_no_more_than_they_say() {
    let outbox = partitioned().await;
    let relay_s =
        crate::servers::conninfo(&format!("postgres://outbox_relay@localhost/{}", outbox.database.name));
    let relay_s =
        outbox_relay::postgres::conninfo::ConnInfo { hosts: outbox.database.info().hosts, ..relay_s };
    let relay = client(&relay_s).await;
    let says = async |sql: &str| match relay.query_one(sql, &[]).await {
        Ok(row) => row.get::<_, bool>(0).to_string(),
        Err(error) => error.as_db_error().unwrap().message().to_owned(),
    };
    outbox
        .sql(
            "CREATE TABLE orders (at timestamptz) PARTITION BY RANGE (at);
             CREATE TABLE orders_old PARTITION OF orders FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
             CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT;
             CREATE TABLE outbox_far PARTITION OF outbox FOR VALUES FROM ('2100-01-01') TO (MAXVALUE);
             CREATE TABLE forged (); ALTER TABLE forged OWNER TO outbox_relay;
             CREATE TABLE mine ()",
        )
        .await;
    // As if the function had detached them; one is not its owner's.
    let oid = outbox.text("SELECT 'outbox'::regclass::oid").await;
    let comment = format!("IS 'outbox-relay: detached from {oid} at 0/0'");
    outbox.sql(&format!("COMMENT ON TABLE forged {comment}; COMMENT ON TABLE outbox_far {comment}")).await;
    // What has not ended is not detached, whatever is asked for.
    assert_eq!(says("SELECT detach_partition_of_outbox('-100 years')").await, "false");
    assert_eq!(says("SELECT detach_partition_of_outbox('0')").await, "false");
    for table in ["orders", "orders_old", "outbox", "outbox_rest", "outbox_far", "forged", "mine"] {
        let said = says(&format!("SELECT drop_partition_of_outbox('{table}'::regclass)")).await;
        assert!(said.ends_with("was not detached from public.outbox by the relay"), "{table}: {said}");
    }
    for right in ["SELECT count(*) = 0 FROM outbox", "SELECT add_partitions_of_outbox(1) IS NULL"] {
        assert!(says(right).await.starts_with("permission denied"));
    }
    let others = "SELECT has_function_privilege('pg_monitor', 'drop_partition_of_outbox(oid)', 'EXECUTE')
                      OR has_function_privilege('pg_monitor', 'detach_partition_of_outbox(interval)', 'EXECUTE')";
    assert_eq!(outbox.text(others).await, "false");
    // A detached partition that nobody wants to lose.
    old_partition(&outbox, "outbox_kept", 3).await;
    assert_eq!(says("SELECT detach_partition_of_outbox('0')").await, "true");
    outbox.sql("COMMENT ON TABLE outbox_kept IS NULL").await;
    let said = says("SELECT drop_partition_of_outbox('outbox_kept'::regclass)").await;
    assert!(said.contains("was not detached"), "{said}");
    // Without the slot nobody knows what was sent.
    old_partition(&outbox, "outbox_old", 4).await;
    assert_eq!(says("SELECT detach_partition_of_outbox('0')").await, "true");
    assert_eq!(says("SELECT drop_partition_of_outbox('outbox_old'::regclass)").await, "false");
    drop(relay);
    outbox.sql("ALTER TABLE forged OWNER TO postgres; DROP TABLE forged").await;
    outbox.database.drop().await;
}
