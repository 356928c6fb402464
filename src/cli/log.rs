//! Log lines on stderr: readable text, or one JSON object a line; times are UTC.
//!
//! `log.level` is for the relay's own messages. Libraries are heard from warnings on, and wholly only when somebody
//! debugs: at `info` they would bury what the relay says. Some of them speak through the `log` crate, which is listened
//! to as well.

use std::io::IsTerminal;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// The relay's own messages have targets that begin so.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// Starts logging for the whole process.
///
/// # Errors
/// If somebody has started it before.
pub fn start(log: Log) -> Result<(), tracing_subscriber::util::TryInitError> {
    // Colour is for a terminal, and tracing-subscriber leaves it out where NO_COLOR is set.
    subscriber(log, std::io::stderr, std::io::stderr().is_terminal()).try_init()
}

fn subscriber<W>(log: Log, writer: W, terminal: bool) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match log.format {
        LogFormat::Text if terminal => lines.with_target(false).boxed(),
        LogFormat::Text => lines.with_target(false).with_ansi(false).boxed(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    tracing_subscriber::registry().with(filter(log.level)).with(lines)
}

fn filter(level: LogLevel) -> Targets {
    let (ours, others) = match level {
        LogLevel::Error => (Level::ERROR, Level::ERROR),
        LogLevel::Warn => (Level::WARN, Level::WARN),
        LogLevel::Info => (Level::INFO, Level::WARN),
        LogLevel::Debug => (Level::DEBUG, Level::DEBUG),
        LogLevel::Trace => (Level::TRACE, Level::TRACE),
    };
    Targets::new().with_default(LevelFilter::from_level(others)).with_target(OURS, ours)
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::sync::Arc;

    use super::*;

    /// What is logged meanwhile.
    fn logged(format: LogFormat, level: LogLevel, during: impl FnOnce()) -> String {
        let file = Arc::new(tempfile::tempfile().unwrap());
        tracing::subscriber::with_default(
            subscriber(Log { format, level }, Arc::clone(&file), false),
            during,
        );
        let mut file = file.as_ref();
        file.rewind().unwrap();
        std::io::read_to_string(&mut file).unwrap()
    }

    fn speak() {
        tracing::info!(slot = "orders", events = 3, "ours at info");
        tracing::debug!("ours at debug");
        tracing::info!(target: "rdkafka", "theirs at info");
        tracing::warn!(target: "rdkafka", "theirs at warn");
    }

    #[test]
    fn text_is_time_level_message_fields() {
        let lines = logged(LogFormat::Text, LogLevel::Info, speak);
        let lines: Vec<_> = lines.lines().map(|line| line.split_once(' ').unwrap()).collect();
        for (time, _) in &lines {
            assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        }
        let rest: Vec<_> = lines.iter().map(|(_, rest)| *rest).collect();
        assert_eq!(rest, [" INFO ours at info slot=\"orders\" events=3", " WARN theirs at warn"]);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = logged(LogFormat::Json, LogLevel::Info, || {
            speak();
            tracing::error!(error = "a\nb \"c\" \u{1b}[31m", "two\nlines");
        });
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["message"], "ours at info");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["events"], 3);
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(lines[2]["error"], "a\nb \"c\" \u{1b}[31m");
    }

    #[test]
    fn libraries_are_heard_wholly_only_by_who_debugs() {
        let count = |level| logged(LogFormat::Text, level, speak).lines().count();
        assert_eq!(
            [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace].map(count),
            [0, 1, 2, 4, 4]
        );
    }
}
