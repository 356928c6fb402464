//! How long nothing is done: between two batches, and between two passes. Pure.

use std::time::Duration;

/// What ends the rest between two passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Not before this has passed.
    pub(super) least: Duration,
    /// Then, if Kafka has confirmed an event since the pass began; without one, when this has passed.
    pub(super) most: Duration,
}

/// The rests after each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rests {
    least: Duration,
    most: Duration,
}

/// How soon a row goes after its record was confirmed, if nothing is in the way.
const SOON: Duration = Duration::from_secs(1);

/// How soon a pass follows one that found something to do: rows that somebody had locked are tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How often a table is looked at in which nothing happens. What is left there is what was locked, or the application's.
const IDLE: Duration = Duration::from_secs(60);

/// No rest between two batches is longer, and no event waits longer for the processor because of one.
const LONGEST_BREATH: Duration = Duration::from_millis(500);

impl Rests {
    /// For rows that stay for `retention`: a twentieth of that later does not matter.
    pub(super) fn new(retention: Duration) -> Self {
        let least = retention.checked_div(20).unwrap_or_default().clamp(SOON, IDLE);
        Self { least, most: AGAIN.max(least) }
    }

    /// The rest after a pass that took `time` of the server, changed something or not, and met something that was `held` by
    /// somebody else.
    pub(super) fn after(&mut self, time: Duration, changed: bool, held: bool) -> Rest {
        self.most = if changed { AGAIN } else { self.most.saturating_mul(2) }.clamp(self.least, IDLE);
        // A table that takes long to look through is left alone for longer: a quarter of one process at most.
        let least = if held { SOON } else { self.least }.max(time.saturating_mul(3));
        let most = if held { AGAIN } else { self.most };
        Rest { least, most: most.max(least) }
    }
}

/// The rest after a batch that took `time`. With a backlog, events come first: half of one process is theirs.
pub(super) fn breath(time: Duration, catching_up: bool) -> Duration {
    if catching_up { time.min(LONGEST_BREATH) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_table_is_looked_at_once_a_minute() {
        let mut rests = Rests::new(Duration::ZERO);
        let most: Vec<_> = (0..6).map(|_| rests.after(Duration::ZERO, false, false).most.as_secs()).collect();
        assert_eq!(most, [10, 20, 40, 60, 60, 60]);
        assert_eq!(rests.after(Duration::ZERO, true, false), Rest { least: SOON, most: AGAIN });
        assert_eq!(rests.after(Duration::ZERO, false, false), Rest { least: SOON, most: seconds(10) });
    }

    #[test]
    fn what_stays_for_days_is_not_looked_for_every_second() {
        assert_eq!(
            Rests::new(seconds(7 * 86_400)).after(Duration::ZERO, true, false),
            Rest { least: IDLE, most: IDLE }
        );
        assert_eq!(
            Rests::new(seconds(60)).after(Duration::ZERO, true, false),
            Rest { least: seconds(3), most: AGAIN }
        );
    }

    #[test]
    fn what_somebody_held_is_tried_again_soon() {
        let rest = Rests::new(seconds(86_400)).after(Duration::ZERO, false, true);
        assert_eq!(rest, Rest { least: SOON, most: AGAIN });
    }

    #[test]
    fn a_table_that_takes_long_is_left_alone_for_longer() {
        let rest = Rests::new(Duration::ZERO).after(seconds(40), true, false);
        assert_eq!(rest, Rest { least: seconds(120), most: seconds(120) });
    }

    #[test]
    fn events_come_first_while_there_is_a_backlog() {
        assert_eq!(breath(Duration::from_millis(30), true), Duration::from_millis(30));
        assert_eq!(breath(seconds(5), true), LONGEST_BREATH);
        assert_eq!(breath(seconds(5), false), Duration::ZERO);
    }
}
