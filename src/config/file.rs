//! The configuration file: TOML to entries, each with its line.
//!
//! Names are checked here, values later. The file's text never gets into a message, because it may hold passwords.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::{Key, Resolved, resolve};
use super::layers::Entry;
use super::problem::{Origin, Problem};
use super::suggest::unknown_key;
use super::value::{Kind, Raw};

/// What a file says: entries, and what is wrong with names in it.
pub(super) type Contents = (Vec<Entry>, Vec<Problem>);

/// Reads the file at `path`.
///
/// # Errors
/// If it cannot be read or is not TOML: nothing is known about its keys then.
pub(super) fn read(path: &Path) -> Result<Contents, Vec<Problem>> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) => Err(vec![Problem::new(path.display().to_string(), format!("cannot be read: {error}"))]),
    }
}

fn parse(path: &Path, text: &str) -> Result<Contents, Vec<Problem>> {
    if text.trim_start().starts_with('{') {
        let problem = Problem::new(
            path.display().to_string(),
            "a Debezium connector configuration (JSON) is not supported yet",
        );
        return Err(vec![problem.hint("write the configuration as TOML")]);
    }
    let (document, mut mistakes) = DeTable::parse_recoverable(text);
    let mut file = File { path, text, entries: Vec::new(), problems: Vec::new() };
    if !mistakes.is_empty() {
        mistakes.sort_by_key(|mistake| mistake.span().unwrap_or_default().start);
        let problem = |mistake: &toml::de::Error| {
            let place = file.origin(&mistake.span().unwrap_or_default());
            Problem::new(place.to_string(), format!("is not TOML: {}", mistake.message()))
        };
        return Err(mistakes.iter().map(problem).collect());
    }
    file.walk("", document.get_ref());
    Ok((file.entries, file.problems))
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl File<'_> {
    /// Goes through a section; `above` is its path.
    fn walk(&mut self, above: &str, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            let path = if above.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{above}.{}", name.get_ref())
            };
            let origin = self.origin(&name.span());
            match (resolve(&path), value.get_ref()) {
                (Resolved::Key(key), DeValue::Table(entries)) if key.kind.is_map() => {
                    self.map(key, &origin, entries)
                }
                (Resolved::Key(key), _) if key.kind.is_map() => {
                    self.problems.push(
                        Problem::new(&path, "must be a table").at(&origin).hint(format!("write [{path}]")),
                    );
                }
                (Resolved::Key(key), value) => self.entries.push(Entry::new(key, None, raw(value), origin)),
                (Resolved::Entry(key, name), value) => {
                    self.entries.push(Entry::new(key, Some(name), raw(value), origin));
                }
                (Resolved::Section, DeValue::Table(section)) => self.walk(&path, section),
                (Resolved::Section, _) => {
                    self.problems.push(
                        Problem::new(&path, "is a section").at(&origin).hint(format!("write [{path}]")),
                    );
                }
                (Resolved::Unknown, _) => self.problems.push(unknown_key(&path, &origin)),
            }
        }
    }

    fn map(&mut self, key: &'static Key, origin: &Origin, entries: &DeTable<'_>) {
        self.entries.push(Entry::new(key, None, Raw::Table, origin.clone()));
        self.map_entries(key, "", entries);
    }

    /// Goes through a map's entries. Dots in a name nest tables in TOML; here they are part of the name.
    fn map_entries(&mut self, key: &'static Key, above: &str, entries: &DeTable<'_>) {
        for (name, value) in in_order(entries) {
            let path = if above.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{above}.{}", name.get_ref())
            };
            match value.get_ref() {
                DeValue::Table(deeper) if key.kind != Kind::Overrides => self.map_entries(key, &path, deeper),
                value => {
                    self.entries.push(Entry::new(key, Some(&path), raw(value), self.origin(&name.span())))
                }
            }
        }
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        let line = self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count().saturating_add(1);
        Origin::File(self.path.to_owned(), line)
    }
}

/// The entries as the file has them; the parser sorts them by name.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => Raw::Number(decimal(number)),
        DeValue::Float(number) => Raw::Number(number.as_str().to_owned()),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Datetime(_) => Raw::Date,
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(_) => Raw::Table,
    }
}

/// `0x10` is 16 for the reader of a property, too.
fn decimal(number: &toml::de::DeInteger<'_>) -> String {
    i64::from_str_radix(number.as_str(), number.radix())
        .map_or_else(|_| number.to_string(), |value| value.to_string())
}
