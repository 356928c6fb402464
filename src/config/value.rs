//! From what was written to what is meant: the kinds of values and how each is read.
//!
//! The file has types of its own, so `"true"` in quotes is not a boolean there. Words from the environment and from
//! `--set` have none and are read as the key wants them. Nothing here knows about keys or where a value came from.

use std::time::Duration;

use bytesize::ByteSize;

use super::suggest::nearest;
use super::table_name::{self, LONGEST_IDENTIFIER};
use super::zone;
use crate::outbox::{TablePattern, Template, Zone};
use crate::secret::Secret;

/// A value as it was written. It may be a secret, and so it cannot be printed.
#[derive(Clone)]
pub(super) enum Raw {
    /// From the environment or `--set`: to be read by the key's kind.
    Word(String),
    /// The file's string.
    Text(String),
    /// The file's number, as text.
    Number(String),
    /// The file's boolean.
    Bool(bool),
    /// The file's array.
    List(Vec<Self>),
    /// The file's table; also a map given without entries.
    Table,
    /// The file's date or time.
    Date,
}

/// What a key's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that is not empty.
    Name,
    /// Text that is not empty and never shown.
    Secret,
    /// A PostgreSQL identifier, taken as it is.
    Identifier,
    /// The name of a replication slot.
    Slot,
    /// true or false.
    Bool,
    /// A whole number.
    Integer,
    /// The name of a time zone.
    Zone,
    /// `16MiB`.
    Size,
    /// `20s`.
    Duration,
    /// Several texts.
    List,
    /// Several `schema.table`, or patterns of them.
    Tables,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `host:port`, or "" for none.
    Address,
    /// Text with `{placeholders}`.
    Template,
    /// A template for the name of a topic.
    Topic,
    /// A map of the user's own names to templates.
    Templates,
    /// A map of a Kafka client's or topic's properties.
    Properties,
    /// A map of tables to keys of their own.
    Overrides,
}

/// A value as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Secret(Secret),
    Bool(bool),
    Integer(i64),
    Size(u64),
    Duration(Duration),
    List(Vec<String>),
    Tables(Vec<TablePattern>),
    Template(Template),
    Zone(Zone),
}

/// Why a value cannot be read: what is wrong, and what to do.
pub(super) struct Mistake {
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

impl Mistake {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Kind {
    /// Whether entries with names of their own are below it.
    pub(super) const fn is_map(self) -> bool {
        matches!(self, Self::Templates | Self::Properties | Self::Overrides)
    }

    /// Reads a value; of a map, the value of one entry.
    pub(super) fn read(self, raw: &Raw) -> Result<Value, Mistake> {
        match self {
            Self::Text => raw.text().map(|text| Value::Text(text.to_owned())),
            Self::Name => not_empty(raw).map(|text| Value::Text(text.to_owned())),
            Self::Secret => not_empty(raw).map(|text| Value::Secret(Secret::new(text.to_owned()))),
            Self::Identifier => identifier(not_empty(raw)?),
            Self::Slot => slot(not_empty(raw)?),
            Self::Bool => boolean(raw),
            Self::Integer => integer(raw),
            Self::Zone => zone::read(not_empty(raw)?).map(Value::Zone),
            Self::Size => size(raw),
            Self::Duration => duration(raw),
            Self::List => raw.list().map(Value::List),
            Self::Tables => tables(&raw.list()?),
            Self::Choice(words) => choice(raw.text()?, words),
            Self::Address => address(raw.text()?),
            Self::Template => template(not_empty(raw)?).map(Value::Template),
            Self::Topic => topic(not_empty(raw)?),
            Self::Templates => template(raw.text()?).map(Value::Template),
            Self::Properties => property(raw),
            Self::Overrides => Err(Mistake::new("must be a table")),
        }
    }
}

impl Raw {
    /// The value in the file's notation, cut if it is long; nothing for what has no short notation.
    pub(super) fn shown(&self) -> Option<String> {
        /// What fits beside the key and its origin on a line.
        const ENOUGH: usize = 80;
        match self {
            Self::Word(text) | Self::Text(text) if text.chars().count() > ENOUGH => {
                Some(format!("{:?}…", text.chars().take(ENOUGH).collect::<String>()))
            }
            Self::Word(text) | Self::Text(text) => Some(format!("{text:?}")),
            Self::Number(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string()),
            Self::List(items) => {
                let items: Option<Vec<_>> = items.iter().map(Self::shown).collect();
                items.map(|items| format!("[{}]", items.join(", ")))
            }
            Self::Table | Self::Date => None,
        }
    }

    /// Text as it was written, without quotes.
    pub(super) fn words(&self) -> Option<&str> {
        self.text().ok()
    }

    fn text(&self) -> Result<&str, Mistake> {
        match self {
            Self::Word(text) | Self::Text(text) => Ok(text),
            Self::Number(_) | Self::Bool(_) | Self::Date => {
                Err(Mistake::new(format!("must be text, not {}", self.type_name()))
                    .hint("put it in double quotes"))
            }
            Self::List(_) | Self::Table => {
                Err(Mistake::new(format!("must be text, not {}", self.type_name())))
            }
        }
    }

    /// The items of an array, or of a word with commas between them. A comma inside double quotes parts nothing.
    fn list(&self) -> Result<Vec<String>, Mistake> {
        match self {
            Self::List(items) => {
                let wrong =
                    |mistake: Mistake| Mistake { what: format!("each item {}", mistake.what), ..mistake };
                items.iter().map(|item| item.text().map(str::to_owned).map_err(wrong)).collect()
            }
            Self::Word(text) => {
                let mut quoted = false;
                let parts = text.split(|c| {
                    quoted ^= c == '"';
                    c == ',' && !quoted
                });
                Ok(parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
            }
            Self::Text(_) => Err(Mistake::new("must be a list").hint("put it in brackets: [\"…\"]")),
            Self::Number(_) | Self::Bool(_) | Self::Table | Self::Date => {
                Err(Mistake::new(format!("must be a list, not {}", self.type_name())))
            }
        }
    }

    const fn type_name(&self) -> &'static str {
        match self {
            Self::Word(_) | Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table => "a table",
            Self::Date => "a date",
        }
    }
}

fn not_empty(raw: &Raw) -> Result<&str, Mistake> {
    let text = raw.text()?;
    if text.is_empty() { Err(Mistake::new("must not be empty")) } else { Ok(text) }
}

fn boolean(raw: &Raw) -> Result<Value, Mistake> {
    match raw {
        Raw::Bool(value) => Ok(Value::Bool(*value)),
        Raw::Word(text) if text == "true" => Ok(Value::Bool(true)),
        Raw::Word(text) if text == "false" => Ok(Value::Bool(false)),
        Raw::Text(text) if text == "true" || text == "false" => {
            Err(Mistake::new("must be true or false, not text").hint("remove the quotes"))
        }
        Raw::Word(_) | Raw::Text(_) | Raw::Number(_) | Raw::List(_) | Raw::Table | Raw::Date => {
            Err(Mistake::new("must be true or false"))
        }
    }
}

fn integer(raw: &Raw) -> Result<Value, Mistake> {
    match raw {
        Raw::Word(text) | Raw::Number(text) => {
            text.parse().map(Value::Integer).map_err(|_| Mistake::new("must be a whole number"))
        }
        Raw::Text(text) if text.parse::<i64>().is_ok() => {
            Err(Mistake::new("must be a number, not text").hint("remove the quotes"))
        }
        Raw::Text(_) | Raw::Bool(_) | Raw::List(_) | Raw::Table | Raw::Date => {
            Err(Mistake::new("must be a whole number"))
        }
    }
}

/// Slot names are stricter than identifiers (PostgreSQL documentation, "Replication Slots").
fn slot(text: &str) -> Result<Value, Mistake> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if text.len() <= LONGEST_IDENTIFIER && text.chars().all(allowed) {
        return Ok(Value::Text(text.to_owned()));
    }
    let mistake = Mistake::new(format!(
        "is not the name of a slot: lower-case letters, digits and underscores, at most {LONGEST_IDENTIFIER}"
    ));
    let near: String = text
        .to_lowercase()
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(LONGEST_IDENTIFIER)
        .collect();
    Err(mistake.hint(format!("\"{near}\" would do")))
}

fn identifier(text: &str) -> Result<Value, Mistake> {
    if text.len() > LONGEST_IDENTIFIER {
        return Err(Mistake::new(format!(
            "has {} bytes: PostgreSQL's names have at most {LONGEST_IDENTIFIER}",
            text.len()
        )));
    }
    Ok(Value::Text(text.to_owned()))
}

fn size(raw: &Raw) -> Result<Value, Mistake> {
    let wrong = || {
        Mistake::new("is not a size").hint("sizes are written like \"16MiB\": a number with KiB, MiB or GiB")
    };
    let text = raw.text().map_err(|_| wrong())?;
    // A number alone is refused: 16 would be taken for MiB by its writer and for bytes by the relay.
    if !has_only_units(text, &["B", "KiB", "MiB", "GiB"]) {
        return Err(wrong());
    }
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err(Mistake::new("must be more than nothing")),
        Ok(ByteSize(bytes)) => Ok(Value::Size(bytes)),
        Err(_) => Err(wrong()),
    }
}

fn duration(raw: &Raw) -> Result<Value, Mistake> {
    let wrong = || {
        Mistake::new("is not a time")
            .hint("times are written like \"20s\" or \"1h 30m\": numbers with ms, s, m, h or d")
    };
    let text = raw.text().map_err(|_| wrong())?;
    // humantime knows more units, among them M for months, which is a slip away from m.
    if !has_only_units(text, &["ms", "s", "m", "h", "d"]) {
        return Err(wrong());
    }
    humantime::parse_duration(text).map(Value::Duration).map_err(|_| wrong())
}

/// Whether words are in `text`, and only these.
fn has_only_units(text: &str, units: &[&str]) -> bool {
    let mut words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).peekable();
    words.peek().is_some() && words.all(|word| units.contains(&word))
}

fn tables(names: &[String]) -> Result<Value, Mistake> {
    let mut tables = Vec::new();
    for text in names {
        let table = table_name::parse(text).map_err(|wrong| Mistake::new(format!("{text:?} {wrong}")))?;
        if tables.contains(&table) {
            return Err(Mistake::new(format!("{table} is there twice")));
        }
        tables.push(table);
    }
    if tables.is_empty() {
        Err(Mistake::new("must name at least one table"))
    } else {
        Ok(Value::Tables(tables))
    }
}

fn choice(text: &str, words: &'static [&'static str]) -> Result<Value, Mistake> {
    if words.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let mistake = Mistake::new(format!("must be one of {}", words.join(", ")));
    match nearest(text, words.iter().copied()) {
        Some(near) => Err(mistake.hint(format!("did you mean \"{near}\"?"))),
        None => Err(mistake),
    }
}

/// `host:port`. Whether the host exists is seen when it is bound.
fn address(text: &str) -> Result<Value, Mistake> {
    if text.is_empty() || text.parse::<std::net::SocketAddr>().is_ok() {
        return Ok(Value::Text(text.to_owned()));
    }
    let wrong = Mistake::new("is not an address to listen on");
    match text.rsplit_once(':') {
        Some(("", port)) if port.parse::<u16>().is_ok() => {
            Err(wrong
                .hint(format!("0.0.0.0{text} listens on every IPv4 address, [::]{text} on every address")))
        }
        Some((host, port))
            if port.parse::<u16>().is_ok()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) =>
        {
            Ok(Value::Text(text.to_owned()))
        }
        _ => Err(wrong.hint("addresses are written host:port, such as 127.0.0.1:9464")),
    }
}

fn template(text: &str) -> Result<Template, Mistake> {
    Template::parse(text).map_err(|error| Mistake::new(error.to_string()))
}

/// A template whose records Kafka could take: no letter that is forbidden in the names of topics.
fn topic(text: &str) -> Result<Value, Mistake> {
    let template = template(text)?;
    let literal: String = template.literals().collect();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if let Some(c) = literal.chars().find(|c| !allowed(*c)) {
        return Err(Mistake::new(format!(
            "has {c:?}: topics consist of letters, digits, \".\", \"_\" and \"-\""
        )));
    }
    if template.placeholders().next().is_none() && literal.ends_with(['.', '-', '_']) {
        return Err(Mistake::new("has no placeholder and ends as if one had been lost")
            .hint("placeholders are written {aggregate_type}, without \"$\", which a shell or compose file would replace by nothing"));
    }
    if template.placeholders().next().is_none() && (literal.len() > 249 || literal == "." || literal == "..")
    {
        return Err(Mistake::new(
            "is not the name of a topic: at most 249 characters, and not \".\" or \"..\"",
        ));
    }
    Ok(Value::Template(template))
}

/// Kafka's properties are text; numbers and booleans may be written without quotes.
fn property(raw: &Raw) -> Result<Value, Mistake> {
    match raw {
        Raw::Word(text) | Raw::Text(text) | Raw::Number(text) => Ok(Value::Text(text.clone())),
        Raw::Bool(value) => Ok(Value::Text(value.to_string())),
        Raw::List(_) => Err(Mistake::new("must be text, a number or a boolean, not a list")
            .hint("put commas between the items, in one text")),
        Raw::Table | Raw::Date => {
            Err(Mistake::new(format!("must be text, a number or a boolean, not {}", raw.type_name())))
        }
    }
}

#[cfg(test)]
mod tests;
