//! What can be wrong with where values come from: variables and the files that they name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

/// A file of this content, and what is said of variables that name it, without its folder.
fn told(content: &[u8], variables: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap();
    let variables: Vec<_> = variables.iter().map(|name| (*name, path)).collect();
    problems_of_all(LEAST, &variables, &[]).replace(folder.path().to_str().unwrap(), "[folder]")
}

#[test]
fn the_content_of_a_file_that_a_variable_names_is_never_shown() {
    let variables = [
        "OUTBOX_RELAY_POSTGRES__URL_FILE",
        "OUTBOX_RELAY_POSTGRES__SLOT_FILE",
        "OUTBOX_RELAY_POSTGRES__CREATE_SLOT_FILE",
        "OUTBOX_RELAY_OUTBOX__TABLES_FILE",
        "OUTBOX_RELAY_OUTBOX__COLUMNS__TIMESTAMP_ZONE_FILE",
        "OUTBOX_RELAY_ROUTE__TOPIC_FILE",
        "OUTBOX_RELAY_KAFKA__LINGER_MS_FILE",
        "OUTBOX_RELAY_KAFKA__SECURITY_PROTOCOL_FILE",
        "OUTBOX_RELAY_DELIVERY__MAX_IN_FLIGHT_FILE",
        "OUTBOX_RELAY_HTTP__LISTEN_FILE",
        "OUTBOX_RELAY_LOG__LEVEL_FILE",
    ];
    insta::assert_snapshot!(told(b"hunter2 $ecret\n", &variables), @r#"
    11 problems in the configuration

      postgres.slot (OUTBOX_RELAY_POSTGRES__SLOT_FILE): is not the name of a slot: lower-case letters, digits and underscores, at most 63

      postgres.create_slot (OUTBOX_RELAY_POSTGRES__CREATE_SLOT_FILE): must be true or false

      outbox.tables (OUTBOX_RELAY_OUTBOX__TABLES_FILE): is not valid; its value may be a secret and is not shown

      outbox.columns.timestamp_zone (OUTBOX_RELAY_OUTBOX__COLUMNS__TIMESTAMP_ZONE_FILE): is no time zone

      route.topic (OUTBOX_RELAY_ROUTE__TOPIC_FILE): has ' ': topics consist of letters, digits, ".", "_" and "-"

      kafka.linger.ms (OUTBOX_RELAY_KAFKA__LINGER_MS_FILE): is refused by librdkafka: Invalid value for configuration property "queue.buffering.max.ms"

      kafka.security.protocol (OUTBOX_RELAY_KAFKA__SECURITY_PROTOCOL_FILE): is not valid; its value may be a secret and is not shown

      delivery.max_in_flight (OUTBOX_RELAY_DELIVERY__MAX_IN_FLIGHT_FILE): is not a size

      http.listen (OUTBOX_RELAY_HTTP__LISTEN_FILE): is not an address to listen on

      log.level (OUTBOX_RELAY_LOG__LEVEL_FILE): must be one of error, warn, info, debug, trace

      postgres.url (OUTBOX_RELAY_POSTGRES__URL_FILE): connection string: item 1 has no "=" (expected a URL, postgres://…, or name=value pairs; a value with spaces stands in single quotes)
    "#);
}

#[test]
fn a_file_that_a_variable_names_must_be_readable_text() {
    insta::assert_snapshot!(told(b"\xff\xfe", &["OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE"]), @r#"
    1 problem in the configuration

      OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE = "[folder]/secret": cannot read the file: stream did not contain valid UTF-8
    "#);
    insta::assert_snapshot!(told(b"\n", &["OUTBOX_RELAY_POSTGRES__URL_FILE", "OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS_FILE"]), @"
    2 problems in the configuration

      postgres.url (OUTBOX_RELAY_POSTGRES__URL_FILE): must not be empty

      kafka.bootstrap.servers (OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS_FILE): must not be empty
    ");
    insta::assert_snapshot!(problems_of_all(LEAST, &[("OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE", "/")], &[]), @r#"
    1 problem in the configuration

      OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE = "/": cannot read the file: Is a directory (os error 21)
    "#);
    insta::assert_snapshot!(problems_of_all(LEAST, &[("OUTBOX_RELAY_POSTGRES__URL_FILE", "")], &[]), @r#"
    1 problem in the configuration

      OUTBOX_RELAY_POSTGRES__URL_FILE = "": cannot read the file: No such file or directory (os error 2)
    "#);
}

#[test]
fn a_variable_must_be_text() {
    let broken: (OsString, OsString) =
        ("OUTBOX_RELAY_POSTGRES__SLOT".into(), OsStr::from_bytes(b"\xff").to_owned());
    let least = [
        ("OUTBOX_RELAY_POSTGRES__URL".into(), "postgres://relay@db/shop".into()),
        ("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS".into(), "kafka:9092".into()),
    ];
    insta::assert_snapshot!(load(None, least.into_iter().chain([broken]), &[]).unwrap_err(), @"
    1 problem in the configuration

      OUTBOX_RELAY_POSTGRES__SLOT: is not UTF-8
    ");
}

#[test]
fn a_misspelt_variable_of_a_required_key_is_told_once() {
    let variables = [
        ("OUTBOX_RELAY_POSTGRES__URI", "hunter2"),
        ("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVRES", "kafka:9092"),
        ("OUTBOX_RELAY_POSTGRES__SLOT__NAME", "orders"),
        ("OUTBOX_RELAY_DELIVERY_DRAIN_TIMEOUT", "20s"),
        ("OUTBOX_RELAY_LOG__LEVEL_FIEL", "hunter2"),
        ("OUTBOX_RELAY_KAFKA_SASL_PASSWORD_FILE", "hunter2"),
        ("OUTBOX_RELAY_AFTER_PUBLISH_X", "hunter2"),
        ("OUTBOX_RELAY_KAFKA__", "hunter2"),
        ("OUTBOX_RELAY_TABLES__PUBLIC", "hunter2"),
    ];
    insta::assert_snapshot!(problems_of_all("", &variables, &[]), @"
    9 problems in the configuration

      OUTBOX_RELAY_AFTER_PUBLISH_X: names no key
        hint: [after_publish] has action, status_column, published_value, published_at_column, retention; variables are written like OUTBOX_RELAY_AFTER_PUBLISH__ACTION, with two underscores

      OUTBOX_RELAY_DELIVERY_DRAIN_TIMEOUT: names no key
        hint: did you mean OUTBOX_RELAY_DELIVERY__DRAIN_TIMEOUT?

      OUTBOX_RELAY_KAFKA_SASL_PASSWORD_FILE: names no key
        hint: did you mean OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE?

      OUTBOX_RELAY_KAFKA__: names no key
        hint: variables are written like OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS, with two underscores

      OUTBOX_RELAY_LOG__LEVEL_FIEL: names no key
        hint: did you mean OUTBOX_RELAY_LOG__LEVEL_FILE?

      OUTBOX_RELAY_POSTGRES__SLOT__NAME: names no key
        hint: did you mean OUTBOX_RELAY_POSTGRES__SLOT_FILE?

      OUTBOX_RELAY_POSTGRES__URI: names no key
        hint: did you mean OUTBOX_RELAY_POSTGRES__URL?

      OUTBOX_RELAY_TABLES__PUBLIC: tables has names of your own, which a variable cannot spell
        hint: give it in the configuration file or with --set tables.NAME=…

      kafka.bootstrap.servres (OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVRES): librdkafka has no such property
        hint: did you mean OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS?
    ");
}

#[test]
fn the_file_must_be_readable_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    let told = || {
        let text = load(Some(&path), [], &[]).unwrap_err().to_string();
        text.replace(folder.path().to_str().unwrap(), "[folder]")
    };
    std::fs::write(&path, b"a = \"\xff\"").unwrap();
    insta::assert_snapshot!(told(), @"
    1 problem in the configuration

      [folder]/relay.toml: cannot be read: stream did not contain valid UTF-8
    ");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    insta::assert_snapshot!(told(), @"
    1 problem in the configuration

      [folder]/relay.toml: cannot be read: Is a directory (os error 21)
    ");
}
