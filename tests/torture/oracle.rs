//! What a consumer must find. Pure: what was committed, what lies in Kafka and what was acknowledged go in, in the order
//! in which each was seen; the verdict comes out.
//!
//! It compares identities, not numbers. Each committed event must be there, byte for byte; nothing else may be; first
//! occurrences of a key are in commit order; the header `position` grows; an event is readable before its commit is
//! acknowledged; and an event comes twice only around an interruption.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// An event's id, a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) u128);

/// A text or bytes, or their absence, in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) u64);

/// Topic, key, value and `event_type` of an event.
pub(crate) type Content = [Fingerprint; 4];

const CONTENT: [&str; 4] = ["topic", "key", "value", "event_type"];
const KEY: usize = 1;

/// An event whose transaction was committed.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) id: Id,
    pub(crate) key: Option<String>,
    /// Its place among the events of its key, in commit order.
    pub(crate) number: u32,
    pub(crate) content: Content,
    /// When that was known.
    pub(crate) at: Duration,
}

/// A record of Kafka.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Its header `id`; `Err` if there is none that can be read.
    pub(crate) id: Result<Id, String>,
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    pub(crate) content: Content,
    /// Its headers `source` and `position`; `None` if they are missing or cannot be read.
    pub(crate) position: Option<(Fingerprint, Position)>,
    /// When it was read.
    pub(crate) at: Duration,
}

/// The number of a topic in the configuration, and of a partition in it.
pub(crate) type Partition = (usize, i32);

/// The header `position`: timeline, commit LSN, number of the row in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) timeline: u32,
    pub(crate) commit: u64,
    pub(crate) row: u32,
}

/// A time in which events may come twice: an interruption, and what it takes to get over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Committed, and not in Kafka.
    Lost,
    /// In Kafka, and not committed.
    Invented,
    /// A first occurrence after one of its key that was committed later.
    Reordered,
    /// Other bytes than those that were committed.
    Changed,
    /// Acknowledged before it could be read.
    Early,
    /// Twice, without an interruption.
    Twice,
    /// The header `position` is missing, does not grow, or is another one the second time.
    Position,
    /// Its row was deleted, marked or dropped before it could be read.
    Untimely,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Lost,
        Self::Invented,
        Self::Reordered,
        Self::Changed,
        Self::Early,
        Self::Twice,
        Self::Position,
        Self::Untimely,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Invented => "invented",
            Self::Reordered => "reordered",
            Self::Changed => "changed",
            Self::Early => "early",
            Self::Twice => "twice",
            Self::Position => "position",
            Self::Untimely => "untimely",
        }
    }
}

/// One violation.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    /// Which event, and what is wrong with it.
    pub(crate) text: String,
    pub(crate) at: Duration,
    /// The event that was lost.
    pub(crate) event: Option<Id>,
}

/// What all of it came to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Committed events.
    pub(crate) committed: usize,
    /// Committed events that are in Kafka.
    pub(crate) delivered: usize,
    /// When each record that had come before came again.
    pub(crate) duplicates: Vec<Duration>,
    /// Rows that were deleted or marked, or were in partitions that were dropped.
    pub(crate) cleaned: usize,
    pub(crate) violations: Vec<Violation>,
}

impl Verdict {
    /// Violations of one kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.violations.iter().filter(|violation| violation.kind == kind).count()
    }

    /// The events that are not in Kafka, the oldest first.
    pub(crate) fn lost(&self) -> impl Iterator<Item = &Violation> {
        self.violations.iter().filter(|violation| violation.kind == Kind::Lost)
    }
}

/// Takes everything in as it is seen.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    committed: HashMap<Id, Committed>,
    first: HashMap<Id, First>,
    /// First occurrences in the order in which they were read: by offset within a partition.
    arrivals: Vec<Record>,
    /// The highest position of each partition and source.
    highest: HashMap<(Partition, u64), Position>,
    acknowledged: u64,
    cleaned: usize,
    duplicates: Vec<(Id, Duration)>,
    violations: Vec<Violation>,
    /// Rows may come by a query, without a position.
    without_position: bool,
}

#[derive(Debug)]
struct First {
    content: Content,
    position: Option<Position>,
}

impl Oracle {
    /// One for rows that have all come by the log, or not.
    pub(crate) fn of(by_the_log: bool) -> Self {
        Self { without_position: !by_the_log, ..Self::default() }
    }

    /// An event was committed. May be told after its record was.
    pub(crate) fn committed(&mut self, event: Committed) {
        self.committed.insert(event.id, event);
    }

    /// A record was read; those of a partition by ascending offset.
    pub(crate) fn record(&mut self, record: Record) {
        let id = match &record.id {
            Ok(id) => *id,
            Err(why) => {
                let text = format!("{}: {why}", place(&record));
                return self.violation(Kind::Invented, text, record.at);
            }
        };
        let position = record.position.map(|(_, position)| position);
        if let Some(first) = self.first.get(&id) {
            if first.content != record.content {
                let text = format!("{id} came again with {}", differing(&first.content, &record.content));
                self.violations.push(Violation { kind: Kind::Changed, text, at: record.at, event: None });
            }
            let by_query = self.without_position && (first.position.is_none() || position.is_none());
            if first.position != position && !by_query {
                let text = format!("{id} came again with another position: {position:?}");
                self.violations.push(Violation { kind: Kind::Position, text, at: record.at, event: None });
            }
            self.duplicates.push((id, record.at));
            return;
        }
        self.first.insert(id, First { content: record.content, position });
        match record.position {
            None if self.without_position => {}
            None => self.violation(Kind::Position, format!("{id} has no readable position"), record.at),
            Some((source, position)) => self.position(id, &record, source, position),
        }
        self.arrivals.push(record);
    }

    /// Whether event `id` was read.
    pub(crate) fn has(&self, id: Id) -> bool {
        self.first.contains_key(&id)
    }

    /// The slot had confirmed `lsn`, and since then everything that could be read was given to [`Oracle::record`].
    pub(crate) fn acknowledged(&mut self, lsn: u64) {
        self.acknowledged = self.acknowledged.max(lsn);
    }

    /// The rows `ids` were marked as published, and since then everything that could be read was given to [`Oracle::record`].
    pub(crate) fn published(&mut self, ids: &[Id], at: Duration) {
        for id in ids.iter().filter(|id| !self.first.contains_key(id)) {
            let text = format!("{id} is marked as published, and cannot be read");
            self.violations.push(Violation { kind: Kind::Early, text, at, event: None });
        }
    }

    /// The relay has deleted or marked the row of event `id`, or dropped its partition, and since then everything that could be
    /// read was given to [`Oracle::record`].
    pub(crate) fn cleaned(&mut self, id: Id, at: Duration) {
        self.cleaned += 1;
        if !self.first.contains_key(&id) {
            self.violation(Kind::Untimely, format!("the row of {id} is gone, and it cannot be read"), at);
        }
    }

    /// Everything was told: the verdict. Events may come twice in `windows`.
    pub(crate) fn verdict(mut self, windows: &[Window]) -> Verdict {
        let mut delivered = 0;
        let mut last_of_key: HashMap<String, (u32, Id, Partition)> = HashMap::new();
        for record in std::mem::take(&mut self.arrivals) {
            let Ok(id) = record.id else { continue };
            let Some(event) = self.committed.get(&id) else {
                let text = format!("{id} at {}", place(&record));
                self.violation(Kind::Invented, text, record.at);
                continue;
            };
            delivered += 1;
            if event.content != record.content {
                let text = format!("{id}: {}", differing(&event.content, &record.content));
                self.violations.push(Violation { kind: Kind::Changed, text, at: record.at, event: None });
            }
            let Some(key) = event.key.clone() else { continue };
            let last = last_of_key.insert(key.clone(), (event.number, id, record.partition));
            if let Some((number, before, partition)) = last
                && (number >= event.number || partition != record.partition)
            {
                let text = format!(
                    "{id}, number {} of key {key:?}, came after {before}, number {number}, at {}",
                    event.number,
                    place(&record)
                );
                self.violations.push(Violation { kind: Kind::Reordered, text, at: record.at, event: None });
                // Its successors are not wrong as well.
                last_of_key.insert(key, (number.max(event.number), before, record.partition));
            }
        }
        let mut lost: Vec<_> =
            self.committed.values().filter(|event| !self.first.contains_key(&event.id)).collect();
        lost.sort_by_key(|event| (event.at, event.id.0));
        let lost = lost.into_iter().map(|event| Violation {
            kind: Kind::Lost,
            text: format!("{}, number {} of key {:?}", event.id, event.number, event.key),
            at: event.at,
            event: Some(event.id),
        });
        let lost: Vec<_> = lost.collect();
        self.violations.extend(lost);

        let mut told = HashSet::new();
        for (id, at) in &self.duplicates {
            let excused = windows.iter().any(|window| (window.from..=window.to).contains(at));
            if !excused && told.insert(*id) {
                let text = format!("{id} came again although nothing was interrupted");
                self.violations.push(Violation { kind: Kind::Twice, text, at: *at, event: None });
            }
        }
        let duplicates = self.duplicates.iter().map(|(_, at)| *at).collect();
        let (committed, cleaned) = (self.committed.len(), self.cleaned);
        Verdict { committed, delivered, duplicates, cleaned, violations: self.violations }
    }

    /// Checks the position of a first occurrence.
    fn position(&mut self, id: Id, record: &Record, source: Fingerprint, position: Position) {
        // Without a key it may go to another partition the second time, and meet later events there.
        if record.content[KEY] != fingerprint(None) {
            let before = self.highest.insert((record.partition, source.0), position);
            if let Some(highest) = before.filter(|highest| *highest >= position) {
                let text = format!("{id} has {position:?} after {highest:?}, at {}", place(record));
                self.violation(Kind::Position, text, record.at);
                self.highest.insert((record.partition, source.0), highest);
            }
        }
        // PostgreSQL sends a transaction again unless its commit record lies before what was confirmed.
        if position.commit < self.acknowledged {
            let text = format!(
                "{id} became readable when the slot had confirmed {:X}, beyond its commit at {:X}",
                self.acknowledged, position.commit
            );
            self.violation(Kind::Early, text, record.at);
        }
    }

    fn violation(&mut self, kind: Kind, text: String, at: Duration) {
        self.violations.push(Violation { kind, text, at, event: None });
    }
}

/// Bytes, or their absence, in 64 bits.
pub(crate) fn fingerprint(bytes: Option<&[u8]>) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Fingerprint(hasher.finish())
}

fn differing(expected: &Content, found: &Content) -> String {
    let parts = CONTENT.iter().zip(expected.iter().zip(found));
    let parts: Vec<_> =
        parts.filter(|(_, (expected, found))| expected != found).map(|(name, _)| *name).collect();
    format!("another {}", parts.join(" and another "))
}

fn place(record: &Record) -> String {
    let (topic, partition) = record.partition;
    format!("topic {topic}, partition {partition}, offset {}", record.offset)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let part = |range| hex.get(range).unwrap_or_default();
        write!(f, "{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
    }
}

impl Id {
    /// Reads a UUID as PostgreSQL prints it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let id = u128::from_str_radix(&text.replace('-', ""), 16).map(Self);
        match id {
            Ok(id) if id.to_string() == text => Ok(id),
            _ => Err(format!("{text:?} is no id that a writer gave")),
        }
    }
}

impl Position {
    /// Reads `TTTTTTTT-CCCCCCCCCCCCCCCC-NNNNNNNN`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = |len| {
            parts.next().filter(|part| part.len() == len).and_then(|part| u64::from_str_radix(part, 16).ok())
        };
        let (timeline, commit, row) = (part(8)?, part(16)?, part(8)?);
        let position = Self { timeline: timeline.try_into().ok()?, commit, row: row.try_into().ok()? };
        parts.next().is_none().then_some(position)
    }
}
