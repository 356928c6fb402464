//! The table, and the same as JSON.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::machine::Machine;
use crate::options::Options;

/// A figure of several runs.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Runs(pub(crate) Vec<f64>);

impl Runs {
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        match sorted.len() {
            0 => f64::NAN,
            even if even % 2 == 0 => f64::midpoint(at(even / 2 - 1), at(even / 2)),
            odd => at(odd / 2),
        }
    }

    /// The least and the greatest, with so many `digits`.
    pub(crate) fn range(&self, digits: usize) -> String {
        match self.sorted().as_slice() {
            [] => String::new(),
            [only] => number(*only, digits),
            [least, .., most] => format!("{}–{}", number(*least, digits), number(*most, digits)),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Runs {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// A figure with so many `digits`, and commas between thousands.
pub(crate) fn number(figure: f64, digits: usize) -> String {
    if digits == 0 && figure >= 0.0 {
        return crate::case::thousands(figure.round() as u64);
    }
    format!("{figure:.digits$}")
}

/// What a figure should be.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) found: f64,
    #[serde(flatten)]
    pub(crate) limit: Limit,
    /// Whether the benchmark fails without it.
    pub(crate) must: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    pub(crate) fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtLeast(limit) => self.found >= limit,
            Limit::AtMost(limit) => self.found <= limit,
        }
    }

    /// The figure with so many `digits`, beside its target.
    pub(crate) fn cell(&self, digits: usize) -> String {
        let (sign, limit) = match (self.limit, self.is_met()) {
            (Limit::AtLeast(limit), true) => ("≥", limit),
            (Limit::AtLeast(limit), false) => ("BELOW ", limit),
            (Limit::AtMost(limit), true) => ("≤", limit),
            (Limit::AtMost(limit), false) => ("ABOVE ", limit),
        };
        format!("{} {sign}{}", number(self.found, digits), number(limit, digits))
    }
}

/// A part of the table.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) head: Vec<&'static str>,
    /// The first cell says what the line is.
    pub(crate) lines: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.title)?;
        let head: Vec<_> = self.head.iter().map(|name| (*name).to_owned()).collect();
        let all = || std::iter::once(&head).chain(&self.lines);
        let width = |column: usize| {
            all().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..head.len()).map(width).collect();
        for line in all() {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "  {cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

/// What a scenario found.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether figures are held against their targets.
    judged: bool,
    pub(crate) sections: Vec<Section>,
    pub(crate) targets: Vec<Target>,
    pub(crate) json: Value,
}

impl Outcome {
    pub(crate) const fn new(options: &Options) -> Self {
        Self { judged: !options.quick, sections: Vec::new(), targets: Vec::new(), json: Value::Null }
    }

    /// Notes a figure and its target; the cell with both. Small sizes say nothing about speed, and are not judged.
    pub(crate) fn target(&mut self, target: Target, digits: usize) -> String {
        if !self.judged {
            return number(target.found, digits);
        }
        let cell = target.cell(digits);
        self.targets.push(target);
        cell
    }
}

/// Everything that was found.
pub(crate) struct Report {
    machine: Machine,
    sections: Vec<Section>,
    targets: Vec<Target>,
    scenarios: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, sections: Vec::new(), targets: Vec::new(), scenarios: Map::new() }
    }

    pub(crate) fn add(&mut self, name: &str, outcome: Outcome) {
        self.sections.extend(outcome.sections);
        self.targets.extend(outcome.targets);
        self.scenarios.insert(name.to_owned(), outcome.json);
    }

    /// Whether all targets are met that must be.
    pub(crate) fn is_good(&self) -> bool {
        self.targets.iter().all(|target| target.is_met() || !target.must)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let targets: Vec<_> = self
            .targets
            .iter()
            .map(|target| {
                let mut value = json!(target);
                if let Some(object) = value.as_object_mut() {
                    object.insert("met".to_owned(), target.is_met().into());
                }
                value
            })
            .collect();
        let all = json!({ "machine": self.machine, "scenarios": self.scenarios, "targets": targets });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            cores,
            processor,
            kernel,
            postgres,
            kafka,
            librdkafka,
            rustc,
            profile,
            relay,
            runs,
            quick,
            ..
        } = &self.machine;
        writeln!(f, "{cores} cores ({processor}), Linux {kernel}, everything on them")?;
        writeln!(
            f,
            "PostgreSQL {postgres} (fsync on), Kafka {kafka}, librdkafka {librdkafka}, {rustc} ({profile} profile), {relay}"
        )?;
        match runs {
            1 => writeln!(f, "one run: nothing tells how far figures scatter")?,
            runs => writeln!(f, "medians of {runs} runs, least and most beside them")?,
        }
        for section in &self.sections {
            write!(f, "{section}")?;
        }
        if *quick {
            return writeln!(f, "\n--quick: this shows that everything works, not how fast it is");
        }
        let missed: Vec<_> = self.targets.iter().filter(|target| !target.is_met()).collect();
        writeln!(f, "\n{} of {} targets met", self.targets.len() - missed.len(), self.targets.len())?;
        for target in missed {
            let grave = if target.must { "  (must be met)" } else { "" };
            writeln!(f, "  missed: {}: {}{grave}", target.what, target.cell(2))?;
        }
        Ok(())
    }
}
