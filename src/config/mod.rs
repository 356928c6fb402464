//! The configuration: what was written in the file, the environment and `--set`, and what the program uses.
//!
//! Two kinds of types. Written: entries with their origin ([`keys`] has the one table of what exists; `file`,
//! `environment` and `layers` read and layer them; `value` and `settings` check them). Usable: [`Config`], plain values
//! that nobody has to check again. Between them lies [`load`], which tells all mistakes at once.
//!
//! The environment is an argument; only the files that are named are read.

mod after_publish;
mod build;
mod effective;
mod environment;
mod file;
mod kafka;
pub mod keys;
mod layers;
mod overrides;
mod polling;
mod problem;
mod property_names;
mod settings;
mod sharding;
mod suggest;
mod table_name;
#[cfg(test)]
mod tests;
mod value;
mod zone;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

pub use after_publish::{Action, AfterPublish};
pub use effective::{Setting, Shown};
pub use kafka::{Properties, fixed_properties};
pub use problem::{Origin, Problem, Problems};
pub use value::Kind;

use crate::kafka::NewTopic;
use crate::outbox::{Shard, Spec, Topic};
use crate::poll::Polling;
use crate::secret::Secret;
use layers::Layers;
use settings::Settings;

/// The configuration, complete and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[postgres]`.
    pub postgres: Postgres,
    /// `[outbox]` and `[route]`.
    pub outbox: Spec,
    /// `[poll]`, if `outbox.source` is "poll".
    pub polling: Option<Polling>,
    /// `[shard]`: which part of the keys is this relay's; `None`: all.
    pub shard: Option<Sharding>,
    /// `[kafka]`, with the properties that the relay fixes.
    pub kafka: Properties,
    /// `[topics]`: what a topic that does not exist is made with, or nothing to wait for it.
    pub topics: Option<NewTopic>,
    /// `[delivery]`.
    pub delivery: Delivery,
    /// `[after_publish]`.
    pub after_publish: AfterPublish,
    /// `http.listen`: `host:port`, or nothing to serve no HTTP.
    pub http: Option<String>,
    /// `[log]`.
    pub log: Log,
}

/// `[postgres]`: whose outbox, and how to follow it.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// A libpq URL or key=value string, as it was written: one that `ConnInfo` can read. It may hold a password.
    pub url: Secret,
    /// The replication slot: a valid name of one.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// Whether a missing slot is made.
    pub create_slot: bool,
    /// Whether the rows that are in the table already are sent before it is made.
    pub backfill: bool,
}

/// `[shard]`: one of several relays that share the outbox. `[postgres]` then names its own slot and publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharding {
    /// Which part of the keys it has.
    pub shard: Shard,
    /// `postgres.publication`, as it was given.
    pub publication: String,
    /// `postgres.slot`, as it was given.
    pub slot: String,
}

/// `[delivery]`: limits of what is under way to Kafka, and what becomes of events that it never takes.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What to do about an event that Kafka will never take.
    pub on_rejected: OnRejected,
    /// Ids of events that are passed over.
    pub skip: Vec<String>,
    /// Bytes that may be handed to the producer and not yet be confirmed.
    pub max_in_flight: u64,
    /// How long an orderly stop waits for confirmations.
    pub drain_timeout: Duration,
}

/// `delivery.on_rejected`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnRejected {
    /// Stop reading, and say which event it is and why.
    Stop,
    /// Send it to this topic.
    DeadLetter(Topic),
}

/// `[log]`: what is written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least important lines to write.
    pub level: LogLevel,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable lines.
    Text,
    /// One JSON object a line.
    Json,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What stops the relay.
    Error,
    /// What keeps it from moving, or what somebody should look at.
    Warn,
    /// What it does, a few lines an hour.
    Info,
    /// What happens inside.
    Debug,
    /// Everything.
    Trace,
}

impl Config {
    /// The publications and slots of all shards; none if there is one relay for all keys.
    #[must_use]
    pub fn shard_parts(&self) -> Vec<(String, String)> {
        self.shard.iter().flat_map(Sharding::parts).collect()
    }
}

/// What `setup` needs of the configuration: names.
#[derive(Debug, Clone)]
pub struct Named {
    /// `postgres.url`, if it is given.
    pub url: Option<Secret>,
    /// `postgres.slot`.
    pub slot: String,
    /// `postgres.publication`.
    pub publication: String,
    /// `[outbox]` and `[route]`.
    pub outbox: Spec,
    /// `[after_publish]`.
    pub after_publish: AfterPublish,
    /// `shard.count`.
    pub shards: u32,
    /// `outbox.source` is "poll".
    pub polls: bool,
}

/// Reads the configuration: `set` over `environment` over `file` over the defaults.
///
/// # Errors
/// With all mistakes that were found. A file that is no TOML hides what is wrong with values and what is missing.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    set: &[(String, String)],
) -> Result<Config, Problems> {
    load_all(file, environment, set).map(|(config, _)| config)
}

/// Reads the same as [`load`], and gives every value in force with its origin, without secrets.
///
/// # Errors
/// As [`load`].
pub fn effective(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    set: &[(String, String)],
) -> Result<Vec<Setting>, Problems> {
    load_all(file, environment, set).map(|(_, settings)| settings)
}

/// Reads the configuration for `setup`, which connects to no Kafka and may print without connecting to anything: no key
/// is required.
///
/// # Errors
/// With all other mistakes, as [`load`].
pub fn load_names(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    set: &[(String, String)],
) -> Result<Named, Problems> {
    let Given { settings, environment, mut problems, .. } = read(file, environment, set)?;
    let named = build::named(&settings, &variable(&environment), &mut problems);
    problems.retain(|problem| !problem.is_missing());
    match named {
        Some(named) if problems.is_empty() => Ok(named),
        _ => Err(Problems(problems)),
    }
}

fn load_all(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    set: &[(String, String)],
) -> Result<(Config, Vec<Setting>), Problems> {
    let Given { layers, settings, environment, mut problems } = read(file, environment, set)?;
    match build::config(&settings, &variable(&environment), &mut problems) {
        Some(config) if problems.is_empty() => {
            let effective = effective::settings(&layers, &settings, &config.kafka);
            Ok((config, effective))
        }
        _ => Err(Problems(problems)),
    }
}

type Environment = BTreeMap<OsString, OsString>;

fn variable(environment: &Environment) -> impl Fn(&str) -> Option<String> {
    |name| Some(environment.get(OsStr::new(name))?.to_str()?.to_owned())
}

/// What was given, layered and read, and what is wrong so far.
struct Given {
    layers: Layers,
    settings: Settings,
    environment: Environment,
    problems: Vec<Problem>,
}

fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    set: &[(String, String)],
) -> Result<Given, Problems> {
    let environment: Environment = environment.into_iter().collect();
    let mut problems = Vec::new();
    let mut layers = Layers::default();
    let mut readable = true;
    if let Some(path) = file {
        match file::read(path) {
            Ok((entries, mistakes)) => {
                problems.extend(mistakes);
                layers.add(entries, &mut problems);
            }
            Err(mistakes) => {
                problems.extend(mistakes);
                readable = false;
            }
        }
    }
    let (entries, mistakes) = environment::read(&environment);
    problems.extend(mistakes);
    layers.add(entries, &mut problems);
    for (path, value) in set {
        match layers::set(path, value) {
            Ok(entry) => layers.add([entry], &mut problems),
            Err(problem) => problems.push(problem),
        }
    }
    if !readable {
        return Err(Problems(problems));
    }
    let settings = Settings::read(&layers, &mut problems);
    Ok(Given { layers, settings, environment, problems })
}
