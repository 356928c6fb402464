//! On which timeline a commit was written.
//!
//! A promotion starts a new timeline at the end of the old one; a slot may then still send commits of the old. The
//! history comes from `TIMELINE_HISTORY` and has the form that PostgreSQL documents for its history files: a line per
//! earlier timeline with its number and the position at which it was left.

use crate::lsn::Lsn;

/// The timelines that lead to the server's present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timelines {
    current: u32,
    /// Earlier timelines, oldest first, each with the position at which it ends.
    ended: Vec<(u32, Lsn)>,
}

/// A line of a timeline history that has not the documented form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timeline history, line {line}: \"{text}\" is {problem}")]
pub struct TimelineHistoryError {
    line: usize,
    text: String,
    problem: &'static str,
}

impl Timelines {
    /// A server that knows of no earlier timeline.
    #[must_use]
    pub const fn only(current: u32) -> Self {
        Self { current, ended: Vec::new() }
    }

    /// Reads the history file of timeline `current`. Empty lines and comments (`#`) are passed over.
    ///
    /// # Errors
    /// If a line is neither, or a timeline is not later than the one before it, so that no position would have one
    /// timeline. PostgreSQL does not read such a file either.
    pub fn from_history(current: u32, content: &str) -> Result<Self, TimelineHistoryError> {
        let mut ended: Vec<(u32, Lsn)> = Vec::new();
        for (index, line) in content.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split_ascii_whitespace();
            let number = fields.next().and_then(|field| field.parse().ok());
            let end = fields.next().and_then(|field| field.parse().ok());
            let error = |problem| {
                Err(TimelineHistoryError { line: index.saturating_add(1), text: line.to_owned(), problem })
            };
            let (Some(number), Some(end)) = (number, end) else {
                return error("not a timeline number and a position");
            };
            let follows = ended.last().is_none_or(|(before, left)| *before < number && *left <= end);
            if !follows || number >= current {
                return error("no step from an earlier timeline to a later one");
            }
            ended.push((number, end));
        }
        Ok(Self { current, ended })
    }

    /// The timeline on which the record at `position` was written.
    #[must_use]
    pub fn of(&self, position: Lsn) -> u32 {
        self.ended.iter().find(|(_, end)| position < *end).map_or(self.current, |(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_belongs_to_the_timeline_it_was_written_on() {
        let history =
            "1\t0/3000060\tno recovery target specified\n\n# a comment\n2\t0/5000000\tbefore 2000-01-01\n";
        let timelines = Timelines::from_history(3, history).unwrap();
        assert_eq!(timelines.of(Lsn::new(0x300_005F)), 1);
        assert_eq!(timelines.of(Lsn::new(0x300_0060)), 2);
        assert_eq!(timelines.of(Lsn::new(0x500_0000)), 3);
        assert_eq!(Timelines::only(1).of(Lsn::new(7)), 1);
    }

    #[test]
    fn a_damaged_history_is_an_error() {
        let error = Timelines::from_history(2, "1 somewhere").unwrap_err();
        assert_eq!(
            error.to_string(),
            "timeline history, line 1: \"1 somewhere\" is not a timeline number and a position"
        );
        for content in ["1 0/5\n1 0/6", "2 0/5\n1 0/6", "1 0/6\n2 0/5", "7 0/5", "1 0/5\n8 0/6"] {
            let error = Timelines::from_history(7, content).unwrap_err().to_string();
            assert!(error.ends_with("is no step from an earlier timeline to a later one"), "{error}");
        }
        assert!(Timelines::from_history(7, "1 0/5\n2 0/5\n6 0/6").is_ok());
    }
}
