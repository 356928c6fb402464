//! docs/traps.md against the tests that it names: each is where the list says, and carries the number of its trap.

use std::collections::BTreeSet;
use std::path::Path;

use super::rows;

/// How many there are: 4.1 to 4.25.
const TRAPS: usize = 25;

/// What stands between backticks, in pairs of a file and a name in it; words that are no file are none.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let mut pairs = Vec::new();
    for pair in quoted.windows(2) {
        let [file, name] = pair else { continue };
        if file.ends_with(".rs") && name.contains('_') && !name.contains(['/', '.']) {
            pairs.push((*file, *name));
        }
    }
    pairs
}

/// The numbers of the traps that the documentation of `name` in `source` tells of.
fn numbers_of(source: &str, name: &str) -> Option<BTreeSet<String>> {
    let (before, _) = source.split_once(&format!("fn {name}("))?;
    let doc = before.lines().rev().skip(1).map(str::trim).take_while(|line| line.starts_with(['/', '#']));
    let doc: Vec<&str> = doc.collect();
    let words = doc.iter().flat_map(|line| line.split(|c: char| !c.is_ascii_digit() && c != '.'));
    Some(words.map(|word| word.trim_matches('.').to_owned()).filter(|word| word.starts_with("4.")).collect())
}

#[test]
fn each_trap_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("docs/traps.md")).unwrap();
    let rows = rows(&list);
    assert_eq!(rows.len(), TRAPS);
    let mut complaints = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let number = format!("4.{}", index + 1);
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [found, _, tests] = columns[..] else { panic!("{row}: not three columns") };
        assert_eq!(found, number);
        let tests = named(tests);
        // The type is the proof.
        if tests.is_empty() && number != "4.13" {
            complaints.push(format!("{number}: no test"));
        }
        for (file, name) in tests {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            match numbers_of(&source, name) {
                None => complaints.push(format!("{number}: {file} has no test {name}")),
                Some(numbers) if !numbers.contains(&number) => {
                    complaints
                        .push(format!("{number}: the documentation of {name} in {file} does not name it"));
                }
                Some(_) => {}
            }
        }
    }
    assert!(complaints.is_empty(), "docs/traps.md\n{}", complaints.join("\n"));
}

#[test]
fn names_and_numbers_are_read_off() {
    let row = "kept out by `src/a.rs` `one_test`, `src/b.rs` `two_tests`; the type `Some_Type` in `src/c.rs`";
    assert_eq!(named(row), [("src/a.rs", "one_test"), ("src/b.rs", "two_tests")]);
    let source = "/// Traps 4.2 and 4.30 of it.\n/// More.\n#[test]\nfn one_test() {}\n\nfn two_tests() {}";
    assert_eq!(numbers_of(source, "one_test"), Some(BTreeSet::from(["4.2".to_owned(), "4.30".to_owned()])));
    assert_eq!(numbers_of(source, "two_tests"), Some(BTreeSet::new()));
    assert_eq!(numbers_of(source, "three_tests"), None);
}
