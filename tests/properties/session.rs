//! A model server, a model Kafka, and sessions of a relay between them.
//!
//! The server keeps all transactions and the position it was told; a session begins with every transaction whose commit
//! record does not lie before that position. Kafka keeps what was stored. After every step the relay is compared with
//! what is known of the script.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use outbox_relay::ack::ConfirmedLsn;
use outbox_relay::in_flight;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{Record, RejectionReason, TableError, Token, Topic};
use outbox_relay::relay::{Error, Relay, Step, Tally};

use crate::ack::{Model, agree};
use crate::script::{self, Expected, Place, Script};
use crate::wire::stream::{Sender, keepalive};
use crate::wire::{Message, xlog_data};

pub(crate) struct World<'a> {
    script: &'a Script,
    /// What the slot was told last.
    confirmed_flush: Lsn,
    /// Events that Kafka has.
    stored: BTreeSet<Place>,
    /// Records as they were first made, to be compared when the row comes again.
    made: BTreeMap<Place, Record>,
    session: Session,
}

struct Session {
    relay: Relay,
    sender: Sender,
    /// The next transaction to be sent.
    next: usize,
    /// What is left of the transaction that is being sent.
    sending: VecDeque<Message>,
    /// Changes sent of that transaction.
    changes: usize,
    model: Model<Place>,
    in_flight: Vec<Sent>,
    rejected: usize,
    tally: Tally,
    position: ConfirmedLsn,
    last_header: Vec<u8>,
}

struct Sent {
    token: Token,
    place: Place,
    size: usize,
    /// By so much its dead letter, which took its place, is larger.
    grown: usize,
}

impl Session {
    fn new(script: &Script, confirmed_flush: Lsn) -> Self {
        let relay = script.relay(confirmed_flush);
        let next = script
            .transactions
            .partition_point(|committed| committed.transaction.commit_lsn < confirmed_flush);
        Self {
            position: relay.position(),
            relay,
            sender: Sender::default(),
            next,
            sending: VecDeque::new(),
            changes: 0,
            model: Model { floor: confirmed_flush.as_u64(), entries: Vec::new() },
            in_flight: Vec::new(),
            rejected: 0,
            tally: Tally::default(),
            last_header: Vec::new(),
        }
    }

    /// The transaction that is being sent.
    fn current(&self) -> usize {
        self.next - 1
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(script: &'a Script) -> Self {
        let confirmed_flush = Lsn::new(script::FIRST);
        let mut world = Self {
            script,
            confirmed_flush,
            stored: BTreeSet::new(),
            made: BTreeMap::new(),
            session: Session::new(script, confirmed_flush),
        };
        world.check();
        world
    }

    /// The relay reads one body, if it has room. False if there is nothing to read.
    pub(crate) fn read(&mut self) -> bool {
        let session = &mut self.session;
        if session.sending.is_empty() {
            let Some(committed) = self.script.transactions.get(session.next) else {
                return false;
            };
            session.sending = session.sender.messages(&committed.transaction).into();
            session.next += 1;
            session.changes = 0;
        }
        if !session.relay.has_room() {
            assert!(session.relay.in_flight().records() > 0, "no room, and nothing that could make some");
            return false;
        }
        if let Some(message) = session.sending.pop_front() {
            self.take_in(&message);
        }
        self.check();
        true
    }

    fn take_in(&mut self, message: &Message) {
        let script = self.script;
        let committed = &script.transactions[self.session.current()];
        let body = xlog_data(Lsn::ZERO, committed.transaction.commit_time, message);
        let session = &mut self.session;
        let mut step = session.relay.wal(body.clone());
        if let Err(Error::Table(TableError::Unknown { id, .. })) = &step {
            assert_eq!(*id, script::ELSEWHERE);
            session.relay.elsewhere(*id);
            step = session.relay.wal(body);
        }
        let step = step.unwrap();
        match message {
            Message::Begin(begin) => session.model.begin(begin.commit_time),
            Message::Commit(commit) => session.model.commit(commit.end_lsn.as_u64()),
            Message::Insert(..) | Message::Update(..) | Message::Delete(..) | Message::Truncate(_) => {
                let change = session.changes;
                session.changes += 1;
                let place = Place { transaction: session.current(), change };
                return self.changed(place, &committed.changes[change], step);
            }
            Message::Relation(_) | Message::Type(_) | Message::Origin(_) | Message::Logical(_) => {}
        }
        assert_eq!(step, Step::Nothing, "{message:?}");
    }

    /// A change of a table gave `step`.
    fn changed(&mut self, place: Place, expected: &Expected, step: Step) {
        let script = self.script;
        let session = &mut self.session;
        match (expected, step) {
            (Expected::Event(event), Step::Record(record)) => {
                event.assert_is(&record);
                let header = record.headers[2].value.clone().unwrap().to_vec();
                assert!(header > session.last_header, "the positions do not grow");
                session.last_header = header;
                let known = session.in_flight.iter().any(|sent| sent.token == record.token);
                assert!(!known, "{:?} is in flight already", record.token);
                session.in_flight.push(Sent { token: record.token, place, size: event.size(), grown: 0 });
                session.model.open().unwrap().push(place);
                let first = self.made.entry(place).or_insert_with(|| record.clone());
                first.token = record.token;
                assert_eq!(*first, record, "the same row gave another record");
            }
            (Expected::Rejected(reason), Step::Rejected(rejection)) => {
                assert!(!script.dead_letters);
                assert_eq!(rejection.reason, *reason);
                session.rejected += 1;
                session.model.open().unwrap().push(place);
            }
            (Expected::Rejected(reason), Step::DeadLetter(letter, rejection)) => {
                assert!(script.dead_letters && letter.is_dead_letter());
                assert_eq!(rejection.reason, *reason);
                assert_eq!(letter.topic.as_str(), "outbox.dead-letter");
                let header = letter.headers[2].value.clone().unwrap().to_vec();
                assert!(header > session.last_header, "the positions do not grow");
                session.last_header = header;
                session.in_flight.push(Sent { token: letter.token, place, size: letter.size(), grown: 0 });
                session.model.open().unwrap().push(place);
            }
            (Expected::Skipped, Step::Skipped(id)) => assert_eq!(id, script::SKIPPED),
            (Expected::Update, Step::Nothing) => session.tally.updates += 1,
            (Expected::Delete, Step::Nothing) => session.tally.deletes += 1,
            (Expected::Truncate, Step::Nothing) => session.tally.truncates += 1,
            (Expected::Nothing, Step::Nothing) => {}
            (expected, step) => panic!("expected {expected:?}, got {step:?}"),
        }
    }

    /// The server sends a keepalive. Inside a transaction it may say anything; outside, that it has sent everything
    /// before a point that lies `thousandths` of the way to the next commit, or behind that.
    pub(crate) fn keepalive(&mut self, thousandths: u64, reply_requested: bool) {
        let session = &mut self.session;
        let inside = session.model.is_open();
        // A transaction of which nothing was sent yet lies before the relay all the same.
        let next = if inside || session.sending.is_empty() { session.next } else { session.current() };
        let next = self.script.transactions.get(next);
        let limit = next.map_or(self.script.end(), |committed| committed.transaction.commit_lsn).as_u64();
        let limit = if inside { limit + 1_000 } else { limit };
        let wal_end = (limit * thousandths).div_euclid(1000);
        let step = session.relay.wal(keepalive(Lsn::new(wal_end), reply_requested));
        let Ok(Step::Keepalive(seen)) = step else { panic!("a keepalive gave {step:?}") };
        assert_eq!((seen.wal_end, seen.reply_requested), (Lsn::new(wal_end), reply_requested));
        session.model.keepalive(wal_end);
        self.check();
    }

    /// Kafka stores one of the records in flight and says so. Stuck ones only if `stuck`.
    pub(crate) fn deliver(&mut self, choice: usize, stuck: bool) -> bool {
        let session = &mut self.session;
        let script = self.script;
        let free = |sent: &Sent| stuck || !script.is_stuck(sent.place);
        let candidates: Vec<usize> =
            (0..session.in_flight.len()).filter(|index| free(&session.in_flight[*index])).collect();
        if candidates.is_empty() {
            return false;
        }
        let sent = session.in_flight.swap_remove(candidates[choice % candidates.len()]);
        self.stored.insert(sent.place);
        let known = session.relay.confirmed(sent.token).unwrap();
        assert_eq!(known.size, sent.size);
        assert_eq!(known.committed, script.transactions[sent.place.transaction].transaction.commit_time);
        assert_eq!(session.relay.confirmed(sent.token), None, "confirmed twice");
        session.model.unconfirmed().for_each(|records| records.retain(|place| *place != sent.place));
        self.check();
        true
    }

    /// Kafka refuses one of the records in flight, and its dead letter goes out in its place.
    pub(crate) fn bury(&mut self, choice: usize) {
        let session = &mut self.session;
        let not_buried = |sent: &&mut Sent| sent.grown == 0 && self.made.contains_key(&sent.place);
        let candidates: Vec<&mut Sent> = session.in_flight.iter_mut().filter(not_buried).collect();
        let count = candidates.len().max(1);
        let Some(sent) = candidates.into_iter().nth(choice % count) else { return };
        let record = self.made[&sent.place].clone();
        let before = session.relay.sent(sent.token).unwrap().clone();
        assert_eq!((&before.topic, before.size), (&record.topic, record.size()));
        let topic = Topic::new(b"outbox.dead-letter").unwrap();
        let letter = record.into_dead_letter(&topic, RejectionReason::Refused);
        session.relay.replaced(&letter);
        sent.grown = letter.size() - before.size;
        sent.size = letter.size();
        let after = in_flight::Sent { topic, size: letter.size(), is_letter: true, ..before };
        assert_eq!(session.relay.sent(sent.token), Some(&after));
        self.check();
    }

    /// The server is told the position.
    pub(crate) fn status(&mut self) {
        let told = self.session.relay.position().lsn();
        assert!(told >= self.confirmed_flush, "the slot would move back");
        self.confirmed_flush = told;
    }

    /// The session breaks and another begins. Of the records in flight Kafka has stored those for which `stored` says
    /// so, and nobody heard of it.
    pub(crate) fn restart(&mut self, stored: u64) {
        for (index, sent) in self.session.in_flight.iter().enumerate() {
            if stored >> (index % 64) & 1 == 1 && !self.script.is_stuck(sent.place) {
                self.stored.insert(sent.place);
            }
        }
        self.session = Session::new(self.script, self.confirmed_flush);
        self.check();
    }

    /// Everything is sent and delivered; then the position must be at the end, unless an event was rejected.
    pub(crate) fn finish(&mut self, mut choice: usize) {
        loop {
            let read = self.read();
            choice = choice.wrapping_mul(31).wrapping_add(7);
            let delivered = (!read || choice.is_multiple_of(3)) && self.deliver(choice, true);
            if !read && !delivered {
                break;
            }
        }
        self.keepalive(1000, true);
        let (events, rejected) = self.script.events_and_rejected();
        assert_eq!(self.stored, events);
        let session = &self.session;
        assert_eq!((session.relay.in_flight().records(), session.relay.in_flight().bytes()), (0, 0));
        match rejected.first() {
            None => {
                assert_eq!(session.relay.position().lsn(), self.script.end());
                assert!(session.relay.is_settled());
            }
            Some(place) => {
                let first = &self.script.transactions[place.transaction].transaction;
                assert!(session.relay.position().lsn() <= first.commit_lsn);
                assert!(!session.relay.is_settled());
            }
        }
    }

    fn check(&mut self) {
        let session = &mut self.session;
        let relay = &session.relay;
        agree(relay.ack(), &session.model);
        assert_eq!(relay.position(), relay.ack().position());
        assert!(relay.position() >= session.position, "the position moved back");
        session.position = relay.position();
        assert_eq!(relay.tally(), session.tally);
        assert_eq!(relay.is_settled(), relay.ack().queue_len() == 0 && !session.model.is_open());

        // Never past an unconfirmed record: what the server would not send again, Kafka has.
        let position = relay.position().lsn();
        for (index, committed) in self.script.transactions.iter().enumerate() {
            if committed.transaction.commit_lsn < position {
                assert!(
                    position >= committed.transaction.end_lsn(),
                    "{position} lies inside a commit record"
                );
                let has = |change: &usize| match committed.changes[*change] {
                    Expected::Event(_) | Expected::Rejected(_) => {
                        self.stored.contains(&Place { transaction: index, change: *change })
                    }
                    _ => true,
                };
                let lost = (0..committed.changes.len()).find(|change| !has(change));
                assert_eq!(lost, None, "transaction {index} is acknowledged without its change");
            }
        }

        let bytes: usize = session.in_flight.iter().map(|sent| sent.size).sum();
        let grown: usize = session.in_flight.iter().map(|sent| sent.grown).sum();
        let largest = self.script.largest();
        assert_eq!(relay.in_flight().records(), session.in_flight.len());
        assert_eq!(relay.in_flight().bytes(), bytes);
        assert_eq!(relay.has_room(), bytes < self.script.max_in_flight);
        assert!(bytes - grown <= self.script.max_in_flight + largest, "{bytes} bytes are in flight");
        assert!(relay.ack().queue_len() <= session.in_flight.len() + session.rejected);
    }
}
