//! On what the figures were taken.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::Bench;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) postgres: String,
    pub(crate) kafka: String,
    pub(crate) librdkafka: String,
    pub(crate) rustc: String,
    pub(crate) relay: String,
    pub(crate) program: String,
    /// Of this program, and of the relay if that was built with it.
    pub(crate) profile: &'static str,
    pub(crate) runs: usize,
    pub(crate) quick: bool,
}

pub(crate) async fn look(bench: &Bench) -> Result<Machine> {
    let client = bench.world.client().await?;
    let postgres: String = client.query_one("SHOW server_version", &[]).await?.get(0);
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let tools = bench.world.exported("OUTBOX_TEST_KAFKA_BIN")?;
    Ok(Machine {
        cores: std::thread::available_parallelism()?.get(),
        processor: processor.unwrap_or("unknown").to_owned(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        postgres,
        kafka: first_word(&said(Command::new(format!("{tools}/kafka-topics.sh")).arg("--version"))?),
        librdkafka: rdkafka::util::get_rdkafka_version().1,
        rustc: said(Command::new("rustc").arg("--version")).unwrap_or_else(|_| "unknown".to_owned()),
        relay: said(Command::new(&bench.options.program).arg("--version"))?,
        program: bench.options.program.display().to_string(),
        profile: if cfg!(debug_assertions) { "dev" } else { "release" },
        runs: bench.options.runs,
        quick: bench.options.quick,
    })
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
