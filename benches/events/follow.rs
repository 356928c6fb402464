//! The pure way of the events: decoded only, or relayed and confirmed.

#![allow(dead_code, reason = "each bench uses its own part of this")]

use std::collections::{HashSet, VecDeque};
use std::hint::black_box;

use bytes::Bytes;
use outbox_relay::ack::ConfirmedLsn;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::Token;
use outbox_relay::relay::{Error, Relay, Start, Step};
use outbox_relay::wal::pgoutput::Message;
use outbox_relay::wal::{DecodeError, Envelope, Timelines};

/// Records in flight at a time, as with a broker that answers late.
const IN_FLIGHT: usize = 1_000;

pub(crate) fn decode(body: &Bytes) -> Result<Option<Message>, DecodeError> {
    match Envelope::decode(body.clone())? {
        Envelope::XLogData(data) => Message::decode(data.data).map(Some),
        Envelope::Keepalive(_) => Ok(None),
    }
}

/// A relay of the events of the benches; `timestamp` is the column that records are stamped by.
pub(crate) fn relay(timestamp: Option<&str>) -> Relay {
    let mut spec = crate::wire::spec(&["public"]);
    spec.shape.columns.timestamp = timestamp.map(str::to_owned);
    Relay::new(Start {
        spec,
        outboxes: Vec::new(),
        source: Some("7000000000000000001/outbox_relay".to_owned()),
        timelines: Timelines::only(1),
        confirmed_flush: Lsn::ZERO,
        shard: None,
        max_in_flight: usize::MAX,
        skip: HashSet::new(),
        dead_letters: None,
    })
}

/// Takes in `bodies`; the oldest record is confirmed as soon as [`IN_FLIGHT`] others are.
pub(crate) fn follow(
    relay: &mut Relay,
    in_flight: &mut VecDeque<Token>,
    bodies: &[Bytes],
) -> Result<ConfirmedLsn, Error> {
    for body in bodies {
        if let Step::Record(record) = relay.wal(body.clone())? {
            in_flight.push_back(black_box(record).token);
        }
        if in_flight.len() > IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            black_box(relay.confirmed(oldest));
        }
    }
    Ok(relay.position())
}
