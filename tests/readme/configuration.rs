//! `## Configuration` against the table of keys, and its examples against the program.

use outbox_relay::config::keys::{KEYS, Key, Preset, Support};
use outbox_relay::config::{self, Kind};

use crate::{blocks, compare, rows, section};

/// The row of the reference.
fn row(key: &Key) -> String {
    let default = match key.default {
        Preset::Required => "required".to_owned(),
        Preset::Value(value) => format!("`{}`", notation(key.kind, value)),
        Preset::Map([]) => "`{}`".to_owned(),
        Preset::Map(entries) => {
            let entries: Vec<_> = entries.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
            format!("`{{ {} }}`", entries.join(", "))
        }
    };
    let support = match key.support {
        Support::Works => "",
        Support::NotYet(_) => "*Not supported yet.* ",
    };
    format!("| `{}` | {default} | {support}{} |", key.path, key.doc)
}

/// A default as the file would have it.
fn notation(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Bool | Kind::Integer => value.to_owned(),
        Kind::List | Kind::Tables if value.is_empty() => "[]".to_owned(),
        Kind::List | Kind::Tables => format!("[{value:?}]"),
        _ => format!("{value:?}"),
    }
}

#[test]
fn every_key_is_in_the_reference_with_its_default_and_meaning() {
    let code: Vec<String> = KEYS.iter().map(row).collect();
    compare("### Every key", &rows(section("### Every key")), &code);
}

#[test]
fn every_section_has_a_heading_in_the_reference() {
    let mut sections: Vec<&str> = KEYS.iter().filter_map(|key| key.path.split('.').next()).collect();
    sections.dedup();
    let headings: Vec<&str> = section("### Every key")
        .lines()
        .filter_map(|line| line.strip_prefix("#### `[")?.strip_suffix("]`"))
        .collect();
    assert_eq!(headings, sections);
}

#[test]
fn every_fixed_kafka_property_is_told_with_its_reason() {
    let code: Vec<String> = config::fixed_properties()
        .map(|(name, value, why)| {
            let value = value.map_or_else(|| "not to be set".to_owned(), |value| format!("`{value}`"));
            format!("| `{name}` | {value} | {why} |")
        })
        .collect();
    compare("### Fixed properties of Kafka", &rows(section("### Fixed properties of Kafka")), &code);
}

#[test]
fn the_examples_are_accepted() {
    let examples = blocks(section("## Configuration"), "toml");
    assert!(!examples.is_empty());
    for example in examples {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, example).unwrap();
        if let Err(problems) = config::load(Some(&path), [], &[]) {
            panic!("{problems}\n{example}");
        }
    }
}
