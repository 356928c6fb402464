//! `[after_publish]`: what becomes of a row once Kafka has confirmed its record.

use std::time::Duration;

use super::problem::Problem;
use super::settings::Settings;
use super::value::Mistake;
use crate::postgres::sql::{identifier, literal};

/// `[after_publish]`, with `poll.pending_value`, which says what rows look like before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterPublish {
    /// What to do.
    pub action: Action,
    /// How old a row must be to be deleted, or how long a partition stays after its end.
    pub retention: Duration,
    /// The column with a row's status.
    pub status_column: String,
    /// The status of a row that is to be sent.
    pub pending_value: String,
    /// The status of a row that was sent.
    pub published_value: String,
    /// The column that tells when; `None` where the table has none.
    pub published_at_column: Option<String>,
    /// `outbox.columns.timestamp_zone`, by its name: what a column without a time zone means.
    pub timestamp_zone: String,
}

/// `after_publish.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// The row is deleted.
    Delete,
    /// The row's status is changed.
    Mark,
    /// A partition is dropped when all of its rows are confirmed.
    DropPartitions,
}

/// Builds it, and tells what contradicts itself.
pub(super) fn build(settings: &Settings, problems: &mut Vec<Problem>) -> Option<AfterPublish> {
    let after_publish = AfterPublish {
        action: action(settings)?,
        retention: settings.duration("after_publish.retention")?,
        status_column: settings.text("after_publish.status_column")?,
        pending_value: settings.text("poll.pending_value")?,
        published_value: settings.text("after_publish.published_value")?,
        published_at_column: settings.optional("after_publish.published_at_column")?,
        timestamp_zone: settings.entry("outbox.columns.timestamp_zone")?.raw.words()?.to_owned(),
    };
    let mut refuse = |path, mistake: Mistake| {
        problems.extend(settings.entry(path).map(|entry| entry.problem(mistake)));
    };
    let AfterPublish { action, retention, .. } = &after_publish;
    // With outbox.source = "poll" it is refused as such.
    let polls = settings.text("outbox.source").is_some_and(|source| source == "poll");
    if !polls && !retention.is_zero() && matches!(action, Action::Keep | Action::Mark) {
        let mistake = Mistake::new(format!(
            "says how long rows stay, but after_publish.action is {:?}",
            action.as_str()
        ));
        refuse(
            "after_publish.retention",
            mistake.hint("it goes with \"delete\" and \"drop-partitions\"; leave it out"),
        );
    }
    if *action == Action::Mark {
        if after_publish.published_value == after_publish.pending_value {
            let mistake = Mistake::new("is poll.pending_value as well: no row would ever be marked");
            refuse("after_publish.published_value", mistake.hint("give the two different values"));
        }
        if after_publish.published_at_column.as_ref() == Some(&after_publish.status_column) {
            let mistake = Mistake::new("is after_publish.status_column as well");
            refuse(
                "after_publish.published_at_column",
                mistake.hint("name another column, or \"\" where there is none"),
            );
        }
    }
    Some(after_publish)
}

fn action(settings: &Settings) -> Option<Action> {
    let word = settings.text("after_publish.action")?;
    Action::ALL.into_iter().find(|action| action.as_str() == word)
}

impl AfterPublish {
    /// Which rows are pending: an expression of SQL.
    #[must_use]
    pub fn pending(&self) -> String {
        format!("{} = {}", identifier(&self.status_column), literal(&self.pending_value))
    }
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Keep, Self::Delete, Self::Mark, Self::DropPartitions];

    /// As the configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
            Self::Mark => "mark",
            Self::DropPartitions => "drop-partitions",
        }
    }
}
