//! The effective configuration, for people and programs to look at: each value with its origin, secrets hidden.
//!
//! Settings go in, [`Setting`]s come out, in the order of the table of keys and of the maps' entries. What is in force is
//! shown, not what was written: synonyms of Kafka properties under one name, the properties that the relay fixes among
//! them, a default header only where it is sent. A [`Setting`] holds no secret: it may be printed anywhere.

use super::build;
use super::kafka::{self, Properties};
use super::keys::{KEYS, Key, Support};
use super::layers::Layers;
use super::overrides;
use super::problem::Origin;
use super::settings::{Section, Settings};
use super::value::{Kind, Raw, Value};
use crate::postgres::{conninfo, sql};

/// A key, or an entry of a map, with the value in force.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The section `[tables."…"]` that it is in.
    pub table: Option<String>,
    /// The key.
    pub key: &'static Key,
    /// The entry's name, if the key is a map.
    pub name: Option<String>,
    /// Its value.
    pub value: Shown,
    /// Where it was given.
    pub origin: Origin,
}

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Text; also a size, a time or a template, as it was written.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Several texts.
    List(Vec<String>),
    /// A map without entries.
    EmptyMap,
    /// A secret, which is not shown.
    Hidden,
}

impl Setting {
    /// The path of the key or entry: `kafka.bootstrap.servers`.
    #[must_use]
    pub fn path(&self) -> String {
        let path = match &self.table {
            Some(table) => overrides::path(table, self.key.path),
            None => self.key.path.to_owned(),
        };
        match &self.name {
            Some(name) => format!("{path}.{name}"),
            None => path,
        }
    }

    /// Whether this version does what the key says. Of one that it does not, the value is its default, or turns it off.
    #[must_use]
    pub const fn is_supported(&self) -> bool {
        matches!(self.key.support, Support::Works)
    }
}

/// What is in force. `properties` are those of `[kafka]` with the relay's own.
pub(super) fn settings(layers: &Layers, settings: &Settings, properties: &Properties) -> Vec<Setting> {
    let of_key = |key: &'static Key| match key.kind {
        Kind::Properties if key.path == "kafka" => of_kafka(key, settings, properties),
        Kind::Overrides => of_tables(key, layers, settings),
        kind if kind.is_map() => of_map(key, layers, settings),
        _ => single(key, settings).into_iter().collect(),
    };
    KEYS.iter().flat_map(of_key).collect()
}

fn single(key: &'static Key, settings: &Settings) -> Option<Setting> {
    let (value, entry) = settings.value(key.path)?;
    Some(Setting {
        table: None,
        key,
        name: None,
        value: shown(value, &entry.raw),
        origin: entry.origin.clone(),
    })
}

fn of_map(key: &'static Key, layers: &Layers, settings: &Settings) -> Vec<Setting> {
    let entries = settings.map(key.path).iter();
    let shown: Vec<_> = entries
        .filter(|(_, value, _)| key.kind != Kind::Templates || build::is_sent(settings, value))
        .map(|(name, value, entry)| Setting {
            table: None,
            key,
            name: Some(name.clone()),
            value: shown(value, &entry.raw),
            origin: entry.origin.clone(),
        })
        .collect();
    if !shown.is_empty() {
        return shown;
    }
    let given = layers.given(key).and_then(<[_]>::first);
    let origin = given.map_or(Origin::Default, |entry| entry.origin.clone());
    vec![Setting { table: None, key, name: None, value: Shown::EmptyMap, origin }]
}

/// What sections of single tables say, each in the order of the reference.
fn of_tables(key: &'static Key, layers: &Layers, settings: &Settings) -> Vec<Setting> {
    let mut shown = Vec::new();
    for Section { table, first, own } in settings.sections() {
        let of = |key: &'static Key| match key.kind {
            Kind::Templates if own.has_map(key.path) => of_map(key, &Layers::default(), own),
            kind if kind.is_map() => Vec::new(),
            _ => single(key, own).into_iter().collect(),
        };
        shown.extend(KEYS.iter().flat_map(of).map(|setting| {
            // Of a map without entries only the section is known.
            let origin = if setting.value == Shown::EmptyMap { &first.origin } else { &setting.origin };
            Setting { table: Some(table.clone()), origin: origin.clone(), ..setting }
        }));
    }
    if shown.is_empty() { of_map(key, layers, settings) } else { shown }
}

fn of_kafka(key: &'static Key, settings: &Settings, properties: &Properties) -> Vec<Setting> {
    let origin = |name: &str| {
        let given = settings.map(key.path).iter().find(|(given, ..)| kafka::one_name(given) == name);
        match given {
            _ if kafka::is_fixed(name) => Origin::Fixed,
            Some((_, _, entry)) => entry.origin.clone(),
            None => Origin::Default,
        }
    };
    let setting = |(name, value): (&str, &str)| Setting {
        table: None,
        key,
        name: Some(name.to_owned()),
        value: if kafka::is_secret(name) { Shown::Hidden } else { Shown::Text(value.to_owned()) },
        origin: origin(name),
    };
    properties.iter().map(setting).collect()
}

fn shown(value: &Value, raw: &Raw) -> Shown {
    match value {
        Value::Text(text) => Shown::Text(text.clone()),
        // The one secret key is a connection string. What is left of it without the password is worth seeing.
        Value::Secret(secret) => {
            conninfo::without_password(secret.reveal()).map_or(Shown::Hidden, Shown::Text)
        }
        Value::Bool(value) => Shown::Bool(*value),
        Value::Integer(number) => Shown::Integer(*number),
        Value::List(items) => Shown::List(items.clone()),
        Value::Tables(tables) => Shown::List(tables.iter().map(sql::tables).collect()),
        Value::Template(template) => Shown::Text(template.to_string()),
        Value::Size(_) | Value::Duration(_) | Value::Zone(_) => {
            raw.words().map_or(Shown::Hidden, |text| Shown::Text(text.to_owned()))
        }
    }
}
