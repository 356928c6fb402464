//! The examples of deployment are configurations that the program accepts: `Dockerfile`, `docker-compose.yml` and
//! everything in `deploy/`. They are read as text, each for the few lines that matter here.
#![cfg(test)]

use std::path::Path;
use std::time::Duration;

use outbox_relay::cli::EXIT_CONFIGURATION;
use outbox_relay::config::{self, Config};
use tempfile::TempDir;

const DOCKERFILE: &str = include_str!("../Dockerfile");
const COMPOSE: &str = include_str!("../docker-compose.yml");
const UNIT: &str = include_str!("../deploy/systemd/outbox-relay.service");
const ENVIRONMENT: &str = include_str!("../deploy/systemd/environment");
const KUBERNETES: &str = include_str!("../deploy/kubernetes/outbox-relay.yaml");
const SHARDS: &str = include_str!("../deploy/kubernetes/shards.yaml");
const README: &str = include_str!("../README.md");

type Variables = Vec<(String, String)>;

/// `NAME=VALUE` in lines that begin with `begin`.
fn assignments(text: &str, begin: &str) -> Variables {
    let lines = text.lines().filter_map(|line| line.strip_prefix(begin)?.split_once('='));
    lines
        .filter(|(name, _)| name.starts_with("OUTBOX_RELAY_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `NAME: VALUE` in lines of YAML.
fn compose_variables() -> Variables {
    let lines = COMPOSE.lines().filter_map(|line| line.trim().split_once(": "));
    lines
        .filter(|(name, _)| name.starts_with("OUTBOX_RELAY_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `- name: NAME`, and `value: VALUE` below it, perhaps after a comment.
fn kubernetes_variables(yaml: &str) -> Variables {
    let lines = yaml.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut names = lines.clone();
    let mut variables = Variables::new();
    for value in lines.skip(1) {
        let name = names.next().unwrap();
        if let Some(name) = name.strip_prefix("- name: OUTBOX_RELAY_") {
            let value = value.strip_prefix("value: ").unwrap();
            variables.push((format!("OUTBOX_RELAY_{name}"), value.to_owned()));
        }
    }
    variables
}

/// The block below `relay.toml: |`.
fn kubernetes_file(yaml: &str) -> String {
    let (_, rest) = yaml.split_once("relay.toml: |\n").unwrap();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| format!("{}\n", line.trim())).collect()
}

/// What the program makes of it. Files with secrets are put in the place of those that the variables name.
fn load(toml: Option<&str>, variables: &[(String, String)]) -> Config {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string()
    };
    let file = toml.map(|toml| write("relay.toml", toml));
    let url = write("url", "postgres://outbox_relay:hunter2@db.example/shop\n");
    let password = write("password", "hunter2\n");
    let environment = variables.iter().map(|(name, value)| {
        let value = match name.as_str() {
            "OUTBOX_RELAY_POSTGRES__URL_FILE" => url.clone(),
            name if name.ends_with("_FILE") => password.clone(),
            _ => value.into(),
        };
        (name.into(), value)
    });
    match config::load(file.as_deref().map(Path::new), environment, &[]) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    }
}

/// The seconds behind `name`, which stands in `text` once.
fn seconds(text: &str, name: &str) -> Duration {
    let (_, rest) = text.split_once(name).unwrap();
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Duration::from_secs(number.parse().unwrap())
}

#[test]
fn the_image_listens_where_others_can_reach_it() {
    let mut variables = assignments(DOCKERFILE, "ENV ");
    variables.extend(compose_variables());
    assert_eq!(load(None, &variables).http.unwrap(), "0.0.0.0:9464");
}

#[test]
fn the_compose_file_is_accepted_and_waits_for_the_drain() {
    let config = load(None, &compose_variables());
    assert_eq!(config.kafka.get("bootstrap.servers"), Some("kafka:19092"));
    assert!(seconds(COMPOSE, "stop_grace_period: ") > config.delivery.drain_timeout);
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql")).unwrap() {
        let file = file.unwrap();
        // What is in a folder is optional.
        if file.file_type().unwrap().is_dir() {
            continue;
        }
        let name = file.file_name().into_string().unwrap();
        let mount = format!("./sql/{name}:/docker-entrypoint-initdb.d/{name}:ro");
        assert!(COMPOSE.contains(&mount), "docker-compose.yml does not mount sql/{name}");
    }
}

#[test]
fn the_systemd_unit_is_accepted_with_and_without_what_is_commented_out() {
    let mut variables = assignments(UNIT, "Environment=");
    variables.extend(assignments(ENVIRONMENT, ""));
    let config = load(None, &variables);
    variables.extend(assignments(UNIT, "#Environment="));
    variables.extend(assignments(ENVIRONMENT, "#"));
    let whole = load(None, &variables);
    assert_eq!(whole.kafka.get("sasl.password"), Some("hunter2"));
    assert_eq!(whole.outbox.tables.len(), 2);

    assert!(seconds(UNIT, "TimeoutStopSec=") > config.delivery.drain_timeout);
    let (_, prevented) = UNIT.split_once("RestartPreventExitStatus=").unwrap();
    let mut prevented = prevented.lines().next().unwrap().split(' ');
    assert!(prevented.any(|status| status == EXIT_CONFIGURATION.to_string()));
    // Each credential that a variable names is loaded.
    for (name, value) in assignments(UNIT, "Environment=").iter().chain(&assignments(UNIT, "#Environment=")) {
        let credential = value.strip_prefix("%d/").unwrap();
        assert!(UNIT.contains(&format!("LoadCredential={credential}:")), "{name}");
    }
}

#[test]
fn the_kubernetes_example_is_accepted_and_mounts_what_it_reads() {
    let variables = kubernetes_variables(KUBERNETES);
    assert_eq!(variables.len(), KUBERNETES.matches("- name: OUTBOX_RELAY_").count());
    let config = load(Some(&kubernetes_file(KUBERNETES)), &variables);
    assert_eq!(config.kafka.get("bootstrap.servers"), Some("kafka-bootstrap.kafka.svc:9092"));
    assert_eq!(config.http.unwrap(), "0.0.0.0:9464");
    assert!(seconds(KUBERNETES, "terminationGracePeriodSeconds: ") > config.delivery.drain_timeout);
    for (_, value) in variables.iter().filter(|(name, _)| name.ends_with("_FILE")) {
        let (folder, key) = value.rsplit_once('/').unwrap();
        assert!(KUBERNETES.contains(&format!("mountPath: {folder}\n")), "{folder}");
        assert!(KUBERNETES.contains(&format!("--from-literal={key}=")), "{key}");
    }
}

#[test]
fn each_pod_of_the_stateful_set_is_a_shard() {
    let mut variables = kubernetes_variables(SHARDS);
    variables.push(("HOSTNAME".to_owned(), "outbox-relay-shards-3".to_owned()));
    let config = load(Some(&kubernetes_file(SHARDS)), &variables);
    assert_eq!(config.postgres.slot, "outbox_relay_4_3");
    assert!(SHARDS.contains("\n  replicas: 4\n") && SHARDS.contains("setup --shards 4 "));
    assert!(seconds(SHARDS, "terminationGracePeriodSeconds: ") > config.delivery.drain_timeout);
}

#[test]
fn every_variable_that_is_written_anywhere_names_a_key() {
    let mut seen = 0;
    for (file, text) in [
        ("Dockerfile", DOCKERFILE),
        ("docker-compose.yml", COMPOSE),
        ("outbox-relay.service", UNIT),
        ("environment", ENVIRONMENT),
        ("outbox-relay.yaml", KUBERNETES),
        ("shards.yaml", SHARDS),
        ("README.md", README),
    ] {
        for name in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let name_of_key = name.starts_with("OUTBOX_RELAY_") && name != "OUTBOX_RELAY_";
            if !name_of_key {
                continue;
            }
            seen += 1;
            let told = config::load(None, [(name.into(), "/nowhere".into())], &[]).unwrap_err().to_string();
            let unknown = told.contains("names no key") || told.contains("no such property");
            assert!(!unknown, "{file}: {told}");
        }
    }
    assert!(seen > 10, "{seen}");
}
