//! What a configuration gives, whichever way its values come.

mod messages;
mod shards;
mod sources;
mod tables;
mod wrong_values;

use std::io::Write;

use super::*;

/// Enough to start.
const LEAST: &str =
    "postgres.url = \"postgres://relay:hunter2@db/shop\"\nkafka.bootstrap.servers = \"kafka:9092\"\n";

/// Loads a file of this text with these variables and `--set`.
fn load_all(toml: &str, variables: &[(&str, &str)], set: &[&str]) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    std::fs::write(&path, toml).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let set: Vec<_> = set
        .iter()
        .map(|set| set.split_once('=').unwrap())
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    load(Some(&path), variables, &set)
}

fn of_file(toml: &str) -> Config {
    load_all(&format!("{LEAST}{toml}"), &[], &[]).unwrap()
}

/// The message about a file with this below the least configuration; the folder's name is left out.
fn problems(toml: &str) -> String {
    problems_of_all(&format!("{LEAST}{toml}"), &[], &[])
}

fn problems_of_all(toml: &str, variables: &[(&str, &str)], set: &[&str]) -> String {
    let text = load_all(toml, variables, set).unwrap_err().to_string();
    assert!(!text.contains("hunter2"), "a secret is in: {text}");
    let mut short = String::new();
    for (index, part) in text.split("relay.toml").enumerate() {
        // What ends in front of the file's name is its folder.
        let cut = part.rfind(['(', ' ', '\n']).map_or(0, |at| at + 1);
        let last = index == text.matches("relay.toml").count();
        short.push_str(if last { part } else { &part[..cut] });
        short.push_str(if last { "" } else { "relay.toml" });
    }
    short
}

#[test]
fn two_values_are_enough() {
    let variables = [
        ("OUTBOX_RELAY_POSTGRES__URL", "postgres://relay:hunter2@db/shop"),
        ("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092"),
    ];
    let config = load(None, variables.map(|(name, value)| (name.into(), value.into())), &[]).unwrap();
    assert_eq!(config.postgres.url.reveal(), "postgres://relay:hunter2@db/shop");
    insta::assert_debug_snapshot!(config, @r#"
    Config {
        postgres: Postgres {
            url: (hidden),
            slot: "outbox_relay",
            publication: "outbox_relay",
            create_slot: true,
            backfill: false,
        },
        outbox: Spec {
            tables: [
                TablePattern {
                    schema: NamePattern {
                        first: "public",
                        behind: [],
                    },
                    name: NamePattern {
                        first: "outbox",
                        behind: [],
                    },
                },
            ],
            message_prefix: None,
            shape: Shape {
                columns: Columns {
                    id: "id",
                    aggregate_type: "aggregate_type",
                    aggregate_id: "aggregate_id",
                    event_type: Some(
                        "event_type",
                    ),
                    payload: "payload",
                    headers: None,
                    timestamp: None,
                    timestamp_zone: Zone {
                        first: 0,
                        transitions: [],
                    },
                },
                headers: [
                    (
                        "event_type",
                        Template {
                            text: "{event_type}",
                            pieces: [
                                Placeholder(
                                    "event_type",
                                    [],
                                ),
                            ],
                        },
                    ),
                ],
                route: Route {
                    topic: Template {
                        text: "outbox.event.{aggregate_type}",
                        pieces: [
                            Literal(
                                "outbox.event.",
                            ),
                            Placeholder(
                                "aggregate_type",
                                [],
                            ),
                        ],
                    },
                    key: Template {
                        text: "{aggregate_id}",
                        pieces: [
                            Placeholder(
                                "aggregate_id",
                                [],
                            ),
                        ],
                    },
                    partition: None,
                },
                own: {},
            },
            overrides: [],
        },
        polling: None,
        shard: None,
        kafka: {
            "acks": "all",
            "allow.auto.create.topics": "false",
            "bootstrap.servers": "kafka:9092",
            "client.id": "outbox-relay",
            "enable.gapless.guarantee": "true",
            "enable.idempotence": "true",
            "message.timeout.ms": "0",
            "partitioner": "murmur2_random",
            "reconnect.backoff.max.ms": "1000",
            "socket.nagle.disable": "true",
        },
        topics: None,
        delivery: Delivery {
            on_rejected: Stop,
            skip: [],
            max_in_flight: 16777216,
            drain_timeout: 20s,
        },
        after_publish: AfterPublish {
            action: Keep,
            retention: 0ns,
            status_column: "status",
            pending_value: "PENDING",
            published_value: "PUBLISHED",
            published_at_column: Some(
                "published_at",
            ),
            timestamp_zone: "UTC",
        },
        http: Some(
            "127.0.0.1:9464",
        ),
        log: Log {
            format: Text,
            level: Info,
        },
    }
    "#);
}

#[test]
fn set_is_over_environment_over_file_over_default() {
    let file = format!("{LEAST}log.level = \"warn\"\nlog.format = \"json\"\npostgres.slot = \"file\"\n");
    let variables = [("OUTBOX_RELAY_POSTGRES__SLOT", "environment"), ("OUTBOX_RELAY_LOG__LEVEL", "error")];
    let config = load_all(&file, &variables, &["log.level=debug", "log.level=trace"]).unwrap();
    assert_eq!(config.log, Log { format: LogFormat::Json, level: LogLevel::Trace });
    assert_eq!(config.postgres.slot, "environment");
    assert_eq!(config.postgres.publication, "outbox_relay");
}

#[test]
fn a_synonym_of_a_stronger_layer_wins_too() {
    let file = format!("{LEAST}kafka.\"linger.ms\" = 50\n");
    let config = load_all(&file, &[("OUTBOX_RELAY_KAFKA__QUEUE_BUFFERING_MAX_MS", "1")], &[]).unwrap();
    assert_eq!(config.kafka.get("linger.ms"), Some("1"));
    assert_eq!(config.kafka.iter().filter(|(_, value)| *value == "50").count(), 0);
}

#[test]
fn kafka_properties_are_the_same_quoted_dotted_and_as_tables() {
    let config = of_file(
        "[kafka.sasl]\nmechanism = \"PLAIN\"\n[kafka.socket]\nkeepalive.enable = true\ntimeout.ms = 0x1_000\n",
    );
    assert_eq!(config.kafka.get("sasl.mechanisms"), Some("PLAIN"));
    assert_eq!(config.kafka.get("socket.keepalive.enable"), Some("true"));
    assert_eq!(config.kafka.get("socket.timeout.ms"), Some("4096"));
}

#[test]
fn given_headers_replace_the_default_ones_and_keep_their_order() {
    let headers = |config: &Config| {
        let header = |(name, template): &(String, crate::outbox::Template)| format!("{name}={template}");
        config.outbox.shape.headers.iter().map(header).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(headers(&of_file("")), "event_type={event_type}");
    assert_eq!(headers(&of_file("outbox.columns.event_type = \"\"")), "");
    let file = "[outbox.headers]\nz = \"{tenant}\"\nce.type = \"{event_type}\"\na = \"\"\n";
    assert_eq!(headers(&of_file(file)), "z={tenant} ce.type={event_type} a=");
    assert_eq!(headers(&of_file("[outbox.headers]\n")), "");
    let with_set = |set: &[&str]| load_all(&format!("{LEAST}{file}"), &[], set).unwrap();
    assert_eq!(
        headers(&with_set(&["outbox.headers.z=x=y", "outbox.headers.b=1"])),
        "z=x=y ce.type={event_type} a= b=1"
    );
    assert_eq!(headers(&load_all(LEAST, &[], &["outbox.headers="]).unwrap()), "");
}

#[test]
fn a_variable_can_name_a_file_with_the_value() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"hunter2\r\n").unwrap();
    let path = file.path().to_str().unwrap();
    let variables = [
        ("OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE", path),
        // Properties that end in .file are themselves.
        ("OUTBOX_RELAY_KAFKA__SASL_OAUTHBEARER_ASSERTION_FILE", path),
        ("OUTBOX_RELAY_KAFKA__LOG_LEVEL", "6"),
    ];
    let config = load_all(LEAST, &variables, &[]).unwrap();
    assert_eq!(config.kafka.get("sasl.password"), Some("hunter2"));
    assert_eq!(config.kafka.get("sasl.oauthbearer.assertion.file"), Some(path));
    assert_eq!(config.kafka.get("log_level"), Some("6"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn what_is_wrong_with_such_a_file_is_told() {
    let variables = [
        ("OUTBOX_RELAY_POSTGRES__URL_FILE", "/nowhere/url"),
        ("OUTBOX_RELAY_KAFKA__SASL_PASSWORD", "hunter2"),
        ("OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE", "/nowhere/password"),
    ];
    insta::assert_snapshot!(problems_of_all(LEAST, &variables, &[]), @r#"
    2 problems in the configuration

      OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE: contradicts OUTBOX_RELAY_KAFKA__SASL_PASSWORD, which is set as well
        hint: set one of the two

      OUTBOX_RELAY_POSTGRES__URL_FILE = "/nowhere/url": cannot read the file: No such file or directory (os error 2)
    "#);
}

#[test]
fn variables_of_others_are_left_alone() {
    let variables = [
        // A Kubernetes service called outbox-relay, and one called outbox-relay-kafka.
        ("OUTBOX_RELAY_SERVICE_HOST", "10.0.0.1"),
        ("OUTBOX_RELAY_SERVICE_PORT", "9464"),
        ("OUTBOX_RELAY_SERVICE_PORT_HTTP", "9464"),
        ("OUTBOX_RELAY_PORT", "tcp://10.0.0.1:9464"),
        ("OUTBOX_RELAY_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("OUTBOX_RELAY_PORT_9464_TCP_PROTO", "tcp"),
        ("OUTBOX_RELAY_PORT_9464_TCP_PORT", "9464"),
        ("OUTBOX_RELAY_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("OUTBOX_RELAY_KAFKA_SERVICE_HOST", "10.0.0.2"),
        ("OUTBOX_RELAY_KAFKA_SERVICE_PORT", "9092"),
        ("OUTBOX_RELAY_KAFKA_SERVICE_PORT_TCP_CLIENT", "9092"),
        ("OUTBOX_RELAY_KAFKA_PORT", "tcp://10.0.0.2:9092"),
        ("OUTBOX_RELAY_KAFKA_PORT_9092_TCP", "tcp://10.0.0.2:9092"),
        ("OUTBOX_RELAY_KAFKA_PORT_9092_TCP_ADDR", "10.0.0.2"),
        ("OUTBOX_RELAY_HTTP_METRICS_PORT_9464_UDP_PORT", "9464"),
        // Further ones.
        ("OUTBOX_RELAY_SETUP_URL", "postgres://owner@db/shop"),
        ("OUTBOX_RELAY_LOGO", "owl"),
        ("OUTBOX_RELAY", "x"),
        ("outbox_relay_log__level", "loud"),
        ("LOG__LEVEL", "loud"),
    ];
    assert!(load_all(LEAST, &variables, &[]).is_ok());
}

#[test]
fn variables_of_a_section_must_name_a_key() {
    let variables = [
        ("OUTBOX_RELAY_POSTGRES_URL", "postgres://relay:hunter2@db/shop"),
        ("OUTBOX_RELAY_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092"),
        ("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVER", "kafka:9092"),
        ("OUTBOX_RELAY_HTTP_PORT", "9464"),
        ("OUTBOX_RELAY_LOG", "debug"),
        ("OUTBOX_RELAY_OUTBOX__HEADERS__TENANT", "{tenant}"),
        ("OUTBOX_RELAY_AFTER_PUBLISH__DELETE", "true"),
        ("OUTBOX_RELAY_TOPICS__CONFIG__RETENTION_MS", "1"),
    ];
    insta::assert_snapshot!(problems_of_all("", &variables, &[]), @"
    7 problems in the configuration

      OUTBOX_RELAY_AFTER_PUBLISH__DELETE: names no key
        hint: [after_publish] has action, status_column, published_value, published_at_column, retention; variables are written like OUTBOX_RELAY_AFTER_PUBLISH__ACTION, with two underscores

      OUTBOX_RELAY_HTTP_PORT: names no key
        hint: [http] has listen; variables are written like OUTBOX_RELAY_HTTP__LISTEN, with two underscores

      OUTBOX_RELAY_KAFKA_BOOTSTRAP_SERVERS: names no key
        hint: did you mean OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS?

      OUTBOX_RELAY_LOG: names no key
        hint: [log] has format, level; variables are written like OUTBOX_RELAY_LOG__FORMAT, with two underscores

      OUTBOX_RELAY_OUTBOX__HEADERS__TENANT: outbox.headers has names of your own, which a variable cannot spell
        hint: give it in the configuration file or with --set outbox.headers.NAME=…

      OUTBOX_RELAY_POSTGRES_URL: names no key
        hint: did you mean OUTBOX_RELAY_POSTGRES__URL?

      kafka.bootstrap.server (OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVER): librdkafka has no such property
        hint: did you mean OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS?
    ");
}

#[test]
fn every_key_has_a_variable_and_a_set_that_take_its_default() {
    for key in keys::KEYS {
        let keys::Preset::Value(default) = key.default else {
            continue;
        };
        let variable = environment::variable(key.path);
        load_all(LEAST, &[(&variable, default)], &[]).unwrap_or_else(|error| panic!("{variable}: {error}"));
        load_all(LEAST, &[], &[&format!("{}={default}", key.path)])
            .unwrap_or_else(|error| panic!("{}: {error}", key.path));
    }
}
