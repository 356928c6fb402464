//! What was seen in a simulated world: what was committed, stored and acknowledged, in this order, for the oracle; what is
//! wrong in itself; and, if somebody wants to read it, a trace with virtual times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::oracle::{self, Content, Id, Kind, Oracle, Position, Verdict, Window, fingerprint};
use super::plan::Plan;
use crate::outbox::Record;

/// Sees everything. Shared by all parts of a world.
pub(super) struct Witness {
    start: Instant,
    testimony: Mutex<Testimony>,
}

#[derive(Default)]
struct Testimony {
    trace: Option<Vec<String>>,
    seen: Vec<Seen>,
    wrong: Vec<String>,
    /// Which event was stored, in which topic, by which session.
    stored: BTreeMap<(String, String), BTreeSet<u32>>,
}

enum Seen {
    Stored(oracle::Record),
    Acknowledged(u64),
}

impl Witness {
    /// One that looks from now on.
    pub(super) fn new(traced: bool) -> Self {
        let testimony = Testimony { trace: traced.then(Vec::new), ..Testimony::default() };
        Self { start: Instant::now(), testimony: Mutex::new(testimony) }
    }

    /// How long the world has existed.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// That moment of the world.
    pub(super) fn at(&self, elapsed: Duration) -> Instant {
        self.start + elapsed
    }

    /// Notes a line of the trace.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let elapsed = self.elapsed();
        if let Some(trace) = &mut self.testimony().trace {
            trace.push(format!("{:>9.3} s  {}", elapsed.as_secs_f64(), line()));
        }
    }

    /// Something happened that must not.
    pub(super) fn wrong(&self, what: &str) {
        let at = self.elapsed();
        self.note(|| format!("!! {what}"));
        self.testimony().wrong.push(format!("at {:.3} s: {what}", at.as_secs_f64()));
    }

    /// Whether something is wrong already.
    pub(super) fn is_alarmed(&self) -> bool {
        !self.testimony().wrong.is_empty()
    }

    /// `record`, handed on by session number `session`, is stored at `offset` of `partition` of the plan's `topic`.
    pub(super) fn stored(
        &self,
        record: &Record,
        session: u32,
        (topic, partition): (usize, i32),
        offset: i64,
    ) {
        let at = self.elapsed();
        let mut testimony = self.testimony();
        let name = record.topic.as_str().to_owned();
        if !testimony.stored.entry((record.event_id(), name)).or_default().insert(session) {
            let id = record.event_id();
            testimony.wrong.push(format!("session {session} sent event {id} twice"));
        }
        testimony.seen.push(Seen::Stored(oracle::Record {
            id: Id::parse(&record.event_id()),
            partition: (topic, partition),
            offset,
            content: content(record),
            position: position(record),
            at,
        }));
    }

    /// The slot has confirmed everything before `lsn`.
    pub(super) fn acknowledged(&self, lsn: u64) {
        self.testimony().seen.push(Seen::Acknowledged(lsn));
    }

    /// The trace, if there is one.
    pub(super) fn trace(&self) -> Vec<String> {
        self.testimony().trace.take().unwrap_or_default()
    }

    /// What is wrong, in all; `passed_over` are the ids that the relay was told to pass over.
    pub(super) fn verdict(&self, plan: &Plan, passed_over: &[String]) -> (Verdict, Vec<String>) {
        let mut testimony = self.testimony();
        let mut oracle = Oracle::default();
        for event in plan.expected(passed_over) {
            oracle.committed(event);
        }
        for seen in testimony.seen.drain(..) {
            match seen {
                Seen::Stored(record) => oracle.record(record),
                Seen::Acknowledged(lsn) => oracle.acknowledged(lsn),
            }
        }
        // Which session sent what is known here: that no session sends anything twice is more than windows can tell.
        let verdict = oracle.verdict(&[Window { from: Duration::ZERO, to: Duration::MAX }]);
        let mut wrong = std::mem::take(&mut testimony.wrong);
        // A world that has ended early had no time to bring everything.
        let ended_early = !wrong.is_empty();
        for kind in Kind::ALL.into_iter().filter(|kind| !(ended_early && *kind == Kind::Lost)) {
            let of_kind = verdict.violations.iter().filter(|violation| violation.kind == kind);
            wrong.extend(of_kind.map(|violation| {
                format!("{} at {:.3} s: {}", kind.as_str(), violation.at.as_secs_f64(), violation.text)
            }));
        }
        (verdict, wrong)
    }

    fn testimony(&self) -> MutexGuard<'_, Testimony> {
        self.testimony.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn content(record: &Record) -> Content {
    let event_type = record.headers.iter().find(|header| &*header.name == "event_type");
    let event_type = event_type.and_then(|header| header.value.as_deref());
    let topic = Some(record.topic.as_str().as_bytes());
    [topic, record.key.as_deref(), record.value.as_deref(), event_type].map(fingerprint)
}

fn position(record: &Record) -> Option<(oracle::Fingerprint, Position)> {
    let header = |name: &str| record.headers.iter().find(|header| &*header.name == name)?.value.as_deref();
    let position = std::str::from_utf8(header("position")?).ok().and_then(Position::parse)?;
    Some((fingerprint(header("source")), position))
}
