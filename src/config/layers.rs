//! What was given, layer over layer: file, environment, `--set`.
//!
//! Entries come in as they were written and go out the same; a later layer's entry takes the place of an earlier one's.
//! The entries of a map are put together over all layers.

use std::collections::BTreeMap;
use std::mem::discriminant;

use super::environment::FROM_FILE;
use super::kafka::{is_secret, one_name};
use super::keys::{Key, Resolved, names_in, resolve};
use super::overrides;
use super::problem::{Origin, Problem};
use super::suggest::unknown_key;
use super::value::{Kind, Mistake, Raw};

/// A value that was given, or one of a map's.
#[derive(Clone)]
pub(super) struct Entry {
    /// The section `[tables."…"]` that it is in.
    pub(super) table: Option<String>,
    pub(super) key: &'static Key,
    /// Its name in the map. A map itself is an entry without a name: it was given, be it empty.
    pub(super) name: Option<String>,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

impl Entry {
    pub(super) fn new(key: &'static Key, name: Option<&str>, raw: Raw, origin: Origin) -> Self {
        Self { table: None, key, name: name.map(str::to_owned), raw, origin }
    }

    /// The same in the section of a table.
    pub(super) fn of(self, table: Option<&str>) -> Self {
        Self { table: table.map(str::to_owned), ..self }
    }

    pub(super) fn path(&self) -> String {
        let path = match &self.table {
            Some(table) => overrides::path(table, self.key.path),
            None => self.key.path.to_owned(),
        };
        match &self.name {
            Some(name) => format!("{path}.{name}"),
            None => path,
        }
    }

    /// Whether somebody wrote it.
    pub(super) fn is_given(&self) -> bool {
        self.origin != Origin::Default
    }

    /// Tells what is wrong with its value. A secret is not shown, nor is what came out of a file that a variable
    /// named: it may be another secret than was meant.
    pub(super) fn problem(&self, mistake: Mistake) -> Problem {
        if self.is_secret() {
            let shown = self.raw.shown().unwrap_or_default();
            let shown = shown.trim_matches('"');
            let quoted = !shown.is_empty() && mistake.what.contains(shown);
            let what = if quoted {
                "is not valid; its value may be a secret and is not shown".to_owned()
            } else {
                mistake.what
            };
            return Problem::new(self.path(), what).at(&self.origin);
        }
        let problem = Problem::new(self.path(), mistake.what).at(&self.origin);
        let problem = match self.raw.shown() {
            Some(value) => problem.showing(value),
            None => problem,
        };
        match mistake.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    fn is_secret(&self) -> bool {
        let from_file = matches!(&self.origin, Origin::Variable(name) if name.ends_with(FROM_FILE));
        from_file || self.key.kind == Kind::Secret || self.name.as_deref().is_some_and(is_secret)
    }

    /// Whether both set the same thing.
    fn rivals(&self, other: &Self) -> bool {
        let name = |entry: &Self| entry.name.as_deref().map(one_name).map(str::to_owned);
        self.table == other.table && self.key.path == other.key.path && name(self) == name(other)
    }
}

/// All entries, by the path of their key.
#[derive(Default)]
pub(super) struct Layers(BTreeMap<&'static str, Vec<Entry>>);

impl Layers {
    /// Lays `layer` over what is there.
    pub(super) fn add(&mut self, layer: impl IntoIterator<Item = Entry>, problems: &mut Vec<Problem>) {
        for entry in layer {
            let place = if entry.table.is_some() { overrides::SECTION } else { entry.key.path };
            let entries = self.0.entry(place).or_default();
            let Some(other) = entries.iter_mut().find(|other| other.rivals(&entry)) else {
                entries.push(entry);
                continue;
            };
            // Repeated in one command line, the last one holds, as people are used to.
            let contradict =
                entry.origin != Origin::Set && discriminant(&other.origin) == discriminant(&entry.origin);
            if contradict && other.name.is_some() {
                let problem =
                    Problem::new(entry.path(), format!("contradicts {} ({})", other.path(), other.origin));
                problems.push(problem.at(&entry.origin).hint("they are the same: keep one of the two"));
            } else {
                *other = entry;
            }
        }
    }

    /// What was given for a key; nothing if it was not given at all.
    pub(super) fn given(&self, key: &Key) -> Option<&[Entry]> {
        self.0.get(key.path).map(Vec::as_slice)
    }
}

/// Reads one `--set`.
pub(super) fn set(path: &str, value: &str) -> Result<Entry, Problem> {
    let raw = Raw::Word(value.to_owned());
    match resolve(path) {
        Resolved::Key(key) if key.kind.is_map() && value.is_empty() => {
            Ok(Entry::new(key, None, Raw::Table, Origin::Set))
        }
        Resolved::Key(key) if key.kind.is_map() => {
            let problem = Problem::new(path, "has entries with names of their own").at(&Origin::Set);
            Err(problem.hint(format!("set one entry: --set {path}.NAME=VALUE")))
        }
        Resolved::Key(key) => Ok(Entry::new(key, None, raw, Origin::Set)),
        Resolved::Entry(key, rest) if key.kind == Kind::Overrides => overrides::set(rest, raw),
        Resolved::Entry(key, name) => Ok(Entry::new(key, Some(name), raw, Origin::Set)),
        Resolved::Section => {
            let problem = Problem::new(path, "is a section").at(&Origin::Set);
            Err(problem.hint(format!("it has {}", names_in(path).join(", "))))
        }
        Resolved::Unknown => Err(unknown_key(path, &Origin::Set)),
    }
}
