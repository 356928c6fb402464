//! Logical messages as events: which of them are, and what place they have in their transaction.

use std::collections::HashSet;

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{Record, RejectionReason, Shard, Spec};
use outbox_relay::relay::{Relay, Start, Step};
use outbox_relay::wal::pgoutput::{Begin, Commit, Logical};
use outbox_relay::wal::{PgTimestamp, Timelines};

use crate::wire::stream::Transaction;
use crate::wire::{Message, xlog_data};

const TIME: PgTimestamp = PgTimestamp::from_micros(0);
const COMMIT: Lsn = Lsn::new(100);
const XID: u32 = 4711;

/// A relay of messages with the prefix "outbox", if `prefix` is that, in a transaction.
fn relay(prefix: Option<&str>) -> Relay {
    relay_of(prefix, None)
}

/// The same for a shard.
fn relay_of(prefix: Option<&str>, shard: Option<Shard>) -> Relay {
    let mut relay = Relay::new(Start {
        spec: Spec { message_prefix: prefix.map(str::to_owned), ..crate::wire::spec(&["public"]) },
        outboxes: Vec::new(),
        source: Some("7/slot".to_owned()),
        timelines: Timelines::only(1),
        confirmed_flush: Lsn::new(50),
        shard,
        max_in_flight: usize::MAX,
        skip: HashSet::from([Bytes::from_static(b"skipped")]),
        dead_letters: None,
    });
    let begin = Message::Begin(Begin { commit_lsn: COMMIT, commit_time: TIME, xid: XID });
    assert_eq!(relay.wal(xlog_data(Lsn::ZERO, TIME, &begin)).unwrap(), Step::Nothing);
    relay
}

fn logical(transactional: bool, prefix: &str, content: &'static str) -> Message {
    let content = Bytes::from_static(content.as_bytes());
    Message::Logical(Logical { transactional, lsn: Lsn::new(99), prefix: prefix.to_owned(), content })
}

fn take(relay: &mut Relay, message: &Message) -> Step {
    relay.wal(xlog_data(Lsn::ZERO, TIME, message)).unwrap()
}

fn record(step: Step) -> Record {
    let Step::Record(record) = step else { panic!("{step:?}") };
    record
}

const EVENT: &str = r#"{"id": "1", "aggregate_type": "order", "aggregate_id": "42", "payload": {}}"#;

fn position(record: &Record) -> &[u8] {
    let header = record.headers.iter().find(|header| header.name.as_ref() == "position").unwrap();
    header.value.as_deref().unwrap()
}

#[test]
fn a_message_of_the_transaction_with_our_prefix_is_an_event() {
    let mut relay = relay(Some("outbox"));
    let found = record(take(&mut relay, &logical(true, "outbox", EVENT)));
    assert_eq!((found.topic.as_str(), found.key.as_deref()), ("outbox.event.order", Some(b"42".as_slice())));
    // It is open until Kafka has confirmed it.
    let end_lsn = Transaction::new(COMMIT, TIME).end_lsn();
    let commit = Message::Commit(Commit { commit_lsn: COMMIT, end_lsn, commit_time: TIME });
    assert_eq!(take(&mut relay, &commit), Step::Nothing);
    assert_eq!(relay.position().lsn(), Lsn::new(50));
    relay.confirmed(found.token).unwrap();
    assert_eq!(relay.position().lsn(), end_lsn);
}

#[test]
fn every_message_of_the_transaction_counts_as_a_row() {
    let mut relay = relay(Some("outbox"));
    assert_eq!(take(&mut relay, &logical(true, "other", EVENT)), Step::Nothing);
    let found = record(take(&mut relay, &logical(true, "outbox", EVENT)));
    assert!(position(&found).ends_with(b"-00000002"));
}

#[test]
fn a_message_outside_the_transaction_is_none_and_counts_as_nothing() {
    let mut relay = relay(Some("outbox"));
    assert_eq!(take(&mut relay, &logical(false, "outbox", EVENT)), Step::Nothing);
    let found = record(take(&mut relay, &logical(true, "outbox", EVENT)));
    assert!(position(&found).ends_with(b"-00000001"));
}

#[test]
fn without_a_prefix_no_message_is_an_event() {
    assert_eq!(take(&mut relay(None), &logical(true, "outbox", EVENT)), Step::Nothing);
}

#[test]
fn a_message_may_be_passed_over_or_rejected_like_a_row() {
    let mut relay = relay(Some("outbox"));
    let skipped = logical(true, "outbox", r#"{"id": "skipped"}"#);
    assert_eq!(take(&mut relay, &skipped), Step::Skipped("skipped".to_owned()));
    let Step::Rejected(rejection) = take(&mut relay, &logical(true, "outbox", "no JSON")) else { panic!() };
    assert_eq!(rejection.reason, RejectionReason::InvalidMessage);
    assert!(
        rejection.detail.contains("0/63") && rejection.detail.contains("\"outbox\""),
        "{}",
        rejection.detail
    );
}

#[test]
fn a_message_is_sent_by_the_shard_that_its_key_hashes_to_and_by_no_other() {
    for count in 2..=5 {
        for shard in Shard::all(count) {
            let mut relay = relay_of(Some("outbox"), Some(shard));
            let sent = !matches!(take(&mut relay, &logical(true, "outbox", EVENT)), Step::Nothing);
            assert_eq!(sent, shard.has(Some(b"42")), "{shard:?}");
            // What has no key that could be read is where NULL is.
            let unreadable = take(&mut relay, &logical(true, "outbox", "no JSON"));
            assert_eq!(
                matches!(unreadable, Step::Rejected(_)),
                shard.index == 0,
                "{shard:?}: {unreadable:?}"
            );
            let keyless = r#"{"id": "2", "aggregate_type": "order", "payload": {}}"#;
            let keyless = take(&mut relay, &logical(true, "outbox", keyless));
            assert_eq!(keyless == Step::Nothing, shard.index != 0, "{shard:?}: {keyless:?}");
            // Positions are the transaction's, not the shard's.
            if let Step::Record(record) = keyless {
                assert!(position(&record).ends_with(b"-00000003"));
            }
        }
    }
}

#[test]
fn the_transaction_that_is_being_received_is_known_by_its_number() {
    let mut relay = relay(None);
    assert_eq!(relay.xid(), Some(XID));
    let end_lsn = Transaction::new(COMMIT, TIME).end_lsn();
    take(&mut relay, &Message::Commit(Commit { commit_lsn: COMMIT, end_lsn, commit_time: TIME }));
    assert_eq!(relay.xid(), None);
}
