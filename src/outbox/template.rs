//! `outbox.event.{aggregate_type}`: text with placeholders, compiled once.

use std::fmt;

use bytes::Bytes;

use super::function::Function;

/// A template as the configuration has it: literal text and `{placeholders}`, which may have functions behind them:
/// `{aggregate_type|lower}`, `{tenant|"none"}`. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// A part of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    Placeholder(String, Vec<Function>),
}

/// The placeholders that stand for the table's own name and not for a column.
pub const OWN_NAMES: [&str; 2] = ["@schema", "@table"];

/// Text that is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error(
        "the placeholder that starts at character {0} is not closed with \"}}\" (a brace itself is written \"{{{{\")"
    )]
    Unclosed(usize),
    /// `{}`.
    #[error("the placeholder at character {0} is empty")]
    Empty(usize),
    /// `{@…}` that is neither `{@schema}` nor `{@table}`.
    #[error("the placeholder at character {0} begins with \"@\": there are {own}", own = OWN_NAMES.join(" and "))]
    Own(usize),
    /// A word behind a `|` that is no function.
    #[error(
        "the placeholder at character {at} has \"|{function}\", which is no function: there are {}, and a text in double quotes, \
         which stands for NULL",
        Function::NAMES
    )]
    Function {
        /// Where the placeholder begins, counted from 1.
        at: usize,
        /// The word.
        function: String,
    },
    /// A `}` without its `{`.
    #[error("\"}}\" at character {0} closes nothing (a brace itself is written \"}}}}\")")]
    Unopened(usize),
    /// `${`: a shell's or compose's notation, which such a tool would have replaced by nothing.
    #[error("\"${{\" at character {0}: placeholders are written without \"$\"")]
    Dollar(usize),
}

impl Template {
    /// Compiles `text`.
    ///
    /// # Errors
    /// If braces do not pair up, a placeholder is empty or has something else than functions behind it, or `${` occurs.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().enumerate().map(|(index, c)| (index.saturating_add(1), c)).peekable();
        while let Some((at, c)) = rest.next() {
            match c {
                '$' if rest.peek().is_some_and(|(_, next)| *next == '{') => {
                    return Err(TemplateError::Dollar(at));
                }
                '{' | '}' if rest.next_if(|(_, next)| *next == c).is_some() => literal.push(c),
                '}' => return Err(TemplateError::Unopened(at)),
                '{' => {
                    let mut inner = String::new();
                    let mut quoted = false;
                    loop {
                        match rest.next() {
                            Some((_, '}')) if !quoted => break,
                            Some((_, next)) if quoted || next != '{' => {
                                // In a column's name a quote is a letter.
                                quoted ^= next == '"' && inner.contains('|');
                                inner.push(next);
                            }
                            _ => return Err(TemplateError::Unclosed(at)),
                        }
                    }
                    let placeholder = placeholder(&inner, at)?;
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(placeholder);
                }
                _ => literal.push(c),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// The names in braces, in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Placeholder(name, _) => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// Those of them that stand for columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.placeholders().filter(|name| !name.starts_with('@'))
    }

    /// Whether the table's own name is part of it.
    #[must_use]
    pub fn has_table_name(&self) -> bool {
        self.placeholders().any(|name| name.starts_with('@'))
    }

    /// The text with each placeholder replaced by what its functions make of its `value`; nothing if that is nothing.
    pub fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => Some(text.clone()),
            Piece::Placeholder(name, functions) => {
                let value = value(name).map(Bytes::from);
                let made = functions.iter().fold(value, |value, function| function.apply(value))?;
                Some(String::from_utf8_lossy(&made).into_owned())
            }
        };
        self.pieces.iter().map(piece).collect()
    }

    /// The text with each placeholder replaced by its name in capitals.
    #[must_use]
    pub fn example(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Placeholder(name, _) => name.trim_start_matches('@').to_uppercase(),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// The text beside the placeholders.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Placeholder(..) => None,
        })
    }

    /// The text, if it has no placeholders.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether there is text beside the placeholders.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.literals().next().is_some()
    }

    /// Whether `text` can come of it: each placeholder stands for at least one character.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.pieces, text)
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

/// What stands between braces: a name, and functions behind `|`.
fn placeholder(inner: &str, at: usize) -> Result<Piece, TemplateError> {
    let (name, behind) = inner.split_once('|').map_or((inner, None), |(name, behind)| (name, Some(behind)));
    if name.is_empty() {
        return Err(TemplateError::Empty(at));
    }
    if name.starts_with('@') && !OWN_NAMES.contains(&name) {
        return Err(TemplateError::Own(at));
    }
    let mut quoted = false;
    let words = behind.map(|behind| {
        behind.split(move |c: char| {
            quoted ^= c == '"';
            c == '|' && !quoted
        })
    });
    let functions = words.into_iter().flatten().map(|word| {
        Function::parse(word).ok_or_else(|| TemplateError::Function { at, function: word.to_owned() })
    });
    Ok(Piece::Placeholder(name.to_owned(), functions.collect::<Result<_, _>>()?))
}

fn matches(pieces: &[Piece], text: &str) -> bool {
    // Where in `text` the pieces so far can end, in order.
    let mut ends = vec![0];
    for piece in pieces {
        ends = match piece {
            Piece::Literal(literal) => {
                let here =
                    |end: &usize| text.get(*end..).is_some_and(|rest| rest.starts_with(literal.as_str()));
                ends.into_iter().filter(here).map(|end| end.saturating_add(literal.len())).collect()
            }
            Piece::Placeholder(..) => {
                let all = text.char_indices().map(|(at, _)| at).chain([text.len()]);
                all.filter(|at| ends.first().is_some_and(|first| at > first)).collect()
            }
        };
    }
    ends.last() == Some(&text.len())
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> String {
        match Template::parse(text) {
            Ok(template) => template
                .pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(literal) => format!("'{literal}'"),
                    Piece::Placeholder(name, functions) if functions.is_empty() => format!("<{name}>"),
                    Piece::Placeholder(name, functions) => format!("<{name} {functions:?}>"),
                })
                .collect(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn text_and_placeholders_take_turns() {
        assert_eq!(shape("outbox.event.{aggregate_type}"), "'outbox.event.'<aggregate_type>");
        assert_eq!(shape("{a}{b}-{c}"), "<a><b>'-'<c>");
        assert_eq!(shape("plain"), "'plain'");
        assert_eq!(shape(""), "");
        assert_eq!(shape("{Zoë}"), "<Zoë>");
        assert_eq!(shape("{3\" pipes}"), "<3\" pipes>");
    }

    #[test]
    fn placeholders_are_filled_in() {
        let template = Template::parse("{a}.{{{b}").unwrap();
        let value = |name: &str| (name != "c").then(|| name.to_uppercase());
        assert_eq!(template.fill(value).as_deref(), Some("A.{B"));
        assert_eq!(Template::parse("x{c}").unwrap().fill(value), None);
        assert_eq!(Template::parse("x").unwrap().fill(value).as_deref(), Some("x"));
    }

    #[test]
    fn functions_stand_behind_a_name() {
        assert_eq!(shape("x.{a|lower}"), "'x.'<a [Lower]>");
        assert_eq!(shape("{a|kebab|\"none\"}{b}"), "<a [Kebab, Default(\"none\")]><b>");
        assert_eq!(shape("{a|\"{|}\"}"), "<a [Default(\"{|}\")]>");
        let template = Template::parse("{a|upper}-{b|\"none\"}").unwrap();
        let value = |name: &str| (name == "a").then(|| "x".to_owned());
        assert_eq!(template.fill(value).as_deref(), Some("X-none"));
        assert_eq!(template.placeholders().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(template.literals().collect::<Vec<_>>(), ["-"]);
    }

    #[test]
    fn the_names_of_the_table_are_no_columns() {
        let template = Template::parse("{@schema}.{a}.{@table|upper}").unwrap();
        assert_eq!(template.columns().collect::<Vec<_>>(), ["a"]);
        assert!(template.has_table_name() && !Template::parse("{a@schema}").unwrap().has_table_name());
        assert_eq!(template.example(), "SCHEMA.A.TABLE");
    }

    #[test]
    fn doubled_braces_are_braces() {
        assert_eq!(shape("{{{a}}}"), "'{'<a>'}'");
        assert_eq!(shape("{{a}}"), "'{a}'");
    }

    #[test]
    fn a_template_knows_what_can_come_of_it() {
        let matches = |template: &str, text: &str| Template::parse(template).unwrap().matches(text);
        assert!(matches("outbox.{a}", "outbox.order") && matches("{a}.{b}-x", "é.b.c-x-x"));
        assert!(!matches("outbox.{a}", "outbox.") && !matches("outbox.{a}", "inbox.order"));
        assert!(!matches("{a}.{b}-x", "a.b-xy") && !matches("{a}", ""));
        assert!(matches("{{{a}", "{x") && !matches("{{{a}", "x"));
        assert!(matches("plain", "plain") && !matches("plain", "plainer"));
        let fixed = |template: &str| Template::parse(template).unwrap().fixed().map(str::to_owned);
        assert_eq!(fixed("a{{b"), Some("a{b".to_owned()));
        assert_eq!(fixed("a{b}"), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(
            shape("a{b"),
            "the placeholder that starts at character 2 is not closed with \"}\" (a brace itself is written \"{{\")"
        );
        assert_eq!(shape("{}"), "the placeholder at character 1 is empty");
        assert_eq!(shape("a}"), "\"}\" at character 2 closes nothing (a brace itself is written \"}}\")");
        assert_eq!(shape("x.${a}"), "\"${\" at character 3: placeholders are written without \"$\"");
        assert_eq!(
            shape("{a{b}"),
            "the placeholder that starts at character 1 is not closed with \"}\" (a brace itself is written \"{{\")"
        );
        assert_eq!(shape("cost $5"), "'cost $5'");
        assert_eq!(shape("{|lower}"), "the placeholder at character 1 is empty");
        assert_eq!(
            shape("x.{@tabel}"),
            "the placeholder at character 3 begins with \"@\": there are @schema and @table"
        );
        assert_eq!(
            shape("{a|trim}"),
            "the placeholder at character 1 has \"|trim\", which is no function: there are lower, upper, kebab, snake, and a \
             text in double quotes, which stands for NULL"
        );
        assert_eq!(
            shape("{a|\"b}"),
            "the placeholder that starts at character 1 is not closed with \"}\" (a brace itself is written \"{{\")"
        );
    }
}
