//! The table of findings against the code that makes them.

use std::collections::BTreeSet;
use std::path::Path;

use super::{rows, section};

/// Level and id of every `Finding::level("id", …)`, and of the constants that stand for one, in the files of a folder.
fn made_in(folder: &Path) -> BTreeSet<(String, String)> {
    let mut made = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let (text, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        let text = CONSTANTS.iter().fold(text.to_owned(), |text, (name, id)| {
            text.replace(&format!("{name},"), &format!("\"{id}\","))
        });
        for level in ["stop", "wait", "warn"] {
            for call in [format!("Finding::{level}("), format!(" {level}(")] {
                for after in text.split(&call).skip(1) {
                    let Some(rest) = after.trim_start().strip_prefix('"') else {
                        continue;
                    };
                    let id = rest.split('"').next().unwrap().to_owned();
                    made.insert((id, level.to_owned()));
                }
            }
        }
    }
    made
}

/// Ids that other code asks for as well.
const CONSTANTS: [(&str, &str); 3] = [
    ("SLOT_IN_USE", "slot_in_use"),
    ("TOPIC_MISSING", "topic_missing"),
    ("UNSENT_ROWS", "after_publish_unsent_rows"),
];

#[test]
fn the_findings_are_those_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = made_in(&root.join("src/findings"));
    let told: BTreeSet<_> = rows(section("### What is wrong?"))
        .iter()
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            (cells.next().unwrap().trim_matches('`').to_owned(), cells.next().unwrap().to_owned())
        })
        .collect();
    assert!(made.len() > 40, "{made:?}");
    let lacks: Vec<_> = made.difference(&told).collect();
    let surplus: Vec<_> = told.difference(&made).collect();
    assert!(lacks.is_empty() && surplus.is_empty(), "README.md lacks {lacks:?}; the code has no {surplus:?}");
}
