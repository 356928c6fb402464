//! How the cost of a row grows with its size, with the transaction, and with the number of topics.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::case::{Case, thousands};
use crate::drain::{Over, Sample, Who, clear, prepare, turn};
use crate::report::{Outcome, Runs, Section, number};
use crate::{Bench, progress};

const BASE: Case = Case { name: "growth", rows: 300_000, transactions: 300, payload: 240, topics: 1 };

/// What grows, and how.
fn series() -> [(&'static str, Vec<Case>); 3] {
    let sizes =
        [(60, 400_000), (240, 300_000), (1_024, 200_000), (4_096, 80_000), (16_384, 20_000), (65_536, 5_000)];
    let sizes = sizes.map(|(payload, rows)| Case { payload, rows, transactions: rows / 1_000, ..BASE });
    let transactions = [200_000, 20_000, 2_000, 200, 1];
    let transactions = transactions.map(|transactions| Case { rows: 200_000, transactions, ..BASE });
    let topics = [1, 10, 100, 1_000].map(|topics| Case { topics, ..BASE });
    [
        ("bytes of a payload", sizes.to_vec()),
        ("rows of a transaction", transactions.to_vec()),
        ("topics, of three partitions each", topics.to_vec()),
    ]
}

pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::new(&bench.options);
    let mut found = Vec::new();
    for (what, cases) in series() {
        let mut lines = Vec::new();
        for mut case in cases {
            if bench.options.quick {
                case = Case { rows: case.rows / 50, transactions: case.transactions.div_ceil(50), ..case };
            }
            let of = match what {
                "bytes of a payload" => case.payload,
                "rows of a transaction" => case.rows / case.transactions,
                _ => case.topics,
            };
            let (reader, relay) = samples(bench, &case).await.with_context(|| format!("{what}: {of}"))?;
            progress(&format!("growth, {what}: {}", thousands(of)));
            lines.push(line(of, &reader, &relay));
            found.push(
                json!({ "what": what, "of": of, "case": case.title(), "reader": reader, "relay": relay }),
            );
        }
        outcome.sections.push(Section {
            title: format!("growth: {what}"),
            head: vec!["", "rows/s", "MB/s", "ratio", "CPU µs/row", "walsender", "broker", "peak MiB"],
            lines,
            notes: vec!["unix socket; ratio: to a reader alone, which does not grow with topics".to_owned()],
        });
    }
    outcome.json = json!(found);
    Ok(outcome)
}

async fn samples(bench: &Bench, case: &Case) -> Result<(Vec<Sample>, Vec<Sample>)> {
    prepare(bench, case).await?;
    let (mut readers, mut relays) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.runs {
        readers.push(turn(bench, case, Who::Reader, Over::Unix, false).await?);
        relays.push(turn(bench, case, Who::Relay, Over::Unix, false).await?);
    }
    clear(bench, case).await?;
    Ok((readers, relays))
}

fn line(of: u64, readers: &[Sample], relays: &[Sample]) -> Vec<String> {
    let figure = |figure: fn(&Sample) -> Option<f64>| -> Runs { relays.iter().filter_map(figure).collect() };
    let rates = figure(|sample| Some(sample.rows_per_second));
    let ratios: Runs = relays
        .iter()
        .zip(readers)
        .map(|(relay, reader)| relay.rows_per_second / reader.rows_per_second)
        .collect();
    vec![
        thousands(of),
        number(rates.median(), 0),
        number(figure(|sample| Some(sample.bytes_per_second)).median() / 1e6, 1),
        number(ratios.median(), 2),
        number(figure(|sample| sample.own_cpu).median(), 1),
        number(figure(|sample| sample.walsender_cpu).median(), 1),
        number(figure(|sample| sample.broker_cpu).median(), 1),
        number(figure(|sample| sample.peak).median(), 0),
    ]
}
