//! Which rows may be touched, and from when on. Pure.
//!
//! A [`Look`] at the server becomes a [`Horizon`] if that server is the one that the session streams from, and a horizon
//! becomes [`Settled`] when the session has reported what lies before it. Statements that change rows are made for what is
//! settled only (`statements.rs`), so none of the steps can be left out.

use std::fmt;

use crate::lsn::Lsn;

/// A moment of a server, as one question shows it: the snapshot is taken before anything else is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// `pg_snapshot_xmin`: all transactions with a lower number have ended.
    pub(super) xmin: u64,
    /// `pg_current_wal_insert_lsn`, read after the snapshot.
    pub(super) insert: Lsn,
    /// Bytes of a segment of the log.
    pub(super) segment: u64,
    /// Bytes of a page of the log.
    pub(super) page: u64,
    /// Whose log it is.
    pub(super) origin: Origin,
}

/// What tells one server from another that has the same tables, such as a copy that was promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The timeline that it writes.
    pub timeline: u32,
    /// The process that uses the slot there; nobody if it is `None`.
    pub walsender: Option<i32>,
}

/// It is another server than the one that the session streams from, or the session has ended: positions of the two must not
/// be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is another server than the one that is streamed from: there, {expected}; here, {found}\n\nhint: nothing is touched; \
     name a server in postgres.url that both connections reach, not a proxy that parts them"
)]
pub(super) struct Elsewhere {
    expected: Origin,
    found: Origin,
}

/// Transactions before `xmin` have ended, and those of them that were committed lie before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Horizon {
    xmin: u64,
    end: Lsn,
}

/// Every row that was committed by a transaction before `xmin` has its record in Kafka, or was passed over on purpose.
///
/// Let a row be visible, and `x` the transaction in its `xmin`, with `x < xmin`. If `x` is a subtransaction, its top transaction is
/// older still. So that had ended when the snapshot was taken, and it was committed, or the row would not be visible. PostgreSQL
/// writes a commit into its log before it lets a snapshot see it (`RecordTransactionCommit`, then `ProcArrayEndTransaction` in
/// src/backend/access/transam/xact.c), so the commit's record ends at or before the position that was read after the snapshot.
/// A position that the session reports lies behind only such commits as Kafka has confirmed whole, or whose rows were passed
/// over on purpose (`ack.rs`). A transaction that is open at the look, however long, is at or behind `xmin`: its rows are another
/// pass's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    xmin: u64,
}

/// Bytes of a page's header, and of the first one of a segment (`SizeOfXLogShortPHD` and `SizeOfXLogLongPHD` in
/// src/include/access/xlog_internal.h, aligned to 8).
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

impl Horizon {
    /// What `look` allows for a session with the server `own`.
    pub(super) fn of(look: &Look, own: Origin) -> Result<Self, Elsewhere> {
        if look.origin != own || own.walsender.is_none() {
            return Err(Elsewhere { expected: own, found: look.origin });
        }
        Ok(Self { xmin: look.xmin, end: end_of_records(look.insert, look.segment, look.page) })
    }

    /// What may be touched once `reported` was reported; nothing if that is too early.
    pub(super) fn reached(self, reported: Lsn) -> Option<Settled> {
        (reported >= self.end).then_some(Settled { xmin: self.xmin })
    }
}

impl Settled {
    /// The number as rows have it: its lower half.
    pub(super) const fn xid(self) -> u64 {
        self.xmin & 0xFFFF_FFFF
    }
}

/// The highest position at which a record before `insert` can end. The next record begins behind the page's header, which is
/// what PostgreSQL says; the last one ends before it, and that is how far an idle server's stream ever comes.
fn end_of_records(insert: Lsn, segment: u64, page: u64) -> Lsn {
    let at = insert.as_u64();
    let within = at.checked_rem(page).unwrap_or(0);
    let start = at.saturating_sub(within);
    let header = if start.checked_rem(segment) == Some(0) { LONG_HEADER } else { SHORT_HEADER };
    if within <= header { Lsn::new(start) } else { insert }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process ")?;
        match self.walsender {
            Some(pid) => write!(f, "{pid}")?,
            None => write!(f, "none")?,
        }
        write!(f, " uses the slot, on timeline {}", self.timeline)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: Origin = Origin { timeline: 2, walsender: Some(4711) };

    fn look(insert: u64, origin: Origin) -> Look {
        Look { xmin: (5 << 32) + 742, insert: Lsn::new(insert), segment: 16 << 20, page: 8_192, origin }
    }

    #[test]
    fn the_end_of_the_last_record_is_not_behind_a_header() {
        let end = |at| end_of_records(Lsn::new(at), 16 << 20, 8_192).as_u64();
        let (page, segment) = (0x0200_2000, 0x0300_0000);
        // A page that a record fills to its end.
        assert_eq!(end(page + 24), page);
        assert_eq!(end(page), page);
        // A record whose end is all that this page has of it.
        assert_eq!(end(page + 32), page + 32);
        assert_eq!(end(page + 40), page + 40);
        // The first page of a segment, as pg_switch_wal() leaves it.
        assert_eq!(end(segment + 40), segment);
        assert_eq!(end(segment + 48), segment + 48);
        assert_eq!(end(segment + 8_192 + 40), segment + 8_192 + 40);
        // Servers can be built with other sizes.
        assert_eq!(end_of_records(Lsn::new(0x1028), 1 << 20, 4_096), Lsn::new(0x1028));
        assert_eq!(end_of_records(Lsn::new(0x1018), 1 << 20, 4_096), Lsn::new(0x1000));
        assert_eq!(end_of_records(Lsn::new(7), 0, 0), Lsn::new(7));
    }

    #[test]
    fn another_server_has_no_horizon() {
        for origin in [
            Origin { timeline: 3, ..OWN },
            Origin { walsender: Some(4712), ..OWN },
            Origin { walsender: None, ..OWN },
        ] {
            assert_eq!(
                Horizon::of(&look(0x500, origin), OWN),
                Err(Elsewhere { expected: OWN, found: origin })
            );
        }
        // Nobody knows who streams: two servers on which nobody does are not the same one.
        let nobody = Origin { walsender: None, ..OWN };
        assert!(Horizon::of(&look(0x500, nobody), nobody).is_err());
        insta::assert_snapshot!(Horizon::of(&look(0x500, nobody), OWN).unwrap_err(), @"
        it is another server than the one that is streamed from: there, process 4711 uses the slot, on timeline 2; here, process none uses the slot, on timeline 2

        hint: nothing is touched; name a server in postgres.url that both connections reach, not a proxy that parts them
        ");
    }

    proptest! {
        #[test]
        fn nothing_is_settled_before_all_that_the_snapshot_saw_is_reported(
            insert in 0_u64..1 << 40, reported in 0_u64..1 << 40, before in 0_u64..100,
        ) {
            let horizon = Horizon::of(&look(insert, OWN), OWN).unwrap();
            let reported = Lsn::new(reported);
            prop_assert_eq!(horizon.reached(reported).is_some(), reported >= horizon.end);
            prop_assert!(horizon.end.as_u64() > 0 || insert <= LONG_HEADER);
            // Nothing but a header lies between the two.
            prop_assert!(insert - horizon.end.as_u64() <= LONG_HEADER);
            let earlier = Lsn::new(horizon.end.as_u64().saturating_sub(before + 1));
            prop_assert!(horizon.reached(earlier).is_none() || horizon.end == Lsn::ZERO);
            prop_assert_eq!(horizon.reached(horizon.end).unwrap().xid(), 742);
        }
    }
}
