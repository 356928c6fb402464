//! `outbox-relay config`: the effective configuration, each value with its origin, secrets hidden.
//!
//! As text it reads like the file and can be used as one: a hidden value is no TOML, so that it cannot be taken for a
//! value by accident. As JSON it is one object, with every key there is.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::Output;
use crate::config::{Kind, Origin, Setting, Shown};

/// Prints `settings` to `out` as `output` asks for, and gives the exit status.
///
/// # Errors
/// If `out` takes no more.
pub fn print(settings: &[Setting], output: &Output, out: &mut impl Write) -> io::Result<u8> {
    let page = if output.json { json(settings) } else { text(settings) };
    super::print(out, &page).map(|_| 0)
}

/// A longer path or value moves what follows it out of its column.
const WIDEST: usize = 36;

fn text(settings: &[Setting]) -> String {
    // What this version does not do yet would only bury the rest, unless somebody wrote it.
    let (shown, left_out): (Vec<_>, Vec<_>) =
        settings.iter().partition(|setting| setting.is_supported() || setting.origin != Origin::Default);
    let lines: Vec<_> =
        shown.iter().map(|setting| (path(setting), notation(&setting.value), *setting)).collect();
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.filter(|length| *length <= WIDEST).max();
    let paths = width(&mut lines.iter().map(|(path, ..)| path.chars().count())).unwrap_or(0);
    let values = width(&mut lines.iter().map(|(_, value, _)| value.chars().count())).unwrap_or(0);
    let mut page = String::new();
    let mut section = None;
    for (path, value, setting) in lines {
        let its = match setting.table {
            Some(_) => Some("tables"),
            None => setting.key.path.split('.').next(),
        };
        if section.is_some() && section != its {
            page.push('\n');
        }
        section = its;
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{path:paths$} = {value:values$}  # {}", one_line(&setting.origin));
    }
    if !left_out.is_empty() {
        let count = left_out.len();
        let _ = writeln!(
            page,
            "\n# {count} keys that this version does not support yet are left out: --json has them."
        );
    }
    page
}

/// The path as the file would have it. Kafka's properties need no quotes for their dots.
fn path(setting: &Setting) -> String {
    let bare = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    match &setting.name {
        Some(name) if setting.key.kind != Kind::Properties && !bare(name) => {
            let map = Setting { name: None, ..setting.clone() };
            format!("{}.{}", map.path(), quoted(name))
        }
        _ => setting.path(),
    }
}

fn notation(value: &Shown) -> String {
    match value {
        Shown::Text(text) => quoted(text),
        Shown::Bool(value) => value.to_string(),
        Shown::Integer(number) => number.to_string(),
        Shown::List(items) => {
            format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
        }
        Shown::EmptyMap => "{}".to_owned(),
        Shown::Hidden => "(hidden)".to_owned(),
    }
}

/// A basic string of TOML: JSON's escapes are among TOML's, which wants one more character escaped.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// A file's name may hold anything, and a comment ends with its line.
fn one_line(origin: &Origin) -> String {
    origin.to_string().replace(char::is_control, "?")
}

/// One key a line, in the order of the reference: for programs, and for those who `grep`.
fn json(settings: &[Setting]) -> String {
    let line = |setting: &Setting| {
        let value = match &setting.value {
            Shown::Text(text) => json!(text),
            Shown::Bool(value) => json!(value),
            Shown::Integer(number) => json!(number),
            Shown::List(items) => json!(items),
            Shown::EmptyMap => json!({}),
            Shown::Hidden => json!("(hidden)"),
        };
        let (path, origin) = (json!(setting.path()), json!(setting.origin.to_string()));
        let supported = if setting.is_supported() { "" } else { r#", "supported": false"# };
        format!(r#"  {path}: {{"value": {value}, "origin": {origin}{supported}}}"#)
    };
    format!("{{\n{}\n}}\n", settings.iter().map(line).collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests;
