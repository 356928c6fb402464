//! What keeps the relay from working, or will: what `check` prints, and what `run` looks at before it streams.
//!
//! A [`Finding`] is a value. What is seen on the servers goes into pure functions; findings come out, all at once.

pub mod kafka;

use std::fmt;

/// One thing that is not as the relay needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its stable name, for programs: `slot_lost`.
    pub id: &'static str,
    /// What it means for the relay.
    pub level: Level,
    /// What was found: the thing, its value, what was expected.
    pub message: String,
    /// What mends it: SQL, a setting, a command.
    pub fix: String,
}

/// What a finding means for `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The relay refuses to go on: it would lose events, or somebody has to change something.
    Stop,
    /// The relay waits until it has passed.
    Wait,
    /// The relay works; somebody should know.
    Warn,
}

impl Level {
    /// As `check --json` writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Wait => "wait",
            Self::Warn => "warn",
        }
    }
}

impl Finding {
    /// A finding that stops the relay.
    pub fn stop(id: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id, level: Level::Stop, message: message.into(), fix: fix.into() }
    }

    /// A finding that the relay waits out.
    pub fn wait(id: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id, level: Level::Wait, message: message.into(), fix: fix.into() }
    }

    /// A finding that changes nothing now.
    pub fn warn(id: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id, level: Level::Warn, message: message.into(), fix: fix.into() }
    }
}

/// The message, a blank line, and the hint.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\nhint: {}", self.message, self.fix)
    }
}
