//! The configuration file: TOML to entries, each with its line.
//!
//! Names are checked here, values later. The file's text never gets into a message, because it may hold passwords.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::{Key, Resolved, resolve};
use super::layers::Entry;
use super::overrides;
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
    file.walk(None, "", document.get_ref());
    Ok((file.entries, file.problems))
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl File<'_> {
    /// Goes through a section; `above` is its path. With `of`, it is the one of a table, or in it.
    fn walk(&mut self, of: Option<&str>, above: &str, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            let path = if above.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{above}.{}", name.get_ref())
            };
            let origin = self.origin(&name.span());
            let resolved = match of {
                Some(_) => overrides::resolve_in(&path).unwrap_or(Resolved::Unknown),
                None => resolve(&path),
            };
            let shown = || of.map_or_else(|| path.clone(), |table| format!("tables.{table:?}.{path}"));
            match (resolved, value.get_ref()) {
                (Resolved::Key(key), DeValue::Table(tables)) if key.kind == Kind::Overrides => {
                    self.entries.push(Entry::new(key, None, Raw::Table, origin));
                    self.tables(key, tables);
                }
                (Resolved::Key(key), DeValue::Table(entries)) if key.kind.is_map() => {
                    self.entries.push(Entry::new(key, None, Raw::Table, origin).of(of));
                    self.map_entries(of, key, "", entries);
                }
                (Resolved::Key(key), _) if key.kind.is_map() => {
                    let problem = Problem::new(shown(), "must be a table").at(&origin);
                    self.problems.push(problem.hint(format!("write [{}]", shown())));
                }
                (Resolved::Key(key), value) => {
                    self.entries.push(Entry::new(key, None, raw(value), origin).of(of));
                }
                (Resolved::Entry(key, name), value) => {
                    self.entries.push(Entry::new(key, Some(name), raw(value), origin).of(of));
                }
                (Resolved::Section, DeValue::Table(section)) => self.walk(of, &path, section),
                (Resolved::Section, _) => {
                    let problem = Problem::new(shown(), "is a section").at(&origin);
                    self.problems.push(problem.hint(format!("write [{}]", shown())));
                }
                (Resolved::Unknown, _) => self.problems.push(match of {
                    Some(table) => overrides::unknown(table, &path, &origin),
                    None => unknown_key(&path, &origin),
                }),
            }
        }
    }

    /// Goes through the sections of single tables.
    fn tables(&mut self, key: &'static Key, tables: &DeTable<'_>) {
        for (name, value) in in_order(tables) {
            let (table, origin) = (name.get_ref().to_string(), self.origin(&name.span()));
            let of = Some(table.as_str());
            match value.get_ref() {
                // Without quotes, TOML has taken the name apart, and what is below it are no keys.
                DeValue::Table(_) if !table.contains('.') => {
                    self.entries.push(Entry::new(key, None, Raw::Table, origin).of(of));
                }
                DeValue::Table(section) => {
                    self.entries.push(Entry::new(key, None, Raw::Table, origin).of(of));
                    self.walk(of, "", section);
                }
                _ => {
                    let problem = Problem::new(format!("tables.{table:?}"), "must be a table").at(&origin);
                    self.problems.push(problem.hint(format!("write [tables.{table:?}]")));
                }
            }
        }
    }

    /// Goes through a map's entries. Dots in a name nest tables in TOML; here they are part of the name.
    fn map_entries(&mut self, of: Option<&str>, key: &'static Key, above: &str, entries: &DeTable<'_>) {
        for (name, value) in in_order(entries) {
            let path = if above.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{above}.{}", name.get_ref())
            };
            match value.get_ref() {
                DeValue::Table(deeper) => self.map_entries(of, key, &path, deeper),
                value => {
                    let origin = self.origin(&name.span());
                    self.entries.push(Entry::new(key, Some(&path), raw(value), origin).of(of));
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
