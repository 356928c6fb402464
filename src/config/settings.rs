//! Every key's value: given or default, read, checked by itself, and typed.
//!
//! A key whose value is wrong is a [`Problem`] and absent here; what is built from the settings is then not built.

use std::collections::BTreeMap;
use std::time::Duration;

use super::kafka::{self, Refusal};
use super::keys::{KEYS, Key, Preset, Support};
use super::layers::{Entry, Layers};
use super::problem::{Origin, Problem};
use super::suggest::unknown_key;
use super::value::{Kind, Mistake, Raw, Value};
use crate::outbox::{OWN_HEADERS, TablePattern, Template, Zone};
use crate::secret::Secret;

/// The values, by the path of their key.
#[derive(Default, Clone)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, (Value, Entry)>,
    maps: BTreeMap<&'static str, Vec<(String, Value, Entry)>>,
    sections: Vec<Section>,
}

/// A section `[tables."…"]`.
#[derive(Clone)]
pub(super) struct Section {
    /// The table, as it was written.
    pub(super) table: String,
    /// Its first entry, to say what is wrong with it as a whole.
    pub(super) first: Entry,
    /// What it says.
    pub(super) own: Settings,
}

impl Settings {
    /// Reads what was given, and the defaults of what was not.
    pub(super) fn read(layers: &Layers, problems: &mut Vec<Problem>) -> Self {
        let mut settings = Self::default();
        for key in KEYS {
            let entries = match layers.given(key) {
                Some(given) => given.to_vec(),
                None => defaults(key, problems),
            };
            for entry in entries {
                let Some(table) = entry.table.clone() else {
                    settings.add(entry, problems);
                    continue;
                };
                match settings.sections.iter_mut().find(|section| section.table == table) {
                    Some(section) => section.own.add(entry, problems),
                    None => {
                        let first = entry.clone();
                        let mut own = Self::default();
                        own.add(entry, problems);
                        settings.sections.push(Section { table, first, own });
                    }
                }
            }
        }
        settings
    }

    fn add(&mut self, entry: Entry, problems: &mut Vec<Problem>) {
        let key = entry.key;
        match (read(&entry), &entry.name) {
            (Ok(value), Some(name)) => {
                self.maps.entry(key.path).or_default().push((name.clone(), value, entry))
            }
            // The map itself was given.
            (_, None) if key.kind.is_map() => _ = self.maps.entry(key.path).or_default(),
            (Ok(value), None) => _ = self.values.insert(key.path, (value, entry)),
            (Err(problem), _) => problems.push(problem),
        }
    }

    /// The sections of single tables, in the order in which they were given.
    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// These, and those of `general` for what is not among them.
    pub(super) fn over(&self, general: &Self) -> Self {
        let mut all = general.clone();
        all.values.extend(self.values.clone());
        all.maps.extend(self.maps.clone());
        all.sections.clear();
        all
    }

    /// The path of everything that was given here, with that of the key it is for.
    pub(super) fn paths(&self) -> BTreeMap<String, String> {
        let values = self.values.values().map(|(_, entry)| (entry.key.path.to_owned(), entry.path()));
        let entries = self.maps.values().flatten();
        let maps = entries.map(|(name, _, entry)| (format!("{}.{name}", entry.key.path), entry.path()));
        values.chain(maps).collect()
    }

    /// Whether a map was given, be it empty.
    pub(super) fn has_map(&self, path: &str) -> bool {
        self.maps.contains_key(path)
    }

    /// The entry of a key, to say what is wrong with it beside others.
    pub(super) fn entry(&self, path: &str) -> Option<&Entry> {
        self.values.get(path).map(|(_, entry)| entry)
    }

    /// A key's value, and the entry that it was read from.
    pub(super) fn value(&self, path: &str) -> Option<&(Value, Entry)> {
        self.values.get(path)
    }

    /// The entries of a map, in order.
    pub(super) fn map(&self, path: &str) -> &[(String, Value, Entry)] {
        self.maps.get(path).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.get(path, |value| if let Value::Text(text) = value { Some(text.clone()) } else { None })
    }

    /// Text that may be missing: `Some(None)` if it is empty.
    pub(super) fn optional(&self, path: &str) -> Option<Option<String>> {
        self.text(path).map(|text| Some(text).filter(|text| !text.is_empty()))
    }

    pub(super) fn secret(&self, path: &str) -> Option<Secret> {
        self.get(path, |value| if let Value::Secret(secret) = value { Some(secret.clone()) } else { None })
    }

    pub(super) fn bool(&self, path: &str) -> Option<bool> {
        self.get(path, |value| if let Value::Bool(value) = value { Some(*value) } else { None })
    }

    pub(super) fn integer(&self, path: &str) -> Option<i64> {
        self.get(path, |value| if let Value::Integer(number) = value { Some(*number) } else { None })
    }

    pub(super) fn list(&self, path: &str) -> Option<Vec<String>> {
        self.get(path, |value| if let Value::List(items) = value { Some(items.clone()) } else { None })
    }

    pub(super) fn size(&self, path: &str) -> Option<u64> {
        self.get(path, |value| if let Value::Size(bytes) = value { Some(*bytes) } else { None })
    }

    pub(super) fn duration(&self, path: &str) -> Option<Duration> {
        self.get(path, |value| if let Value::Duration(duration) = value { Some(*duration) } else { None })
    }

    pub(super) fn tables(&self, path: &str) -> Option<Vec<TablePattern>> {
        self.get(path, |value| if let Value::Tables(tables) = value { Some(tables.clone()) } else { None })
    }

    pub(super) fn zone(&self, path: &str) -> Option<Zone> {
        self.get(path, |value| if let Value::Zone(zone) = value { Some(zone.clone()) } else { None })
    }

    pub(super) fn template(&self, path: &str) -> Option<Template> {
        self.get(
            path,
            |value| {
                if let Value::Template(template) = value { Some(template.clone()) } else { None }
            },
        )
    }

    /// The value as what it is; nothing also if the table of keys says another kind, which the defaults would show.
    fn get<T>(&self, path: &str, of: impl Fn(&Value) -> Option<T>) -> Option<T> {
        self.values.get(path).and_then(|(value, _)| of(value))
    }
}

/// The default of a key that was not given; a required one is missed.
fn defaults(key: &'static Key, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let entry = |name, value: &str| Entry::new(key, name, Raw::Word(value.to_owned()), Origin::Default);
    match key.default {
        Preset::Required => {
            missed(key.path, problems);
            Vec::new()
        }
        Preset::Value(value) => vec![entry(None, value)],
        Preset::Map(entries) => entries.iter().map(|(name, value)| entry(Some(*name), value)).collect(),
    }
}

/// Tells that a required value is missing, unless it was only misspelt.
pub(super) fn missed(path: &str, problems: &mut Vec<Problem>) {
    if problems.iter().any(|problem| problem.means(path)) {
        return;
    }
    let problem = Problem::missing(path);
    problems.push(problem.hint(format!(
        "set it in the configuration file, or {} in the environment",
        super::environment::variable(path)
    )));
}

/// Reads a value and checks it by itself.
fn read(entry: &Entry) -> Result<Value, Problem> {
    let (key, name) = (entry.key, entry.name.as_deref());
    if name.is_some() && matches!(key.support, Support::NotYet(_)) {
        return Err(entry.problem(Mistake::new("is not supported yet")));
    }
    let value = key.kind.read(&entry.raw).map_err(|mistake| entry.problem(mistake))?;
    match (key.kind, name, &value) {
        // Those of topics are the broker's, and only the broker knows them.
        (Kind::Properties, Some(name), Value::Text(text)) if key.path == "kafka" => kafka::check(name, text)
            .map_err(|refusal| match refusal {
                Refusal::Unknown => unknown_property(entry),
                Refusal::Value(mistake) => entry.problem(mistake),
            })?,
        (Kind::Templates, Some(name), _) => header(name).map_err(|mistake| entry.problem(mistake))?,
        _ => {}
    }
    match key.support {
        Support::Works => Ok(value),
        Support::NotYet(off) if accepted(key, off).any(|accepted| accepted == value) => Ok(value),
        Support::NotYet(off) => Err(not_supported(entry, off)),
    }
}

/// The values that a key takes although it does nothing yet.
fn accepted(key: &'static Key, off: &'static [&'static str]) -> impl Iterator<Item = Value> {
    let default = if let Preset::Value(value) = key.default { Some(value) } else { None };
    default
        .into_iter()
        .chain(off.iter().copied())
        .filter_map(|text| key.kind.read(&Raw::Word(text.to_owned())).ok())
}

fn not_supported(entry: &Entry, off: &[&str]) -> Problem {
    let default = if let Preset::Value(value) = entry.key.default { value } else { "" };
    let accepted: Vec<String> =
        std::iter::once(&default).chain(off).map(|value| written(entry.key.kind, value)).collect();
    let problem = entry.problem(Mistake::new("is not supported yet"));
    problem.hint(format!("leave it out; this version accepts only {}", accepted.join(" and ")))
}

/// A value in the file's notation.
fn written(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Bool | Kind::Integer => value.to_owned(),
        Kind::List if value.is_empty() => "[]".to_owned(),
        _ => format!("{value:?}"),
    }
}

fn unknown_property(entry: &Entry) -> Problem {
    let problem = unknown_key(&entry.path(), &entry.origin);
    problem.saying("librdkafka has no such property")
}

/// Headers that the relay itself writes; a second one of the name would leave consumers to guess.
fn header(name: &str) -> Result<(), Mistake> {
    if name.is_empty() {
        return Err(Mistake::new("a header needs a name"));
    }
    if OWN_HEADERS.contains(&name) {
        return Err(Mistake::new("is a header that the relay writes itself").hint("choose another name"));
    }
    Ok(())
}
