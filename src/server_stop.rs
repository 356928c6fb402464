//! Telling that PostgreSQL is shutting down, from the replication stream alone.
//!
//! At shutdown a walsender does not end before the client has confirmed everything that was sent
//! (`WalSndDone` in PostgreSQL's walsender.c). Until then it sends a keepalive that requests a reply, and another as soon
//! as the reply is there. A relay that cannot confirm, because Kafka is away, would hold up the shutdown for as long.
//! In normal operation such requests lie half a `wal_sender_timeout` apart, by the clock of the server that sent them:
//! a relay that did not read for a while finds several of them at once.

use crate::ack::ConfirmedLsn;
use crate::lsn::Lsn;
use crate::wal::{Keepalive, PgTimestamp};

/// Watches the keepalives of one session.
#[derive(Debug, Default)]
pub struct ServerStop {
    last: Option<(Lsn, PgTimestamp)>,
}

/// Two requests that were sent closer together than this, in microseconds, are the answer to an answer.
const BURST: i64 = 100_000;

impl ServerStop {
    /// Takes in a keepalive. True if the server waits for a confirmation that `position` shows we cannot give: the
    /// connection should be closed at once.
    pub fn keepalive(&mut self, keepalive: Keepalive, position: ConfirmedLsn) -> bool {
        if !keepalive.reply_requested {
            return false;
        }
        let Keepalive { wal_end, sent, .. } = keepalive;
        let last = self.last.replace((wal_end, sent));
        let burst = last.is_some_and(|(last_end, last_sent)| {
            let between = sent.as_micros().saturating_sub(last_sent.as_micros());
            // A clock that was set back tells nothing; the next request will.
            last_end == wal_end && (0..BURST).contains(&between)
        });
        burst && position.lsn() < keepalive.wal_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Ack;
    use crate::wal::PgTimestamp;

    /// A request, sent so many milliseconds after the first one.
    fn request(wal_end: u64, millis: i64) -> Keepalive {
        let sent = PgTimestamp::from_micros(millis * 1000);
        Keepalive { wal_end: Lsn::new(wal_end), sent, reply_requested: true }
    }

    #[test]
    fn a_burst_of_requests_that_cannot_be_satisfied_is_a_shutdown() {
        let position = Ack::new(Lsn::new(10)).position();
        let mut stop = ServerStop::default();
        assert!(!stop.keepalive(request(20, 0), position));
        assert!(stop.keepalive(request(20, 99), position));
    }

    #[test]
    fn what_happens_in_normal_operation_is_not() {
        let position = Ack::new(Lsn::new(10)).position();
        for (second, position) in [
            // However soon after the first one it is read.
            (request(20, 100), position),
            (request(20, -1), position),
            (request(21, 1), position),
            (Keepalive { reply_requested: false, ..request(20, 1) }, position),
            (request(20, 1), Ack::new(Lsn::new(20)).position()),
        ] {
            let mut stop = ServerStop::default();
            assert!(!stop.keepalive(request(20, 0), position));
            assert!(!stop.keepalive(second, position), "{second:?}");
        }
    }
}
