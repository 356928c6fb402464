//! Streams captured from real servers of every version, and what becomes of them.
//!
//! `tests/golden/NAME.sql` was run by `scripts/capture-golden` on each; `NAME.hex` is what the servers sent; `NAME.txt`
//! is that as the relay understands it, written anew by `UPDATE_GOLDEN=1`, once for all servers that sent the same. The SQL
//! function that captures gives no envelope; a fixed one is written around each message here.
#![cfg(test)]

#[path = "golden/describe.rs"]
mod describe;
#[path = "golden/directives.rs"]
mod directives;
#[path = "golden/names.rs"]
mod names;
#[path = "golden/streams.rs"]
mod streams;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::TableError;
use outbox_relay::relay::{Error, Relay, Step};
use outbox_relay::wal::{PgTimestamp, pgoutput};

use names::Names;
use streams::Stream;
use wire::{Message, xlog_data};

/// The versions that every stream is captured from, unless its `.sql` cannot run there.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;

/// The text of one server's stream.
fn readable(sql: &str, stream: &Stream) -> String {
    let messages: Vec<Message> = stream.messages.iter().map(decoded).collect();
    let told = told(&messages);
    let names = Names::new(messages.iter().zip(&told).filter(|(_, told)| **told).map(|(message, _)| message));
    // A session ends with its first error; the next begins with the next transaction.
    let mut session: Option<Relay> = None;
    let mut text = String::new();
    // The server's clock in the envelope: events are sent when they are committed.
    let mut sent = PgTimestamp::default();
    for (message, told) in messages.iter().zip(told) {
        if told {
            text += &describe::message(message, &names);
        }
        if let Message::Begin(begin) = message {
            sent = begin.commit_time;
            session.get_or_insert_with(|| Relay::new(directives::start(sql)));
        }
        let body = xlog_data(Lsn::ZERO, sent, message);
        let Some(relay) = &mut session else { continue };
        match relay.wal(body.clone()) {
            Ok(step) => text += &seen(&step, sent, &names),
            Err(error) => {
                text += &format!("  ! {error}\n");
                match error {
                    Error::Table(TableError::Unknown { id, .. }) => {
                        relay.elsewhere(id);
                        text += &seen(&relay.wal(body).unwrap(), sent, &names);
                    }
                    _ => session = None,
                }
            }
        }
    }
    text
}

/// Decodes all of a captured message: what was understood, written again, gives the same bytes.
fn decoded(captured: &bytes::Bytes) -> Message {
    let message = Message::from(&pgoutput::Message::decode(captured.clone()).unwrap());
    assert_eq!(message.encode(), captured, "the tests' writer writes this otherwise:\n{message:?}");
    message
}

/// Which messages are told: not those of transactions without content, which servers before 15 send for every commit.
fn told(messages: &[Message]) -> Vec<bool> {
    let empty = |at: usize| matches!(messages.get(at..at + 2), Some([Message::Begin(_), Message::Commit(_)]));
    (0..messages.len()).map(|at| !empty(at) && (at == 0 || !empty(at - 1))).collect()
}

/// The text of a step. A header `expected` is what the server itself made of the timestamp column.
fn seen(step: &Step, committed: PgTimestamp, names: &Names) -> String {
    if let Step::Record(record) = step
        && let Some(expected) = record.headers.iter().find(|header| header.name.as_ref() == "expected")
        && let Some(expected) = &expected.value
    {
        assert_eq!(record.timestamp.0.to_string().as_bytes(), expected.as_ref());
    }
    describe::step(step, committed, names)
}

/// The text for all servers: one for those that sent the same.
fn readable_of_all(sql: &str, streams: &[Stream]) -> String {
    let mut texts: Vec<(Vec<&str>, String)> = Vec::new();
    for stream in streams {
        let text = readable(sql, stream);
        match texts.iter_mut().find(|(_, known)| *known == text) {
            Some((servers, _)) => servers.push(&stream.server),
            None => texts.push((vec![&stream.server], text)),
        }
    }
    let sections: Vec<_> = texts
        .iter()
        .map(|(servers, text)| format!("==== PostgreSQL {}\n{text}", servers.join(", ")))
        .collect();
    sections.join("\n")
}

/// The streams of `sql`, with those that `scripts/capture-golden` has just captured in `folder` in their place.
fn with_captured(mut streams: Vec<Stream>, sql: &Path, folder: &Path) -> Vec<Stream> {
    let name = sql.file_stem().unwrap().to_str().unwrap();
    for major in VERSIONS {
        if let Ok(captured) = fs::read_to_string(folder.join(format!("{name}.{major}"))) {
            streams.retain(|stream| stream.major() != major);
            streams.extend(streams::read(&captured));
        }
    }
    streams.sort_by_key(Stream::major);
    streams
}

#[test]
fn captured_streams_are_understood_as_written_down() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let bless = std::env::var_os("UPDATE_GOLDEN").is_some();
    let captured = std::env::var_os("GOLDEN_CAPTURED");
    let mut differences = Vec::new();
    let mut texts = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        texts += 1;
        let read = |extension| fs::read_to_string(path.with_extension(extension)).unwrap_or_default();
        let sql = read("sql");
        let mut streams = streams::read(&read("hex"));
        if let Some(captured) = &captured {
            streams = with_captured(streams, &path, Path::new(captured));
            fs::write(path.with_extension("hex"), streams::write(&streams)).unwrap();
        }
        let majors: Vec<_> = streams.iter().map(Stream::major).collect();
        let expected: Vec<_> = VERSIONS.filter(|major| *major >= directives::since(&sql)).collect();
        assert_eq!(majors, expected, "{}: the versions captured: run scripts/capture-golden", path.display());

        let seen = readable_of_all(&sql, &streams);
        if bless {
            fs::write(path.with_extension("txt"), seen).unwrap();
        } else if let Some(difference) = first_difference(&read("txt"), &seen) {
            differences.push(format!("{}:{difference}", path.with_extension("txt").display()));
        }
    }
    assert!(texts > 0);
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

#[test]
fn streams_that_differ_in_little_are_written_as_what_differs() {
    let stream = |server: &str, messages: &[&'static [u8]]| Stream {
        server: server.to_owned(),
        messages: messages.iter().map(|message| bytes::Bytes::from_static(message)).collect(),
    };
    let streams = [
        stream("14.24", &[b"0123456789", b"abcdefghij", b""]),
        // The same; two places, one of two bytes; another length; nothing alike; nothing.
        stream("18.6", &[b"abcdefghij", b"01xx4567y9", b"0123", b"klmnopqrst", b""]),
    ];
    let text = streams::write(&streams);
    let written: Vec<_> = text.lines().skip(4).collect();
    assert_eq!(written, ["PostgreSQL 18.6", "@2", "@1 2:7878 8:79", "30313233", "6b6c6d6e6f7071727374", ""]);
    assert_eq!(streams::read(&text), streams);
}
