//! The command line, of which `scripts/bench --help` tells.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use crate::SCENARIOS;

/// What was asked for.
pub(crate) struct Options {
    /// Small sizes: does everything work?
    pub(crate) quick: bool,
    /// How often each figure is taken.
    pub(crate) runs: usize,
    only: Vec<String>,
    /// Of delay; empty: all.
    pub(crate) rates: Vec<u64>,
    pub(crate) json: PathBuf,
    /// Where to draw what `json` has, instead of measuring.
    pub(crate) charts: Option<PathBuf>,
    peers: bool,
    /// The relay.
    pub(crate) program: PathBuf,
    /// PostgreSQL's major version.
    pub(crate) postgres: String,
}

impl Options {
    pub(crate) fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            quick: false,
            runs: 3,
            only: Vec::new(),
            rates: Vec::new(),
            json: concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench/end_to_end.json").into(),
            charts: None,
            peers: false,
            program: env!("CARGO_BIN_EXE_outbox-relay").into(),
            postgres: "17".to_owned(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} takes a value\n\nhint: see --help"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--peers" => options.peers = true,
                "--runs" => {
                    let value = value()?;
                    options.runs = value
                        .parse()
                        .ok()
                        .filter(|runs| *runs > 0)
                        .with_context(|| format!("--runs {value}: expected a number, 1 or more"))?;
                }
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                "--rate" => {
                    let value = value()?;
                    let rate = value.parse().ok().filter(|rate| *rate > 0);
                    options
                        .rates
                        .push(rate.with_context(|| format!("--rate {value}: expected a number, 1 or more"))?);
                }
                "--json" => options.json = value()?.into(),
                "--charts" => options.charts = Some(value()?.into()),
                "--program" => options.program = value()?.into(),
                "--postgres" => options.postgres = value()?.clone(),
                _ => bail!("{argument}: unknown\n\nhint: see --help"),
            }
        }
        if let Some(name) = options.only.iter().find(|name| !SCENARIOS.contains(&name.as_str())) {
            bail!("--only {name}: expected some of {}", SCENARIOS.join(", "));
        }
        ensure!(options.program.is_file(), "--program {}: no such file", options.program.display());
        Ok(options)
    }

    pub(crate) fn wants(&self, scenario: &str) -> bool {
        let unasked = match scenario {
            "peers" => self.peers,
            // Row filters.
            "shards" => self.only.is_empty() && self.postgres != "14",
            _ => self.only.is_empty(),
        };
        unasked || self.only.iter().any(|name| name == scenario)
    }

    /// `full`, or `quick` for small sizes.
    pub(crate) const fn size(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}
