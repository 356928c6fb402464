//! What was probably meant by a name that does not exist.

use super::environment::{FROM_FILE, PREFIX, variable};
use super::keys::{KEYS, names_in, sections};
use super::problem::{Origin, Problem};
use super::property_names::NAMES;

/// A key that does not exist.
pub(super) fn unknown_key(path: &str, origin: &Origin) -> Problem {
    let problem = Problem::new(path, "unknown key").at(origin);
    let known: Vec<String> = known_paths().chain(sections_like(path)).collect();
    match nearest(path, known.iter().map(String::as_str)).or(only_one_named(path)) {
        Some(near) => {
            let spelled =
                if matches!(origin, Origin::Variable(_)) { variable(near) } else { near.to_owned() };
            problem.hint(format!("did you mean {spelled}?")).meaning(near.to_owned())
        }
        None => problem.hint(what_there_is(path)),
    }
}

/// A variable that belongs to a section and to no key.
pub(super) fn unknown_variable(name: &str) -> Problem {
    // Compared without the part that all of them share, which would make every name look near.
    let short = |variable: &str| variable.strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let variables: Vec<(String, String)> = known_paths()
        .flat_map(|path| {
            let plain = short(&variable(&path));
            [(format!("{plain}{FROM_FILE}"), path.clone()), (plain, path)]
        })
        .collect();
    let problem = Problem::new(name, "names no key");
    let near = nearest(&short(name), variables.iter().map(|(variable, _)| variable.as_str()));
    match variables.iter().find(|(variable, _)| Some(variable.as_str()) == near) {
        Some((variable, path)) => {
            problem.hint(format!("did you mean {PREFIX}{variable}?")).meaning(path.clone())
        }
        None => problem.hint(variables_there_are(&short(name))),
    }
}

/// What could stand in the place of a variable that begins with the name of a section.
fn variables_there_are(short: &str) -> String {
    let begins = |section: &&str| short.starts_with(&section.to_uppercase());
    let section = sections().into_iter().find(begins).unwrap_or_default();
    let names = names_in(section);
    let example = match names.first() {
        Some(name) => variable(&format!("{section}.{name}")),
        None => variable("kafka.bootstrap.servers"),
    };
    let written = format!("variables are written like {example}, with two underscores");
    if names.is_empty() { written } else { format!("[{section}] has {}; {written}", names.join(", ")) }
}

/// The names beside which `path` would stand.
fn what_there_is(path: &str) -> String {
    let section = path.rsplit_once('.').map_or("", |(section, _)| section);
    let names = names_in(section);
    match section.split('.').next() {
        Some("kafka") => {
            "they are listed in librdkafka's CONFIGURATION.md; those of the Java client differ".to_owned()
        }
        Some("") | None => format!("the sections are {}", sections().join(", ")),
        Some(first) if names.is_empty() => format!("[{first}] has {}", names_in(first).join(", ")),
        Some(_) => format!("[{section}] has {}", names.join(", ")),
    }
}

/// The one of `candidates` that is so near to `text` that it was probably meant.
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    // One slip in three or four letters is a typing mistake; more is another word.
    let farthest = (text.chars().count() / 4).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&text, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= farthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// All keys that have a name of their own, and all properties of `[kafka]`.
fn known_paths() -> impl Iterator<Item = String> {
    let keys = KEYS.iter().filter(|key| !key.kind.is_map()).map(|key| key.path.to_owned());
    keys.chain(NAMES.split_whitespace().map(|name| format!("kafka.{name}")))
}

/// The sections that are as deep as `path`.
fn sections_like(path: &str) -> impl Iterator<Item = String> {
    let depth = path.split('.').count();
    let upper = move |key: &'static str| key.split('.').take(depth).collect::<Vec<_>>().join(".");
    KEYS.iter().map(move |key| upper(key.path)).filter(move |section| section.split('.').count() == depth)
}

/// The key whose last word is that of `path`, if there is only one: `slot` is `postgres.slot`.
fn only_one_named(path: &str) -> Option<&'static str> {
    let last = path.rsplit('.').next();
    let mut same = KEYS.iter().filter(|key| key.path.rsplit('.').next() == last);
    same.next().filter(|_| same.next().is_none()).map(|key| key.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["postgres.url", "postgres.slot", "http.listen"];
        assert_eq!(nearest("postgres.slto", words), Some("postgres.slot"));
        assert_eq!(nearest("HTTP.Listen", words), Some("http.listen"));
        assert_eq!(nearest("postgres.password", words), None);
        assert_eq!(nearest("", words), None);
    }

    #[test]
    fn a_last_word_is_enough_if_only_one_key_ends_so() {
        assert_eq!(only_one_named("slot"), Some("postgres.slot"));
        assert_eq!(only_one_named("kafka_options.max_in_flight"), Some("delivery.max_in_flight"));
        assert_eq!(only_one_named("topic"), None);
    }
}
