//! `[tables."public.orders"]`: what one table, or those of a pattern, have in the place of `[outbox]` and `[route]`.
//!
//! A section has `columns`, `headers` and `route`, as `[outbox.columns]`, `[outbox.headers]` and `[route]` have them: the keys are
//! the same, and so is what may be wrong with their values. Each is an entry with its table.

use super::build;
use super::keys::{KEYS, Key, Resolved, resolve};
use super::layers::Entry;
use super::problem::{Origin, Problem};
use super::settings::{Section, Settings};
use super::suggest::nearest;
use super::table_name;
use super::value::{Mistake, Raw};
use crate::outbox::{Shape, TablePattern};
use crate::postgres::sql;

/// The key of all sections.
pub(super) const SECTION: &str = "tables";

/// The keys that a table may have of its own begin so, without what is behind the bar.
const PARTS: [&str; 3] = ["outbox.|columns", "outbox.|headers", "|route"];

/// The path of `key` in the section of `table`; the section itself for [`SECTION`].
pub(super) fn path(table: &str, key: &str) -> String {
    match key {
        SECTION => format!("{SECTION}.{table:?}"),
        key => format!("{SECTION}.{table:?}.{}", key.strip_prefix("outbox.").unwrap_or(key)),
    }
}

/// What a dotted path means in a section.
pub(super) fn resolve_in(path: &str) -> Option<Resolved<'_>> {
    let first = path.split('.').next()?;
    let (above, _) = PARTS.iter().filter_map(|part| part.split_once('|')).find(|(_, part)| *part == first)?;
    match resolve(&format!("{above}{path}")) {
        Resolved::Key(key) => Some(Resolved::Key(key)),
        Resolved::Entry(key, _) => {
            let name = path.split_once('.').map_or("", |(_, name)| name);
            Some(Resolved::Entry(key, name))
        }
        Resolved::Section => Some(Resolved::Section),
        Resolved::Unknown => None,
    }
}

/// A key that no section has.
pub(super) fn unknown(table: &str, wrong: &str, origin: &Origin) -> Problem {
    let own = |key: &'static Key| {
        PARTS.iter().find_map(|part| {
            let (above, part) = part.split_once('|')?;
            let name = key.path.strip_prefix(above)?;
            name.strip_prefix(part).filter(|rest| rest.is_empty() || rest.starts_with('.')).map(|_| name)
        })
    };
    let known: Vec<_> = KEYS.iter().filter_map(own).collect();
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let near = nearest(wrong, known.iter().copied());
    let near = near.or_else(|| known.iter().copied().find(|name| last(name) == last(wrong)));
    let problem = Problem::new(format!("{SECTION}.{table:?}.{wrong}"), "unknown key").at(origin);
    match near {
        Some(near) => problem.hint(format!("did you mean {near}?")),
        None => problem.hint("a table has columns, headers and route of its own"),
    }
}

/// Reads `--set tables.public.orders.route.topic=…`; `rest` is what follows the first dot. The table may be in quotes, as in the
/// file.
pub(super) fn set(rest: &str, raw: Raw) -> Result<Entry, Problem> {
    let wrong = |what: String| Problem::new(format!("{SECTION}.{rest}"), what).at(&Origin::Set);
    let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    let (table, path) = match quoted.filter(|(table, _)| table_name::parse(table).is_ok()) {
        Some(split) => split,
        None => {
            let (_, behind) = table_name::prefix(rest).map_err(wrong)?;
            rest.split_at(rest.len().saturating_sub(behind.len()))
        }
    };
    let path = path.strip_prefix('.').unwrap_or(path);
    let entry = |key, name, raw| Ok(Entry::new(key, name, raw, Origin::Set).of(Some(table)));
    match resolve_in(path) {
        Some(Resolved::Key(key)) if key.kind.is_map() && raw.words() == Some("") => {
            entry(key, None, Raw::Table)
        }
        Some(Resolved::Key(key)) if !key.kind.is_map() => entry(key, None, raw),
        Some(Resolved::Entry(key, name)) => entry(key, Some(name), raw),
        _ if path.is_empty() => {
            let problem = Problem::new(self::path(table, SECTION), "is a section").at(&Origin::Set);
            Err(problem.hint("it has columns, headers and route"))
        }
        _ => Err(unknown(table, path, &Origin::Set)),
    }
}

/// What single tables have of their own. Nothing only if a problem was found, here or before.
pub(super) fn read(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Vec<(TablePattern, Shape)>> {
    let tables = settings.tables("outbox.tables")?;
    let mut read: Vec<(TablePattern, Shape)> = Vec::new();
    let mut complete = true;
    for Section { table, first, own } in settings.sections() {
        let all = own.over(settings);
        build::check_event_type(&all, true, problems);
        let shape = build::shape(&all, own.paths());
        let problem = |mistake: Mistake| {
            let problem = Problem::new(path(table, SECTION), mistake.what).at(&first.origin);
            mistake.hint.into_iter().fold(problem, Problem::hint)
        };
        match (table_name::parse(table), shape) {
            (Err(wrong), _) => problems.push(problem(misnamed(&wrong, table))),
            (Ok(pattern), _) if read.iter().any(|(other, _)| *other == pattern) => {
                problems.push(problem(Mistake::new("is there twice, written in two ways")));
            }
            (Ok(pattern), _) if !tables.iter().any(|table| table.meets(&pattern)) => {
                problems.push(problem(not_named(&pattern, &tables)));
            }
            (Ok(pattern), Some(shape)) => read.push((pattern, shape)),
            (Ok(_), None) => complete = false,
        }
    }
    complete.then_some(read)
}

fn misnamed(wrong: &str, table: &str) -> Mistake {
    let mistake = Mistake::new(wrong);
    if table.contains('.') {
        mistake
    } else {
        mistake.hint(format!("put quotes around the whole name: [{SECTION}.\"{table}.…\"]"))
    }
}

/// A section that is for none of the tables: it would do nothing, and nobody would see.
fn not_named(pattern: &TablePattern, tables: &[TablePattern]) -> Mistake {
    let written: Vec<String> = tables.iter().map(sql::tables).collect();
    let mistake = Mistake::new("is none of the tables of outbox.tables");
    match nearest(&sql::tables(pattern), written.iter().map(String::as_str)) {
        Some(near) => mistake.hint(format!("did you mean {near}?")),
        None => mistake.hint(format!("outbox.tables has {}", written.join(", "))),
    }
}
