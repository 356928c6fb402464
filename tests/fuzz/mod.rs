//! Fuzz bodies: functions that take any bytes and assert what must hold for them.
//!
//! A fuzzer calls one with its input (`scripts/fuzz`, by way of `targets/`); `tests/properties.rs` runs them over [`seeds`]
//! and over damaged messages. `outside.rs` has those for what is no part of the heart.

pub(crate) mod corpus;
pub(crate) mod row;
pub(crate) mod seeds;

use std::collections::HashSet;

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{Spec, TableError, Token};
use outbox_relay::relay::{Error, Relay, Start, Step};
use outbox_relay::wal::pgoutput;
use outbox_relay::wal::{DecodeError, Envelope, Problem, Timelines};

use crate::wire::{self, Message};

/// One pgoutput message. What is taken for a message must be exactly what that message is written as.
pub(crate) fn message(data: &[u8]) {
    match pgoutput::Message::decode(Bytes::copy_from_slice(data)) {
        Ok(decoded) => assert_eq!(Message::from(&decoded).encode(), data),
        Err(error) => tells_what_and_where(&error, data.len()),
    }
}

/// One `CopyData` body.
pub(crate) fn envelope(data: &[u8]) {
    match Envelope::decode(Bytes::copy_from_slice(data)) {
        Ok(decoded) => assert_eq!(wire::envelope(&decoded), data),
        Err(error) => tells_what_and_where(&error, data.len()),
    }
}

/// A session: `CopyData` bodies, each after its length in two bytes, to a relay whose records are confirmed late.
pub(crate) fn session(mut data: &[u8]) {
    let mut relay = relay(Lsn::ZERO);
    let mut tokens: Vec<Token> = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
        let (body, rest) = rest.split_at(len);
        data = rest;
        let body = Bytes::copy_from_slice(body);
        let before = relay.position();
        let step = match relay.wal(body.clone()) {
            Err(Error::Table(TableError::Unknown { id, .. })) => {
                relay.elsewhere(id);
                assert_eq!(relay.wal(body), Ok(Step::Nothing));
                continue;
            }
            other => other,
        };
        match step {
            Ok(Step::Record(record) | Step::DeadLetter(record, _)) => {
                assert!(!tokens.contains(&record.token), "{:?} is given twice", record.token);
                tokens.push(record.token);
                assert_eq!(relay.position(), before);
            }
            Ok(Step::Nothing | Step::Keepalive(_) | Step::Rejected(_) | Step::Skipped(_)) => {}
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
        assert_eq!(relay.in_flight().records(), tokens.len());
        assert!(relay.position() >= before);
        assert!(relay.position().lsn() <= relay.ack().received());
        if tokens.len() > 3 {
            assert!(relay.confirmed(tokens.swap_remove(1)).is_some());
        }
    }
}

/// A timeline history file, as TIMELINE_HISTORY gives it. A later position never lies on an earlier timeline.
pub(crate) fn history(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Timelines::from_history(7, &text) {
        Ok(timelines) => {
            let lines = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<Lsn>().ok());
            let mut switches: Vec<Lsn> = lines.chain([Lsn::ZERO, Lsn::new(u64::MAX)]).collect();
            switches.sort_unstable();
            let on: Vec<u32> = switches.iter().map(|lsn| timelines.of(*lsn)).collect();
            assert!(on.is_sorted(), "{text:?}: {on:?}");
            assert_eq!(on.last(), Some(&7));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn tells_what_and_where(error: &DecodeError, len: usize) {
    assert!(error.offset <= len, "{error}: beyond the {len} bytes");
    assert!(!error.message.is_empty() && !error.field.is_empty(), "{error}");
    match error.problem {
        Problem::TooShort { needed, left } => assert!(left < needed && left <= len - error.offset, "{error}"),
        Problem::TooLong(left) => assert_eq!(left, len - error.offset, "{error}"),
        Problem::NotUtf8 | Problem::Unexpected(_) => assert!(error.offset < len, "{error}"),
        Problem::Unterminated => {}
    }
}

/// A relay for `public.outbox` as the contract has it.
pub(crate) fn relay(confirmed_flush: Lsn) -> Relay {
    relay_of(wire::spec(&["public"]), confirmed_flush)
}

fn relay_of(spec: Spec, confirmed_flush: Lsn) -> Relay {
    Relay::new(Start {
        spec,
        outboxes: Vec::new(),
        source: Some("7000000000000000001/outbox_relay".to_owned()),
        timelines: Timelines::only(1),
        confirmed_flush,
        shard: None,
        max_in_flight: 1 << 20,
        skip: HashSet::new(),
        dead_letters: None,
    })
}
