//! The pure parts of the torture test, tried: the oracle finds each violation, and a seed gives the same run again.
#![cfg(test)]
#![expect(dead_code, reason = "what only the run itself needs is not tried here")]

#[path = "torture/dice.rs"]
mod dice;
#[path = "torture/oracle.rs"]
mod oracle;
#[path = "torture/plan.rs"]
mod plan;
#[path = "torture/schedule.rs"]
mod schedule;

use std::collections::HashSet;
use std::time::Duration;

use dice::Dice;
use oracle::{
    Committed, Content, Fingerprint, Id, Kind, Oracle, Position, Record, Verdict, Window, fingerprint,
};
use plan::{Plan, Step, Transaction};
use schedule::{Fault, Schedule};

/// Event `n` of key "k", as it was committed.
fn committed(n: u32) -> Committed {
    let key = Some("k".to_owned());
    Committed { id: Id(n.into()), key, number: n, content: content("v"), at: at(n) }
}

/// The same as it lies in Kafka at `offset`.
fn record(n: u32, offset: i64) -> Record {
    Record {
        id: Ok(Id(n.into())),
        partition: (0, 0),
        offset,
        content: content("v"),
        position: Some((Fingerprint(1), position(n))),
        at: at(u32::try_from(offset).unwrap()),
    }
}

fn position(n: u32) -> Position {
    Position { timeline: 1, commit: u64::from(n) * 10, row: 1 }
}

fn content(value: &str) -> Content {
    ["t", "k", value, "e"].map(|part| fingerprint(Some(part.as_bytes())))
}

fn at(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// The verdict on three events and these records.
fn verdict(records: Vec<Record>, windows: &[Window]) -> Verdict {
    let mut oracle = Oracle::default();
    records.into_iter().for_each(|record| oracle.record(record));
    (1..=3).for_each(|n| oracle.committed(committed(n)));
    oracle.verdict(windows)
}

/// What is wrong, without the texts.
fn kinds(verdict: &Verdict) -> Vec<Kind> {
    verdict.violations.iter().map(|violation| violation.kind).collect()
}

#[test]
fn each_event_once_in_order_is_right() {
    let verdict = verdict((1..=3).map(|n| record(n, n.into())).collect(), &[]);
    assert_eq!((kinds(&verdict), verdict.delivered, verdict.duplicates), (vec![], 3, vec![]));
}

#[test]
fn a_lost_event_is_found() {
    let verdict = verdict(vec![record(1, 1), record(3, 2)], &[]);
    assert_eq!((kinds(&verdict), verdict.delivered), (vec![Kind::Lost], 2));
    assert_eq!(verdict.violations[0].at, at(2));
    let text = "00000000-0000-0000-0000-000000000002, number 2 of key Some(\"k\")";
    assert_eq!(verdict.violations[0].text, text);
}

#[test]
fn an_invented_event_is_found() {
    let mut unreadable = record(5, 5);
    unreadable.id = Id::parse("no id");
    let all = vec![record(1, 1), record(2, 2), record(3, 3), record(4, 4), unreadable];
    assert_eq!(kinds(&verdict(all, &[])), [Kind::Invented, Kind::Invented]);
}

#[test]
fn a_first_occurrence_out_of_order_is_found_and_its_position_too() {
    let verdict = verdict(vec![record(1, 1), record(3, 2), record(2, 3)], &[]);
    assert_eq!(kinds(&verdict), [Kind::Position, Kind::Reordered]);
    // In another partition the order of a key is nothing that a consumer sees.
    let mut elsewhere = record(3, 1);
    elsewhere.partition = (0, 1);
    let verdict = self::verdict(vec![record(1, 1), record(2, 2), elsewhere], &[]);
    assert_eq!(kinds(&verdict), [Kind::Reordered]);
}

#[test]
fn changed_bytes_are_found_the_first_and_the_second_time() {
    let mut changed = record(2, 2);
    changed.content = content("other");
    let window = [Window { from: at(0), to: at(9) }];
    let first = verdict(vec![record(1, 1), changed.clone(), record(3, 3)], &window);
    assert_eq!(kinds(&first), [Kind::Changed]);
    assert!(first.violations[0].text.ends_with(": another value"), "{:?}", first.violations);
    let again = verdict(vec![record(1, 1), record(2, 2), record(3, 3), changed], &window);
    assert_eq!(kinds(&again), [Kind::Changed]);
}

#[test]
fn an_event_that_is_acknowledged_before_it_is_readable_is_found() {
    // The slot confirms what lies before a position; the commit at it comes again.
    for (confirmed, expected) in [(20, vec![]), (21, vec![Kind::Early])] {
        let mut oracle = Oracle::default();
        oracle.committed(committed(1));
        oracle.committed(committed(2));
        oracle.record(record(1, 1));
        oracle.acknowledged(confirmed);
        oracle.record(record(2, 2));
        // A second occurrence may lie before what is confirmed.
        oracle.record(record(1, 3));
        assert_eq!(kinds(&oracle.verdict(&[Window { from: at(0), to: at(9) }])), expected);
    }
}

#[test]
fn an_event_may_come_twice_within_a_window_only() {
    let all = || vec![record(1, 1), record(2, 2), record(3, 3), record(2, 5), record(2, 6)];
    let window = |from, to| [Window { from: at(from), to: at(to) }];
    assert_eq!(kinds(&verdict(all(), &window(4, 6))), []);
    assert_eq!(kinds(&verdict(all(), &window(4, 5))), [Kind::Twice]);
    assert_eq!(kinds(&verdict(all(), &window(7, 9))), [Kind::Twice]);
    let verdict = verdict(all(), &window(4, 6));
    assert_eq!((verdict.delivered, verdict.duplicates), (3, vec![at(5), at(6)]));
}

#[test]
fn a_position_that_is_missing_stands_still_or_changes_is_found() {
    let window = [Window { from: at(0), to: at(9) }];
    let wrong = |record: Record, position| Record { position, ..record };
    let missing = wrong(record(3, 3), None);
    assert_eq!(kinds(&verdict(vec![record(1, 1), record(2, 2), missing], &window)), [Kind::Position]);
    let same = wrong(record(3, 3), record(2, 2).position);
    assert_eq!(kinds(&verdict(vec![record(1, 1), record(2, 2), same], &window)), [Kind::Position]);
    let changed = wrong(record(2, 4), record(3, 3).position);
    let all = vec![record(1, 1), record(2, 2), record(3, 3), changed];
    assert_eq!(kinds(&verdict(all, &window)), [Kind::Position]);
}

#[test]
fn ids_and_positions_are_read_strictly() {
    let id = "0123abcd-0000-0000-0000-0000000000ff";
    assert_eq!(Id::parse(id).unwrap().to_string(), id);
    assert!(Id::parse(&id.to_uppercase()).is_err() && Id::parse("").is_err());
    let position = Position { timeline: 1, commit: 0xAB, row: 2 };
    assert_eq!(Position::parse("00000001-00000000000000AB-00000002"), Some(position));
    for wrong in ["", "1-AB-2", "00000001-00000000000000AB", "00000001-00000000000000AB-00000002-0"] {
        assert_eq!(Position::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_seed_gives_the_same_transactions_and_their_order_is_known() {
    let texts = |seed| {
        let mut plan = Plan::new(Dice::new(seed, 1), 0, 20);
        (0..300).map(|_| format!("{:?}", plan.transaction())).collect::<Vec<_>>()
    };
    assert!(texts(1) == texts(1) && texts(1) != texts(2));

    let mut plan = Plan::new(Dice::new(1, 1), 0, 20);
    let mut oracle = Oracle::default();
    let (mut offset, mut taken_back, mut sizes) = (0, 0, Vec::new());
    for _ in 0..2_000 {
        let transaction: Transaction = plan.transaction();
        for step in &transaction.steps {
            match step {
                Step::Insert(events) => {
                    sizes.extend(events.iter().map(|event| event.payload.as_ref().map(String::len)));
                }
                Step::TakenBack(events) => taken_back += events.len(),
                Step::DeleteOwn | Step::Pause(_) => {}
            }
        }
        if !transaction.commits {
            continue;
        }
        for event in plan.committed(transaction, Duration::ZERO) {
            offset += 1;
            let position = position(u32::try_from(offset).unwrap());
            let position = Some((Fingerprint(0), position));
            let (id, content) = (Ok(event.id), event.content);
            oracle.record(Record { id, partition: (0, 0), offset, content, position, at: Duration::ZERO });
            oracle.committed(event);
        }
    }
    let verdict = oracle.verdict(&[]);
    assert_eq!(kinds(&verdict), []);
    assert_eq!(i64::try_from(verdict.delivered).unwrap(), offset);
    let largest = sizes.iter().flatten().max().unwrap();
    let smallest = sizes.iter().flatten().min().unwrap();
    assert!(taken_back > 100 && sizes.contains(&None) && *smallest <= 20, "{taken_back} {smallest}");
    assert!((100_000..=250_000).contains(largest), "{largest}");
}

fn schedule(seed: u64, only: &str, seconds: u64, missing: &[Fault]) -> Schedule {
    Schedule::new(Dice::new(seed, 0), only, Duration::from_secs(seconds), missing)
}

/// The first `count` faults of it.
fn faults(mut schedule: Schedule, count: usize) -> Vec<Fault> {
    (0..count).map(|_| schedule.step().fault).collect()
}

const LONG: [Fault; 3] = [Fault::RelayFrozenLong, Fault::PostgresFrozenLong, Fault::BrokerFrozenLong];

#[test]
fn a_seed_gives_the_same_faults_and_every_fault_comes() {
    let texts = |seed| {
        let mut schedule = schedule(seed, "", 60, &[]);
        (0..300).map(|_| format!("{:?}", schedule.step())).collect::<Vec<_>>()
    };
    assert!(texts(1) == texts(1) && texts(1) != texts(2));
    let names: HashSet<_> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
    assert_eq!(names.len(), Fault::ALL.len());
    let some = faults(schedule(7, "", 3_600, &[]), 700);
    assert_eq!(some.iter().collect::<HashSet<_>>().len(), Fault::ALL.len());
    let kills = some.iter().filter(|fault| **fault == Fault::RelayKilled).count();
    assert!(kills > 500, "{kills}");
    let only = faults(schedule(7, "Kafka: SIGKILL", 60, &[]), 9);
    assert_eq!(only, [Fault::BrokerKilled; 9]);
}

#[test]
fn freezes_of_over_a_minute_come_in_long_runs_only_and_are_rare_there() {
    let short = faults(schedule(7, "", 299, &[]), 700);
    assert!(LONG.iter().all(|fault| !short.contains(fault)));
    let long = faults(schedule(7, "", 300, &[]), 1_500);
    let count = |fault: Fault| long.iter().filter(|other| **other == fault).count();
    for fault in LONG {
        let (rare, usual) = (count(fault), count(Fault::BrokerKilled));
        assert!(rare > 0 && rare <= usual / 3 + 1, "{fault:?}: {rare} and {usual}");
    }
    // Whoever asks for them gets them.
    let asked = faults(schedule(7, "over a minute", 60, &[]), 30);
    assert!(LONG.iter().all(|fault| asked.contains(fault)) && asked.iter().all(|fault| LONG.contains(fault)));
}

#[test]
fn what_cannot_be_done_is_left_out() {
    let missing = [Fault::PostgresFull, Fault::BrokerFull];
    let some = faults(schedule(7, "", 60, &missing), 700);
    assert!(missing.iter().all(|fault| !some.contains(fault)) && some.contains(&Fault::BrokerKilled));
}

/// The hunks of a patch: the file that each changes, and the lines that it expects there.
fn hunks(patch: &str) -> Vec<(String, String)> {
    let (mut file, mut hunks) = ("", Vec::new());
    for line in patch.lines() {
        if let Some(path) = line.strip_prefix("--- a/") {
            file = path;
        } else if line.starts_with("@@ ") {
            hunks.push((file.to_owned(), String::new()));
        } else if let Some((_, old)) = hunks.last_mut()
            && let Some(context) = line.strip_prefix(' ').or_else(|| line.strip_prefix('-'))
            && !line.starts_with("--- ")
        {
            *old += context;
            *old += "\n";
        }
    }
    hunks
}

#[test]
fn the_known_mistakes_fit_the_code() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tried = 0;
    for entry in std::fs::read_dir(root.join("tests/torture/broken")).unwrap() {
        let patch = entry.unwrap().path();
        for (file, old) in hunks(&std::fs::read_to_string(&patch).unwrap()) {
            let code = std::fs::read_to_string(root.join(&file)).unwrap();
            assert!(code.contains(&old), "{}: in {file} there is no\n{old}", patch.display());
            tried += 1;
        }
    }
    assert!(tried >= 6, "{tried} hunks");
}
