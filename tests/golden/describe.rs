//! Messages and records as text: a line for each message, and below an INSERT what it became. What is long is cut.

use std::fmt::Write as _;

use outbox_relay::outbox::Record;
use outbox_relay::relay::Step;
use outbox_relay::wal::PgTimestamp;
use outbox_relay::wal::pgoutput::{Relation, Value};

use crate::names::Names;
use crate::wire::{Message, Old};

pub(crate) fn message(message: &Message, names: &Names) -> String {
    match message {
        Message::Begin(begin) => format!(
            "\nBegin commit={} time={} xid={}\n",
            names.lsn(begin.commit_lsn),
            names.time(begin.commit_time),
            names.xid(begin.xid)
        ),
        Message::Commit(commit) => format!(
            "Commit commit={} end={} time={}\n",
            names.lsn(commit.commit_lsn),
            names.lsn(commit.end_lsn),
            names.time(commit.commit_time)
        ),
        Message::Origin(origin) => format!("Origin {:?} commit={}\n", origin.name, origin.commit_lsn),
        Message::Relation(described) => relation(described, names),
        Message::Type(described) => {
            let id = names.id(described.id);
            format!("Type {id} schema={:?} name={:?}\n", described.schema, described.name)
        }
        Message::Insert(id, new) => format!("Insert {}\n{}", names.id(id.0), row("new", new)),
        Message::Update(id, before, new) => {
            let before = before.as_ref().map(old).unwrap_or_default();
            format!("Update {}\n{before}{}", names.id(id.0), row("new", new))
        }
        Message::Delete(id, before) => format!("Delete {}\n{}", names.id(id.0), old(before)),
        Message::Truncate(truncate) => {
            let relations: Vec<_> = truncate.relations.iter().map(|id| names.id(id.0)).collect();
            format!("Truncate {} options={}\n", relations.join(", "), truncate.options)
        }
        Message::Logical(logical) => format!(
            "Message {} prefix={:?} content={} lsn={}\n",
            if logical.transactional { "in the transaction" } else { "by itself" },
            logical.prefix,
            bytes(&logical.content),
            names.lsn(logical.lsn)
        ),
    }
}

/// `committed` is when the transaction of the step was.
pub(crate) fn step(step: &Step, committed: PgTimestamp, names: &Names) -> String {
    match step {
        Step::Nothing | Step::Keepalive(_) => String::new(),
        Step::Rejected(rejection) => format!("  rejected: {rejection}\n"),
        Step::Record(record) => self::record(record, committed, names),
        Step::DeadLetter(record, rejection) => {
            format!("  rejected: {rejection}\n{}", self::record(record, committed, names))
        }
        Step::Skipped(id) => format!("  skipped: {id}\n"),
    }
}

fn record(record: &Record, committed: PgTimestamp, names: &Names) -> String {
    let timestamp = if record.timestamp == committed.unix_millis() {
        names.time(committed)
    } else {
        record.timestamp.0.to_string()
    };
    let value = |value: &Option<bytes::Bytes>| value.as_deref().map_or("NULL".to_owned(), bytes);
    let mut text = format!(
        "  = record\n    topic     {}\n    key       {}\n    value     {}\n    timestamp {timestamp}\n",
        record.topic,
        value(&record.key),
        value(&record.value),
    );
    for header in &record.headers {
        let shown = match (header.name.as_ref(), &header.value) {
            ("position", Some(position)) => names.position(std::str::from_utf8(position).unwrap()),
            _ => value(&header.value),
        };
        let _ = writeln!(text, "    header    {} = {shown}", header.name);
    }
    text
}

fn relation(described: &Relation, names: &Names) -> String {
    let identity = char::from(described.replica_identity);
    let mut text = format!(
        "Relation {} schema={:?} name={:?} identity={identity}\n",
        names.id(described.id.0),
        described.schema,
        described.name
    );
    let columns = described.columns.iter().map(|column| {
        let key = if column.key { " key" } else { "" };
        let type_id = names.id(column.type_id);
        format!("  column {:?} type={type_id} modifier={}{key}\n", column.name, column.type_modifier)
    });
    text.extend(cut(columns.collect(), |left_out| format!("  … {left_out} more\n")));
    text
}

fn old(old: &Old) -> String {
    match old {
        Old::Key(values) => row("old key", values),
        Old::Full(values) => row("old", values),
    }
}

fn row(kind: &str, values: &[Value]) -> String {
    let values: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::Null => "NULL".to_owned(),
            Value::Unchanged => "unchanged".to_owned(),
            Value::Text(text) => bytes(text),
            Value::Binary(binary) => format!("binary {}", bytes(binary)),
        })
        .collect();
    let values = cut(values, |left_out| format!("… {left_out} more"));
    format!("  {kind} ({})\n", values.join(", "))
}

/// The beginning and the end of a long list.
fn cut(mut all: Vec<String>, instead: impl FnOnce(usize) -> String) -> Vec<String> {
    const LONG: usize = 50;
    const FIRST: usize = 10;
    const LAST: usize = 3;
    if all.len() > LONG {
        let left_out = FIRST..all.len() - LAST;
        all.splice(left_out.clone(), [instead(left_out.len())]);
    }
    all
}

/// Text in quotes, other bytes in hexadecimal; the beginning of what is long.
fn bytes(bytes: &[u8]) -> String {
    const LONG: usize = 200;
    const SHOWN: usize = 20;
    let shown = if bytes.len() > LONG { &bytes[..SHOWN] } else { bytes };
    let shown_text = match std::str::from_utf8(shown) {
        Ok(text) => format!("{text:?}"),
        Err(_) => shown.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
    };
    if bytes.len() > LONG { format!("{shown_text}… ({} bytes)", bytes.len()) } else { shown_text }
}
