//! Rules of this repository that no other tool knows: what the pure modules may use, how large files are, what they are
//! called, and what must not be committed.
//!
//! The checks are functions from text to complaints, in `tests/tidy/`, each tried there on text that breaks its rule.
#![cfg(test)]

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/text.rs"]
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All files that are, or could be, committed, by their path in the repository.
fn files() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let mut paths: Vec<PathBuf> = match listed {
        Ok(output) if output.status.success() => {
            let paths = String::from_utf8(output.stdout).unwrap();
            paths.split_terminator('\0').map(PathBuf::from).collect()
        }
        // Not a checkout: a source archive.
        _ => walk(root).iter().map(|path| path.strip_prefix(root).unwrap().to_owned()).collect(),
    };
    paths.sort();
    let content = |path: PathBuf| {
        // A file that was removed and is not committed yet is still listed.
        let content = fs::read(root.join(&path)).ok()?;
        Some((path.to_str().unwrap().to_owned(), content))
    };
    paths.into_iter().filter_map(content).collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| !path.ends_with("target") && !path.ends_with(".git"))
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

fn complain(check: impl Fn(&str, &str) -> Vec<String>, concerns: impl Fn(&str) -> bool) {
    let mut seen = 0;
    let mut complaints = Vec::new();
    for (path, content) in files() {
        if let Ok(content) = String::from_utf8(content)
            && concerns(&path)
        {
            seen += 1;
            complaints
                .extend(check(&path, &content).into_iter().map(|complaint| format!("{path}: {complaint}")));
        }
    }
    assert!(seen > 0, "no file was looked at");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn is_rust(path: &str) -> bool {
    let folders = ["src/", "tests/", "benches/", "examples/"];
    path.ends_with(".rs") && folders.iter().any(|folder| path.starts_with(folder))
}

#[test]
fn the_heart_is_pure_and_imports_go_one_way() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let crates = imports::dependencies(&manifest);
    assert!(crates.contains("bytes") && crates.contains("tokio"));
    complain(
        |path, content| imports::check(path, content, &crates),
        |path| path.starts_with("src/") && is_rust(path),
    );
}

#[test]
fn files_are_read_in_one_sitting() {
    complain(text::length, |path| path.starts_with("src/") && is_rust(path));
}

#[test]
fn every_file_says_what_it_is() {
    complain(text::module_doc, is_rust);
}

#[test]
fn nothing_is_left_undone() {
    complain(text::unfinished, is_rust);
}

#[test]
fn names_say_what_is_inside() {
    complain(text::name, is_rust);
}

#[test]
fn nothing_points_outside_the_repository() {
    complain(text::outside, |_| true);
}
