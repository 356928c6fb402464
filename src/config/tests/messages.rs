//! What mistakes look like, all together, as an operator reads them.

use super::*;

#[test]
fn what_is_required_is_missed() {
    insta::assert_snapshot!(load(None, [], &[]).unwrap_err(), @"
    2 problems in the configuration

      postgres.url: is required
        hint: set it in the configuration file, or OUTBOX_RELAY_POSTGRES__URL in the environment

      kafka.bootstrap.servers: is required
        hint: set it in the configuration file, or OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS in the environment
    ");
}

#[test]
fn a_misspelt_required_key_is_not_called_missing_as_well() {
    insta::assert_snapshot!(problems_of_all("[postgres]\nulr = \"hunter2\"\n[kafka]\n\"bootstrap.sevrers\" = \"x\"\n", &[], &[]), @"
    2 problems in the configuration

      postgres.ulr (relay.toml, line 2): unknown key
        hint: did you mean postgres.url?

      kafka.bootstrap.sevrers (relay.toml, line 4): librdkafka has no such property
        hint: did you mean kafka.bootstrap.servers?
    ");
}

#[test]
fn unknown_keys_are_told_with_the_nearest_one() {
    let toml = "slot = \"a\"\n[http]\nport = 9464\n[postgre]\nurl = \"hunter2\"\n[outbox.column]\nid = \"x\"\n[whatever]\nx = 1\n";
    insta::assert_snapshot!(problems_of_all(&format!("{LEAST}{toml}"), &[], &["log.levle=info", "postgres=x", "kafka.=x"]), @"
    8 problems in the configuration

      slot (relay.toml, line 3): unknown key
        hint: did you mean postgres.slot?

      http.port (relay.toml, line 5): unknown key
        hint: [http] has listen

      postgre (relay.toml, line 6): unknown key
        hint: did you mean postgres?

      outbox.column (relay.toml, line 8): unknown key
        hint: did you mean outbox.columns?

      whatever (relay.toml, line 10): unknown key
        hint: the sections are postgres, outbox, tables, route, shard, kafka, topics, delivery, state, after_publish, poll, http, log

      log.levle (--set): unknown key
        hint: did you mean log.level?

      postgres (--set): is a section
        hint: it has url, slot, publication, create_slot, backfill

      kafka. (--set): unknown key
        hint: they are listed in librdkafka's CONFIGURATION.md; those of the Java client differ
    ");
}

#[test]
fn wrong_types_and_values_are_told_together() {
    let toml = r#"
        postgres.slot = "Orders"
        postgres.create_slot = "true"
        outbox.tables = "public.outbox"
        outbox.columns.id = 5
        outbox.headers = "x"
        route.topic = "outbox.${aggregate_type}"
        route.key = ""
        delivery.max_in_flight = 16
        delivery.drain_timeout = "20"
        http = "off"
        log.level = "inof"
    "#;
    insta::assert_snapshot!(problems(toml), @r#"
    11 problems in the configuration

      outbox.headers (relay.toml, line 8): must be a table
        hint: write [outbox.headers]

      http (relay.toml, line 13): is a section
        hint: write [http]

      postgres.slot = "Orders" (relay.toml, line 4): is not the name of a slot: lower-case letters, digits and underscores, at most 63
        hint: "orders" would do

      postgres.create_slot = "true" (relay.toml, line 5): must be true or false, not text
        hint: remove the quotes

      outbox.tables = "public.outbox" (relay.toml, line 6): must be a list
        hint: put it in brackets: ["…"]

      outbox.columns.id = 5 (relay.toml, line 7): must be text, not a number
        hint: put it in double quotes

      route.topic = "outbox.${aggregate_type}" (relay.toml, line 9): "${" at character 8: placeholders are written without "$"

      route.key = "" (relay.toml, line 10): must not be empty

      delivery.max_in_flight = 16 (relay.toml, line 11): is not a size
        hint: sizes are written like "16MiB": a number with KiB, MiB or GiB

      delivery.drain_timeout = "20" (relay.toml, line 12): is not a time
        hint: times are written like "20s" or "1h 30m": numbers with ms, s, m, h or d

      log.level = "inof" (relay.toml, line 14): must be one of error, warn, info, debug, trace
        hint: did you mean "info"?
    "#);
}

#[test]
fn secrets_are_never_shown() {
    let toml = "postgres.url = [\"hunter2\"]\nkafka.bootstrap.servers = \"k:1\"\nkafka.sasl.password = [\"hunter2\"]\n";
    insta::assert_snapshot!(problems_of_all(toml, &[], &[]), @"
    2 problems in the configuration

      postgres.url (relay.toml, line 1): must be text, not a list

      kafka.sasl.password (relay.toml, line 3): must be text, a number or a boolean, not a list
    ");
    insta::assert_snapshot!(problems_of_all("postgres.url = \"hunter2\npostgres.url = hunter2\n", &[], &[]), @r#"
    3 problems in the configuration

      relay.toml, line 1: is not TOML: invalid basic string, expected `"`

      relay.toml, line 2: is not TOML: duplicate key

      relay.toml, line 2: is not TOML: string values must be quoted, expected literal string
    "#);
}

#[test]
fn fixed_and_wrong_kafka_properties_are_refused_with_the_reason() {
    let toml = r#"
        kafka.acks = 1
        kafka."delivery.timeout.ms" = 30000
        kafka."transactional.id" = "x"
        kafka."compression.type" = "brotli"
        kafka."max.in.flight" = 6
        kafka."linger.ms" = 1
        kafka."queue.buffering.max.ms" = 2
        kafka."buffer.memory" = 33554432
        kafka."enable.idempotence" = true
    "#;
    insta::assert_snapshot!(problems(toml), @r#"
    7 problems in the configuration

      kafka.queue.buffering.max.ms (relay.toml, line 10): contradicts kafka.linger.ms (relay.toml, line 9)
        hint: they are the same: keep one of the two

      kafka.acks = 1 (relay.toml, line 4): is fixed to "all": with less than "all" an event that Kafka confirmed can be lost with a broker
        hint: remove it

      kafka.delivery.timeout.ms = 30000 (relay.toml, line 5): is fixed to "0": the relay waits for Kafka without limit; an event must not expire
        hint: remove it

      kafka.transactional.id = "x" (relay.toml, line 6): cannot be set: the relay chooses it from delivery.guarantee and delivery.transactional_id
        hint: remove it

      kafka.compression.type = "brotli" (relay.toml, line 7): is refused by librdkafka: Invalid value "brotli" for configuration property "compression.codec"

      kafka.max.in.flight = 6 (relay.toml, line 8): must be at most 5: Kafka keeps no more batches to recognise a repeated one

      kafka.buffer.memory (relay.toml, line 11): librdkafka has no such property
        hint: they are listed in librdkafka's CONFIGURATION.md; those of the Java client differ
    "#);
}

/// Traps 4.22 and 4.23 of docs/traps.md: nothing is promised that is not done.
#[test]
fn keys_of_later_versions_are_not_supported_yet() {
    let toml = r#"
        outbox.source = "poll"
        delivery.guarantee = "exactly-once"
        after_publish.action = "delete"
        poll.batch = 5
        state.topic = "positions"
        poll.interval = "2s"
    "#;
    insta::assert_snapshot!(problems(toml), @r#"
    2 problems in the configuration

      delivery.guarantee = "exactly-once" (relay.toml, line 5): is not supported yet
        hint: leave it out; this version accepts only "at-least-once"

      state.topic = "positions" (relay.toml, line 8): is not supported yet
        hint: leave it out; this version accepts only "outbox-relay.state" and ""
    "#);
    // Off is what this version does anyway.
    of_file("state.topic = \"\"\ntables = {}\npostgres.backfill = false\n");
}

#[test]
fn what_becomes_of_missing_topics_and_rejected_events() {
    let config = of_file(
        r#"
        topics.create = true
        topics.partitions = -1
        topics.replication_factor = 3
        topics.config."retention.ms" = 604800000
        topics.config."cleanup.policy" = "compact,delete"
        delivery.on_rejected = "dead-letter"
        delivery.dead_letter_topic = "shop.dead"
        delivery.skip = ["7", "8"]
    "#,
    );
    insta::assert_debug_snapshot!((config.topics, config.delivery.on_rejected, config.delivery.skip), @r#"
    (
        Some(
            NewTopic {
                partitions: -1,
                replication_factor: 3,
                config: [
                    (
                        "retention.ms",
                        "604800000",
                    ),
                    (
                        "cleanup.policy",
                        "compact,delete",
                    ),
                ],
            },
        ),
        DeadLetter(
            Topic(
                "shop.dead",
            ),
        ),
        [
            "7",
            "8",
        ],
    )
    "#);
    let wrong = r#"
        topics.partitions = 0
        topics.replication_factor = 40000
        delivery.dead_letter_topic = "dead letters"
    "#;
    insta::assert_snapshot!(problems(wrong), @r#"
    3 problems in the configuration

      topics.partitions = 0 (relay.toml, line 4): must be -1, the broker's default, or 1 to 2147483647

      topics.replication_factor = 40000 (relay.toml, line 5): must be -1, the broker's default, or 1 to 32767

      delivery.dead_letter_topic = "dead letters" (relay.toml, line 6): is not the name of a topic: 1 to 249 letters, digits, ".", "_" and "-", and not "." or ".."
    "#);
}

#[test]
fn contradictions_are_told() {
    let toml = r#"
        outbox.columns.event_type = ""
        route.topic = "events.{event_type}"
        [outbox.headers]
        id = "{id}"
        kind = "{event_type}"
    "#;
    insta::assert_snapshot!(problems(toml), @r#"
    3 problems in the configuration

      outbox.headers.id = "{id}" (relay.toml, line 7): is a header that the relay writes itself
        hint: choose another name

      route.topic = "events.{event_type}" (relay.toml, line 5): needs {event_type}, but outbox.columns.event_type is "": there is no such column

      outbox.headers.kind = "{event_type}" (relay.toml, line 8): needs {event_type}, but outbox.columns.event_type is "": there is no such column
    "#);
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_what_the_environment_has_wrong() {
    insta::assert_snapshot!(problems_of_all("a = \nb = [1\n", &[("OUTBOX_RELAY_LOG__LEVLE", "x")], &[]), @"
    3 problems in the configuration

      relay.toml, line 1: is not TOML: string values must be quoted, expected literal string

      relay.toml, line 2: is not TOML: unclosed array, expected `]`

      OUTBOX_RELAY_LOG__LEVLE: names no key
        hint: did you mean OUTBOX_RELAY_LOG__LEVEL?
    ");
    insta::assert_snapshot!(problems_of_all("{\"name\": \"outbox\", \"config\": {}}", &[], &[]), @"
    1 problem in the configuration

      relay.toml: a Debezium connector configuration (JSON) is not supported yet
        hint: write the configuration as TOML
    ");
    insta::assert_snapshot!(load(Some(Path::new("/nowhere/relay.toml")), [], &[]).unwrap_err(), @"
    1 problem in the configuration

      /nowhere/relay.toml: cannot be read: No such file or directory (os error 2)
    ");
}

#[test]
fn a_connection_string_is_looked_at_but_not_shown() {
    let told = |url: &str| {
        problems_of_all(&format!("postgres.url = \"{url}\"\nkafka.bootstrap.servers = \"k:1\""), &[], &[])
    };
    insta::assert_snapshot!(told("postgres://relay:hunter2@db/shop?sslmod=disable"), @r#"
    1 problem in the configuration

      postgres.url (relay.toml, line 1): connection string: unknown parameter "sslmod"
        hint: did you mean "sslmode"?
    "#);
    insta::assert_snapshot!(told("postgres://:hunter2@db/shop"), @"
    1 problem in the configuration

      postgres.url (relay.toml, line 1): connection string: it names no user, and neither does PGUSER
    ");
    // What it leaves open comes from the variables that libpq knows.
    let toml = "postgres.url = \"dbname=shop\"\nkafka.bootstrap.servers = \"k:1\"";
    assert!(load_all(toml, &[("PGUSER", "relay"), ("PGHOST", "db")], &[]).is_ok());
}

#[test]
fn a_time_zone_is_one_that_exists() {
    insta::assert_snapshot!(problems("outbox.columns.timestamp_zone = \"Europe/Bärlin\""), @r#"
    1 problem in the configuration

      outbox.columns.timestamp_zone = "Europe/Bärlin" (relay.toml, line 3): is no time zone
        hint: give an IANA name, such as UTC or Europe/Berlin
    "#);
}

#[test]
fn what_becomes_of_published_rows_does_not_contradict_itself() {
    insta::assert_snapshot!(problems("after_publish.retention = \"7d\""), @r#"
    1 problem in the configuration

      after_publish.retention = "7d" (relay.toml, line 3): says how long rows stay, but after_publish.action is "keep"
        hint: it goes with "delete" and "drop-partitions"; leave it out
    "#);
    insta::assert_snapshot!(problems("after_publish.retention = \"1s\"\nafter_publish.action = \"mark\""), @r#"
    1 problem in the configuration

      after_publish.retention = "1s" (relay.toml, line 3): says how long rows stay, but after_publish.action is "mark"
        hint: it goes with "delete" and "drop-partitions"; leave it out
    "#);
    let same = r#"
        after_publish.action = "mark"
        after_publish.published_value = "NEW"
        poll.pending_value = "NEW"
        after_publish.published_at_column = "status"
    "#;
    insta::assert_snapshot!(problems(same), @r#"
    2 problems in the configuration

      after_publish.published_value = "NEW" (relay.toml, line 5): is poll.pending_value as well: no row would ever be marked
        hint: give the two different values

      after_publish.published_at_column = "status" (relay.toml, line 7): is after_publish.status_column as well
        hint: name another column, or "" where there is none
    "#);
    of_file("after_publish.action = \"drop-partitions\"\nafter_publish.retention = \"30d\"\n");
}

#[test]
fn polling_takes_rows_away_and_knows_no_log() {
    let toml = r#"
        postgres.backfill = true
        outbox.source = "poll"
        outbox.message_prefix = "outbox"
        after_publish.retention = "1d"
        poll.interval = "1ms"
        poll.batch = 0
    "#;
    insta::assert_snapshot!(problems(toml), @r#"
    6 problems in the configuration

      outbox.source = "poll" (relay.toml, line 5): takes rows out of after_publish.action = "mark" or "delete", and it is "keep"
        hint: set after_publish.action: otherwise each look would find all rows again

      after_publish.retention = "1d" (relay.toml, line 7): does not go with outbox.source = "poll": a row that stays as it is would be sent again
        hint: use "mark", and delete marked rows when they are old

      outbox.message_prefix = "outbox" (relay.toml, line 6): does not go with outbox.source = "poll": messages are in the write-ahead log alone
        hint: leave it out, or set outbox.source = "wal"

      postgres.backfill = true (relay.toml, line 4): does not go with outbox.source = "poll", which sends all pending rows, however old
        hint: leave it out

      poll.interval = "1ms" (relay.toml, line 8): must be 10ms or more
        hint: sql/optional/notify.sql wakes the relay at each commit

      poll.batch = 0 (relay.toml, line 9): must be 1 to 100000
    "#);
    of_file("outbox.source = \"poll\"\nafter_publish.action = \"delete\"\n");
}
