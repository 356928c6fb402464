//! The command `republish`: which rows, how many, and whether that is meant.

use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{EXIT_FAILURE, Republish, print};
use crate::config::Config;
use crate::outbox::Record;
use crate::postgres::conninfo::ConnInfo;
use crate::republish::{Choice, Error, Found, Sent, reasons};

/// More than so many rows are sent only if somebody says so.
const MANY: u64 = 1_000;

/// Between two words about how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Sends rows again, or with `--dry-run` shows which. Results go to `out`, what people need to know meanwhile to `err`;
/// `answers` is where a person answers, if there is one. Gives the exit status.
///
/// # Errors
/// If it cannot go on, or nothing can be written.
pub async fn run(
    options: &Republish,
    config: &Config,
    info: &ConnInfo,
    answers: Option<&mut dyn BufRead>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Failure> {
    let found = Found::look(config, info, &choice(options)).await?;
    let count = found.count();
    if options.dry_run {
        let sample = found.sample().await?;
        print(out, &preview(count, &sample, options.output.json))?;
        return Ok(0);
    }
    if count > MANY && !options.yes && !is_meant(count, answers, err)? {
        return Ok(EXIT_FAILURE);
    }
    let mut last = Instant::now();
    let mut progress = |sent: u64| {
        if last.elapsed() >= PROGRESS {
            last = Instant::now();
            // Nobody who cannot be told minds.
            let _ = writeln!(err, "{sent} of {count} confirmed");
        }
    };
    let sent = found.send(config, options.rate, &mut progress).await?;
    print(out, &result(count, &sent, options.output.json))?;
    Ok(if sent.rejected.is_empty() { 0 } else { EXIT_FAILURE })
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// See [`Error`].
    #[error(transparent)]
    Republish(#[from] Error),
    /// Nobody can be told.
    #[error(transparent)]
    Output(#[from] io::Error),
}

fn choice(options: &Republish) -> Choice {
    let aggregate = options.aggregate.as_deref().map(|text| match text.split_once('/') {
        Some((kind, id)) => (kind.to_owned(), Some(id.to_owned())),
        None => (text.to_owned(), None),
    });
    Choice {
        ids: options.id.clone(),
        since: options.since.clone(),
        until: options.until.clone(),
        status: options.status.clone(),
        aggregate,
    }
}

/// Asks a person, if there is one.
fn is_meant(count: u64, answers: Option<&mut dyn BufRead>, err: &mut dyn Write) -> io::Result<bool> {
    let Some(answers) = answers else {
        writeln!(
            err,
            "error: {count} rows would be sent again\n\nhint: --dry-run shows some of them; --yes sends them"
        )?;
        return Ok(false);
    };
    write!(err, "{count} rows will be sent again. Go on? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn preview(count: u64, sample: &[Result<Record, String>], is_json: bool) -> String {
    if is_json {
        let sample: Vec<_> = sample
            .iter()
            .map(|row| match row {
                Ok(record) => json!({
                    "id": record.event_id(), "topic": record.topic.as_str(), "key": text(record.key.as_deref())
                }),
                Err(problem) => json!({ "rejected": problem }),
            })
            .collect();
        return format!("{:#}\n", json!({ "matched": count, "sample": sample }));
    }
    let mut page = format!("{count} rows would be sent again\n");
    for row in sample {
        page += &match row {
            Ok(record) => format!(
                "  {} to {}, key {}\n",
                record.event_id(),
                record.topic,
                text(record.key.as_deref()).unwrap_or_else(|| "NULL".to_owned())
            ),
            Err(problem) => format!("  not to be sent: {problem}\n"),
        };
    }
    if count > u64::try_from(sample.len()).unwrap_or(u64::MAX) {
        page += "  …\n";
    }
    page
}

fn result(count: u64, sent: &Sent, is_json: bool) -> String {
    if is_json {
        let rejected: Vec<_> =
            sent.rejected.iter().map(|(id, reason)| json!({ "id": id, "reason": reason })).collect();
        return format!("{:#}\n", json!({ "matched": count, "sent": sent.sent, "rejected": rejected }));
    }
    let mut page = format!("{} of {count} events sent again, and confirmed by Kafka\n", sent.sent);
    for (reason, count) in reasons(&sent.rejected) {
        let first = sent.rejected.iter().find(|(_, found)| found == reason).map_or("", |(id, _)| id);
        page += &format!("  {count} rejected, the first {first:?}: {reason}\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_sent_only_if_somebody_says_so() {
        let meant = |answer: Option<&str>| {
            let mut err = Vec::new();
            let mut answers = answer.map(|answer| io::Cursor::new(answer.to_owned()));
            let answers = answers.as_mut().map(|answers| answers as &mut dyn BufRead);
            let meant = is_meant(1_001, answers, &mut err).unwrap();
            (meant, String::from_utf8(err).unwrap())
        };
        assert_eq!(meant(Some("y\n")), (true, "1001 rows will be sent again. Go on? [y/N] ".to_owned()));
        for no in ["", "\n", "n\n", "yeah\n"] {
            assert!(!meant(Some(no)).0, "{no:?}");
        }
        let (is_meant, told) = meant(None);
        assert!(!is_meant && told.contains("--yes"), "{told}");
    }

    #[test]
    fn rejections_are_told_by_reason() {
        let rejected = |id: &str, reason: &str| (id.to_owned(), reason.to_owned());
        let sent = Sent { sent: 7, rejected: vec![rejected("a", "too large"), rejected("b", "too large")] };
        insta::assert_snapshot!(result(9, &sent, false), @r#"
        7 of 9 events sent again, and confirmed by Kafka
          2 rejected, the first "a": too large
        "#);
    }
}
