//! The tables of "Operation": addresses, metrics, exit statuses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime};

use clap::CommandFactory as _;
use outbox_relay::cli::{Cli, EXIT_CONFIGURATION};
use outbox_relay::http::Page;
use outbox_relay::metrics::{Metrics, plain_text};
use outbox_relay::outbox::Topic;
use outbox_relay::postgres::control::Slot;
use outbox_relay::status::{SlotSeen, Snapshot, Started};

const README: &str = include_str!("../../README.md");

/// The rows of the table whose first column is headed `heading`, each with its cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let start = format!("| {heading} |");
    let mut lines = README.lines().skip_while(|line| !line.starts_with(&start));
    assert!(lines.next().is_some(), "no table is headed {heading:?}");
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn unquoted(cell: &str) -> &str {
    cell.strip_prefix('`')
        .and_then(|rest| rest.strip_suffix('`'))
        .unwrap_or_else(|| panic!("{cell}: not quoted"))
}

#[test]
fn every_address_is_told() {
    let told: Vec<_> = table("address").iter().map(|row| unquoted(row[0])).collect();
    assert_eq!(told, Page::ALL.map(Page::path));
}

/// A metric: its kind, and the values of its label, if it has one.
#[derive(Debug, Default, PartialEq)]
struct Metric {
    kind: String,
    label: Option<String>,
    values: BTreeSet<String>,
}

/// All metrics on a page that has every one of them, by their names.
fn exported() -> BTreeMap<String, Metric> {
    let (at, wall) = (Instant::now(), SystemTime::now());
    let mut snapshot = Snapshot::new(Started { at, wall });
    snapshot.slot = Some(SlotSeen { slot: Slot { safe_wal_bytes: Some(1), ..Slot::default() }, at });
    let metrics = Metrics::new();
    metrics.deliveries().count(&Topic::new(b"t").unwrap(), 1);
    let page = plain_text(&metrics.page(&snapshot, at, wall));
    let mut found: BTreeMap<String, Metric> = BTreeMap::new();
    let mut name = "";
    for line in page.lines() {
        if let Some(comment) = line.strip_prefix("# TYPE ") {
            let kind;
            (name, kind) = comment.split_once(' ').unwrap();
            found.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some(label) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) {
            let (label, value) = label.split_once('}').unwrap().0.split_once('=').unwrap();
            let metric = found.get_mut(name).unwrap();
            metric.label = Some(label.to_owned());
            metric.values.insert(value.trim_matches('"').to_owned());
        }
    }
    found
}

/// All metrics in the README, by their names.
fn told() -> BTreeMap<String, Metric> {
    let ours = table("metric (`outbox_relay_…`)").into_iter().map(|row| ("outbox_relay_", row));
    let all = ours.chain(table("metric (no prefix, Linux)").into_iter().map(|row| ("", row)));
    let metric = |(prefix, row): (&str, Vec<&str>)| {
        let (name, label) = match unquoted(row[0]).split_once('{') {
            Some((name, label)) => (name, Some(label.trim_end_matches('}').to_owned())),
            None => (unquoted(row[0]), None),
        };
        // Only a label's values are quoted, where they are known; elsewhere quotes are for other things.
        let values = if label.is_some() { quoted(row[2]) } else { BTreeSet::new() };
        (format!("{prefix}{name}"), Metric { kind: row[1].to_owned(), label, values })
    };
    all.map(metric).collect()
}

#[test]
fn every_metric_is_told_with_all_values_of_its_label() {
    let (mut exported, mut told) = (exported(), told());
    for metrics in [&mut exported, &mut told] {
        for metric in metrics.values_mut() {
            // These have values of the user's, and the program's version.
            if ["topic", "version"].contains(&metric.label.as_deref().unwrap_or_default()) {
                metric.values.clear();
            }
        }
    }
    if !cfg!(target_os = "linux") {
        told.retain(|name, _| !name.starts_with("process_"));
    }
    for (name, metric) in &exported {
        assert_eq!(told.get(name), Some(metric), "{name}: the README against the code");
    }
    let invented: Vec<_> = told.keys().filter(|name| !exported.contains_key(*name)).collect();
    assert!(invented.is_empty(), "the README tells of metrics that are not there: {invented:?}");
}

#[test]
fn every_exit_status_is_told_as_help_tells_it() {
    let help = Cli::command().render_long_help().to_string();
    let lines =
        help.lines().skip_while(|line| *line != "Exit status:").skip(1).take_while(|line| !line.is_empty());
    let helped: Vec<_> = lines.map(|line| line.trim().split_once("  ").unwrap()).collect();
    let told: Vec<_> = table("exit status").iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(told, helped);
    let wrong = ["outbox-relay", "--no-such-option"].map(std::ffi::OsString::from);
    let usage = Cli::read(wrong).err().unwrap().exit_code();
    assert_eq!(told[2].0, usage.to_string());
    assert_eq!(told[3].0, EXIT_CONFIGURATION.to_string());
}
