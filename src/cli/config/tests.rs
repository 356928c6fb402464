//! What `config` prints, and that it is what is in force.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::config::{Config, effective, load};

const FILE: &str = r#"
[postgres]
url = "postgres://relay:hunter2@db:5432/shop?sslmode=disable"
slot = "orders"

[outbox]
tables = ["public.outbox", '"Sales"."Outbox \ 1"']

[outbox.headers]
tenant = "{tenant}"
"ce.type" = "{event_type}\t"

[tables.'"Sales"."Outbox \ 1"']
columns.id = "nr"
headers = {}

[tables."public.*"]
headers."a b" = "{@schema}"
route.topic = "{@schema}.x"

[kafka]
"bootstrap.servers" = "kafka:9092"
acks = -1
queue.buffering.max.ms = 5
"ssl.key.password" = "hunter2"

[state]
topic = ""
"#;

/// The settings of a file of this text; origins name it without its folder.
fn settings(toml: &str, variables: &[(&str, &str)], set: &[(&str, &str)]) -> Vec<Setting> {
    with_file(toml, |path| {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let set: Vec<_> = set.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let mut settings = effective(Some(path), variables, &set).unwrap();
        for setting in &mut settings {
            if let Origin::File(path, _) = &mut setting.origin {
                *path = path.file_name().unwrap().into();
            }
        }
        settings
    })
}

fn with_file<T>(toml: &str, read: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    std::fs::write(&path, toml).unwrap();
    read(&path)
}

fn printed(settings: &[Setting], json: bool) -> String {
    let mut page = Vec::new();
    print(settings, &Output { json }, &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(!page.contains("hunter2"), "a secret is in: {page}");
    page
}

#[test]
fn people_see_each_value_and_where_it_was_given() {
    let variables = [
        ("OUTBOX_RELAY_LOG__LEVEL", "debug"),
        ("OUTBOX_RELAY_KAFKA__SASL_PASSWORD", "hunter2"),
        ("OUTBOX_RELAY_DELIVERY__MAX_IN_FLIGHT", "16384 KiB"),
    ];
    let set = [("delivery.drain_timeout", "1m 30s"), ("postgres.create_slot", "false")];
    insta::assert_snapshot!(printed(&settings(FILE, &variables, &set), false), @r#"
    postgres.url                      = "postgres://relay:***@db:5432/shop?sslmode=disable"  # relay.toml, line 3
    postgres.slot                     = "orders"                         # relay.toml, line 4
    postgres.publication              = "outbox_relay"                   # default
    postgres.create_slot              = false                            # --set
    postgres.backfill                 = false                            # default

    outbox.source                     = "wal"                            # default
    outbox.tables                     = ["public.outbox", "\"Sales\".\"Outbox \\ 1\""]  # relay.toml, line 7
    outbox.message_prefix             = ""                               # default
    outbox.columns.id                 = "id"                             # default
    outbox.columns.aggregate_type     = "aggregate_type"                 # default
    outbox.columns.aggregate_id       = "aggregate_id"                   # default
    outbox.columns.event_type         = "event_type"                     # default
    outbox.columns.payload            = "payload"                        # default
    outbox.columns.headers            = ""                               # default
    outbox.columns.timestamp          = ""                               # default
    outbox.columns.timestamp_zone     = "UTC"                            # default
    outbox.headers.tenant             = "{tenant}"                       # relay.toml, line 10
    outbox.headers."ce.type"          = "{event_type}\t"                 # relay.toml, line 11

    tables."\"Sales\".\"Outbox \\ 1\"".columns.id = "nr"                             # relay.toml, line 14
    tables."\"Sales\".\"Outbox \\ 1\"".headers = {}                               # relay.toml, line 13
    tables."public.*".headers."a b"   = "{@schema}"                      # relay.toml, line 18
    tables."public.*".route.topic     = "{@schema}.x"                    # relay.toml, line 19

    route.topic                       = "outbox.event.{aggregate_type}"  # default
    route.key                         = "{aggregate_id}"                 # default
    route.partition                   = ""                               # default

    shard.count                       = 1                                # default
    shard.index                       = ""                               # default

    kafka.acks                        = "all"                            # fixed
    kafka.allow.auto.create.topics    = "false"                          # fixed
    kafka.bootstrap.servers           = "kafka:9092"                     # relay.toml, line 22
    kafka.client.id                   = "outbox-relay"                   # default
    kafka.enable.gapless.guarantee    = "true"                           # fixed
    kafka.enable.idempotence          = "true"                           # fixed
    kafka.linger.ms                   = "5"                              # relay.toml, line 24
    kafka.message.timeout.ms          = "0"                              # fixed
    kafka.partitioner                 = "murmur2_random"                 # fixed
    kafka.reconnect.backoff.max.ms    = "1000"                           # default
    kafka.sasl.password               = (hidden)                         # OUTBOX_RELAY_KAFKA__SASL_PASSWORD
    kafka.socket.nagle.disable        = "true"                           # default
    kafka.ssl.key.password            = (hidden)                         # relay.toml, line 25

    topics.create                     = false                            # default
    topics.partitions                 = 3                                # default
    topics.replication_factor         = -1                               # default
    topics.config                     = {}                               # default

    delivery.on_rejected              = "stop"                           # default
    delivery.dead_letter_topic        = "outbox.dead-letter"             # default
    delivery.skip                     = []                               # default
    delivery.max_in_flight            = "16384 KiB"                      # OUTBOX_RELAY_DELIVERY__MAX_IN_FLIGHT
    delivery.drain_timeout            = "1m 30s"                         # --set

    state.topic                       = ""                               # relay.toml, line 28

    after_publish.action              = "keep"                           # default
    after_publish.status_column       = "status"                         # default
    after_publish.published_value     = "PUBLISHED"                      # default
    after_publish.published_at_column = "published_at"                   # default
    after_publish.retention           = "0s"                             # default

    poll.interval                     = "1s"                             # default
    poll.channel                      = "outbox"                         # default
    poll.batch                        = 1000                             # default
    poll.pending_value                = "PENDING"                        # default

    http.listen                       = "127.0.0.1:9464"                 # default

    log.format                        = "text"                           # default
    log.level                         = "debug"                          # OUTBOX_RELAY_LOG__LEVEL

    # 2 keys that this version does not support yet are left out: --json has them.
    "#);
}

#[test]
fn programs_get_types_and_every_key() {
    let page = printed(&settings(FILE, &[], &[("postgres.create_slot", "false")]), true);
    insta::assert_snapshot!(page, @r#"
    {
      "postgres.url": {"value": "postgres://relay:***@db:5432/shop?sslmode=disable", "origin": "relay.toml, line 3"},
      "postgres.slot": {"value": "orders", "origin": "relay.toml, line 4"},
      "postgres.publication": {"value": "outbox_relay", "origin": "default"},
      "postgres.create_slot": {"value": false, "origin": "--set"},
      "postgres.backfill": {"value": false, "origin": "default"},
      "outbox.source": {"value": "wal", "origin": "default"},
      "outbox.tables": {"value": ["public.outbox","\"Sales\".\"Outbox \\ 1\""], "origin": "relay.toml, line 7"},
      "outbox.message_prefix": {"value": "", "origin": "default"},
      "outbox.columns.id": {"value": "id", "origin": "default"},
      "outbox.columns.aggregate_type": {"value": "aggregate_type", "origin": "default"},
      "outbox.columns.aggregate_id": {"value": "aggregate_id", "origin": "default"},
      "outbox.columns.event_type": {"value": "event_type", "origin": "default"},
      "outbox.columns.payload": {"value": "payload", "origin": "default"},
      "outbox.columns.headers": {"value": "", "origin": "default"},
      "outbox.columns.timestamp": {"value": "", "origin": "default"},
      "outbox.columns.timestamp_zone": {"value": "UTC", "origin": "default"},
      "outbox.headers.tenant": {"value": "{tenant}", "origin": "relay.toml, line 10"},
      "outbox.headers.ce.type": {"value": "{event_type}\t", "origin": "relay.toml, line 11"},
      "tables.\"\\\"Sales\\\".\\\"Outbox \\\\ 1\\\"\".columns.id": {"value": "nr", "origin": "relay.toml, line 14"},
      "tables.\"\\\"Sales\\\".\\\"Outbox \\\\ 1\\\"\".headers": {"value": {}, "origin": "relay.toml, line 13"},
      "tables.\"public.*\".headers.a b": {"value": "{@schema}", "origin": "relay.toml, line 18"},
      "tables.\"public.*\".route.topic": {"value": "{@schema}.x", "origin": "relay.toml, line 19"},
      "route.topic": {"value": "outbox.event.{aggregate_type}", "origin": "default"},
      "route.key": {"value": "{aggregate_id}", "origin": "default"},
      "route.partition": {"value": "", "origin": "default"},
      "shard.count": {"value": 1, "origin": "default"},
      "shard.index": {"value": "", "origin": "default"},
      "kafka.acks": {"value": "all", "origin": "fixed"},
      "kafka.allow.auto.create.topics": {"value": "false", "origin": "fixed"},
      "kafka.bootstrap.servers": {"value": "kafka:9092", "origin": "relay.toml, line 22"},
      "kafka.client.id": {"value": "outbox-relay", "origin": "default"},
      "kafka.enable.gapless.guarantee": {"value": "true", "origin": "fixed"},
      "kafka.enable.idempotence": {"value": "true", "origin": "fixed"},
      "kafka.linger.ms": {"value": "5", "origin": "relay.toml, line 24"},
      "kafka.message.timeout.ms": {"value": "0", "origin": "fixed"},
      "kafka.partitioner": {"value": "murmur2_random", "origin": "fixed"},
      "kafka.reconnect.backoff.max.ms": {"value": "1000", "origin": "default"},
      "kafka.socket.nagle.disable": {"value": "true", "origin": "default"},
      "kafka.ssl.key.password": {"value": "(hidden)", "origin": "relay.toml, line 25"},
      "topics.create": {"value": false, "origin": "default"},
      "topics.partitions": {"value": 3, "origin": "default"},
      "topics.replication_factor": {"value": -1, "origin": "default"},
      "topics.config": {"value": {}, "origin": "default"},
      "delivery.guarantee": {"value": "at-least-once", "origin": "default", "supported": false},
      "delivery.on_rejected": {"value": "stop", "origin": "default"},
      "delivery.dead_letter_topic": {"value": "outbox.dead-letter", "origin": "default"},
      "delivery.skip": {"value": [], "origin": "default"},
      "delivery.max_in_flight": {"value": "16MiB", "origin": "default"},
      "delivery.drain_timeout": {"value": "20s", "origin": "default"},
      "delivery.transactional_id": {"value": "outbox-relay.{slot}", "origin": "default", "supported": false},
      "state.topic": {"value": "", "origin": "relay.toml, line 28", "supported": false},
      "after_publish.action": {"value": "keep", "origin": "default"},
      "after_publish.status_column": {"value": "status", "origin": "default"},
      "after_publish.published_value": {"value": "PUBLISHED", "origin": "default"},
      "after_publish.published_at_column": {"value": "published_at", "origin": "default"},
      "after_publish.retention": {"value": "0s", "origin": "default"},
      "poll.interval": {"value": "1s", "origin": "default"},
      "poll.channel": {"value": "outbox", "origin": "default"},
      "poll.batch": {"value": 1000, "origin": "default"},
      "poll.pending_value": {"value": "PENDING", "origin": "default"},
      "http.listen": {"value": "127.0.0.1:9464", "origin": "default"},
      "log.format": {"value": "text", "origin": "default"},
      "log.level": {"value": "info", "origin": "default"}
    }
    "#);
    let page: BTreeMap<String, Value> = serde_json::from_str(&page).unwrap();
    for key in crate::config::keys::KEYS {
        let below = format!("{}.", key.path);
        assert!(page.keys().any(|path| path == key.path || path.starts_with(&below)), "{}", key.path);
    }
}

#[test]
fn maps_are_shown_as_they_are_in_force() {
    let headers = |toml: &str| {
        let least = "postgres.url = \"postgres://relay@db/shop\"\nkafka.bootstrap.servers = \"k:1\"\n";
        let page = printed(&settings(&format!("{least}{toml}"), &[], &[]), false);
        page.lines().filter(|line| line.starts_with("outbox.headers")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(headers(""), @r#"outbox.headers.event_type         = "{event_type}"                   # default"#);
    insta::assert_snapshot!(headers("outbox.columns.event_type = \"\""), @"outbox.headers                    = {}                               # default");
    insta::assert_snapshot!(headers("[outbox.headers]"), @"outbox.headers                    = {}                               # relay.toml, line 3");
    insta::assert_snapshot!(headers("[outbox.headers]\n\"a b\" = \"x\""), @r#"outbox.headers."a b"              = "x"                              # relay.toml, line 4"#);
}

#[test]
fn what_is_printed_can_be_used_as_the_file_that_it_came_from() {
    let plain = FILE.replace(":hunter2", "").replace("\"ssl.key.password\" = \"hunter2\"\n", "");
    let page = printed(&settings(&plain, &[], &[]), false);
    let config = |toml: &str| -> Config { with_file(toml, |path| load(Some(path), [], &[]).unwrap()) };
    assert_eq!(format!("{:?}", config(&page)), format!("{:?}", config(&plain)));
    assert_eq!(config(&page).postgres.url, config(&plain).postgres.url);
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is() {
    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let settings = settings(FILE, &[], &[]);
    assert!(print(&settings, &Output::default(), &mut Broken(io::ErrorKind::BrokenPipe)).is_ok());
    assert!(print(&settings, &Output::default(), &mut Broken(io::ErrorKind::StorageFull)).is_err());
}
