//! What the kernel counts of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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

/// How the resident memory of a process goes, until the end.
pub(crate) struct Memory {
    stop: Arc<AtomicBool>,
    found: JoinHandle<Vec<(f64, f64)>>,
}

impl Memory {
    const PAUSE: Duration = Duration::from_millis(250);

    pub(crate) fn watch(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let found = std::thread::spawn(move || {
            let start = Instant::now();
            let mut found = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let status = of(pid).and_then(|process| Ok(process.status()?));
                if let Some(kib) = status.ok().and_then(|status| status.vmrss) {
                    found.push((start.elapsed().as_secs_f64(), kib as f64 / 1024.0));
                }
                std::thread::sleep(Self::PAUSE);
            }
            found
        });
        Self { stop, found }
    }

    /// Seconds since it began, and MiB.
    pub(crate) fn end(self) -> Vec<(f64, f64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.found.join().unwrap_or_default()
    }
}
