//! Telling that PostgreSQL is shutting down, from the replication stream alone.
//!
//! At shutdown a walsender does not end before the client has confirmed everything that was sent
//! (`WalSndDone` in PostgreSQL's walsender.c). Until then it sends a keepalive that requests a reply, and another as soon
//! as the reply is there. A relay that cannot confirm, because Kafka is away, would hold up the shutdown for as long.
//! In normal operation such requests lie half a `wal_sender_timeout` apart.

use crate::ack::ConfirmedLsn;
use crate::lsn::Lsn;
use crate::wal::{Keepalive, PgTimestamp};

/// Watches the keepalives of one session.
#[derive(Debug, Default)]
pub struct ServerStop {
    last: Option<(Lsn, PgTimestamp)>,
}

/// Two requests that were sent within so many microseconds are the answer to an answer. When they arrive says nothing:
/// after a time in which nothing was read, requests of many seconds come at once.
const BURST: u64 = 100_000;

impl ServerStop {
    /// Takes in a keepalive. True if the server waits for a confirmation that `position` shows we cannot give: the
    /// connection should be closed at once.
    pub fn keepalive(&mut self, keepalive: Keepalive, position: ConfirmedLsn) -> bool {
        if !keepalive.reply_requested {
            return false;
        }
        let last = self.last.replace((keepalive.wal_end, keepalive.sent));
        let burst = last.is_some_and(|(wal_end, sent)| {
            wal_end == keepalive.wal_end && keepalive.sent.as_micros().abs_diff(sent.as_micros()) < BURST
        });
        burst && position.lsn() < keepalive.wal_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Ack;

    fn request(wal_end: u64, sent: i64) -> Keepalive {
        Keepalive { wal_end: Lsn::new(wal_end), sent: PgTimestamp::from_micros(sent), reply_requested: true }
    }

    /// Trap 4.24 of docs/traps.md.
    #[test]
    fn a_burst_of_requests_that_cannot_be_satisfied_is_a_shutdown() {
        let position = Ack::new(Lsn::new(10)).position();
        let mut stop = ServerStop::default();
        assert!(!stop.keepalive(request(20, 0), position));
        assert!(stop.keepalive(request(20, 99_999), position));
    }

    #[test]
    fn what_happens_in_normal_operation_is_not() {
        let position = Ack::new(Lsn::new(10)).position();
        for (second, position) in [
            // Half a wal_sender_timeout later, and perhaps read together with the first.
            (request(20, 30_000_000), position),
            (request(20, 100_000), position),
            (request(21, 1_000), position),
            (Keepalive { reply_requested: false, ..request(20, 1_000) }, position),
            (request(20, 1_000), Ack::new(Lsn::new(20)).position()),
        ] {
            let mut stop = ServerStop::default();
            assert!(!stop.keepalive(request(20, 0), position));
            assert!(!stop.keepalive(second, position), "{second:?}");
        }
    }
}
