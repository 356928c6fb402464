//! `{aggregate_type|lower}`, `{tenant|"none"}`: what a placeholder makes of its column's text.

use bytes::Bytes;

/// A step on the way from a column's value to the text that takes the placeholder's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Function {
    /// `lower`: small letters.
    Lower,
    /// `upper`: capitals.
    Upper,
    /// `kebab`: words in small letters with `-` between them. `OrderLine` has two, and so have `order_line` and `ORDER-LINE`.
    Kebab,
    /// `snake`: the same with `_`.
    Snake,
    /// A text in quotes: what stands for NULL.
    Default(String),
}

impl Function {
    /// The names of those that have one.
    pub(super) const NAMES: &str = "lower, upper, kebab, snake";

    /// The function that is written like this.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "kebab" => Self::Kebab,
            "snake" => Self::Snake,
            quoted => Self::Default(quoted.strip_prefix('"')?.strip_suffix('"')?.to_owned()),
        })
    }

    /// What it makes of `value`; `None` is SQL NULL. Bytes that are no text (`bytea`) stay as they are.
    pub(super) fn apply(&self, value: Option<Bytes>) -> Option<Bytes> {
        let Some(value) = value else {
            return match self {
                Self::Default(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
                Self::Lower | Self::Upper | Self::Kebab | Self::Snake => None,
            };
        };
        let Ok(text) = std::str::from_utf8(&value) else {
            return Some(value);
        };
        Some(match self {
            Self::Lower => text.to_lowercase().into(),
            Self::Upper => text.to_uppercase().into(),
            Self::Kebab => words(text).join("-").into(),
            Self::Snake => words(text).join("_").into(),
            Self::Default(_) => value,
        })
    }
}

/// The words of a name, in small letters: a capital begins one, unless it goes on with an abbreviation (`HTTPServer`).
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before: Option<char> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let parts = matches!(c, ' ' | '_' | '-');
        let begins = c.is_uppercase()
            && before.is_some_and(|before| {
                (before.is_alphanumeric() && !before.is_uppercase())
                    || (before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase()))
            });
        if (parts || begins) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !parts {
            word.extend(c.to_lowercase());
        }
        before = Some(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(function: &str, value: Option<&'static str>) -> Option<String> {
        let value = value.map(|text| Bytes::from_static(text.as_bytes()));
        let made = Function::parse(function).unwrap().apply(value)?;
        Some(String::from_utf8(made.to_vec()).unwrap())
    }

    #[test]
    fn names_change_their_case() {
        assert_eq!(made("lower", Some("OrderÄ")).as_deref(), Some("orderä"));
        assert_eq!(made("upper", Some("order-7")).as_deref(), Some("ORDER-7"));
        for (name, kebab) in [
            ("OrderPlaced", "order-placed"),
            ("orderPlaced", "order-placed"),
            ("order_placed", "order-placed"),
            ("ORDER PLACED", "order-placed"),
            ("HTTPServerGone", "http-server-gone"),
            ("Order2Placed", "order2-placed"),
            ("shop.Order", "shop.order"),
            ("--x", "x"),
            ("", ""),
        ] {
            assert_eq!(made("kebab", Some(name)).as_deref(), Some(kebab));
            assert_eq!(made("snake", Some(name)), Some(kebab.replace('-', "_")));
        }
    }

    #[test]
    fn null_stays_null_unless_something_stands_for_it() {
        for function in ["lower", "upper", "kebab", "snake"] {
            assert_eq!(made(function, None), None);
        }
        assert_eq!(made("\"none\"", None).as_deref(), Some("none"));
        assert_eq!(made("\"none\"", Some("")).as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_text_is_left_alone() {
        let raw = Bytes::from_static(&[0xFF, b'A']);
        assert_eq!(Function::Lower.apply(Some(raw.clone())), Some(raw));
    }

    #[test]
    fn nothing_else_is_a_function() {
        for text in ["", "Lower", "trim", "\"", "'x'"] {
            assert_eq!(Function::parse(text), None, "{text}");
        }
    }
}
