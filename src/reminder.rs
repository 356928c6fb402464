//! What was said in the log lately, so that nothing is said again before 30 s have passed.
//!
//! Sessions come and go, and each has the same to say while a server stumbles; this lives as long as the process.

use std::time::Instant;

use crate::status::REMINDER;

/// Remembers texts. Time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    said: Vec<(String, Instant)>,
}

/// Texts that are remembered at the same time. Beyond it the oldest is forgotten: a line too many is better than memory
/// without a limit.
const MOST: usize = 64;

impl Reminder {
    /// True if `text` was not said within the last 30 s; it is then taken as said. Numbers do not make a text another:
    /// positions and process ids change with every try. In double quotes they do: event "42" is not event "43".
    pub(crate) fn is_news(&mut self, text: &str, now: Instant) -> bool {
        self.said.retain(|(_, at)| now.saturating_duration_since(*at) < REMINDER);
        let text = without_numbers(text);
        if self.said.iter().any(|(said, _)| *said == text) {
            return false;
        }
        if self.said.len() >= MOST {
            self.said.remove(0);
        }
        self.said.push((text, now));
        true
    }

    /// Forgets that `text` was said.
    pub(crate) fn forget(&mut self, text: &str) {
        let text = without_numbers(text);
        self.said.retain(|(said, _)| *said != text);
    }
}

fn without_numbers(text: &str) -> String {
    let mut quoted = false;
    text.replace(
        |c: char| {
            quoted ^= c == '"';
            c.is_ascii_digit() && !quoted
        },
        "",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_text_is_said_again_after_30_s_also_if_others_come_between() {
        let start = Instant::now();
        let mut reminder = Reminder::default();
        assert!(reminder.is_news("connection refused", start));
        assert!(reminder.is_news("no broker answers", start));
        assert!(!reminder.is_news("connection refused", start + Duration::from_secs(29)));
        assert!(reminder.is_news("connection refused", start + REMINDER));
        assert!(!reminder.is_news("connection refused", start + REMINDER + Duration::from_secs(29)));
    }

    #[test]
    fn numbers_do_not_make_a_text_another() {
        let start = Instant::now();
        let mut reminder = Reminder::default();
        assert!(reminder.is_news("slot \"orders\" is active for PID 4711", start));
        assert!(!reminder.is_news("slot \"orders\" is active for PID 42", start));
        // Another name is.
        assert!(reminder.is_news("slot \"orders2\" is active for PID 42", start));
        assert!(!reminder.is_news("slot \"orders2\" is active for PID 7", start));
        reminder.forget("slot \"orders\" is active for PID 1");
        assert!(!reminder.is_news("slot \"orders2\" is active for PID 7", start));
        assert!(reminder.is_news("slot \"orders\" is active for PID 7", start));
    }

    #[test]
    fn its_memory_is_bounded() {
        let start = Instant::now();
        let mut reminder = Reminder::default();
        for number in 0..10 * MOST {
            assert!(reminder.is_news(&"x".repeat(number), start));
        }
        assert_eq!(reminder.said.len(), MOST);
    }
}
