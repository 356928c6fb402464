//! Streams captured from a real PostgreSQL, and what becomes of them.
//!
//! `tests/golden/NAME.sql` was run by `scripts/capture-golden`; `NAME.hex` is what the server sent, one pgoutput message
//! a line; `NAME.txt` is that stream as the relay understands it, written anew by `UPDATE_GOLDEN=1`. The SQL function
//! that captures gives no envelope; a fixed one is written around each message here.
#![cfg(test)]

#[path = "golden/describe.rs"]
mod describe;
#[path = "golden/directives.rs"]
mod directives;
mod wire;

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::TableError;
use outbox_relay::relay::{Error, Relay, Step};
use outbox_relay::wal::{PgTimestamp, pgoutput};

use wire::{Message, xlog_data};

/// The text for one captured stream.
fn readable(sql: &str, hex: &str) -> String {
    // A session ends with its first error; the next begins with the next transaction.
    let mut session: Option<Relay> = None;
    let mut text = String::new();
    // The server's clock in the envelope: events are sent when they are committed.
    let mut sent = PgTimestamp::default();
    for line in hex.lines() {
        let data = unhex(line);
        let decoded = pgoutput::Message::decode(data.clone()).unwrap();
        let message = Message::from(&decoded);
        assert_eq!(message.encode(), data, "the tests' writer writes this otherwise:\n{message:?}");
        text += &describe::message(&message);
        if let Message::Begin(begin) = &message {
            sent = begin.commit_time;
            session.get_or_insert_with(|| Relay::new(directives::start(sql)));
        }
        let body = xlog_data(Lsn::ZERO, sent, &message);
        let Some(relay) = &mut session else { continue };
        match relay.wal(body.clone()) {
            Ok(step) => text += &seen(&step),
            Err(error) => {
                text += &format!("  ! {error}\n");
                match error {
                    Error::Table(TableError::Unknown { id, .. }) => {
                        relay.elsewhere(id);
                        text += &seen(&relay.wal(body).unwrap());
                    }
                    _ => session = None,
                }
            }
        }
    }
    text
}

/// The text of a step. A header `expected` is what the server itself made of the timestamp column.
fn seen(step: &Step) -> String {
    if let Step::Record(record) = step
        && let Some(expected) = record.headers.iter().find(|header| header.name.as_ref() == "expected")
        && let Some(expected) = &expected.value
    {
        assert_eq!(record.timestamp.0.to_string().as_bytes(), expected.as_ref());
    }
    describe::step(step)
}

fn unhex(line: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    (0..line.len()).step_by(2).map(byte).collect()
}

#[test]
fn captured_streams_are_understood_as_written_down() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let bless = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differences = Vec::new();
    let mut streams = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let sql = entry.unwrap().path();
        if sql.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        streams += 1;
        let read = |extension| fs::read_to_string(sql.with_extension(extension)).unwrap_or_default();
        let hex = read("hex");
        assert!(!hex.is_empty(), "{} was never captured: run scripts/capture-golden", sql.display());
        let seen = readable(&read("sql"), &hex);
        let written = read("txt");
        if bless {
            fs::write(sql.with_extension("txt"), seen).unwrap();
        } else if let Some(difference) = first_difference(&written, &seen) {
            differences.push(format!("{}:{difference}", sql.with_extension("txt").display()));
        }
    }
    assert!(streams > 0);
    assert!(
        differences.is_empty(),
        "{}\n\nhint: if the new text is right, run with UPDATE_GOLDEN=1 and commit it",
        differences.join("\n")
    );
}

fn first_difference(written: &str, seen: &str) -> Option<String> {
    if written == seen {
        return None;
    }
    let same = written.lines().zip(seen.lines()).take_while(|(written, seen)| written == seen).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(end)").to_owned();
    Some(format!("{}\n  written {}\n  seen    {}", same + 1, line(written), line(seen)))
}

#[test]
fn the_first_difference_is_shown() {
    assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
    let expected = "2\n  written b\n  seen    (end)".to_owned();
    assert_eq!(first_difference("a\nb\n", "a\n"), Some(expected));
}
