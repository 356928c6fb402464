//! The program from outside: arguments, environment and files in; output and exit status out. It needs no servers.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// The program in an empty environment.
fn relay(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with a `relay.toml`, and the file's path.
fn file(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

fn in_folder(text: &str, folder: &Path) -> String {
    text.replace(folder.to_str().unwrap(), "[folder]")
}

#[test]
fn version_and_help_go_to_stdout_whatever_the_environment() {
    let broken = [("OUTBOX_RELAY_POSTGRES__SLTO", "x")];
    let output = relay(&["--version"], &broken);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), concat!("outbox-relay ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    for arguments in [["--help"].as_slice(), &["run", "--help"], &["-h"]] {
        let output = relay(arguments, &broken);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains("--set <KEY=VALUE>") && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in [
        [].as_slice(),
        &["walk"],
        &["run", "now"],
        &["--set", "log.level", "run"],
        &["--set", "=x", "run"],
        &["-x", "run"],
    ] {
        let output = relay(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("--help"), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_refused_configuration_exits_78_and_tells_everything() {
    let (folder, path) = file("[postgres]\nslto = \"orders\"\n\n[kafka]\nacks = 1\n");
    let variables = [
        ("OUTBOX_RELAY_DELIVERY__MAX_IN_FLIGHT", "16"),
        ("OUTBOX_RELAY_POSTGRES_URL", "postgres://u:hunter2@h/d"),
    ];
    let output = relay(
        &["run", "-c", &path, "--set", "log.level=loud", "--set", "delivery.guarantee=exactly-once"],
        &variables,
    );
    assert_eq!(output.status.code(), Some(78));
    assert!(output.stdout.is_empty());
    insta::assert_snapshot!(in_folder(&stderr(&output), folder.path()), @r#"
    error: 7 problems in the configuration

      postgres.slto ([folder]/relay.toml, line 2): unknown key
        hint: did you mean postgres.slot?

      OUTBOX_RELAY_POSTGRES_URL: names no key
        hint: did you mean OUTBOX_RELAY_POSTGRES__URL?

      kafka.acks = 1 ([folder]/relay.toml, line 5): is fixed to "all": with less than "all" an event that Kafka confirmed can be lost with a broker
        hint: remove it

      delivery.guarantee = "exactly-once" (--set): is not supported yet
        hint: leave it out; this version accepts only "at-least-once"

      delivery.max_in_flight = "16" (OUTBOX_RELAY_DELIVERY__MAX_IN_FLIGHT): is not a size
        hint: sizes are written like "16MiB": a number with KiB, MiB or GiB

      log.level = "loud" (--set): must be one of error, warn, info, debug, trace

      kafka.bootstrap.servers: is required
        hint: set it in the configuration file, or OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS in the environment
    "#);
}

#[test]
fn a_file_that_is_missing_exits_78() {
    let output = relay(&["-c", "/nowhere/relay.toml", "run"], &[]);
    assert_eq!(output.status.code(), Some(78));
    insta::assert_snapshot!(stderr(&output), @"
    error: 1 problem in the configuration

      /nowhere/relay.toml: cannot be read: No such file or directory (os error 2)
    ");
}

#[test]
fn set_beats_environment_beats_file_on_both_sides_of_the_command() {
    let least = "postgres.url = \"postgres://localhost/shop\"\nkafka.bootstrap.servers = \"localhost:1\"\n";
    // Every layer is wrong in its own words, and so says which one was looked at.
    let (folder, path) = file(&format!("{least}log.level = \"file\"\n"));
    let told = |before: &[&str], variables: &[(&str, &str)], after: &[&str]| {
        let output = relay(&[before, &["run"], after].concat(), variables);
        assert_eq!(output.status.code(), Some(78));
        in_folder(stderr(&output).lines().nth(2).unwrap(), folder.path())
    };
    let variables = [("OUTBOX_RELAY_LOG__LEVEL", "environment")];
    let levels = "must be one of error, warn, info, debug, trace";
    assert_eq!(
        told(&["-c", &path], &[], &[]),
        format!("  log.level = \"file\" ([folder]/relay.toml, line 3): {levels}")
    );
    assert_eq!(
        told(&[], &variables, &["-c", &path]),
        format!("  log.level = \"environment\" (OUTBOX_RELAY_LOG__LEVEL): {levels}")
    );
    for (before, after) in
        [(["--config", &path], ["--set", "log.level=set"]), (["--set", "log.level=set"], ["--config", &path])]
    {
        assert_eq!(told(&before, &variables, &after), format!("  log.level = \"set\" (--set): {levels}"));
    }
}

#[test]
fn a_secret_can_come_from_a_file_and_is_not_shown() {
    let (folder, path) = file("hunter2-mixed-up\n");
    let missing = folder.path().join("missing");
    let variables = [
        ("OUTBOX_RELAY_POSTGRES__SLOT_FILE", path.as_str()),
        ("OUTBOX_RELAY_POSTGRES__URL_FILE", missing.to_str().unwrap()),
        ("OUTBOX_RELAY_OUTBOX__TABLES_FILE", path.as_str()),
        ("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", "localhost:1"),
    ];
    let output = relay(&["run"], &variables);
    assert_eq!(output.status.code(), Some(78));
    assert!(!stderr(&output).contains("hunter2"));
    insta::assert_snapshot!(in_folder(&stderr(&output), folder.path()), @r#"
    error: 3 problems in the configuration

      OUTBOX_RELAY_POSTGRES__URL_FILE = "[folder]/missing": cannot read the file: No such file or directory (os error 2)

      postgres.slot (OUTBOX_RELAY_POSTGRES__SLOT_FILE): is not the name of a slot: lower-case letters, digits and underscores, at most 63

      outbox.tables (OUTBOX_RELAY_OUTBOX__TABLES_FILE): is not valid; its value may be a secret and is not shown
    "#);
}

#[test]
fn setup_prints_the_files_of_sql_byte_for_byte_without_any_configuration() {
    let output = relay(&["setup", "--print"], &[]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let files = ["01_table", "02_role", "03_publication", "04_slot"].map(|file| {
        std::fs::read_to_string(format!("{}/sql/{file}.sql", env!("CARGO_MANIFEST_DIR"))).unwrap()
    });
    assert_eq!(stdout(&output), files.concat());
    // The role is the user of postgres.url.
    let output = relay(&["setup", "--print"], &[("OUTBOX_RELAY_POSTGRES__URL", "postgres://shop_relay@h/d")]);
    assert_eq!(
        stdout(&output),
        files
            .concat()
            .replace("ROLE outbox_relay", "ROLE shop_relay")
            .replace("rolname = 'outbox_relay'", "rolname = 'shop_relay'")
            .replace("TO outbox_relay", "TO shop_relay")
            .replace("\\password outbox_relay", "\\password shop_relay")
    );
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.args(["setup", "--print"]).env_clear().stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn setup_refuses_what_cannot_be_meant() {
    let wrong = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = relay(arguments, variables);
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
        stderr(&output)
    };
    insta::assert_snapshot!(wrong(&["setup"], &[]), @"
    error: setup does not know where PostgreSQL is

    hint: name the owner of the service's tables, or an administrator: outbox-relay setup --as postgres://OWNER@HOST/DATABASE, or OUTBOX_RELAY_SETUP_URL in the environment
    ");
    let other = [
        ("OUTBOX_RELAY_POSTGRES__URL", "postgres://relay@h/shop"),
        ("OUTBOX_RELAY_SETUP_URL", "postgres://owner:hunter2@h/postgres"),
    ];
    insta::assert_snapshot!(wrong(&["setup"], &other), @r#"
    error: --as (or OUTBOX_RELAY_SETUP_URL) names database "postgres", and postgres.url database "shop"

    hint: the outbox is in one of them: correct the other one, or leave the database out of --as (or OUTBOX_RELAY_SETUP_URL)
    "#);
    // What is required for running is not required here, and what is wrong is wrong all the same.
    insta::assert_snapshot!(wrong(&["setup", "--print", "--set", "postgres.slto=x"], &[]), @"
    error: 1 problem in the configuration

      postgres.slto (--set): unknown key
        hint: did you mean postgres.slot?
    ");
    assert_eq!(relay(&["setup", "--print", "--json"], &[]).status.code(), Some(2));
}

#[test]
fn config_prints_what_is_in_force_without_secrets_and_refuses_what_run_refuses() {
    let (folder, path) = file("hunter2-in-a-file\n");
    let variables = [
        ("OUTBOX_RELAY_POSTGRES__URL", "postgres://relay:hunter2@db/shop"),
        ("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", "localhost:1"),
        ("OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE", path.as_str()),
    ];
    let output = relay(&["config", "--json", "--set", "log.level=warn"], &variables);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    assert!(!stdout(&output).contains("hunter2"));
    let page: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let told = |path: &str| (page[path]["value"].as_str().unwrap(), page[path]["origin"].as_str().unwrap());
    assert_eq!(told("postgres.url"), ("postgres://relay:***@db/shop", "OUTBOX_RELAY_POSTGRES__URL"));
    assert_eq!(told("kafka.sasl.password"), ("(hidden)", "OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE"));
    assert_eq!(told("log.level"), ("warn", "--set"));
    assert_eq!(told("http.listen"), ("127.0.0.1:9464", "default"));

    let output = relay(&["config"], &variables);
    assert!(stdout(&output).contains("\nkafka.sasl.password "), "{}", stdout(&output));
    assert!(!stdout(&output).contains("hunter2"));
    drop(folder);
    for json in [[].as_slice(), &["--json"]] {
        let output = relay(&[["config"].as_slice(), json].concat(), &variables);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(78), ""));
        assert!(stderr(&output).starts_with(
            "error: 1 problem in the configuration\n\n  OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE"
        ));
    }
}
