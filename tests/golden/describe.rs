//! Messages and records as text: a line for each message, and below an INSERT what it became.

use std::fmt::Write as _;

use outbox_relay::outbox::Record;
use outbox_relay::relay::Step;
use outbox_relay::wal::PgTimestamp;
use outbox_relay::wal::pgoutput::{Relation, Value};

use crate::wire::{Message, Old};

pub(crate) fn message(message: &Message) -> String {
    match message {
        Message::Begin(begin) => format!(
            "\nBegin commit={} time={} xid={}\n",
            begin.commit_lsn,
            time(begin.commit_time),
            begin.xid
        ),
        Message::Commit(commit) => format!(
            "Commit commit={} end={} time={}\n",
            commit.commit_lsn,
            commit.end_lsn,
            time(commit.commit_time)
        ),
        Message::Origin(origin) => format!("Origin {:?} commit={}\n", origin.name, origin.commit_lsn),
        Message::Relation(described) => relation(described),
        Message::Type(described) => {
            format!("Type {} schema={:?} name={:?}\n", described.id, described.schema, described.name)
        }
        Message::Insert(id, new) => format!("Insert {}\n{}", id.0, row("new", new)),
        Message::Update(id, before, new) => {
            let before = before.as_ref().map(old).unwrap_or_default();
            format!("Update {}\n{before}{}", id.0, row("new", new))
        }
        Message::Delete(id, before) => format!("Delete {}\n{}", id.0, old(before)),
        Message::Truncate(truncate) => {
            let relations: Vec<u32> = truncate.relations.iter().map(|id| id.0).collect();
            format!("Truncate {relations:?} options={}\n", truncate.options)
        }
        Message::Logical(logical) => format!(
            "Message {} prefix={:?} content={} lsn={}\n",
            if logical.transactional { "in the transaction" } else { "by itself" },
            logical.prefix,
            bytes(&logical.content),
            logical.lsn
        ),
    }
}

pub(crate) fn step(step: &Step) -> String {
    match step {
        Step::Nothing | Step::Keepalive(_) => String::new(),
        Step::Rejected(rejection) => format!("  rejected: {rejection}\n"),
        Step::Record(record) => self::record(record),
        Step::DeadLetter(record, rejection) => {
            format!("  rejected: {rejection}\n{}", self::record(record))
        }
        Step::Skipped(id) => format!("  skipped: {id}\n"),
    }
}

fn record(record: &Record) -> String {
    let value = |value: &Option<bytes::Bytes>| value.as_deref().map_or("NULL".to_owned(), bytes);
    let mut text = format!(
        "  = record\n    topic     {}\n    key       {}\n    value     {}\n    timestamp {}\n",
        record.topic,
        value(&record.key),
        value(&record.value),
        record.timestamp.0
    );
    for header in &record.headers {
        let _ = writeln!(text, "    header    {} = {}", header.name, value(&header.value));
    }
    text
}

fn relation(described: &Relation) -> String {
    let identity = char::from(described.replica_identity);
    let mut text = format!(
        "Relation {} schema={:?} name={:?} identity={identity}\n",
        described.id.0, described.schema, described.name
    );
    for column in &described.columns {
        let key = if column.key { " key" } else { "" };
        let _ = writeln!(
            text,
            "  column {:?} type={} modifier={}{key}",
            column.name, column.type_id, column.type_modifier
        );
    }
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
    format!("  {kind} ({})\n", values.join(", "))
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

/// Milliseconds since 1970, as in a record.
fn time(time: PgTimestamp) -> i64 {
    time.unix_millis().0
}
