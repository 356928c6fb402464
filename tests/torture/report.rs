//! What a run is told by: a log of its faults while it goes on, and one table at its end.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::oracle::{Kind, Verdict, Window};
use crate::schedule::Fault;

/// The log of faults. Each line begins with the seconds since the start.
pub(crate) struct Log {
    file: File,
    pub(crate) path: PathBuf,
    lines: Vec<(Duration, String)>,
}

impl Log {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        Ok(Self { file: File::create(path)?, path: path.to_owned(), lines: Vec::new() })
    }

    pub(crate) fn say(&mut self, at: Duration, text: String) -> Result<()> {
        writeln!(self.file, "{:9.3}  {text}", at.as_secs_f64())?;
        self.lines.push((at, text));
        Ok(())
    }

    /// The lines next to `at`: what had begun before, and what came after.
    fn around(&self, at: Duration) -> &[(Duration, String)] {
        let next = self.lines.partition_point(|(time, _)| *time <= at);
        self.lines.get(next.saturating_sub(3)..self.lines.len().min(next + 1)).unwrap_or_default()
    }
}

/// An interruption.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interruption {
    pub(crate) fault: Fault,
    pub(crate) from: Duration,
    /// From the fault's end until an event that was committed after it could be read; `None` if the next fault did not
    /// wait for that.
    pub(crate) recovery: Option<Duration>,
    /// When no event may come twice any more.
    pub(crate) to: Duration,
}

/// All that a run has to say.
pub(crate) struct Report<'a> {
    pub(crate) title: String,
    /// SIGKILLs of relays, and those among them with events in flight.
    pub(crate) kills: (u32, u32),
    pub(crate) interruptions: &'a [Interruption],
    /// Faults that cannot be done here.
    pub(crate) missing: &'a [Fault],
    pub(crate) verdict: &'a Verdict,
    /// Further lines.
    pub(crate) totals: Vec<String>,
}

/// Violations that are told in full.
const TOLD: usize = 5;

impl Interruption {
    pub(crate) fn window(&self) -> Window {
        Window { from: self.from, to: self.to }
    }
}

impl Report<'_> {
    /// Violations in full, each with the faults around it.
    pub(crate) fn violations(&self, log: &Log) -> String {
        let mut text = String::new();
        for kind in Kind::ALL {
            let mut all: Vec<_> = self.verdict.violations.iter().filter(|found| found.kind == kind).collect();
            all.sort_by_key(|violation| violation.at);
            for violation in all.iter().take(TOLD) {
                let _ = writeln!(
                    text,
                    "{}: {} ({:.3} s)",
                    kind.as_str(),
                    violation.text,
                    violation.at.as_secs_f64()
                );
                for (at, line) in log.around(violation.at) {
                    let _ = writeln!(text, "    {:9.3}  {line}", at.as_secs_f64());
                }
            }
            if all.len() > TOLD {
                let _ = writeln!(text, "{}: and {} more", kind.as_str(), all.len() - TOLD);
            }
        }
        text
    }

    /// How many records came again in the window of each interruption, by fault.
    fn duplicates(&self) -> BTreeMap<Fault, Vec<usize>> {
        let mut each = vec![0; self.interruptions.len()];
        for at in &self.verdict.duplicates {
            let last = self.interruptions.iter().rposition(|interruption| interruption.from <= *at);
            if let Some(count) = last.and_then(|last| each.get_mut(last)) {
                *count += 1;
            }
        }
        let mut duplicates = BTreeMap::<_, Vec<_>>::new();
        for (interruption, count) in self.interruptions.iter().zip(each) {
            duplicates.entry(interruption.fault).or_default().push(count);
        }
        duplicates
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duplicates = self.duplicates();
        let (kills, in_flight) = self.kills;
        writeln!(f, "{}", self.title)?;
        writeln!(f, "{kills} SIGKILLs of the relay, {in_flight} of them with events in flight")?;
        if let (Some(median), Some(worst)) =
            median_and_worst(duplicates.get(&Fault::RelayKilled).map_or(&[], Vec::as_slice))
        {
            writeln!(f, "after a SIGKILL {median} records came again (median), at worst {worst}")?;
        }
        writeln!(f)?;
        writeln!(f, "{:<54}{:>5}  {:>18}  {:>16}", "", "", "back after", "came again")?;
        writeln!(
            f,
            "{:<54}{:>5}  {:>9}{:>9}  {:>8}{:>8}",
            "fault", "count", "median", "worst", "median", "worst"
        )?;
        for kind in Fault::ALL {
            let of: Vec<_> = self.interruptions.iter().filter(|one| one.fault == kind).collect();
            if of.is_empty() {
                continue;
            }
            let times: Vec<_> = of.iter().filter_map(|interruption| interruption.recovery).collect();
            let (median, worst) = median_and_worst(&times);
            let (median, worst) = (seconds(median), seconds(worst));
            let (again, most) = median_and_worst(duplicates.get(&kind).map_or(&[], Vec::as_slice));
            let (again, most) = (again.unwrap_or(0), most.unwrap_or(0));
            let (fault, count) = (kind.as_str(), of.len());
            writeln!(f, "{fault:<54}{count:>5}  {median:>9}{worst:>9}  {again:>8}{most:>8}")?;
        }
        for kind in self.missing {
            writeln!(f, "{:<54}    not tried: no file system can be mounted here", kind.as_str())?;
        }
        writeln!(f)?;
        for line in &self.totals {
            writeln!(f, "{line}")?;
        }
        let counts: Vec<_> =
            Kind::ALL.iter().map(|kind| format!("{} {}", kind.as_str(), self.verdict.count(*kind))).collect();
        write!(f, "{}", counts.join(" · "))
    }
}

/// `None` of nothing.
pub(crate) fn median_and_worst<T: Copy + Ord>(all: &[T]) -> (Option<T>, Option<T>) {
    let mut all = all.to_vec();
    all.sort_unstable();
    (all.get(all.len() / 2).copied(), all.last().copied())
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}
