//! The environment: `OUTBOX_RELAY_POSTGRES__URL` is `postgres.url`.
//!
//! A variable is configuration if the word after `OUTBOX_RELAY_` is a section; then it must name a key. All others are
//! left alone, and so are the variables with which Kubernetes describes services, whatever the services are called.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::kafka;
use super::keys::{KEYS, Key, sections};
use super::layers::Entry;
use super::problem::{Origin, Problem};
use super::property_names::NAMES;
use super::suggest::unknown_variable;
use super::value::{Kind, Raw};

pub(super) const PREFIX: &str = "OUTBOX_RELAY_";
/// Behind a key's name: the value is in a file, whose path this is. So come secrets from a container's platform.
pub(super) const FROM_FILE: &str = "_FILE";

/// The variable of a key.
pub(super) fn variable(path: &str) -> String {
    for map in ["kafka", "topics.config"] {
        // Only here does an underscore stand for a dot.
        if let Some(property) = path.strip_prefix(map).and_then(|rest| rest.strip_prefix('.')) {
            return format!("{}__{}", variable(map), property.replace('.', "_").to_uppercase());
        }
    }
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// Reads all variables that are configuration.
pub(super) fn read(environment: &BTreeMap<OsString, OsString>) -> (Vec<Entry>, Vec<Problem>) {
    let named = environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value.as_os_str())));
    let variables: BTreeMap<&str, &OsStr> =
        named.filter(|(name, value)| is_ours(name, &value.to_string_lossy())).collect();
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in &variables {
        match entry(name, value, &variables) {
            Ok(entry) => entries.push(entry),
            Err(problem) => problems.push(problem),
        }
    }
    (entries, problems)
}

/// Whether a variable is meant for the relay.
fn is_ours(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let in_section = |section: &str| {
        rest.strip_prefix(&section.to_uppercase())
            .is_some_and(|after| after.is_empty() || after.starts_with('_'))
    };
    sections().into_iter().any(in_section) && !is_service_link(rest, value)
}

/// Whether Kubernetes (or Docker) made the variable for a service called, say, `outbox-relay-kafka`: `…_SERVICE_HOST`,
/// `…_SERVICE_PORT`, `…_SERVICE_PORT_<NAME>`, `…_PORT`, `…_PORT_9092_TCP`, `…_PORT_9092_TCP_ADDR`.
fn is_service_link(rest: &str, value: &str) -> bool {
    let is_link = |text: &str| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    let number = |word: &str| word.parse::<u16>().is_ok();
    let words: Vec<&str> = rest.split('_').collect();
    if rest.contains("__") {
        return false;
    }
    match words.as_slice() {
        [_, .., "SERVICE", "HOST" | "PORT"] => true,
        [_, .., "PORT", port, "TCP" | "UDP" | "SCTP"] if number(port) => true,
        [_, .., "PORT", port, "TCP" | "UDP" | "SCTP", "PROTO" | "PORT" | "ADDR"] if number(port) => true,
        [_, .., "PORT"] if is_link(value) => true,
        words => words.windows(2).skip(1).any(|pair| pair == ["SERVICE", "PORT"]) && number(value),
    }
}

fn entry(name: &str, value: &OsStr, variables: &BTreeMap<&str, &OsStr>) -> Result<Entry, Problem> {
    let (key, property, from_file) = find(name)?;
    let entry = |text: &str| {
        Entry::new(key, property.as_deref(), Raw::Word(text.to_owned()), Origin::Variable(name.to_owned()))
    };
    let problem = |what: String| Problem::new(name, what).meaning(entry("").path());
    let value = value.to_str().ok_or_else(|| problem("is not UTF-8".to_owned()))?;
    if !from_file {
        return Ok(entry(value));
    }
    let plain = name.strip_suffix(FROM_FILE).unwrap_or(name);
    if variables.contains_key(plain) {
        return Err(problem(format!("contradicts {plain}, which is set as well")).hint("set one of the two"));
    }
    let text = std::fs::read_to_string(Path::new(value))
        .map_err(|error| problem(format!("cannot read the file: {error}")).showing(format!("{value:?}")))?;
    // Editors and `echo` end a file with a line end that is no part of the secret.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(entry(text))
}

/// The key that a variable names, the entry if the key is a map, and whether the value is in a file.
fn find(name: &str) -> Result<(&'static Key, Option<String>, bool), Problem> {
    for key in KEYS {
        let whole = variable(key.path);
        let Some(rest) = name.strip_prefix(&whole) else {
            continue;
        };
        match (key.kind, rest) {
            (Kind::Templates | Kind::Overrides, _) if rest.is_empty() || rest.starts_with('_') => {
                let problem = Problem::new(
                    name,
                    format!("{} has names of your own, which a variable cannot spell", key.path),
                );
                return Err(problem
                    .hint(format!("give it in the configuration file or with --set {}.NAME=…", key.path)));
            }
            (Kind::Properties, rest) => {
                if let Some(property) = rest.strip_prefix("__").filter(|property| !property.is_empty()) {
                    let (property, from_file) = property_name(key, property);
                    return Ok((key, Some(property), from_file));
                }
            }
            (_, "") => return Ok((key, None, false)),
            (_, FROM_FILE) => return Ok((key, None, true)),
            _ => {}
        }
    }
    Err(unknown_variable(name))
}

/// `SASL_PASSWORD` is `sasl.password`; `SASL_PASSWORD_FILE` is a file with it, unless there is a property that ends in
/// `.file`, as there is for some.
fn property_name(key: &Key, variable: &str) -> (String, bool) {
    // An underscore stands for a dot, but for the few names that have underscores of their own (`log_level`).
    let property = |text: &str| {
        let text = text.to_lowercase();
        let known = NAMES.split_whitespace().find(|name| name.replace('.', "_") == text);
        known.map_or_else(|| text.replace('_', "."), str::to_owned)
    };
    let whole = property(variable);
    match variable.strip_suffix(FROM_FILE) {
        Some(plain) if !(key.path == "kafka" && kafka::is_known(&whole)) => (property(plain), true),
        _ => (whole, false),
    }
}
