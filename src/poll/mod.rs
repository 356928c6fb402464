//! `outbox.source = "poll"`: pending rows are read by a query, sent, and marked or deleted once Kafka has them.
//!
//! For servers without logical replication rights, and the smallest way to start. A row is to be sent as long as its status says
//! so; nothing else is remembered, so a row whose transaction commits late is not missed, and a row that an earlier publisher
//! left is just another one. One process polls at a time: it holds an advisory lock.
//!
//! Order: of the rows that one look sees, by time and id. A transaction that commits after a look is sent after what that look
//! saw, whatever its rows' time.

mod look;
mod poller;
mod statements;

use std::time::Duration;

pub use poller::Poller;

use crate::config::AfterPublish;

/// What is polled, and how.
#[derive(Debug, Clone)]
pub struct Polling {
    /// The longest time between two looks.
    pub interval: Duration,
    /// The channel whose NOTIFY ends that.
    pub channel: String,
    /// Rows read at once.
    pub batch: u32,
    /// Which rows are pending, and what becomes of them then: they are marked or deleted.
    pub after: AfterPublish,
}

/// The number of the lock that the one active poller of `name` holds; two names share one with a probability of 1 to 2⁶³.
/// PostgreSQL's `hashtextextended` would do, if it were promised to stay the same.
#[must_use]
pub fn lock_key(name: &str) -> i64 {
    // FNV-1a, which is a line and never changes.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_the_same_in_every_version() {
        assert_eq!(lock_key("outbox_relay"), lock_key("outbox_relay"));
        assert_ne!(lock_key("outbox_relay"), lock_key("outbox_relay_2"));
        assert_eq!(lock_key(""), 0xcbf2_9ce4_8422_2325_u64.cast_signed());
    }
}
