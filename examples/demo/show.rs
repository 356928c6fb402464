//! How things look: colours only for a terminal, and not where `NO_COLOR` asks for none.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use crate::kafka::Arrival;

/// Under the topic, beside the milliseconds.
const INDENT: &str = "               ";

/// A record in a few lines, the milliseconds first because they are what one looks for.
pub(crate) fn arrival(arrival: &Arrival, took: Option<Duration>) -> String {
    let took = took.map_or_else(|| "?".to_owned(), |took| format!("{:.1} ms", took.as_secs_f64() * 1000.0));
    let mut lines = vec![format!(
        "  {}  {}  partition {}  key {}",
        heading(&format!("{took:>11}")),
        heading(&arrival.topic),
        arrival.partition,
        arrival.key,
    )];
    // Two headers a line: the position alone is half as wide as a terminal.
    for headers in arrival.headers.chunks(2) {
        let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.push(format!("{INDENT}{}", paint("2", &headers.join("  "))));
    }
    lines.push(format!("{INDENT}{}", arrival.payload));
    lines.join("\n")
}

pub(crate) fn heading(text: &str) -> String {
    paint("1", text)
}

pub(crate) fn good(text: &str) -> String {
    paint("32", text)
}

pub(crate) fn bad(text: &str) -> String {
    paint("31", text)
}

fn paint(code: &str, text: &str) -> String {
    let wanted = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
