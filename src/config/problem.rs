//! What can be wrong with the configuration, and how that is told.
//!
//! Mistakes are values. They are collected, never thrown at the first one, and shown together: each with the key, its
//! value unless it is a secret, where it was given, what is wrong, and on a second line what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In the configuration file, on this line.
    File(PathBuf, usize),
    /// In this environment variable.
    Variable(String),
    /// With `--set`.
    Set,
    /// In the relay itself, which lets nobody change it.
    Fixed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Set => f.write_str("--set"),
            Self::Fixed => f.write_str("fixed"),
        }
    }
}

const MISSING: &str = "is required";

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, the variable, or the file.
    subject: Box<str>,
    value: Option<Box<str>>,
    origin: Option<Origin>,
    what: Box<str>,
    hint: Option<Box<str>>,
    /// The path of the key that was probably meant.
    meant: Option<Box<str>>,
}

impl Problem {
    /// `subject` is wrong in this way.
    pub(super) fn new(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            subject: subject.into().into_boxed_str(),
            value: None,
            origin: None,
            what: what.into().into_boxed_str(),
            hint: None,
            meant: None,
        }
    }

    /// A required value that nobody gave.
    pub(super) fn missing(path: &str) -> Self {
        Self::new(path, MISSING)
    }

    /// Whether it is only that a required value was not given.
    pub(super) fn is_missing(&self) -> bool {
        &*self.what == MISSING
    }

    /// Says what is wrong in other words.
    pub(super) fn saying(self, what: &str) -> Self {
        Self { what: what.into(), ..self }
    }

    /// Says where it was given.
    pub(super) fn at(self, origin: &Origin) -> Self {
        Self { origin: Some(origin.clone()), ..self }
    }

    /// Shows the value, in the notation of the file. Never call it for a secret.
    pub(super) fn showing(self, value: String) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// Says what to do.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into().into_boxed_str()), ..self }
    }

    /// Notes which key was probably meant, so that it is not called missing as well.
    pub(super) fn meaning(self, path: String) -> Self {
        Self { meant: Some(path.into()), ..self }
    }

    /// Whether this key was probably meant.
    pub(super) fn means(&self, path: &str) -> bool {
        self.meant.as_deref() == Some(path)
    }
}

/// A line, and a second one with the hint, without indentation.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All mistakes of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => writeln!(f, "1 problem in the configuration")?,
            count => writeln!(f, "{count} problems in the configuration")?,
        }
        for problem in &self.0 {
            writeln!(f)?;
            for line in problem.to_string().lines() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_read_like_a_list() {
        let problems = Problems(vec![
            Problem::new("postgres.slto", "unknown key")
                .at(&Origin::File("relay.toml".into(), 3))
                .hint("did you mean postgres.slot?"),
            Problem::new("log.level", "unknown").showing("\"loud\"".to_owned()).at(&Origin::Set),
        ]);
        insta::assert_snapshot!(problems, @r#"
        2 problems in the configuration

          postgres.slto (relay.toml, line 3): unknown key
            hint: did you mean postgres.slot?

          log.level = "loud" (--set): unknown
        "#);
    }
}
