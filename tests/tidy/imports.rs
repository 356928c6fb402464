//! Which modules may use which: the layers of ARCHITECTURE.md, and what the pure ones keep away from.
//!
//! A file is cut into words; comments, texts and the unit tests at its end do not count. Every path in it is looked at,
//! imported or written out.

use std::collections::BTreeSet;

/// The pure modules, and the crates that each may use beside `bytes` and `thiserror`.
const PURE: [(&str, &[&str]); 12] = [
    ("lsn", &[]),
    ("ack", &[]),
    ("wal", &[]),
    ("outbox", &["serde_json"]),
    ("debezium", &["serde_json", "regex"]),
    ("in_flight", &[]),
    ("feedback", &[]),
    ("server_stop", &[]),
    ("silence", &[]),
    ("pace", &[]),
    ("suspects", &[]),
    ("relay", &[]),
];

/// Modules from the ground up: each uses those of its own layer and of the layers before it.
const LAYERS: [&[&str]; 9] = [
    &["lsn"],
    &["ack", "wal", "outbox", "debezium"],
    &["in_flight", "feedback", "server_stop", "silence", "pace", "suspects"],
    &["relay", "postgres", "kafka"],
    &["after_publish"],
    &["findings"],
    &["session"],
    &["supervisor"],
    &["cli"],
];

/// Parts of the standard library that do something, or ask something, outside the program.
const IMPURE_STD: [&str; 7] = ["io", "net", "fs", "env", "thread", "process", "os"];
/// `Instant` may be an argument; asking for the present one is `Instant::now` or `elapsed`.
const IMPURE_WORDS: [&str; 3] = ["SystemTime", "now", "elapsed"];
const IMPURE_MACROS: [&str; 7] =
    ["print", "println", "eprint", "eprintln", "env", "option_env", "include_str"];

/// Complaints about the paths in `content`, a file of `src/`. `crates` are the dependencies' names.
pub(crate) fn check(path: &str, content: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let inner = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let mut module: Vec<&str> = inner.split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    let own = module[0];
    let pure = PURE.iter().find(|(name, _)| *name == own);
    let words = words(before_tests(content));
    let mut complaints = BTreeSet::new();
    for found in paths(&words) {
        let found = resolve(&found, &module);
        let Some((root, rest)) = found.split_first() else {
            continue;
        };
        let next = rest.first().map_or("", String::as_str);
        if root == "crate" {
            let here = layer(own);
            if let (Some(here), Some(there)) = (here, layer(next))
                && there > here
            {
                complaints.insert(format!("uses crate::{next}, which is built on it: imports go one way"));
            }
            if pure.is_some() && !PURE.iter().any(|(name, _)| *name == next) {
                complaints.insert(format!("is pure and uses crate::{next}, which is not"));
            }
        } else if let Some((_, more)) = pure {
            let standard = ["std", "core", "alloc"].contains(&root.as_str());
            if standard && IMPURE_STD.contains(&next) {
                complaints.insert(format!("is pure and uses {root}::{next}"));
            }
            let allowed = ["bytes", "thiserror"].contains(&root.as_str()) || more.contains(&root.as_str());
            if !standard && !allowed && crates.contains(root.as_str()) {
                complaints.insert(format!("is pure and uses the crate {root}"));
            }
        }
    }
    // The simulation of the session moves its clock on by itself.
    if ["session", "supervisor"].contains(&own)
        && !module.contains(&"simulation")
        && words.windows(3).any(|words| words == ["Instant", "::", "now"])
    {
        complaints
            .insert("asks another clock than crate::clock, which the simulation has in its hand".to_owned());
    }
    if pure.is_some() {
        for (index, word) in words.iter().enumerate() {
            // A parameter or a variable may be called `now`; a call has a parenthesis.
            let asked = word == "SystemTime" || words.get(index + 1).is_some_and(|next| next == "(");
            if IMPURE_WORDS.contains(&word.as_str()) && asked {
                complaints.insert(format!("is pure and knows {word}: time is an argument"));
            }
            if IMPURE_MACROS.contains(&word.as_str()) && words.get(index + 1).is_some_and(|next| next == "!")
            {
                complaints.insert(format!("is pure and uses {word}!"));
            }
        }
    }
    complaints.into_iter().collect()
}

/// The names of the crates that `manifest` depends on, as code writes them.
pub(crate) fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.trim_end_matches(']').ends_with("dependencies");
        } else if let Some((name, _)) = line.split_once('=')
            && inside
            && !line.starts_with('#')
        {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    names
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn before_tests(content: &str) -> &str {
    content.split("#[cfg(test)]\nmod tests {").next().unwrap_or(content)
}

/// Names, and other characters one by one; `::` is one word. Without comments and without what stands in quotes.
fn words(content: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = content;
    while let Some(c) = rest.chars().next() {
        let raw = ["r\"", "r#\"", "br\"", "br#\""].into_iter().find(|start| rest.starts_with(start));
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(start) = raw {
            let close = if start.contains('#') { "\"#" } else { "\"" };
            let body = &rest[start.len()..];
            start.len() + body.find(close).map_or(body.len(), |at| at + close.len())
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else if c.is_alphanumeric() || c == '_' {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push(rest[..len].to_owned());
            len
        } else {
            let len = if rest.starts_with("::") { 2 } else { c.len_utf8() };
            if !c.is_whitespace() {
                words.push(rest[..len].to_owned());
            }
            len
        };
        rest = &rest[len..];
    }
    words
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A character, not a lifetime.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}

/// Every path of two names or more; `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(words: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if is_name(&words[at]) && words.get(at + 1).is_some_and(|word| word == "::") {
            at = tree(words, at, &[], &mut found);
        } else {
            // `use tokio;` and `use tokio as runtime;`
            if words[at] == "use" && words.get(at + 2).is_some_and(|word| word == ";" || word == "as") {
                found.push(vec![words[at + 1].clone()]);
            }
            at += 1;
        }
    }
    found
}

/// Reads one path that starts at `at`, below `prefix`; gives where it ends.
fn tree(words: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    while let Some(word) = words.get(at) {
        match word.as_str() {
            "::" => at += 1,
            "{" if at > 0 && words[at - 1] == "::" => {
                at += 1;
                while let Some(word) = words.get(at) {
                    match word.as_str() {
                        "}" => return at + 1,
                        _ if is_name(word) && word != "as" => at = tree(words, at, &path, found),
                        _ => at += 1,
                    }
                }
                return at;
            }
            _ if is_name(word) && (path.len() == prefix.len() || words[at - 1] == "::") => {
                path.push(word.clone());
                at += 1;
            }
            _ => break,
        }
    }
    found.push(path);
    at
}

fn is_name(word: &str) -> bool {
    word.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}

/// `super` and `self` written out from the crate's root.
fn resolve(path: &[String], module: &[&str]) -> Vec<String> {
    let mut base: Vec<String> =
        std::iter::once("crate").chain(module.iter().copied()).map(str::to_owned).collect();
    let mut rest = path;
    let mut relative = false;
    while let Some((first, more)) = rest.split_first() {
        match first.as_str() {
            "self" => relative = true,
            "super" => {
                relative = true;
                base.pop();
            }
            _ => break,
        }
        rest = more;
    }
    if relative {
        base.extend_from_slice(rest);
        base
    } else {
        path.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, content: &str) -> Vec<String> {
        let crates = ["bytes", "thiserror", "tokio", "tracing", "serde_json"].map(str::to_owned);
        check(path, content, &BTreeSet::from(crates))
    }

    #[test]
    fn a_pure_module_uses_pure_ones() {
        let fine = "use std::{fmt, collections::HashMap};\nuse bytes::Bytes;\nuse crate::{lsn::Lsn, wal::{self, Envelope}};\n\
                    use super::relation::Mapping;\nfn f<'a>(x: &'a str) -> char { '\"' }";
        assert_eq!(complaints("src/outbox/event.rs", fine), Vec::<String>::new());
        assert_eq!(complaints("src/debezium/a.rs", "use serde_json::Value;"), Vec::<String>::new());
    }

    #[test]
    fn a_pure_module_that_reaches_out_is_found() {
        for (content, complaint) in [
            ("use std::fs;", "is pure and uses std::fs"),
            ("use std::{fmt, io::Read};", "is pure and uses std::io"),
            ("fn f() { std::thread::yield_now() }", "is pure and uses std::thread"),
            ("use std::time::SystemTime;", "is pure and knows SystemTime: time is an argument"),
            ("fn f() { let t = Instant::now(); }", "is pure and knows now: time is an argument"),
            ("fn f(t: Instant) { t.elapsed(); }", "is pure and knows elapsed: time is an argument"),
            ("use tokio::time;", "is pure and uses the crate tokio"),
            ("use tokio as t;", "is pure and uses the crate tokio"),
            ("fn f() { tracing::info!(\"x\") }", "is pure and uses the crate tracing"),
            ("use serde_json::Value;", "is pure and uses the crate serde_json"),
            ("use crate::config::Config;", "is pure and uses crate::config, which is not"),
            ("use super::super::kafka;", "uses crate::kafka, which is built on it: imports go one way"),
            ("fn f() { println!(\"x\") }", "is pure and uses println!"),
            ("const A: &str = env!(\"A\");", "is pure and uses env!"),
        ] {
            assert!(complaints("src/wal/a.rs", content).contains(&complaint.to_owned()), "{content}");
        }
    }

    #[test]
    fn imports_against_the_layers_are_found() {
        let up = |module| vec![format!("uses crate::{module}, which is built on it: imports go one way")];
        assert_eq!(complaints("src/lsn.rs", "use crate::ack::Ack;"), up("ack"));
        assert_eq!(complaints("src/outbox/mod.rs", "use crate::{lsn, relay::Relay};"), up("relay"));
        assert_eq!(
            complaints("src/kafka/mod.rs", "use tokio::net;\nuse crate::session::Session;"),
            up("session")
        );
        assert_eq!(
            complaints("src/session.rs", "use crate::{kafka, postgres, relay};"),
            Vec::<String>::new()
        );
        assert_eq!(complaints("src/main.rs", "use outbox_relay::cli;"), Vec::<String>::new());
    }

    #[test]
    fn a_session_with_a_clock_of_its_own_is_found() {
        let content = "fn f() { let now = Instant::now(); }";
        assert_eq!(complaints("src/session/stop.rs", content).len(), 1);
        assert_eq!(complaints("src/session/simulation/kafka.rs", content), Vec::<String>::new());
        assert_eq!(
            complaints("src/session/stop.rs", "fn f(now: Instant) { clock::now(); }"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn comments_texts_and_unit_tests_do_not_count() {
        let content = "//! Not `std::fs`.\n/// Nor [`crate::relay::Relay`].\nconst A: &str = \"std::fs \\\" tokio::a\";\n\
                       const B: &str = r#\"use \"std::fs\"\"#;\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(complaints("src/wal/a.rs", content), Vec::<String>::new());
    }
}
