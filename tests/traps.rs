//! The traps that others fell into: ways to lose events by acknowledging wrongly, each tried on the heart.
//!
//! `docs/traps.md` lists all of them by number, with who fell into each; those that need a server, or that a test beside
//! the code has covered before, are tried where that list says.
#![cfg(test)]

mod wire;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outbox_relay::feedback::Feedback;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{Record, TableError, Topic};
use outbox_relay::relay::{Error, Relay, Start, Step};
use outbox_relay::wal::pgoutput::{Begin, Commit, Relation};
use outbox_relay::wal::{PgTimestamp, Timelines, status_update};

use wire::stream::{COMMIT_RECORD, keepalive, table};
use wire::{Message, Row, text, xlog_data};

/// What the slot has confirmed when a session begins.
const SLOT: u64 = 50;

const TIME: PgTimestamp = PgTimestamp::from_micros(1_000_000);

/// A session, and what came of it.
struct Session(Relay);

impl Session {
    fn start(dead_letters: bool) -> Self {
        Self(Relay::new(Start {
            spec: wire::spec(&["public"]),
            outboxes: Vec::new(),
            source: Some("7000000000000000001/outbox_relay".to_owned()),
            timelines: Timelines::only(1),
            confirmed_flush: Lsn::new(SLOT),
            shard: None,
            max_in_flight: 1 << 20,
            skip: HashSet::from([Bytes::from_static(b"skipped")]),
            dead_letters: dead_letters.then(|| Topic::new(b"outbox.dead-letter").unwrap()),
        }))
    }

    /// The server sends `message`; its row lies at `at`, for what that is worth.
    fn take(&mut self, at: u64, message: &Message) -> Result<Step, Error> {
        self.0.wal(xlog_data(Lsn::new(at), TIME, message))
    }

    fn begin(&mut self, commit_lsn: u64) {
        let begin = Begin { commit_lsn: Lsn::new(commit_lsn), commit_time: TIME, xid: 1 };
        assert_eq!(self.take(0, &Message::Begin(begin)), Ok(Step::Nothing));
        assert_eq!(self.take(0, &Message::Relation(outbox())), Ok(Step::Nothing));
    }

    fn commit(&mut self, commit_lsn: u64) {
        let end_lsn = Lsn::new(end(commit_lsn));
        let commit = Commit { commit_lsn: Lsn::new(commit_lsn), end_lsn, commit_time: TIME };
        assert_eq!(self.take(commit_lsn, &Message::Commit(commit)), Ok(Step::Nothing));
    }

    fn insert(&mut self, id: &str) -> Record {
        self.insert_at(0, id)
    }

    fn insert_at(&mut self, at: u64, id: &str) -> Record {
        match self.take(at, &Message::Insert(outbox().id, row(id, "order"))) {
            Ok(Step::Record(record)) => record,
            other => panic!("{other:?}"),
        }
    }

    /// A whole transaction.
    fn transaction(&mut self, commit_lsn: u64, ids: &[&str]) -> Vec<Record> {
        self.begin(commit_lsn);
        let records = ids.iter().map(|id| self.insert(id)).collect();
        self.commit(commit_lsn);
        records
    }

    fn keepalive(&mut self, wal_end: u64) {
        assert!(matches!(self.0.wal(keepalive(Lsn::new(wal_end), true)), Ok(Step::Keepalive(_))));
    }

    fn stored(&mut self, record: &Record) {
        assert!(self.0.confirmed(record.token).is_some());
    }

    /// What PostgreSQL would be told.
    fn position(&self) -> u64 {
        let update = status_update(self.0.position(), TIME, false);
        let position = |from: usize| u64::from_be_bytes(update[from..from + 8].try_into().unwrap());
        assert_eq!((position(1), position(1)), (position(9), position(17)), "written, flushed, applied");
        position(1)
    }
}

fn end(commit_lsn: u64) -> u64 {
    commit_lsn + COMMIT_RECORD
}

fn outbox() -> Relation {
    let columns =
        [("id", 25), ("aggregate_type", 25), ("aggregate_id", 25), ("event_type", 25), ("payload", 25)];
    table(10, "public", "outbox", &columns)
}

fn elsewhere() -> Relation {
    table(11, "public", "orders", &[("id", 25)])
}

fn row(id: &str, aggregate_type: &str) -> Row {
    let words = [id, aggregate_type, "4711", "Placed", "{}"];
    words.into_iter().map(|word| text(word.to_owned())).collect()
}

fn header(record: &Record, name: &str) -> Bytes {
    let found = record.headers.iter().find(|header| header.name.as_ref() == name);
    found.unwrap().value.clone().unwrap()
}

/// Trap 4.1: DeltaForge acknowledges an event as soon as it lies in a queue in memory.
#[test]
fn what_is_handed_to_kafka_is_not_acknowledged_yet() {
    let mut session = Session::start(false);
    let first = session.transaction(100, &["a"]);
    let second = session.transaction(200, &["b"]);
    session.begin(300);
    assert_eq!(session.position(), SLOT);
    session.stored(&second[0]);
    assert_eq!(session.position(), SLOT);
    session.stored(&first[0]);
    assert_eq!(session.position(), end(200));
}

/// Trap 4.2: eventuate-cdc, told that one send is complete, acknowledges everything that it has received by then.
#[test]
fn a_delivery_acknowledges_its_own_transaction_and_not_what_was_received_since() {
    let mut session = Session::start(false);
    let first = session.transaction(100, &["a"]);
    let second = session.transaction(200, &["b"]);
    session.keepalive(900);
    session.stored(&first[0]);
    assert_eq!(session.position(), end(100));
    session.stored(&second[0]);
    assert_eq!(session.position(), 900);
}

/// Trap 4.3: go-pq-cdc kept what it had received and what was confirmed in one variable, and a keepalive overwrote it. Here
/// they are two types (`ack::ConfirmedLsn` has the proof that none can be made of the other).
#[test]
fn a_keepalive_tells_what_was_received_and_not_what_is_stored() {
    let mut session = Session::start(false);
    let records = session.transaction(100, &["a"]);
    session.keepalive(900);
    assert_eq!((session.position(), session.0.ack().received()), (SLOT, Lsn::new(900)));
    session.stored(&records[0]);
    assert_eq!(session.position(), 900);
}

/// Trap 4.4: an idle slot must follow the keepalives (supabase/etl once never let it), and no other slot may (readyset did
/// with events open).
#[test]
fn a_keepalive_moves_the_position_only_while_nothing_at_all_is_open() {
    const FAR: u64 = 900;
    /// How a session comes into a state, and where its slot may stand then.
    type State = (&'static str, fn(&mut Session), u64);
    let states: [State; 10] = [
        ("nothing was received", |_| {}, FAR),
        (
            "everything is stored",
            |session| {
                let records = session.transaction(100, &["a", "b"]);
                records.iter().for_each(|record| session.stored(record));
            },
            FAR,
        ),
        ("inside a transaction without a record", |session| session.begin(100), SLOT),
        (
            "inside a transaction of which all is stored so far",
            |session| {
                session.begin(100);
                let record = session.insert("a");
                session.stored(&record);
            },
            SLOT,
        ),
        (
            "a transaction of which one record is not stored",
            |session| {
                let records = session.transaction(100, &["a", "b"]);
                session.stored(&records[1]);
            },
            SLOT,
        ),
        (
            "an earlier transaction is not stored",
            |session| {
                session.transaction(100, &["a"]);
                session.transaction(200, &[]);
            },
            SLOT,
        ),
        (
            "a later transaction is not stored",
            |session| {
                session.transaction(100, &[]);
                session.transaction(200, &["a"]);
            },
            end(100),
        ),
        (
            "inside a transaction, and an earlier one is not stored",
            |session| {
                session.transaction(100, &["a"]);
                session.begin(200);
            },
            SLOT,
        ),
        (
            "an event is rejected",
            |session| {
                session.begin(100);
                let step = session.take(0, &Message::Insert(outbox().id, row("a", "no topic")));
                assert!(matches!(step, Ok(Step::Rejected(_))), "{step:?}");
                session.commit(100);
            },
            SLOT,
        ),
        (
            "a row waits for its table to be looked up",
            |session| {
                session.begin(100);
                session.take(0, &Message::Relation(elsewhere())).unwrap();
                let step = session.take(0, &Message::Insert(elsewhere().id, vec![text("1")]));
                assert!(matches!(step, Err(Error::Table(TableError::Unknown { .. }))), "{step:?}");
            },
            SLOT,
        ),
    ];
    for (name, come_into, expected) in states {
        let mut session = Session::start(false);
        come_into(&mut session);
        session.keepalive(FAR);
        assert_eq!(session.position(), expected, "{name}");
    }
}

/// Trap 4.5: go-pq-cdc-kafka drops a batch that failed, and acknowledges past it with the next one that succeeds.
#[test]
fn an_event_that_failed_stays_open_whatever_succeeds_after_it() {
    let mut session = Session::start(true);
    // A failed report confirms nothing, so nothing is what happens to "a".
    let failed = session.transaction(100, &["a", "b"]);
    session.stored(&failed[1]);
    for commit_lsn in [200, 300] {
        let records = session.transaction(commit_lsn, &["c"]);
        session.stored(&records[0]);
        session.keepalive(end(commit_lsn) + 1);
        assert_eq!(session.position(), SLOT);
    }

    // One that Kafka will never take: its dead letter stands in for it.
    let mut session = Session::start(true);
    session.begin(100);
    let step = session.take(0, &Message::Insert(outbox().id, row("a", "no topic")));
    let Ok(Step::DeadLetter(letter, _)) = step else { panic!("{step:?}") };
    session.commit(100);
    let records = session.transaction(200, &["b"]);
    session.stored(&records[0]);
    assert_eq!(session.position(), SLOT);
    session.stored(&letter);
    assert_eq!(session.position(), end(200));
}

/// Trap 4.6: go-pq-cdc-kafka (#21) acknowledged rows that it filtered out while earlier rows were on their way.
#[test]
fn rows_that_are_passed_over_acknowledge_nothing_before_them() {
    let mut session = Session::start(false);
    session.0.elsewhere(elsewhere().id);
    let first = session.transaction(100, &["a"]);
    session.begin(200);
    session.take(0, &Message::Relation(elsewhere())).unwrap();
    let passed_over = session.take(0, &Message::Insert(elsewhere().id, vec![text("1")]));
    assert_eq!(passed_over, Ok(Step::Nothing));
    session.commit(200);
    session.begin(300);
    let skipped = session.take(0, &Message::Insert(outbox().id, row("skipped", "order")));
    assert_eq!(skipped, Ok(Step::Skipped("skipped".to_owned())));
    session.commit(300);
    assert_eq!(session.position(), SLOT);
    session.stored(&first[0]);
    assert_eq!(session.position(), end(300));
}

/// Trap 4.7: Debezium (DBZ-2338) took the positions of rows to grow. Only those of commits do: a transaction that was
/// written earlier may be committed later.
#[test]
fn a_row_may_lie_before_rows_that_came_earlier() {
    let mut session = Session::start(false);
    session.begin(300);
    let mut records = vec![session.insert_at(250, "a"), session.insert_at(280, "b")];
    session.commit(300);
    session.begin(400);
    records.extend([session.insert_at(60, "c"), session.insert_at(270, "d")]);
    session.commit(400);
    assert!(records.is_sorted_by(|one, next| header(one, "position") < header(next, "position")));
    session.stored(&records[2]);
    session.stored(&records[3]);
    assert_eq!(session.position(), SLOT);
    session.stored(&records[0]);
    session.stored(&records[1]);
    assert_eq!(session.position(), end(400));
}

/// Trap 4.8: Debezium (DBZ-5915, DBZ-6204, dbz#76) took a position for a name. The rows of one COPY share theirs, and from
/// PostgreSQL 17 on a commit may end where the next transaction's first row lies.
#[test]
fn rows_that_share_a_position_are_different_events() {
    let mut session = Session::start(false);
    session.begin(100);
    let mut records =
        vec![session.insert_at(90, "a"), session.insert_at(90, "b"), session.insert_at(90, "c")];
    session.commit(100);
    session.begin(200);
    records.push(session.insert_at(end(100), "d"));
    session.commit(200);
    let positions: HashSet<_> = records.iter().map(|record| header(record, "position")).collect();
    assert_eq!(positions.len(), 4);
    records[..3].iter().for_each(|record| session.stored(record));
    assert_eq!(session.position(), end(100));
}

/// Trap 4.9: Debezium (dbz#2004, taken back in dbz#2058) dropped what it held for duplicates after a restart inside a
/// transaction, by position, and events with them.
#[test]
fn after_an_interruption_a_transaction_comes_again_as_it_was_and_whole() {
    let ids = ["a", "b", "c"];
    let mut session = Session::start(false);
    let before = session.transaction(100, &ids);
    session.stored(&before[0]);
    session.stored(&before[2]);
    assert_eq!(session.position(), SLOT);

    let mut session = Session::start(false);
    let after = session.transaction(100, &ids);
    assert_eq!(after, before);
    after.iter().for_each(|record| session.stored(record));
    // Also what lies before everything that is confirmed: the server knows why it sends it.
    let earlier = session.transaction(40, &["d"]);
    assert_eq!((earlier.len(), session.position()), (1, end(100)));
}

/// Trap 4.10: Debezium once acknowledged inside a transaction, and with it the rows that were still to come.
#[test]
fn a_transaction_counts_when_it_is_whole() {
    let mut session = Session::start(false);
    session.begin(100);
    assert_eq!(session.position(), SLOT);
    let first = session.insert("a");
    session.stored(&first);
    assert_eq!(session.position(), SLOT);
    let second = session.insert("b");
    session.commit(100);
    assert_eq!(session.position(), SLOT);
    session.stored(&second);
    assert_eq!(session.position(), end(100));
}

/// Trap 4.12: Debezium (dbz#1489) and others reported positions that went back, as a server's first keepalives do.
#[test]
fn the_position_never_goes_back() {
    let mut session = Session::start(false);
    let mut told = vec![session.position()];
    for wal_end in [10, 60, 55] {
        session.keepalive(wal_end);
        told.push(session.position());
    }
    let records = session.transaction(10, &["a"]);
    told.push(session.position());
    session.stored(&records[0]);
    told.push(session.position());
    assert_eq!(told, [SLOT, SLOT, 60, 60, 60, 60]);
}

/// Trap 4.15: sequin had nothing to answer during the first huge transaction, because there was no last commit yet: the
/// server gave up on it, and sent the transaction again for ever.
#[test]
fn there_is_an_answer_before_the_first_commit() {
    let start = Instant::now();
    let mut feedback = Feedback::new(start, Duration::from_secs(60));
    let mut session = Session::start(false);
    session.begin(1_000_000);
    for n in 0..1_000 {
        let record = session.insert(&n.to_string());
        session.stored(&record);
    }
    feedback.sent(start, session.0.position());
    session.keepalive(999_999);
    feedback.request();
    assert_eq!(feedback.due(session.0.position()), start);
    assert_eq!(session.position(), SLOT);
}
