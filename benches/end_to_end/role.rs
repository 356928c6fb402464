//! This program as its own references, each as a process of its own.
//!
//! A role that has done its work says so in one line, and then stays until its input ends: while it is there, the kernel
//! tells what it and its walsender have used.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{counted, producer, reader};

/// The first argument of a role; its name and its own arguments follow.
pub(crate) const ARGUMENT: &str = "--as";

/// What a reader has to say: rows, and the time from the first to the last.
pub(crate) struct Read {
    pub(crate) rows: u64,
    pub(crate) took: Duration,
}

impl Read {
    pub(crate) fn say(&self) {
        println!("{} {}", self.rows, self.took.as_nanos());
    }

    pub(crate) fn heard(line: &str) -> Result<Self> {
        let (rows, nanos) =
            line.split_once(' ').with_context(|| format!("\"{line}\": expected two numbers"))?;
        Ok(Self { rows: rows.parse()?, took: Duration::from_nanos(nanos.parse()?) })
    }
}

pub(crate) fn play(arguments: &[String]) -> Result<()> {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["reader", url, slot, rows] => reader::read(url, slot, rows.parse()?)?,
        ["counted", url, slot, topic, rows] => counted::relay(url, slot, topic, rows.parse()?)?,
        ["producer", broker, topic, rows, bytes] => {
            producer::flood(broker, topic, rows.parse()?, bytes.parse()?)?
        }
        ["paced", broker, topic, rate, seconds] => {
            producer::pace(broker, topic, rate.parse()?, seconds.parse()?)?
        }
        _ => bail!("{}: no such role", arguments.join(" ")),
    }
    Ok(())
}

/// Until the input ends.
pub(crate) fn stay() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
