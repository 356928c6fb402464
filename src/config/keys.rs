//! The one table of configuration keys.
//!
//! Everything that knows about keys asks this table: reading the file, names of environment variables, `--set`,
//! suggestions for a mistyped key, defaults. To add a key, add a row; to make a planned key work, change its
//! [`Support`] and use its value where [`super::Config`] is built. Names are public: scripts and other people's
//! tests rely on them.

use super::value::Kind;

/// A row of the table.
#[derive(Debug)]
pub struct Key {
    /// Section and name, joined by dots: `postgres.slot`. A key whose [`Kind`] is a map stands for all names below it.
    pub path: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What holds when nothing is given.
    pub default: Preset,
    /// Whether it may be changed already.
    pub support: Support,
    /// What it does, for the reader of the reference.
    pub doc: &'static str,
}

/// The value of a key that is not given.
#[derive(Debug, Clone, Copy)]
pub enum Preset {
    /// None: it has to be given.
    Required,
    /// This, written as in an environment variable.
    Value(&'static str),
    /// These entries of a map. A map that is given replaces them all.
    Map(&'static [(&'static str, &'static str)]),
}

/// Whether a key does something in this version.
#[derive(Debug, Clone, Copy)]
pub enum Support {
    /// Yes.
    Works,
    /// Not yet: only its default, and these values that ask for nothing, are accepted.
    NotYet(&'static [&'static str]),
}

use Preset::{Map, Required, Value};
use Support::{NotYet, Works};

/// Every key, section by section, in the order of the reference.
#[rustfmt::skip] // One glance shows a row: path, kind, default, support; its sentence below.
pub static KEYS: &[Key] = &[
    key("postgres.url", Kind::Secret, Required, Works,
        "Where the database is and who connects: a libpq URL or key=value string. The role needs LOGIN, REPLICATION and CONNECT."),
    key("postgres.slot", Kind::Slot, Value("outbox_relay"), Works,
        "The logical replication slot. It remembers how far PostgreSQL may forget; one relay at a time uses it."),
    key("postgres.publication", Kind::Identifier, Value("outbox_relay"), Works,
        "The publication that holds the outbox tables."),
    key("postgres.create_slot", Kind::Bool, Value("true"), Works,
        "Make the slot at the first start, after the publication is seen. With false, a missing slot stops the relay."),
    key("postgres.backfill", Kind::Bool, Value("false"), Works,
        "When the slot is made, first send the rows that are already in the table. The role then needs SELECT on it."),

    key("outbox.source", Kind::Choice(&["wal", "poll"]), Value("wal"), Works,
        "How rows are read: \"wal\" by logical replication, \"poll\" by their status, for servers without it. That takes after_publish.action = \"mark\" or \"delete\"."),
    key("outbox.tables", Kind::Tables, Value("public.outbox"), Works,
        "The outbox tables, each as schema.table. Names are read as PostgreSQL reads them: quote capitals and odd characters. \"*\" stands for any letters: \"tenant_*.outbox\"."),
    key("outbox.message_prefix", Kind::Text, Value(""), Works,
        "Not empty: also relay messages of pg_logical_emit_message(true, prefix, …) whose content is a JSON object."),
    key("outbox.columns.id", Kind::Name, Value("id"), Works,
        "The column with the event's id, sent as header \"id\": how consumers recognise a duplicate."),
    key("outbox.columns.aggregate_type", Kind::Name, Value("aggregate_type"), Works,
        "The column with the kind of thing the event is about; by default it ends the topic's name."),
    key("outbox.columns.aggregate_id", Kind::Name, Value("aggregate_id"), Works,
        "The column with the thing's id; by default the record's key, so its events keep their order."),
    key("outbox.columns.event_type", Kind::Text, Value("event_type"), Works,
        "The column with the kind of event. \"\" where the table has none."),
    key("outbox.columns.payload", Kind::Name, Value("payload"), Works,
        "The column whose bytes become the record's value, unchanged."),
    key("outbox.columns.headers", Kind::Text, Value(""), Works,
        "The column with a JSON object whose members become further record headers. \"\": there is none."),
    key("outbox.columns.timestamp", Kind::Text, Value(""), Works,
        "The column with the record's timestamp: timestamptz, timestamp, or bigint epoch milliseconds. \"\": the time of the commit."),
    key("outbox.columns.timestamp_zone", Kind::Zone, Value("UTC"), Works,
        "The time zone of a timestamp column that has none of its own: an IANA name."),
    key("outbox.headers", Kind::Templates, Map(&[("event_type", "{event_type}")]), Works,
        "Further record headers: name = template. A single column that is NULL gives a header with a null value."),

    key("tables", Kind::Overrides, Map(&[]), Works,
        "[tables.\"schema.table\"]: columns, headers and route of one table, or of all that a pattern means, over those of [outbox] and [route]."),

    key("route.topic", Kind::Topic, Value("outbox.event.{aggregate_type}"), Works,
        "The topic: a template. {id}, {aggregate_type}, {aggregate_id}, {event_type} are the mapped columns, any other {name} a column of that name, {@schema} and {@table} the table's own names, and functions may follow: {name|lower}; \"{{\" is a brace."),
    key("route.key", Kind::Template, Value("{aggregate_id}"), Works,
        "The record's key: a template. SQL NULL gives a null key."),
    key("route.partition", Kind::Text, Value(""), Works,
        "The column with the partition number. \"\": by the key, as the Java client does it."),

    key("shard.count", Kind::Integer, Value("1"), Works,
        "Relays that share the tables, each with a part of the keys, on PostgreSQL 15 or later: setup --shards makes a publication and a slot for each, called as postgres.publication and postgres.slot with the layout behind: outbox_relay_4_1."),
    key("shard.index", Kind::Text, Value(""), Works,
        "Which of them this one is, from 0. \"\": the number at the end of the host's name, as the pods of a StatefulSet have it."),

    key("kafka", Kind::Properties, Map(&[]), Works,
        "librdkafka's own properties, handed over untouched; \"bootstrap.servers\" is required. Those that the guarantees rest on are fixed."),

    key("topics.create", Kind::Bool, Value("false"), Works,
        "Make a topic that does not exist, also the one of the dead letters. With false, wait for it and say so."),
    key("topics.partitions", Kind::Integer, Value("3"), Works,
        "Partitions of a topic that the relay makes. -1: the broker's default."),
    key("topics.replication_factor", Kind::Integer, Value("-1"), Works,
        "Replicas of a topic that the relay makes. -1: the broker's default."),
    key("topics.config", Kind::Properties, Map(&[]), Works,
        "Settings of a topic that the relay makes, such as \"retention.ms\"."),

    key("delivery.guarantee", Kind::Choice(&["at-least-once", "exactly-once"]), Value("at-least-once"), NotYet(&[]),
        "\"at-least-once\": duplicates after an interruption only. \"exactly-once\": none for read_committed consumers."),
    key("delivery.on_rejected", Kind::Choice(&["stop", "dead-letter"]), Value("stop"), Works,
        "What to do about an event that Kafka will never take: \"stop\" reading and say which, or \"dead-letter\" it."),
    key("delivery.dead_letter_topic", Kind::Name, Value("outbox.dead-letter"), Works,
        "The topic to which \"dead-letter\" sends it."),
    key("delivery.skip", Kind::List, Value(""), Works,
        "Event ids to pass over, logged and counted: the way past a rejected event."),
    key("delivery.max_in_flight", Kind::Size, Value("16MiB"), Works,
        "How much may be handed to the producer and not yet be confirmed: value, key, headers and 512 bytes a record. One larger event is always admitted."),
    key("delivery.drain_timeout", Kind::Duration, Value("20s"), Works,
        "How long to wait for confirmations when told to stop."),
    key("delivery.transactional_id", Kind::Template, Value("outbox-relay.{slot}"), NotYet(&[]),
        "The producer's transactional id with exactly-once."),

    key("state.topic", Kind::Text, Value("outbox-relay.state"), NotYet(&[""]),
        "The compacted topic that remembers each slot's position, so that a slot that was dropped, recreated or advanced is noticed. \"\" turns it off."),

    key("after_publish.action", Kind::Choice(&["keep", "delete", "mark", "drop-partitions"]), Value("keep"), Works,
        "What becomes of a row that Kafka has confirmed: \"keep\" it, \"delete\" it, \"mark\" it, or \"drop-partitions\" of which all rows are confirmed."),
    key("after_publish.status_column", Kind::Name, Value("status"), Works,
        "The column with the status of a row: \"mark\" changes it, and republish chooses by it."),
    key("after_publish.published_value", Kind::Text, Value("PUBLISHED"), Works,
        "What \"mark\" writes into it, in place of poll.pending_value."),
    key("after_publish.published_at_column", Kind::Text, Value("published_at"), Works,
        "The column that \"mark\" sets to the time. \"\" where the table has none."),
    key("after_publish.retention", Kind::Duration, Value("0s"), Works,
        "How old a row must be before \"delete\" deletes it, and how long after its end \"drop-partitions\" drops a partition."),

    key("poll.interval", Kind::Duration, Value("1s"), Works,
        "The longest wait between two looks; NOTIFY shortens it."),
    key("poll.channel", Kind::Name, Value("outbox"), Works,
        "The channel whose NOTIFY ends a wait."),
    key("poll.batch", Kind::Integer, Value("1000"), Works,
        "Rows read at once."),
    key("poll.pending_value", Kind::Text, Value("PENDING"), Works,
        "The status of a row that is to be sent: \"mark\" changes rows that have it, and no others."),

    key("http.listen", Kind::Address, Value("127.0.0.1:9464"), Works,
        "Where /, /live, /ready, /active, /status and /metrics answer. \"\" turns them off."),

    key("log.format", Kind::Choice(&["text", "json"]), Value("text"), Works,
        "How log lines on stderr look: \"text\" for people, \"json\" with one object a line."),
    key("log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), Value("info"), Works,
        "The least important log lines to write."),
];

const fn key(path: &'static str, kind: Kind, default: Preset, support: Support, doc: &'static str) -> Key {
    Key { path, kind, default, support, doc }
}

/// What a dotted path means.
pub(super) enum Resolved<'a> {
    /// A key.
    Key(&'static Key),
    /// The entry of this name in a map.
    Entry(&'static Key, &'a str),
    /// The beginning of several keys.
    Section,
    /// Nothing.
    Unknown,
}

/// Looks `path` up.
pub(super) fn resolve(path: &str) -> Resolved<'_> {
    for key in KEYS {
        if path == key.path {
            return Resolved::Key(key);
        }
        if below(path, key.path).is_some() && key.kind.is_map() {
            return below(path, key.path).map_or(Resolved::Unknown, |name| Resolved::Entry(key, name));
        }
    }
    if KEYS.iter().any(|key| below(key.path, path).is_some()) { Resolved::Section } else { Resolved::Unknown }
}

/// What is left of `path` below `parent`.
fn below<'a>(path: &'a str, parent: &str) -> Option<&'a str> {
    path.strip_prefix(parent)?.strip_prefix('.').filter(|rest| !rest.is_empty())
}

/// The first words of all paths: `postgres`, `outbox`, …
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().filter_map(|key| key.path.split('.').next()).collect();
    sections.dedup();
    sections
}

/// The names below `section`: keys, and sections of its own.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let mut names: Vec<_> =
        KEYS.iter().filter_map(|key| below(key.path, section)?.split('.').next()).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_there_twice_and_none_is_below_another() {
        for (index, key) in KEYS.iter().enumerate() {
            for other in &KEYS[index + 1..] {
                assert_ne!(key.path, other.path);
                assert!(
                    below(key.path, other.path).is_none() && below(other.path, key.path).is_none(),
                    "{} and {}",
                    key.path,
                    other.path
                );
            }
        }
    }

    #[test]
    fn every_key_is_documented_in_sentences() {
        for key in KEYS {
            assert!(key.doc.ends_with('.') && key.doc.len() > 15, "{}: {:?}", key.path, key.doc);
        }
    }

    #[test]
    fn paths_resolve_to_keys_entries_and_sections() {
        let shown = |path| match resolve(path) {
            Resolved::Key(key) => format!("key {}", key.path),
            Resolved::Entry(key, name) => format!("entry {name} of {}", key.path),
            Resolved::Section => "section".to_owned(),
            Resolved::Unknown => "unknown".to_owned(),
        };
        assert_eq!(shown("postgres.slot"), "key postgres.slot");
        assert_eq!(shown("kafka.sasl.password"), "entry sasl.password of kafka");
        assert_eq!(shown("outbox.headers.ce.type"), "entry ce.type of outbox.headers");
        assert_eq!(shown("topics.config.retention.ms"), "entry retention.ms of topics.config");
        assert_eq!(shown("outbox.columns"), "section");
        for unknown in ["", "postgre", "postgres.slots", "postgres.slot.x", "kafka.", "outbox.column"] {
            assert_eq!(shown(unknown), "unknown", "{unknown:?}");
        }
    }
}
