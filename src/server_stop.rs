//! Telling that PostgreSQL is shutting down, from the replication stream alone.
//!
//! At shutdown a walsender does not end before the client has confirmed everything that was sent
//! (`WalSndDone` in PostgreSQL's walsender.c). Until then it sends a keepalive that requests a reply, and another as soon
//! as the reply is there. A relay that cannot confirm, because Kafka is away, would hold up the shutdown for as long.
//! In normal operation such requests lie half a `wal_sender_timeout` apart.

use std::time::{Duration, Instant};

use crate::ack::ConfirmedLsn;
use crate::lsn::Lsn;
use crate::wal::Keepalive;

/// Watches the keepalives of one session. Time is an argument.
#[derive(Debug, Default)]
pub struct ServerStop {
    last: Option<(Lsn, Instant)>,
}

/// Two requests that lie closer together than this are the answer to an answer.
const BURST: Duration = Duration::from_millis(100);

impl ServerStop {
    /// Takes in a keepalive. True if the server waits for a confirmation that `position` shows we cannot give: the
    /// connection should be closed at once.
    pub fn keepalive(&mut self, keepalive: Keepalive, position: ConfirmedLsn, now: Instant) -> bool {
        if !keepalive.reply_requested {
            return false;
        }
        let last = self.last.replace((keepalive.wal_end, now));
        let burst = last.is_some_and(|(wal_end, at)| {
            wal_end == keepalive.wal_end && now.saturating_duration_since(at) < BURST
        });
        burst && position.lsn() < keepalive.wal_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Ack;
    use crate::wal::PgTimestamp;

    fn request(wal_end: u64) -> Keepalive {
        Keepalive { wal_end: Lsn::new(wal_end), sent: PgTimestamp::default(), reply_requested: true }
    }

    #[test]
    fn a_burst_of_requests_that_cannot_be_satisfied_is_a_shutdown() {
        let start = Instant::now();
        let position = Ack::new(Lsn::new(10)).position();
        let mut stop = ServerStop::default();
        assert!(!stop.keepalive(request(20), position, start));
        assert!(stop.keepalive(request(20), position, start + Duration::from_millis(99)));
    }

    #[test]
    fn what_happens_in_normal_operation_is_not() {
        let start = Instant::now();
        let soon = start + Duration::from_millis(1);
        let position = Ack::new(Lsn::new(10)).position();
        for (second, at, position) in [
            (request(20), start + BURST, position),
            (request(21), soon, position),
            (Keepalive { reply_requested: false, ..request(20) }, soon, position),
            (request(20), soon, Ack::new(Lsn::new(20)).position()),
        ] {
            let mut stop = ServerStop::default();
            assert!(!stop.keepalive(request(20), position, start));
            assert!(!stop.keepalive(second, position, at), "{second:?}");
        }
    }
}
