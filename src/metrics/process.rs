//! The process' own figures, under the names that all Prometheus clients use. Linux has them; elsewhere there are none.

use prometheus_client::registry::Registry;

/// The metrics `process_*`, without a prefix. A figure that cannot be had is left out.
#[cfg(target_os = "linux")]
pub(super) fn registry() -> Registry {
    use std::sync::atomic::AtomicU64;

    use procfs::WithCurrentSystemInfo as _;
    use procfs::process::{LimitValue, Process};
    use prometheus_client::metrics::counter::Counter;

    use super::moment::{count, float, integer};

    let whole = |number: u64| integer(i64::try_from(number).unwrap_or(i64::MAX));
    let mut registry = Registry::default();
    let Ok(process) = Process::myself() else {
        return registry;
    };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second().max(1) as f64;
        let cpu = Counter::<f64, AtomicU64>::default();
        cpu.inc_by(stat.utime.saturating_add(stat.stime) as f64 / ticks);
        registry.register("process_cpu_seconds", "Total user and system CPU time spent in seconds", cpu);
        let resident = whole(stat.rss_bytes().get());
        registry.register("process_resident_memory_bytes", "Resident memory size in bytes", resident);
        registry.register("process_virtual_memory_bytes", "Virtual memory size in bytes", whole(stat.vsize));
        registry.register(
            "process_threads",
            "Number of OS threads in the process",
            integer(stat.num_threads),
        );
        if let Ok(boot) = procfs::boot_time_secs() {
            let start = float(boot as f64 + stat.starttime as f64 / ticks);
            let help = "Start time of the process since unix epoch in seconds";
            registry.register("process_start_time_seconds", help, start);
        }
    }
    if let Ok(open) = process.fd_count() {
        registry.register("process_open_fds", "Number of open file descriptors", integer(count(open)));
    }
    if let Ok(limits) = process.limits()
        && let LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        registry.register("process_max_fds", "Maximum number of open file descriptors", whole(most));
    }
    registry
}

/// No figures.
#[cfg(not(target_os = "linux"))]
pub(super) fn registry() -> Registry {
    Registry::default()
}
