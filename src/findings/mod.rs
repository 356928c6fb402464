//! What keeps the relay from working, or will: what `check` prints, and what `run` looks at before it streams.
//!
//! A [`Finding`] is a value. What is seen on the servers goes into pure functions; findings come out, all at once, each
//! with what mends it.

mod after_publish;
mod changed;
mod connection;
mod newcomer;
mod outbox;
mod polled;
mod publication;
mod server;
mod shards;
mod slot;
mod stream;
#[cfg(test)]
mod tests;

pub mod kafka;

use std::fmt;

use crate::config::{AfterPublish, Config, Sharding};
use crate::disposition::Disposition;
use crate::lsn::Lsn;
use crate::outbox::Spec;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::survey::Survey;

pub use after_publish::UNSENT_ROWS;
pub use changed::publication_changed;
pub use connection::{of_login, of_replication};
pub use newcomer::{published_late, published_too_late, unpublished_yet};
pub use polled::polled;
pub use publication::{publication, unpublished};
pub use slot::SLOT_IN_USE;
pub use stream::{partition_leaf, partition_root, publication_skipped, table_gone};

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

/// Several findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

/// What there must be in PostgreSQL.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The outbox tables and their columns.
    pub outbox: &'a Spec,
    /// The publication's name.
    pub publication: &'a str,
    /// The slot's name.
    pub slot: &'a str,
    /// Whether a missing slot is made.
    pub create_slot: bool,
    /// Whether the rows that are in the table already are sent before it is made.
    pub backfill: bool,
    /// What becomes of published rows.
    pub after_publish: &'a AfterPublish,
    /// The database.
    pub database: &'a str,
    /// What the server calls the relay.
    pub application_name: &'a str,
    /// Where several relays share the outbox.
    pub sharding: Option<&'a Sharding>,
}

impl<'a> Wanted<'a> {
    /// What `config` names, in the database of `info`.
    #[must_use]
    pub fn new(config: &'a Config, info: &'a ConnInfo) -> Self {
        Self {
            outbox: &config.outbox,
            publication: &config.postgres.publication,
            slot: &config.postgres.slot,
            create_slot: config.postgres.create_slot,
            backfill: config.postgres.backfill,
            after_publish: &config.after_publish,
            database: &info.dbname,
            application_name: &info.application_name,
            sharding: config.shard.as_ref(),
        }
    }
}

/// What `survey` shows to be wrong, the gravest first. `known` is what this process has seen the slot confirm.
#[must_use]
pub fn postgres(wanted: &Wanted<'_>, survey: &Survey, known: Option<Lsn>) -> Vec<Finding> {
    let mut findings = server::server(&survey.server, &survey.role, wanted.application_name);
    for meant in &survey.tables {
        findings.extend(outbox::meant(meant, wanted));
        for outbox in &meant.found {
            findings.extend(outbox::table(outbox, survey.publication.as_ref(), &survey.server, wanted));
        }
    }
    let tables: Vec<_> = survey.outboxes().collect();
    findings.extend(publication(survey.publication.as_ref(), &tables, &[], wanted));
    findings.extend(shards::layout(&survey.shards, &tables, &survey.server, wanted));
    findings.extend(slot::slot(survey, wanted, known));
    findings.extend(after_publish::after_publish(survey, wanted));
    findings.sort_by_key(|finding| finding.level);
    findings
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

impl Finding {
    /// It for programs: `{"id", "level", "message", "fix"}`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let Self { id, level, message, fix } = self;
        serde_json::json!({ "id": id, "level": level.as_str(), "message": message, "fix": fix })
    }
}

/// The message, a blank line, and the hint.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\nhint: {}", self.message, self.fix)
    }
}

impl Findings {
    /// The warnings among them, if nothing else is.
    ///
    /// # Errors
    /// Those that keep a session from streaming, without the warnings: first things first.
    pub fn accept(self) -> Result<Vec<Finding>, Self> {
        let (warnings, grave): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(|finding| finding.level == Level::Warn);
        if grave.is_empty() { Ok(warnings) } else { Err(Self(grave)) }
    }

    /// Whether to try again: not while one of them waits for somebody.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        let stop = self.0.iter().any(|finding| finding.level == Level::Stop);
        if stop { Disposition::Stop } else { Disposition::Retry }
    }

    /// What mends it, if it is one thing; several are listed with theirs.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self.0.as_slice() {
            [only] => Some(&only.fix),
            _ => None,
        }
    }

    /// All messages in one line.
    #[must_use]
    pub fn line(&self) -> String {
        self.0.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ")
    }
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        Self(vec![finding])
    }
}

/// The one message, or a list with hints.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return f.write_str(&only.message);
        }
        write!(f, "{} findings in PostgreSQL", self.0.len())?;
        for Finding { level, message, fix, .. } in &self.0 {
            write!(f, "\n\n  {}: {message}\n    hint: {fix}", level.as_str())?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}
