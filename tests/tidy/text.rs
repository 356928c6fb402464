//! Checks of a file's text and name.

/// More is a sign that two things live in a file.
const LONGEST: usize = 500;

pub(crate) fn length(_: &str, content: &str) -> Vec<String> {
    let lines = content.lines().count();
    let complaint = format!(
        "{lines} lines, more than {LONGEST}. Two things live in it: move one to a file of its own, named for what it is, \
         with its tests"
    );
    if lines > LONGEST { vec![complaint] } else { Vec::new() }
}

pub(crate) fn module_doc(_: &str, content: &str) -> Vec<String> {
    match content.lines().take_while(|line| line.starts_with("//!")).count() {
        0 => vec![
            "begins without a module doc: `//!` and what goes in, what comes out, what it never does"
                .to_owned(),
        ],
        1..=15 => Vec::new(),
        lines => vec![format!("its module doc has {lines} lines, more than 15")],
    }
}

/// What tells of work that is not done. Written in halves, because this file is checked as well.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!"),
    concat!("unimpl", "emented!"),
    concat!("db", "g!"),
    concat!("#[ign", "ore"),
];

pub(crate) fn unfinished(_: &str, content: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in content.lines().enumerate() {
        for word in UNFINISHED {
            if occurrences(line, word).any(|at| !continues(line[..at].chars().next_back())) {
                complaints.push(format!("line {}: {word}: finish it, or file an issue", number + 1));
            }
        }
    }
    complaints
}

const EMPTY_NAMES: [&str; 4] = ["utils", "common", "helpers", "misc"];

pub(crate) fn name(path: &str, _: &str) -> Vec<String> {
    let mut parts = path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let empty = parts.find(|part| EMPTY_NAMES.contains(part));
    empty.map(|part| format!("\"{part}\" says nothing: name it for what is inside")).into_iter().collect()
}

/// Folders of somebody's machine.
const MACHINE: [&str; 3] = [concat!("/wo", "rk"), concat!("/ro", "ot"), concat!("/ho", "me")];

pub(crate) fn outside(path: &str, content: &str) -> Vec<String> {
    let depth = path.matches('/').count();
    let mut complaints = Vec::new();
    for (number, line) in content.lines().enumerate() {
        for folder in MACHINE {
            // `framework/`, `/workers` and `example.org/work` are something else.
            let names_it = |at: usize| {
                let before = line[..at].chars().next_back();
                let after = line[at + folder.len()..].chars().next();
                !continues(before)
                    && !matches!(before, Some('/' | '.' | '}' | '*' | '>'))
                    && !continues(after)
            };
            if occurrences(line, folder).any(names_it) {
                complaints.push(format!("line {}: {folder} is a folder of one machine", number + 1));
            }
        }
        if climbs(line) > depth {
            complaints.push(format!("line {}: leads out of the repository", number + 1));
        }
    }
    complaints
}

/// How many folders the longest run of `../` in `line` climbs.
fn climbs(line: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    let mut rest = line;
    while let Some(next) = rest.find("../") {
        run = if next == 0 { run + 1 } else { 1 };
        longest = longest.max(run);
        rest = &rest[next + 3..];
    }
    longest
}

fn occurrences(line: &str, word: &str) -> impl Iterator<Item = usize> {
    line.match_indices(word).map(|(at, _)| at)
}

/// Whether a word goes on with this character.
fn continues(next: Option<char>) -> bool {
    next.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

#[test]
fn long_files_are_found() {
    assert!(length("src/a.rs", &"x\n".repeat(LONGEST)).is_empty());
    assert!(
        length("src/a.rs", &"x\n".repeat(LONGEST + 1))[0].starts_with("501 lines, more than 500. Two things")
    );
}

#[test]
fn missing_and_endless_module_docs_are_found() {
    assert!(module_doc("src/a.rs", "//! A.\n\nuse b;").is_empty());
    assert!(module_doc("src/a.rs", "//! A.\n".repeat(15).as_str()).is_empty());
    for content in ["", "use b;\n//! A.", "// A.", "/// A.", "//! A.\n".repeat(16).as_str()] {
        assert_eq!(module_doc("src/a.rs", content).len(), 1, "{content:?}");
    }
}

#[test]
fn unfinished_work_is_found() {
    for word in UNFINISHED {
        assert_eq!(unfinished("src/a.rs", &format!("a\n  // {word} b")).len(), 1, "{word}");
        assert!(unfinished("src/a.rs", &format!("a{word}")).is_empty(), "{word}");
    }
    assert_eq!(unfinished("src/a.rs", &format!("{} = \"why\"]", UNFINISHED[5])).len(), 1);
}

#[test]
fn empty_names_are_found() {
    for path in ["src/utils.rs", "tests/common/mod.rs", "src/a/helpers.rs", "src/misc/b.rs"] {
        assert_eq!(name(path, "").len(), 1, "{path}");
    }
    for path in ["src/uncommon.rs", "src/a.rs"] {
        assert!(name(path, "").is_empty(), "{path}");
    }
}

#[test]
fn paths_of_a_machine_are_found() {
    let [one, two, three] = MACHINE;
    for line in
        [format!("cd {one}"), format!("\"{two}/.cargo\""), format!("path={three}/me"), format!("`{one}/a`")]
    {
        assert_eq!(outside("a.md", &line).len(), 1, "{line}");
    }
    for line in
        [format!("a{one}"), format!(".github{one}flows"), format!("https://a.b{one}"), format!("${{A}}{two}")]
    {
        assert!(outside("a.md", &line).is_empty(), "{line}");
    }
}

#[test]
fn paths_out_of_the_repository_are_found() {
    let up = "../";
    assert_eq!(outside("README.md", &format!("see {up}shared")).len(), 1);
    assert!(outside("docs/a.md", &format!("[map]({up}ARCHITECTURE.md), [map]({up}README.md)")).is_empty());
    assert_eq!(outside("docs/a.md", &format!("{up}{up}b")).len(), 1);
}
