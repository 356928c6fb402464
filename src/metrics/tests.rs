//! The page as a strict scraper reads it, and its names.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::lsn::Lsn;
use crate::postgres::control::Slot;
use crate::status::{Blocked, On, Progress, SlotSeen, Started, State};

fn snapshot() -> Snapshot {
    Snapshot::new(Started { at: Instant::now(), wall: SystemTime::UNIX_EPOCH })
}

fn page(metrics: &Metrics, snapshot: &Snapshot) -> String {
    metrics.page(snapshot, snapshot.started.at, snapshot.started.wall)
}

fn topic(name: &str) -> Topic {
    Topic::new(name.as_bytes()).unwrap()
}

/// A metric as OpenMetrics text has it: its type, and its samples with their labels.
#[derive(Debug, Default)]
struct Found {
    kind: String,
    help: bool,
    samples: Vec<(String, f64)>,
}

/// Reads a page by the rules of OpenMetrics 1.0, and panics where it breaks one.
fn read(page: &str) -> BTreeMap<String, Found> {
    let mut metrics: BTreeMap<String, Found> = BTreeMap::new();
    let mut current = String::new();
    let mut lines = page.lines();
    assert!(page.ends_with('\n') && lines.next_back() == Some("# EOF"), "{page}");
    for line in lines {
        assert_eq!(line.trim(), line, "blanks at an end");
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (word, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let found = metrics.entry(name.to_owned()).or_default();
            assert!(found.samples.is_empty(), "{line}: after its samples, or the metric comes twice");
            match word {
                "HELP" => assert!(!std::mem::replace(&mut found.help, true) && !rest.contains('"'), "{line}"),
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram", "info"].contains(&rest), "{line}");
                    assert!(found.kind.is_empty(), "{line}: twice");
                    rest.clone_into(&mut found.kind);
                }
                "UNIT" => assert!(name.ends_with(rest), "{line}"),
                other => panic!("{other} is no word of OpenMetrics"),
            }
            name.clone_into(&mut current);
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let found = metrics.get_mut(&current).unwrap_or_else(|| panic!("{line}: a sample of nothing"));
        let (name, labels) = sample.split_once('{').map_or((sample, ""), |(name, rest)| {
            (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}: labels without an end")))
        });
        let suffixes: &[&str] = match found.kind.as_str() {
            "counter" => &["_total"],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line}: not of {current}"));
        assert!(suffixes.contains(&suffix), "{line}: not a name of a {}", found.kind);
        for label in labels.split(',').filter(|_| sample.contains('{')) {
            let (key, text) = label.split_once('=').unwrap();
            assert!(key.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            assert!(text.len() >= 2 && text.starts_with('"') && text.ends_with('"'), "{line}");
        }
        let value: f64 = value.parse().unwrap();
        assert!(found.samples.iter().all(|(before, _)| before != sample), "{line}: twice");
        found.samples.push((sample.to_owned(), value));
    }
    for (name, found) in &metrics {
        assert!(found.help && !found.kind.is_empty(), "{name} lacks its HELP or TYPE");
    }
    metrics
}

#[test]
fn a_strict_reader_understands_the_page() {
    let metrics = Metrics::new();
    metrics.commit_to_delivery.observe(0.3);
    metrics.deliveries().count(&topic("outbox.event.order"), 7);
    let found = read(&page(&metrics, &snapshot()));
    let buckets = &found["outbox_relay_commit_to_delivery_seconds"].samples;
    let bucket = |le: &str| {
        let name = format!("outbox_relay_commit_to_delivery_seconds_bucket{{le=\"{le}\"}}");
        buckets.iter().find(|(sample, _)| *sample == name).unwrap_or_else(|| panic!("no {name}")).1
    };
    assert_eq!(["0.0005", "0.25", "0.5", "60.0", "+Inf"].map(bucket), [0.0, 0.0, 1.0, 1.0, 1.0]);
    // Bounds grow, and so do the counts.
    let counts: Vec<f64> =
        buckets.iter().filter(|(name, _)| name.contains("_bucket")).map(|(_, count)| *count).collect();
    assert_eq!(counts.len(), BUCKETS.len() + 1);
    assert!(counts.is_sorted() && BUCKETS.is_sorted());
}

#[test]
fn everything_with_known_labels_is_there_from_the_first_scrape() {
    let page = page(&Metrics::new(), &snapshot());
    let samples = |text: &str| {
        let names =
            text.lines().filter(|line| line.starts_with("outbox_relay_") && !line.contains("_bucket"));
        let mut names: Vec<_> = names.map(|line| line.rsplit_once(' ').unwrap().0).collect();
        // Labels come in no order.
        names.sort_unstable();
        names.join("\n")
    };
    let page = page.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(samples(&page), @r#"
    outbox_relay_backfill_rows
    outbox_relay_backfill_rows_done
    outbox_relay_blocked_seconds{on="event"}
    outbox_relay_blocked_seconds{on="kafka"}
    outbox_relay_blocked_seconds{on="postgres"}
    outbox_relay_blocked_seconds{on="topic"}
    outbox_relay_build_info{version="VERSION"}
    outbox_relay_cleaned_total{action="delete"}
    outbox_relay_cleaned_total{action="drop-partitions"}
    outbox_relay_cleaned_total{action="mark"}
    outbox_relay_commit_to_delivery_seconds_count
    outbox_relay_commit_to_delivery_seconds_sum
    outbox_relay_confirmed_lsn
    outbox_relay_events_rejected_total{reason="invalid_headers"}
    outbox_relay_events_rejected_total{reason="invalid_message"}
    outbox_relay_events_rejected_total{reason="invalid_partition"}
    outbox_relay_events_rejected_total{reason="invalid_topic"}
    outbox_relay_events_rejected_total{reason="null"}
    outbox_relay_events_rejected_total{reason="refused"}
    outbox_relay_events_rejected_total{reason="skipped"}
    outbox_relay_events_rejected_total{reason="too_large"}
    outbox_relay_ignored_changes_total{operation="delete"}
    outbox_relay_ignored_changes_total{operation="truncate"}
    outbox_relay_ignored_changes_total{operation="update"}
    outbox_relay_in_flight_bytes
    outbox_relay_in_flight_records
    outbox_relay_oldest_unconfirmed_age_seconds
    outbox_relay_received_lsn
    outbox_relay_sessions_total{end="fenced"}
    outbox_relay_sessions_total{end="kafka"}
    outbox_relay_sessions_total{end="postgres"}
    outbox_relay_sessions_total{end="rejected"}
    outbox_relay_sessions_total{end="stopped"}
    outbox_relay_slot_retained_wal_bytes
    outbox_relay_state{state="blocked"}
    outbox_relay_state{state="connecting"}
    outbox_relay_state{state="draining"}
    outbox_relay_state{state="standby"}
    outbox_relay_state{state="streaming"}
    outbox_relay_timestamps_replaced_total{reason="ahead"}
    outbox_relay_timestamps_replaced_total{reason="null"}
    outbox_relay_timestamps_replaced_total{reason="out_of_range"}
    outbox_relay_transactions_confirmed_total
    "#);
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_described_under_the_usual_names() {
    let found = read(&page(&Metrics::new(), &snapshot()));
    let value = |name: &str| found[name].samples[0].1;
    assert_eq!(found["process_cpu_seconds"].samples[0].0, "process_cpu_seconds_total");
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
        - value("process_start_time_seconds");
    assert!((-2.0..3600.0).contains(&age), "{age}");
}

#[test]
fn the_topics_beyond_the_limit_are_one_in_every_session() {
    let metrics = Metrics::new();
    // Two sessions, as after a broken connection.
    for session in 0..2 {
        let mut deliveries = metrics.deliveries();
        for number in 0..MOST_TOPICS {
            deliveries.count(&topic(&format!("t{session}.{number}")), 3);
        }
        deliveries.count(&topic("t0.0"), 4);
    }
    let page = page(&metrics, &snapshot());
    for line in [
        "outbox_relay_events_delivered_total{topic=\"t0.0\"} 3",
        "outbox_relay_delivered_bytes_total{topic=\"t0.0\"} 11",
        "outbox_relay_events_delivered_total{topic=\"(other)\"} 200",
        "outbox_relay_delivered_bytes_total{topic=\"(other)\"} 600",
    ] {
        assert!(page.contains(&format!("{line}\n")), "{line} is not on the page:\n{page}");
    }
    assert!(!page.contains("t1."), "{page}");
}

#[test]
fn a_moment_is_read_off_the_snapshot() {
    let mut snapshot = snapshot();
    let now = snapshot.started.at + Duration::from_secs(9);
    let wall = snapshot.started.wall + Duration::from_secs(9);
    snapshot.state = State::Blocked;
    let since = snapshot.started.at + Duration::from_secs(2);
    snapshot.blocked = Some(Blocked { on: On::Kafka, since, reason: "no broker answers".to_owned() });
    snapshot.progress = Progress {
        received: Lsn::new(5000),
        confirmed: Lsn::new(4000),
        in_flight_records: 3,
        in_flight_bytes: 1700,
        oldest_unconfirmed: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
        ..Progress::default()
    };
    let slot = Slot { retained_bytes: Some(77), ..Slot::default() };
    snapshot.slot = Some(SlotSeen { slot, at: now });
    let unlimited = Metrics::new().page(&snapshot, now, wall);
    for line in [
        "outbox_relay_state{state=\"blocked\"} 1",
        "outbox_relay_state{state=\"streaming\"} 0",
        "outbox_relay_blocked_seconds{on=\"kafka\"} 7.0",
        "outbox_relay_blocked_seconds{on=\"topic\"} 0.0",
        "outbox_relay_in_flight_records 3",
        "outbox_relay_in_flight_bytes 1700",
        "outbox_relay_received_lsn 5000.0",
        "outbox_relay_confirmed_lsn 4000.0",
        "outbox_relay_oldest_unconfirmed_age_seconds 8.0",
        "outbox_relay_slot_retained_wal_bytes 77",
    ] {
        assert!(unlimited.contains(&format!("{line}\n")), "{line} is not on the page:\n{unlimited}");
    }
    assert!(!unlimited.contains("slot_safe_wal_bytes"), "{unlimited}");
    let slot = Slot { safe_wal_bytes: Some(99), ..Slot::default() };
    snapshot.slot = Some(SlotSeen { slot, at: now });
    assert!(Metrics::new().page(&snapshot, now, wall).contains("outbox_relay_slot_safe_wal_bytes 99\n"));
}
