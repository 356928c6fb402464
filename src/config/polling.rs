//! `outbox.source = "poll"` and what goes with it.

use std::time::Duration;

use super::after_publish::{Action, AfterPublish};
use super::problem::Problem;
use super::settings::Settings;
use super::value::Mistake;
use crate::poll::Polling;

/// Less than this between two looks is a query storm.
const SHORTEST: Duration = Duration::from_millis(10);

/// A page that is larger is no better, and takes memory.
const LARGEST_BATCH: u32 = 100_000;

/// Builds it, and tells what contradicts it; `Some(None)` if rows come from the write-ahead log. Nothing if a value is wrong.
pub(super) fn build(
    settings: &Settings,
    after: &AfterPublish,
    problems: &mut Vec<Problem>,
) -> Option<Option<Polling>> {
    if settings.text("outbox.source")? != "poll" {
        return Some(None);
    }
    let before = problems.len();
    let mut refuse = |path, mistake| {
        problems.extend(settings.entry(path).map(|entry| entry.problem(mistake)));
    };
    let action = after.action.as_str();
    if !matches!(after.action, Action::Mark | Action::Delete) {
        let mistake = Mistake::new(format!(
            "takes rows out of after_publish.action = \"mark\" or \"delete\", and it is \"{action}\""
        ));
        refuse(
            "outbox.source",
            mistake.hint("set after_publish.action: otherwise each look would find all rows again"),
        );
    }
    if !after.retention.is_zero() {
        let mistake = Mistake::new(
            "does not go with outbox.source = \"poll\": a row that stays as it is would be sent again",
        );
        refuse(
            "after_publish.retention",
            mistake.hint("use \"mark\", and delete marked rows when they are old"),
        );
    }
    if settings.optional("outbox.message_prefix")?.is_some() {
        let mistake = Mistake::new(
            "does not go with outbox.source = \"poll\": messages are in the write-ahead log alone",
        );
        refuse("outbox.message_prefix", mistake.hint("leave it out, or set outbox.source = \"wal\""));
    }
    if settings.bool("postgres.backfill")? {
        let mistake = Mistake::new(
            "does not go with outbox.source = \"poll\", which sends all pending rows, however old",
        );
        refuse("postgres.backfill", mistake.hint("leave it out"));
    }
    let interval = settings.duration("poll.interval")?;
    if interval < SHORTEST {
        let mistake = Mistake::new(format!("must be {} or more", humantime::format_duration(SHORTEST)));
        refuse("poll.interval", mistake.hint("sql/optional/notify.sql wakes the relay at each commit"));
    }
    let batch = settings.integer("poll.batch")?;
    let batch = u32::try_from(batch).ok().filter(|batch| (1..=LARGEST_BATCH).contains(batch));
    if batch.is_none() {
        refuse("poll.batch", Mistake::new(format!("must be 1 to {LARGEST_BATCH}")));
    }
    if problems.len() > before {
        return None;
    }
    Some(Some(Polling {
        interval,
        channel: settings.text("poll.channel")?,
        batch: batch?,
        after: after.clone(),
    }))
}
