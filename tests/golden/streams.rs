//! The streams that were captured for one `.sql`, of all versions, in one `.hex`.
//!
//! A paragraph a server: `PostgreSQL 14.24`, then a message a line. The versions differ in little but positions,
//! transaction ids, object ids and times, so only the first paragraph is complete. Further ones refer to it: `@3 9:1a2b 17:c0`
//! is its third message with two bytes replaced at 9 and one at 17. A message that is not like any of them is complete.

#![allow(clippy::allow_attributes, reason = "`expect` fails where everything is used")]
#![allow(dead_code, reason = "the fuzz bodies only read")]

use std::fmt::Write as _;

use bytes::Bytes;

/// What one server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Its version: `14.24`.
    pub(crate) server: String,
    /// The pgoutput messages.
    pub(crate) messages: Vec<Bytes>,
}

/// Before the version, at the head of a paragraph.
const SERVER: &str = "PostgreSQL ";

impl Stream {
    /// 14 of 14.24.
    pub(crate) fn major(&self) -> u32 {
        self.server.split('.').next().unwrap().parse().unwrap()
    }
}

/// Reads a `.hex`, or what was just captured of one server.
pub(crate) fn read(text: &str) -> Vec<Stream> {
    let mut streams: Vec<Stream> = Vec::new();
    for line in text.lines() {
        if let Some(server) = line.strip_prefix(SERVER) {
            streams.push(Stream { server: server.to_owned(), messages: Vec::new() });
            continue;
        }
        let message = match line.strip_prefix('@') {
            Some(likeness) => unlike(&streams[0].messages, likeness),
            None => unhex(line),
        };
        streams.last_mut().expect("a version before the first message").messages.push(message.into());
    }
    streams
}

/// Writes a `.hex`.
pub(crate) fn write(streams: &[Stream]) -> String {
    let mut text = String::new();
    for (number, stream) in streams.iter().enumerate() {
        let _ = writeln!(text, "{SERVER}{}", stream.server);
        for message in &stream.messages {
            let whole = hex(message);
            let likeness = if number == 0 { None } else { liken(message, &streams[0].messages) };
            let shorter = likeness.filter(|likeness| likeness.len() < whole.len());
            let _ = writeln!(text, "{}", shorter.unwrap_or(whole));
        }
    }
    text
}

/// `message` by the one in `others` that it differs from in the fewest characters.
fn liken(message: &[u8], others: &[Bytes]) -> Option<String> {
    let alike = others.iter().enumerate().filter(|(_, other)| other.len() == message.len());
    let written = alike.map(|(number, other)| {
        let mut text = format!("@{}", number + 1);
        let mut differs = false;
        for (at, (byte, others)) in message.iter().zip(other.iter()).enumerate() {
            if byte != others {
                if !differs {
                    let _ = write!(text, " {at}:");
                }
                let _ = write!(text, "{byte:02x}");
            }
            differs = byte != others;
        }
        text
    });
    written.min_by_key(String::len)
}

/// The message that `likeness`, without its `@`, stands for.
fn unlike(others: &[Bytes], likeness: &str) -> Vec<u8> {
    let mut words = likeness.split(' ');
    let number: usize = words.next().unwrap().parse().unwrap();
    let mut message = others[number - 1].to_vec();
    for word in words {
        let (at, bytes) = word.split_once(':').unwrap();
        let (at, bytes): (usize, _) = (at.parse().unwrap(), unhex(bytes));
        message[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    message
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn unhex(line: &str) -> Vec<u8> {
    (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect()
}
