//! What README.md says of the program's public names is what the code says. Each file of `tests/readme/` compares one
//! section, in both directions, and says what to paste. Beside it docs/traps.md is compared with the tests it names.
#![cfg(test)]

#[path = "readme/configuration.rs"]
mod configuration;
#[path = "readme/findings.rs"]
mod findings;
#[path = "readme/operation.rs"]
mod operation;
#[path = "readme/traps.rs"]
mod traps;

const README: &str = include_str!("../README.md");

/// The text of the section `title`, up to the next heading of its level or of a higher one.
fn section(title: &str) -> &'static str {
    let heading = format!("\n{title}\n");
    let (_, rest) =
        README.split_once(&heading).unwrap_or_else(|| panic!("README.md has no section {title:?}"));
    let level = title.chars().take_while(|c| *c == '#').count();
    let ends = |line: &str| {
        let hashes = line.chars().take_while(|c| *c == '#').count();
        (1..=level).contains(&hashes) && line[hashes..].starts_with(' ')
    };
    let mut fenced = false;
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        fenced ^= line.starts_with("```");
        if !fenced && ends(line) {
            break;
        }
        end += line.len();
    }
    &rest[..end]
}

/// The rows of all tables in `text`, without the heads.
fn rows(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_row = |line: &str| line.starts_with('|');
    let is_rule = |line: &str| is_row(line) && line.contains("---");
    let mut rows = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let is_head = lines.get(index + 1).is_some_and(|next| is_rule(next));
        if is_row(line) && !is_rule(line) && !is_head {
            rows.push((*line).to_owned());
        }
    }
    rows
}

/// Fails unless the README has these rows, in this order, and no others.
fn compare(place: &str, readme: &[String], code: &[String]) {
    let lacks: Vec<_> = code.iter().filter(|row| !readme.contains(row)).cloned().collect();
    let surplus: Vec<_> = readme.iter().filter(|row| !code.contains(row)).cloned().collect();
    assert!(
        lacks.is_empty() && surplus.is_empty(),
        "README.md, {place}\n\npaste into it:\n\n{}\n\nremove from it:\n\n{}\n",
        lacks.join("\n"),
        surplus.join("\n")
    );
    assert!(readme == code, "README.md, {place}: bring the rows into this order:\n\n{}\n", code.join("\n"));
}

/// The code blocks of `text` in this language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block)).collect()
}

#[test]
fn a_section_ends_at_the_next_heading_of_its_level() {
    assert!(section("## Configuration").contains("### "));
    assert!(!section("## Configuration").contains("\n## "));
}
