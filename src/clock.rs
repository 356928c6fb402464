//! The clock by which sessions decide.
//!
//! It is the runtime's: the operating system's monotonic clock, unless the simulation of the session has stopped it and
//! moves it on by itself. Values are those of the standard library, which the pure modules take as arguments.

use std::time::{Duration, Instant};

/// The present time.
#[must_use]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long it is since `then`.
#[must_use]
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// Stops the thread, and with it everything that runs on it, for `pause`, which is well below a millisecond: the runtime's
/// timers are no finer than that. In the simulation no time passes by itself.
pub(crate) fn pause(pause: Duration) {
    if !cfg!(test) {
        std::thread::sleep(pause);
    }
}
