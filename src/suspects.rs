//! Which records may be the one that Kafka refuses.
//!
//! A broker refuses a whole batch, whatever is wrong with one of its records, or with their number. So all records of a
//! refused batch are suspects. When they come again from the slot each is sent alone: one that fails then is proved to be
//! at fault, and all others are acquitted. What goes in are places and verdicts; out comes who is to be sent alone, who is
//! not to be sent at all, and, at the end, whether the batch itself was the fault.

use std::collections::{BTreeMap, BTreeSet};

use crate::ack::ConfirmedLsn;
use crate::lsn::Lsn;
use crate::outbox::RejectionReason;

/// A row's place in the stream: it is the same when the row comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its transaction's commit record.
    pub commit_lsn: Lsn,
    /// Its number in the transaction, counted from 1.
    pub row: u32,
}

/// The suspects of one or more refused batches. They outlive sessions.
#[derive(Debug, Default)]
pub struct Suspects {
    places: BTreeSet<Place>,
    guilty: BTreeMap<Place, Guilt>,
    /// Bytes of the records that were refused as too large, while none of them has proved to be.
    too_large: Option<usize>,
}

/// Why a record is refused that was sent alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guilt {
    /// The class of the problem.
    pub reason: RejectionReason,
    /// Kafka's own words.
    pub words: String,
    /// Its dead letter is stored.
    pub buried: bool,
}

impl Suspects {
    /// The record at `place`, of `bytes`, was in a batch that Kafka refused for `reason`.
    pub fn suspect(&mut self, place: Place, reason: RejectionReason, bytes: usize) {
        if self.places.insert(place) && reason == RejectionReason::TooLarge {
            self.too_large = Some(self.too_large.unwrap_or(0).saturating_add(bytes));
        }
    }

    /// Whether the record at `place` must be sent alone.
    #[must_use]
    pub fn contains(&self, place: Place) -> bool {
        self.places.contains(&place)
    }

    /// The record at `place` was sent alone and refused: it is at fault, and not the size of its batch. That is remembered
    /// until its transaction is acknowledged: when the row comes again, it must not spoil another batch. It stays a suspect
    /// until it has been dealt with, because what stands in for it may be refused as well.
    pub fn convict(&mut self, place: Place, guilt: Guilt) {
        self.guilty.insert(place, guilt);
        self.too_large = None;
    }

    /// What was sent for `place` is stored. If its record is at fault, that was the dead letter.
    pub fn stored(&mut self, place: Place) {
        self.places.remove(&place);
        if let Some(guilt) = self.guilty.get_mut(&place) {
            guilt.buried = true;
        }
    }

    /// Why the record at `place` need not be sent.
    #[must_use]
    pub fn guilt(&self, place: Place) -> Option<&Guilt> {
        self.guilty.get(&place)
    }

    /// All before `confirmed` is acknowledged: it does not come again, and nothing need be known of it. Only what is known
    /// is dropped here, no data.
    pub fn forget_before(&mut self, confirmed: ConfirmedLsn) {
        let first = Place { commit_lsn: confirmed.lsn(), row: 0 };
        self.places = self.places.split_off(&first);
        self.guilty = self.guilty.split_off(&first);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Nobody is suspected any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The last word on the refused batches, when nobody is suspected any more: how many bytes together were too large,
    /// although each record went through alone. Given once.
    pub fn take_too_large_together(&mut self) -> Option<usize> {
        if self.is_empty() { self.too_large.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ack::Ack;

    fn place(commit_lsn: u64, row: u32) -> Place {
        Place { commit_lsn: Lsn::new(commit_lsn), row }
    }

    fn suspects(places: &[Place], reason: RejectionReason) -> Suspects {
        let mut suspects = Suspects::default();
        places.iter().for_each(|place| suspects.suspect(*place, reason, 100));
        suspects
    }

    #[test]
    fn all_records_of_a_batch_are_suspects_until_each_is_cleared() {
        let mut suspects = suspects(&[place(10, 1), place(10, 3)], RejectionReason::Refused);
        assert!(suspects.contains(place(10, 1)) && suspects.contains(place(10, 3)));
        assert_eq!(suspects.len(), 2);
        assert!(!suspects.contains(place(10, 2)) && !suspects.contains(place(20, 1)));
        suspects.stored(place(10, 1));
        assert!(!suspects.contains(place(10, 1)) && !suspects.is_empty());
        assert_eq!(suspects.len(), 1);
        suspects.stored(place(10, 3));
        assert!(suspects.is_empty());
        assert_eq!(suspects.take_too_large_together(), None);
    }

    #[test]
    fn a_batch_of_which_every_record_goes_through_alone_was_too_large_itself() {
        let mut suspects = suspects(&[place(10, 1), place(10, 2)], RejectionReason::TooLarge);
        suspects.stored(place(10, 1));
        assert_eq!(suspects.take_too_large_together(), None);
        suspects.stored(place(10, 2));
        assert_eq!(suspects.take_too_large_together(), Some(200));
        assert_eq!(suspects.take_too_large_together(), None);
    }

    #[test]
    fn a_batch_with_a_record_at_fault_was_not() {
        let mut suspects = suspects(&[place(10, 1), place(10, 2)], RejectionReason::TooLarge);
        suspects.stored(place(10, 1));
        let guilt = Guilt { reason: RejectionReason::TooLarge, words: "too large".to_owned(), buried: false };
        suspects.convict(place(10, 2), guilt.clone());
        // What stands in for it is sent alone as well.
        assert!(suspects.contains(place(10, 2)));
        suspects.stored(place(10, 2));
        assert!(suspects.is_empty());
        assert_eq!(suspects.take_too_large_together(), None);
        // If its transaction comes again, it is known, and so is its dead letter.
        let guilt = Guilt { buried: true, ..guilt };
        assert_eq!((suspects.guilt(place(10, 1)), suspects.guilt(place(10, 2))), (None, Some(&guilt)));
        suspects.forget_before(Ack::new(Lsn::new(10)).position());
        assert_eq!(suspects.guilt(place(10, 2)), Some(&guilt));
        suspects.forget_before(Ack::new(Lsn::new(11)).position());
        assert_eq!(suspects.guilt(place(10, 2)), None);
    }

    #[test]
    fn who_does_not_come_again_is_no_suspect() {
        let mut ack = Ack::new(Lsn::new(15));
        let mut suspects = suspects(&[place(10, 1), place(15, 1), place(20, 1)], RejectionReason::TooLarge);
        suspects.forget_before(ack.position());
        assert!(!suspects.contains(place(10, 1)) && suspects.contains(place(15, 1)));
        ack.keepalive(Lsn::new(21));
        suspects.forget_before(ack.position());
        assert!(suspects.is_empty());
    }
}
