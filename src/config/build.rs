//! From settings to the [`Config`] that the program uses, and what is wrong only with several of them together.

use std::collections::BTreeMap;

use super::after_publish;
use super::kafka::{Properties, one_name};
use super::layers::Entry;
use super::overrides;
use super::polling;
use super::problem::Problem;
use super::settings::{Settings, missed};
use super::sharding;
use super::value::{Mistake, Value};
use super::{Config, Delivery, Log, LogFormat, LogLevel, Named, OnRejected, Postgres};
use crate::kafka::NewTopic;
use crate::outbox::{Columns, Route, Shape, Spec, Template, Topic};
use crate::postgres::conninfo::ConnInfo;

/// Builds the configuration. Nothing comes out only if a problem was found, here or before.
/// The environment is for what a connection string leaves open (`PGHOST`, …).
pub(super) fn config(
    settings: &Settings,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Option<Config> {
    check_connection_string(settings, environment, problems);
    check_event_type(settings, false, problems);
    let outbox = outbox(settings, problems);
    let kafka = kafka(settings, problems);
    let topics = topics(settings, problems);
    let on_rejected = on_rejected(settings, problems);
    let after_publish = after_publish::build(settings, problems);
    let polling = after_publish.as_ref().and_then(|after| polling::build(settings, after, problems));
    let shard = sharding::build(settings, outbox.as_ref(), &|| host_name(environment), problems);
    let own = |name: String| match &shard {
        Some(Some(sharding)) => sharding.shard.name(&name),
        _ => name,
    };
    Some(Config {
        postgres: Postgres {
            url: settings.secret("postgres.url")?,
            slot: own(settings.text("postgres.slot")?),
            publication: own(settings.text("postgres.publication")?),
            create_slot: settings.bool("postgres.create_slot")?,
            backfill: settings.bool("postgres.backfill")?,
        },
        outbox: outbox?,
        polling: polling?,
        shard: shard?,
        kafka,
        topics: topics?,
        delivery: Delivery {
            on_rejected: on_rejected?,
            skip: settings.list("delivery.skip")?,
            max_in_flight: settings.size("delivery.max_in_flight")?,
            drain_timeout: settings.duration("delivery.drain_timeout")?,
        },
        after_publish: after_publish?,
        http: settings.optional("http.listen")?,
        log: Log { format: log_format(settings)?, level: log_level(settings)? },
    })
}

/// Builds what `setup` needs. Nothing comes out only if a problem was found, here or before.
pub(super) fn named(
    settings: &Settings,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Option<Named> {
    check_connection_string(settings, environment, problems);
    check_event_type(settings, false, problems);
    let outbox = outbox(settings, problems);
    let after_publish = after_publish::build(settings, problems);
    let shards = sharding::count(settings, outbox.as_ref(), problems);
    let polling = after_publish.as_ref().and_then(|after| polling::build(settings, after, problems));
    Some(Named {
        url: settings.secret("postgres.url"),
        slot: settings.text("postgres.slot")?,
        publication: settings.text("postgres.publication")?,
        outbox: outbox?,
        after_publish: after_publish?,
        shards: shards?,
        polls: polling?.is_some(),
    })
}

/// The host's name: as Kubernetes gives it to containers, else as the kernel knows it.
fn host_name(environment: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let of_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    environment("HOSTNAME").or_else(of_kernel).map(|name| name.trim_end().to_owned())
}

/// A connection string that cannot be read. The password file is left for later: its content may change meanwhile.
fn check_connection_string(
    settings: &Settings,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) {
    let Some((url, entry)) = settings.secret("postgres.url").zip(settings.entry("postgres.url")) else {
        return;
    };
    let Err(error) = ConnInfo::parse(url.reveal(), environment, &|_| None) else {
        return;
    };
    let text = error.to_string();
    let (what, hint) = text.split_once("\n\nhint: ").unwrap_or((&text, ""));
    let problem = entry.problem(Mistake::new(what));
    problems.push(if hint.is_empty() { problem } else { problem.hint(hint) });
}

fn outbox(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Spec> {
    let overrides = overrides::read(settings, problems);
    let message_prefix = settings.optional("outbox.message_prefix")?;
    if message_prefix.is_some() {
        check_messages(settings, problems);
    }
    Some(Spec {
        tables: settings.tables("outbox.tables")?,
        message_prefix,
        shape: shape(settings, BTreeMap::new())?,
        overrides: overrides?,
    })
}

/// What rows become. `own` has the paths of what is said for single tables.
pub(super) fn shape(settings: &Settings, own: BTreeMap<String, String>) -> Option<Shape> {
    let columns = Columns {
        id: settings.text("outbox.columns.id")?,
        aggregate_type: settings.text("outbox.columns.aggregate_type")?,
        aggregate_id: settings.text("outbox.columns.aggregate_id")?,
        event_type: settings.optional("outbox.columns.event_type")?,
        payload: settings.text("outbox.columns.payload")?,
        headers: settings.optional("outbox.columns.headers")?,
        timestamp: settings.optional("outbox.columns.timestamp")?,
        timestamp_zone: settings.zone("outbox.columns.timestamp_zone")?,
    };
    let route = Route {
        topic: settings.template("route.topic")?,
        key: settings.template("route.key")?,
        partition: settings.optional("route.partition")?,
    };
    Some(Shape { headers: headers(settings), columns, route, own })
}

/// The headers as given. Of the default ones, `{event_type}` is left out where the table has no such column.
fn headers(settings: &Settings) -> Vec<(String, Template)> {
    let entries = settings.map("outbox.headers").iter();
    entries
        .filter(|(_, value, _)| is_sent(settings, value))
        .filter_map(|(name, value, _)| match value {
            Value::Template(template) => Some((name.clone(), template.clone())),
            _ => None,
        })
        .collect()
}

/// Whether an entry of `outbox.headers` becomes a header.
pub(super) fn is_sent(settings: &Settings, value: &Value) -> bool {
    let has_event_type = settings.optional("outbox.columns.event_type") != Some(None);
    has_event_type || !matches!(value, Value::Template(template) if uses_event_type(template))
}

fn uses_event_type(template: &Template) -> bool {
    template.placeholders().any(|name| name == "event_type")
}

/// A template that somebody wrote with `{event_type}`, although `outbox.columns.event_type` is "". `settings` may be those of a
/// table; what is wrong with them without it is told without it.
pub(super) fn check_event_type(settings: &Settings, of_table: bool, problems: &mut Vec<Problem>) {
    let Some(column) = settings.entry("outbox.columns.event_type") else { return };
    if settings.optional("outbox.columns.event_type") != Some(None) {
        return;
    }
    for (entry, template) in templates(settings) {
        let news = !of_table || column.table.is_some() || entry.table.is_some();
        if entry.is_given() && news && uses_event_type(&template) {
            let mistake = Mistake::new(format!(
                "needs {{event_type}}, but {} is \"\": there is no such column",
                column.path()
            ));
            problems.push(entry.problem(mistake));
        }
    }
}

/// A message has no table whose name could be in a template.
fn check_messages(settings: &Settings, problems: &mut Vec<Problem>) {
    for (entry, _) in templates(settings).filter(|(_, template)| template.has_table_name()) {
        let mistake = Mistake::new("names the table, and messages with outbox.message_prefix have none");
        problems.push(entry.problem(mistake.hint("put it into the [tables.\"…\"] of the tables")));
    }
}

/// The templates of topic, key and headers, with their entries.
fn templates(settings: &Settings) -> impl Iterator<Item = (&Entry, Template)> {
    let entry = |path| settings.entry(path).zip(settings.template(path));
    let routes = ["route.topic", "route.key"].into_iter().filter_map(entry);
    let headers = settings.map("outbox.headers").iter().filter_map(|(_, value, entry)| match value {
        Value::Template(template) => Some((entry, template.clone())),
        _ => None,
    });
    routes.chain(headers)
}

fn kafka(settings: &Settings, problems: &mut Vec<Problem>) -> Properties {
    let given = settings.map("kafka").iter().filter_map(|(name, value, _)| match value {
        Value::Text(text) => Some((one_name(name).to_owned(), text.clone())),
        _ => None,
    });
    let properties = Properties::merge(given);
    match properties.get("bootstrap.servers") {
        Some("") => {
            let given = settings.map("kafka").iter().find(|(name, ..)| one_name(name) == "bootstrap.servers");
            problems.extend(given.map(|(_, _, entry)| entry.problem(Mistake::new("must not be empty"))));
        }
        Some(_) => {}
        None => missed("kafka.bootstrap.servers", problems),
    }
    properties
}

/// What topics are made with; `Some(None)` if they are not made. Nothing if a value is wrong.
fn topics(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Option<NewTopic>> {
    let mut count = |path, most: i32| {
        let number = settings.integer(path)?;
        let fits = i32::try_from(number).ok().filter(|count| *count == -1 || (1..=most).contains(count));
        if fits.is_none() {
            let mistake = Mistake::new(format!("must be -1, the broker's default, or 1 to {most}"));
            problems.extend(settings.entry(path).map(|entry| entry.problem(mistake)));
        }
        fits
    };
    let partitions = count("topics.partitions", i32::MAX);
    let replication_factor = count("topics.replication_factor", i32::from(i16::MAX));
    let entries = settings.map("topics.config").iter();
    let config = entries.filter_map(|(name, value, _)| match value {
        Value::Text(text) => Some((name.clone(), text.clone())),
        _ => None,
    });
    let topic = NewTopic {
        partitions: partitions?,
        replication_factor: replication_factor?,
        config: config.collect(),
    };
    Some(settings.bool("topics.create")?.then_some(topic))
}

fn on_rejected(settings: &Settings, problems: &mut Vec<Problem>) -> Option<OnRejected> {
    let name = settings.text("delivery.dead_letter_topic")?;
    let Some(topic) = Topic::new(name.as_bytes()) else {
        let mistake = Mistake::new(
            "is not the name of a topic: 1 to 249 letters, digits, \".\", \"_\" and \"-\", and not \".\" or \"..\"",
        );
        problems.extend(settings.entry("delivery.dead_letter_topic").map(|entry| entry.problem(mistake)));
        return None;
    };
    match settings.text("delivery.on_rejected")?.as_str() {
        "stop" => Some(OnRejected::Stop),
        "dead-letter" => Some(OnRejected::DeadLetter(topic)),
        _ => None,
    }
}

fn log_format(settings: &Settings) -> Option<LogFormat> {
    match settings.text("log.format")?.as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn log_level(settings: &Settings) -> Option<LogLevel> {
    match settings.text("log.level")?.as_str() {
        "error" => Some(LogLevel::Error),
        "warn" => Some(LogLevel::Warn),
        "info" => Some(LogLevel::Info),
        "debug" => Some(LogLevel::Debug),
        "trace" => Some(LogLevel::Trace),
        _ => None,
    }
}
