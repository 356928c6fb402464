//! Tables that patterns mean: tenants with schemas of their own, that come and go while the relay streams.

use crate::fixture::{Outbox, eventually};
use crate::kafka::{Message, Reader, create_topic};

/// Makes a tenant's schema and table, in SQL.
fn tenant(schema: &str) -> String {
    format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.outbox (LIKE public.outbox INCLUDING ALL);")
}

/// Inserts an event into the table `schema.outbox`.
async fn insert(outbox: &Outbox, schema: &str, key: &str) {
    outbox
        .sql(&format!(
            "INSERT INTO {schema}.outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', '{key}', 'x')"
        ))
        .await;
}

/// The keys in a topic of the database, sorted.
fn keys(outbox: &Outbox, topic: &str) -> Vec<String> {
    let mut keys: Vec<_> =
        Reader::new(&outbox.topic(topic)).read_to_end().iter().map(Message::key_text).collect();
    keys.sort();
    keys
}

const PATTERN: &str = "outbox.tables=tenant_*.outbox";

#[tokio::test]
async fn tables_that_fit_a_pattern_are_relayed_and_each_may_have_a_shape_of_its_own() {
    let outbox = Outbox::create().await;
    let name = &outbox.database.name;
    for topic in ["tenant_1", "Tenant-2", "log"] {
        create_topic(&outbox.topic(topic), 1, &[]).await;
    }
    outbox.sql(&[tenant("tenant_1"), tenant("\"Tenant-2\"")].concat()).await;
    outbox
        .sql(
            "CREATE SCHEMA audit;
             CREATE TABLE audit.log (nr int, what text, body text);
             CREATE TABLE audit.noise (n int);
             CREATE SCHEMA tenant_v;
             CREATE VIEW tenant_v.outbox AS SELECT * FROM public.outbox;
             ALTER PUBLICATION outbox_relay SET TABLE public.outbox, tenant_1.outbox, \"Tenant-2\".outbox, audit.log, audit.noise",
        )
        .await;
    let relay = outbox.relay(&[
        "outbox.tables=public.outbox,tenant_*.outbox,\"Tenant-\"*.outbox,audit.l*",
        &format!("tables.tenant_*.outbox.route.topic={name}.{{@schema}}"),
        "tables.tenant_*.outbox.headers.table={@schema|upper}.{@table}",
        &format!("tables.\"Tenant-\"*.outbox.route.topic={name}.{{@schema}}"),
        "tables.\"Tenant-\"*.outbox.route.key={aggregate_type}-{aggregate_id}",
        &format!("tables.audit.log.route.topic={name}.{{@table}}"),
        "tables.audit.log.route.key={what}",
        "tables.audit.log.columns.id=nr",
        "tables.audit.log.columns.payload=body",
        "tables.audit.log.headers=",
    ]);
    relay.ready().await;
    insert(&outbox, "public", "1").await;
    insert(&outbox, "tenant_1", "2").await;
    insert(&outbox, "\"Tenant-2\"", "3").await;
    outbox.sql("INSERT INTO audit.log VALUES (7, 'login', 'ok'); INSERT INTO audit.noise VALUES (1)").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1"]);
    let one = |topic: &str| {
        let messages = Reader::new(&outbox.topic(topic)).read_to_end();
        <[Message; 1]>::try_from(messages).map(|[message]| message).unwrap()
    };
    let first = one("tenant_1");
    assert_eq!((first.key_text().as_str(), first.header("table").as_deref()), ("2", Some("TENANT_1.outbox")));
    assert_eq!(first.header("event_type"), None);
    let second = one("Tenant-2");
    assert_eq!((second.key_text().as_str(), second.header("event_type").as_deref()), ("order-3", Some("x")));
    let log = one("log");
    assert_eq!(
        (log.key_text(), log.id(), log.value.as_deref()),
        ("login".into(), "7".into(), Some(&b"ok"[..]))
    );
    let names: Vec<_> = log.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["id", "source", "position"]);
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_tenant_that_is_made_while_streaming_is_relayed_from_its_first_row() {
    let outbox = Outbox::create().await;
    let version: u32 = outbox.text("SELECT current_setting('server_version_num')").await.parse().unwrap();
    outbox.sql("DROP PUBLICATION outbox_relay; CREATE SCHEMA tenant_0").await;
    let mut ways = vec!["ADD TABLE", "FOR ALL TABLES"];
    if version >= 150_000 {
        ways.push("FOR TABLES IN SCHEMA tenant_0");
    }
    for (number, way) in (1..).zip(ways) {
        let made = if way == "ADD TABLE" { "" } else { way };
        let with = "WITH (publish = 'insert', publish_via_partition_root = true)";
        outbox.sql(&format!("CREATE PUBLICATION outbox_relay {made} {with}")).await;
        let relay = outbox.relay(&[PATTERN]);
        relay.ready().await;
        let schema = if way.contains("SCHEMA") { "tenant_0".to_owned() } else { format!("tenant_{number}") };
        let added = format!("ALTER PUBLICATION outbox_relay ADD TABLE {schema}.outbox;");
        let added = if way == "ADD TABLE" { &*added } else { "" };
        let made = tenant(&schema).replace("CREATE SCHEMA tenant_0; ", "");
        outbox.sql(&format!("BEGIN; {made} {added}")).await;
        insert(&outbox, &schema, &format!("{number} first")).await;
        outbox.sql("COMMIT").await;
        insert(&outbox, &schema, &format!("{number} second")).await;
        outbox.all_confirmed().await;
        relay.log_says(&format!("table \"{schema}.outbox\" is relayed, too")).await;
        insert(&outbox, &schema, &format!("{number} third")).await;
        outbox.all_confirmed().await;
        outbox.sql(&format!("DROP TABLE {schema}.outbox")).await;
        let log = relay.stop().await;
        assert!(!log.contains("published_late") && !log.contains("after it was made"), "{way}: {log}");
        let active = "SELECT active FROM pg_replication_slots WHERE slot_name = current_database()";
        eventually("the slot is free", async || outbox.text(active).await == "false").await;
        outbox
            .sql("DROP PUBLICATION outbox_relay; SELECT pg_drop_replication_slot(current_database())")
            .await;
    }
    let expected: Vec<_> = outbox.keys().chunks(3).map(<[String]>::len).collect();
    assert_eq!(expected, vec![3; if version >= 150_000 { 3 } else { 2 }]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_tenant_that_is_not_published_is_told_of_at_once_and_stops_the_relay_after_a_while() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["outbox.tables=public.outbox,tenant_*.outbox"]);
    relay.ready().await;
    outbox.sql(&tenant("tenant_1")).await;
    relay.log_says("table \"tenant_1.outbox\" is new").await;
    insert(&outbox, "public", "meanwhile").await;
    outbox.all_confirmed().await;
    let log = relay.refuses().await;
    assert!(
        log.contains("error: publication \"outbox_relay\" does not publish table \"tenant_1.outbox\""),
        "{log}"
    );
    assert_eq!(outbox.keys(), ["meanwhile"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_tenant_that_is_published_in_a_second_transaction_is_told_of() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&["outbox.tables=public.outbox,tenant_*.outbox"]);
    relay.ready().await;
    outbox.sql(&tenant("tenant_1")).await;
    relay.log_says("table \"tenant_1.outbox\" is new").await;
    outbox.sql("ALTER PUBLICATION outbox_relay ADD TABLE tenant_1.outbox").await;
    relay
        .log_says("table \"tenant_1.outbox\" was put into publication \"outbox_relay\" after it was made")
        .await;
    insert(&outbox, "tenant_1", "1").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1"]);
    // Of the next one a row is lost to the stream, and the relay does not go on as if nothing were.
    outbox.sql(&tenant("tenant_2")).await;
    insert(&outbox, "tenant_2", "lost").await;
    relay.log_says("table \"tenant_2.outbox\" is new").await;
    // The statistics tell of the row within a second; the look after that sees it.
    outbox.looked_again().await;
    outbox.looked_again().await;
    outbox.sql("ALTER PUBLICATION outbox_relay ADD TABLE tenant_2.outbox").await;
    insert(&outbox, "tenant_2", "2").await;
    let log = relay.refuses().await;
    assert!(log.contains("table \"tenant_2.outbox\"") && log.contains("rows were written into it"), "{log}");
    // The row can be found as it says, and the relay goes on where it is.
    let query = log.split("open then: ").last().unwrap().split("; send them").next().unwrap();
    assert_eq!(outbox.text(&query.replace('*', "string_agg(aggregate_id, ' ')")).await, "lost");
    let relay = outbox.relay(&["outbox.tables=public.outbox,tenant_*.outbox"]);
    relay.ready().await;
    insert(&outbox, "tenant_2", "3").await;
    outbox.all_confirmed().await;
    let found = outbox.keys();
    assert!(found.contains(&"3".to_owned()) && !found.contains(&"lost".to_owned()), "{found:?}");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_dropped_tenant_stops_nothing_and_its_rows_still_come() {
    let outbox = Outbox::create().await;
    create_topic(&outbox.topic("tenant_1"), 1, &[]).await;
    outbox
        .sql(&format!(
            "{} {} CREATE TABLE tenant_1.orders (n int); CREATE PUBLICATION everything FOR ALL TABLES
             WITH (publish = 'insert', publish_via_partition_root = true)",
            tenant("tenant_1"),
            tenant("tenant_2")
        ))
        .await;
    let name = &outbox.database.name;
    let topic = format!("tables.tenant_1.outbox.route.topic={name}.{{@schema}}");
    let settings = [PATTERN, "postgres.publication=everything", &topic];
    let relay = outbox.relay(&settings);
    relay.ready().await;
    relay.stop().await;
    // Gone before the relay has read a row of it, and with it a table that it has never heard of.
    insert(&outbox, "tenant_1", "1").await;
    outbox.sql("INSERT INTO tenant_1.orders VALUES (1)").await;
    insert(&outbox, "tenant_2", "2").await;
    outbox.sql("DROP SCHEMA tenant_1 CASCADE").await;
    let relay = outbox.relay(&settings);
    outbox.all_confirmed().await;
    assert_eq!((keys(&outbox, "tenant_1"), outbox.keys()), (vec!["1".to_owned()], vec!["2".to_owned()]));
    assert!(relay.log().contains("rows of table \"tenant_1.orders\" are passed over"), "{}", relay.log());
    // While it streams.
    insert(&outbox, "tenant_2", "3").await;
    outbox.sql("DROP SCHEMA tenant_2 CASCADE").await;
    relay.log_says("table \"tenant_2.outbox\" was dropped").await;
    outbox.sql(&tenant("tenant_2")).await;
    insert(&outbox, "tenant_2", "4").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["2", "3", "4"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_dropped_table_that_may_have_been_a_part_of_an_outbox_stops_the_relay() {
    let outbox = Outbox::create().await;
    outbox.sql("CREATE TABLE orders (n int); CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert')").await;
    let settings = ["postgres.publication=everything"];
    let relay = outbox.relay(&settings);
    relay.ready().await;
    relay.stop().await;
    outbox.sql("INSERT INTO orders VALUES (1); DROP TABLE orders").await;
    let log = outbox.relay(&settings).refuses().await;
    assert!(log.contains("rows of table \"public.orders\" are in the stream"), "{log}");
    // Altered now, it has not been like this when the row was written.
    outbox.sql("ALTER PUBLICATION everything SET (publish_via_partition_root = true)").await;
    let log = outbox.relay(&settings).refuses().await;
    assert!(log.contains("rows of table \"public.orders\" are in the stream"), "{log}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn setup_publishes_the_tables_that_fit_a_pattern_and_says_what_is_left_to_others() {
    let outbox = Outbox::create().await;
    outbox
        .sql(&[tenant("tenant_1"), tenant("tenant_2"), "DROP PUBLICATION outbox_relay".to_owned()].concat())
        .await;
    let settings = ["outbox.tables=public.outbox,tenant_*.outbox"];
    let url = outbox.text("SELECT current_user").await;
    let host = &outbox.database.server.hosts[0];
    let outbox_relay::postgres::conninfo::Address::Unix(directory) = &host.address else { panic!() };
    let administrator =
        format!("host={} port={} user={url} dbname={}", directory.display(), host.port, outbox.database.name);
    let output = outbox.program(&["setup", "--as", &administrator], &settings).output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    for part in [
        "exists   table tenant_1.outbox",
        "created  publication outbox_relay",
        "tables that tenant_*.outbox means",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let published = "SELECT string_agg(schemaname, ' ' ORDER BY schemaname) FROM pg_publication_tables WHERE pubname = 'outbox_relay'";
    assert_eq!(outbox.text(published).await, "public tenant_1 tenant_2");
    // The printed SQL does the same.
    outbox.sql("DROP PUBLICATION outbox_relay").await;
    let output = outbox.program(&["setup", "--print"], &settings).output().await.unwrap();
    let (_, sql) = std::str::from_utf8(&output.stdout).unwrap().split_once("-- The publication:").unwrap();
    outbox.sql(sql.split_once("-- The replication slot:").unwrap().0.trim_start_matches(|c| c != '\n')).await;
    assert_eq!(outbox.text(published).await, "public tenant_1 tenant_2");
    outbox.database.drop().await;
}
