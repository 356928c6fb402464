//! Every kind of value, wrong in type and wrong in content, as an operator reads it.

use super::*;

#[test]
fn every_kind_of_key_refuses_another_type_of_the_file() {
    let toml = r#"
        postgres.publication = ["a"]
        postgres.slot = 7
        postgres.create_slot = 1
        outbox.tables = [1, 2]
        outbox.columns.id = true
        outbox.columns.event_type = []
        outbox.columns.timestamp = 2026-01-01
        outbox.columns.timestamp_zone = 1
        outbox.headers = { tenant = 5, a.b = ["x"] }
        route.topic = ["orders"]
        route.key = 1.5
        route.partition = 0
        kafka.linger.ms = [5]
        kafka.batch.size = 2026-01-01
        topics.partitions = "3"
        topics.replication_factor = false
        topics.config = 5
        delivery.max_in_flight = true
        delivery.drain_timeout = 20
        delivery.on_rejected = 1
        delivery.skip = "7"
        http.listen = 9464
        log.level = 3
        tables."public.orders" = 5
    "#;
    insta::assert_snapshot!(problems(toml), @r#"
    25 problems in the configuration

      topics.config (relay.toml, line 20): must be a table
        hint: write [topics.config]

      tables."public.orders" (relay.toml, line 27): must be a table
        hint: write [tables."public.orders"]

      postgres.slot = 7 (relay.toml, line 5): must be text, not a number
        hint: put it in double quotes

      postgres.publication = ["a"] (relay.toml, line 4): must be text, not a list

      postgres.create_slot = 1 (relay.toml, line 6): must be true or false

      outbox.tables = [1, 2] (relay.toml, line 7): each item must be text, not a number
        hint: put it in double quotes

      outbox.columns.id = true (relay.toml, line 8): must be text, not a boolean
        hint: put it in double quotes

      outbox.columns.event_type = [] (relay.toml, line 9): must be text, not a list

      outbox.columns.timestamp (relay.toml, line 10): must be text, not a date
        hint: put it in double quotes

      outbox.columns.timestamp_zone = 1 (relay.toml, line 11): must be text, not a number
        hint: put it in double quotes

      outbox.headers.tenant = 5 (relay.toml, line 12): must be text, not a number
        hint: put it in double quotes

      outbox.headers.a.b = ["x"] (relay.toml, line 12): must be text, not a list

      route.topic = ["orders"] (relay.toml, line 13): must be text, not a list

      route.key = 1.5 (relay.toml, line 14): must be text, not a number
        hint: put it in double quotes

      route.partition = 0 (relay.toml, line 15): must be text, not a number
        hint: put it in double quotes

      kafka.linger.ms = [5] (relay.toml, line 16): must be text, a number or a boolean, not a list
        hint: put commas between the items, in one text

      kafka.batch.size (relay.toml, line 17): must be text, a number or a boolean, not a date

      topics.partitions = "3" (relay.toml, line 18): must be a number, not text
        hint: remove the quotes

      topics.replication_factor = false (relay.toml, line 19): must be a whole number

      delivery.on_rejected = 1 (relay.toml, line 23): must be text, not a number
        hint: put it in double quotes

      delivery.skip = "7" (relay.toml, line 24): must be a list
        hint: put it in brackets: ["…"]

      delivery.max_in_flight = true (relay.toml, line 21): is not a size
        hint: sizes are written like "16MiB": a number with KiB, MiB or GiB

      delivery.drain_timeout = 20 (relay.toml, line 22): is not a time
        hint: times are written like "20s" or "1h 30m": numbers with ms, s, m, h or d

      http.listen = 9464 (relay.toml, line 25): must be text, not a number
        hint: put it in double quotes

      log.level = 3 (relay.toml, line 26): must be text, not a number
        hint: put it in double quotes
    "#);
}

#[test]
fn every_kind_of_key_refuses_what_it_cannot_be() {
    let long = "a".repeat(64);
    let publication = format!("postgres.publication={long}");
    let set = [
        publication.as_str(),
        "postgres.slot=Orders-2",
        "postgres.create_slot=yes",
        "outbox.tables=outbox,a.b.c",
        "outbox.columns.id=",
        "outbox.columns.timestamp_zone=CEST",
        "outbox.headers.tenant={tenant",
        "outbox.headers.source=x",
        "route.topic=outbox.event.",
        "route.key={}",
        "kafka.linger.ms=soon",
        "kafka.security.protocol=tls",
        "topics.partitions=three",
        "delivery.max_in_flight=0MiB",
        "delivery.drain_timeout=20 sec",
        "delivery.guarantee=exactly_once",
        "http.listen=:9464",
        "log.format=logfmt",
    ];
    insta::assert_snapshot!(problems_of_all(LEAST, &[], &set), @r#"
    18 problems in the configuration

      postgres.slot = "Orders-2" (--set): is not the name of a slot: lower-case letters, digits and underscores, at most 63
        hint: "orders_2" would do

      postgres.publication = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" (--set): has 64 bytes: PostgreSQL's names have at most 63

      postgres.create_slot = "yes" (--set): must be true or false

      outbox.tables = "outbox,a.b.c" (--set): "outbox" has no schema: write schema.table

      outbox.columns.id = "" (--set): must not be empty

      outbox.columns.timestamp_zone = "CEST" (--set): is no time zone
        hint: give an IANA name, such as UTC or Europe/Berlin

      outbox.headers.tenant = "{tenant" (--set): the placeholder that starts at character 1 is not closed with "}" (a brace itself is written "{{")

      outbox.headers.source = "x" (--set): is a header that the relay writes itself
        hint: choose another name

      route.topic = "outbox.event." (--set): has no placeholder and ends as if one had been lost
        hint: placeholders are written {aggregate_type}, without "$", which a shell or compose file would replace by nothing

      route.key = "{}" (--set): the placeholder at character 1 is empty

      kafka.linger.ms = "soon" (--set): is refused by librdkafka: Invalid value for configuration property "queue.buffering.max.ms"

      kafka.security.protocol = "tls" (--set): is refused by librdkafka: Invalid value "tls" for configuration property "security.protocol"

      topics.partitions = "three" (--set): must be a whole number

      delivery.guarantee = "exactly_once" (--set): must be one of at-least-once, exactly-once
        hint: did you mean "exactly-once"?

      delivery.max_in_flight = "0MiB" (--set): must be more than nothing

      delivery.drain_timeout = "20 sec" (--set): is not a time
        hint: times are written like "20s" or "1h 30m": numbers with ms, s, m, h or d

      http.listen = ":9464" (--set): is not an address to listen on
        hint: 0.0.0.0:9464 listens on every IPv4 address, [::]:9464 on every address

      log.format = "logfmt" (--set): must be one of text, json
    "#);
    let set =
        ["outbox.tables=", "route.topic=a b", "http.listen=9464", "outbox.headers.x=}", "route.key=${id}"];
    insta::assert_snapshot!(problems_of_all(LEAST, &[], &set), @r#"
    5 problems in the configuration

      outbox.tables = "" (--set): must name at least one table

      outbox.headers.x = "}" (--set): "}" at character 1 closes nothing (a brace itself is written "}}")

      route.topic = "a b" (--set): has ' ': topics consist of letters, digits, ".", "_" and "-"

      route.key = "${id}" (--set): "${" at character 1: placeholders are written without "$"

      http.listen = "9464" (--set): is not an address to listen on
        hint: addresses are written host:port, such as 127.0.0.1:9464
    "#);
    let set = ["outbox.tables=public.outbox,Public.Outbox", "postgres.url=", "kafka.bootstrap.servers="];
    insta::assert_snapshot!(problems_of_all(LEAST, &[], &set), @r#"
    3 problems in the configuration

      postgres.url (--set): must not be empty

      outbox.tables = "public.outbox,Public.Outbox" (--set): public.outbox is there twice

      kafka.bootstrap.servers = "" (--set): must not be empty
    "#);
}

#[test]
fn what_set_cannot_set_is_told() {
    let set = [
        "outbox=x",
        "outbox.columns=x",
        "outbox.headers=x",
        "kafka=x",
        "tables=x",
        "tables.public=x",
        "route.topics=x",
    ];
    insta::assert_snapshot!(problems_of_all(LEAST, &[], &set), @"
    7 problems in the configuration

      outbox (--set): is a section
        hint: it has source, tables, message_prefix, columns, headers

      outbox.columns (--set): is a section
        hint: it has id, aggregate_type, aggregate_id, event_type, payload, headers, timestamp, timestamp_zone

      outbox.headers (--set): has entries with names of their own
        hint: set one entry: --set outbox.headers.NAME=VALUE

      kafka (--set): has entries with names of their own
        hint: set one entry: --set kafka.NAME=VALUE

      tables (--set): has entries with names of their own
        hint: set one entry: --set tables.NAME=VALUE

      tables.public (--set): has no schema: write schema.table

      route.topics (--set): unknown key
        hint: did you mean route.topic?
    ");
}

#[test]
fn a_section_that_is_a_value_and_a_value_that_is_a_section_are_told() {
    let toml = "log = 1\nkafka = 1\n[postgres.slot]\nname = 1\n[postgres.url]\nhost = \"hunter2\"\n[[outbox.tables]]\nname = \"x\"\n";
    insta::assert_snapshot!(problems_of_all(toml, &[], &[]), @"
    6 problems in the configuration

      log (relay.toml, line 1): is a section
        hint: write [log]

      kafka (relay.toml, line 2): must be a table
        hint: write [kafka]

      postgres.url (relay.toml, line 5): must be text, not a table

      postgres.slot (relay.toml, line 3): must be text, not a table

      outbox.tables (relay.toml, line 7): each item must be text, not a table

      kafka.bootstrap.servers: is required
        hint: set it in the configuration file, or OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS in the environment
    ");
}

#[test]
fn synonyms_contradict_each_other_in_each_layer() {
    let variables =
        [("OUTBOX_RELAY_KAFKA__ACKS", "all"), ("OUTBOX_RELAY_KAFKA__REQUEST_REQUIRED_ACKS", "-1")];
    insta::assert_snapshot!(problems_of_all(&format!("{LEAST}kafka.\"metadata.broker.list\" = \"k:2\"\n"), &variables, &[]), @"
    2 problems in the configuration

      kafka.metadata.broker.list (relay.toml, line 3): contradicts kafka.bootstrap.servers (relay.toml, line 2)
        hint: they are the same: keep one of the two

      kafka.request.required.acks (OUTBOX_RELAY_KAFKA__REQUEST_REQUIRED_ACKS): contradicts kafka.acks (OUTBOX_RELAY_KAFKA__ACKS)
        hint: they are the same: keep one of the two
    ");
    // Of several --set the last one holds, by whichever name.
    let set = ["kafka.linger.ms=1", "kafka.queue.buffering.max.ms=2"];
    assert_eq!(load_all(LEAST, &[], &set).unwrap().kafka.get("linger.ms"), Some("2"));
}
