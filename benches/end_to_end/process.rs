//! What the kernel counts of a process.

use anyhow::{Context as _, Result};
use procfs::process::Process;

fn of(pid: u32) -> Result<Process> {
    Process::new(pid.try_into()?).with_context(|| format!("look at process {pid}"))
}

/// Seconds of CPU it has used so far, in user and kernel mode: in hundredths, as the kernel counts them.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let stat = of(pid)?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// The most memory it had resident so far, in MiB.
pub(crate) fn peak(pid: u32) -> Result<f64> {
    let kib = of(pid)?.status()?.vmhwm.context("the kernel does not tell the peak")?;
    Ok(kib as f64 / 1024.0)
}

/// What its threads have used so far; those that ended meanwhile are not in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Threads {
    /// Seconds of CPU, exactly.
    pub(crate) cpu: f64,
    /// How often one went to sleep, hence how often one was woken.
    pub(crate) sleeps: u64,
}

pub(crate) fn threads(pid: u32) -> Result<Threads> {
    let mut sum = Threads::default();
    for thread in of(pid)?.tasks()? {
        let thread = thread?;
        let status = thread.status()?;
        sum.sleeps += status.voluntary_ctxt_switches.unwrap_or(0);
        sum.cpu += thread.schedstat()?.sum_exec_runtime as f64 / 1e9;
    }
    Ok(sum)
}
