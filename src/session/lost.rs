//! Telling a replication connection that is of no use any more from a server that is busy.
//!
//! Both are silent. The control connection knows: a walsender that waits for the relay has answered everything it was
//! asked, so what it said was lost on the way; one that works has not come to it yet. If that connection is silent as
//! well, the server is frozen or out of reach, and the session ends so that the next can look for another host.

use std::time::{Duration, Instant};

use super::{Error, Session};
use crate::postgres::control::Slot;

impl Session<'_> {
    /// The control connection has shown the `slot`.
    ///
    /// # Errors
    /// [`Error::Lost`] if the server has given the stream up, or cannot be heard.
    pub(super) fn streams(&self, slot: Option<&Slot>, now: Instant) -> Result<(), Error> {
        match self.walsender.zip(slot).and_then(|(ours, slot)| lost(ours, slot, self.silence.unanswered(now)))
        {
            Some(why) => Err(Error::Lost(why)),
            None => Ok(()),
        }
    }

    /// The control connection is silent or gone.
    ///
    /// # Errors
    /// [`Error::Lost`] if the replication connection is silent too.
    pub(super) fn is_heard(&self, now: Instant) -> Result<(), Error> {
        match self.silence.unanswered(now) {
            None => Ok(()),
            Some(silent) => Err(Error::Lost(format!(
                "PostgreSQL has been silent for {} s, and does not answer on the control connection either",
                silent.as_secs()
            ))),
        }
    }
}

/// Why the stream of the walsender `ours` is of no use, if it is; `silent` is for how long nothing has come of it although
/// it was asked.
fn lost(ours: i32, slot: &Slot, silent: Option<Duration>) -> Option<String> {
    if slot.active_pid != Some(ours) {
        return Some(format!("PostgreSQL's walsender (pid {ours}) has left the slot"));
    }
    let silent = silent.filter(|_| slot.walsender_waits)?.as_secs();
    Some(format!(
        "PostgreSQL's walsender (pid {ours}) waits for the relay, but nothing has come from it for {silent} s"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: Option<Duration> = Some(Duration::from_secs(20));

    #[test]
    fn a_walsender_that_works_is_given_time_and_one_that_waits_is_not_heard() {
        let working = Slot { active_pid: Some(7), ..Slot::default() };
        assert_eq!(lost(7, &working, SILENT), None);
        let waiting = Slot { walsender_waits: true, ..working };
        assert_eq!(lost(7, &waiting, None), None);
        insta::assert_snapshot!(
            lost(7, &waiting, SILENT).unwrap(),
            @"PostgreSQL's walsender (pid 7) waits for the relay, but nothing has come from it for 20 s"
        );
    }

    #[test]
    fn a_slot_that_our_walsender_has_left_is_not_ours_any_more() {
        for active_pid in [None, Some(8)] {
            let slot = Slot { active_pid, walsender_waits: true, ..Slot::default() };
            assert_eq!(lost(7, &slot, None).unwrap(), "PostgreSQL's walsender (pid 7) has left the slot");
        }
    }
}
