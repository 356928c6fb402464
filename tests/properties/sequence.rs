//! Messages in an order that the protocol does not have: refused, whatever comes before and after them.

use outbox_relay::lsn::Lsn;
use outbox_relay::relay::Error;
use outbox_relay::wal::PgTimestamp;
use outbox_relay::wal::pgoutput::{Begin, Commit};

use crate::fuzz;
use crate::wire::stream::{Transaction, table};
use crate::wire::{Message, Old, text, xlog_data};

const TIME: PgTimestamp = PgTimestamp::from_micros(0);

fn begin(commit_lsn: u64) -> Message {
    Message::Begin(Begin { commit_lsn: Lsn::new(commit_lsn), commit_time: TIME, xid: 1 })
}

fn commit(commit_lsn: u64) -> Message {
    let end_lsn = Transaction::new(Lsn::new(commit_lsn), TIME).end_lsn();
    Message::Commit(Commit { commit_lsn: Lsn::new(commit_lsn), end_lsn, commit_time: TIME })
}

/// Takes in `messages`, of which the last must be refused; its words, and the position in the end.
fn refused(messages: &[Message]) -> (&'static str, u64) {
    let mut relay = fuzz::relay(Lsn::new(50));
    let (last, before) = messages.split_last().unwrap();
    for message in before {
        assert!(relay.wal(xlog_data(Lsn::ZERO, TIME, message)).is_ok(), "{message:?}");
    }
    match relay.wal(xlog_data(Lsn::ZERO, TIME, last)) {
        Err(Error::Sequence(words)) => (words, relay.position().lsn().as_u64()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_is_of_the_transaction_that_began() {
    assert_eq!(refused(&[commit(100)]), ("Commit outside a transaction", 50));
    assert_eq!(refused(&[begin(100), commit(100), commit(100)]), ("Commit outside a transaction", 148));
    let of_another = "Commit of another transaction than the one that began";
    assert_eq!(refused(&[begin(100), commit(200)]), (of_another, 50));
}

#[test]
fn transactions_do_not_nest() {
    assert_eq!(refused(&[begin(100), begin(200)]), ("Begin inside a transaction", 50));
}

#[test]
fn a_row_is_of_a_transaction() {
    let outbox = table(10, "public", "outbox", &[("id", 25)]);
    let row = || vec![text("1")];
    for message in [
        Message::Insert(outbox.id, row()),
        Message::Update(outbox.id, None, row()),
        Message::Delete(outbox.id, Old::Full(row())),
    ] {
        assert_eq!(refused(std::slice::from_ref(&message)), ("a row outside a transaction", 50));
        assert_eq!(refused(&[begin(100), commit(100), message]), ("a row outside a transaction", 148));
    }
}
