//! How a table is gone through: a stretch of blocks at a time, as long as a short transaction takes. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Blocks of a table's file, `until` not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// How many blocks are taken at once. It follows how long they took, since what a block costs is not known: one may hold
/// hundreds of rows, or nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stride(u64);

/// What is left of a table.
#[derive(Debug)]
pub(super) struct Walk(VecDeque<Blocks>);

/// A transaction that takes less is worth making larger, and one that takes more holds its locks for too long.
const SHORT: Duration = Duration::from_millis(15);
const LONG: Duration = Duration::from_millis(60);

/// 1 MiB of a table at first, 64 MiB at most.
const FIRST: u64 = 128;
const MOST: u64 = 8_192;

impl Default for Stride {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Stride {
    /// Learns from what the last stretch took.
    pub(super) fn took(&mut self, time: Duration) {
        if time < SHORT {
            self.0 = self.0.saturating_mul(2).min(MOST);
        } else if time > LONG {
            self.0 = self.0.div_euclid(2).max(1);
        }
    }
}

impl Walk {
    /// Over all of `places`, which are in order.
    pub(super) fn over(places: impl IntoIterator<Item = Blocks>) -> Self {
        let mut walk = VecDeque::<Blocks>::new();
        for place in places {
            match walk.back_mut() {
                // One that follows right upon the one before is part of the same stretch.
                Some(last) if last.until >= place.from => last.until = last.until.max(place.until),
                _ => walk.push_back(place),
            }
        }
        walk.retain(|place| place.from < place.until);
        Self(walk)
    }

    /// The next stretch; nothing at the end.
    pub(super) fn next(&mut self, stride: Stride) -> Option<Blocks> {
        let place = self.0.front_mut()?;
        let until = place.until.min(place.from.saturating_add(stride.0));
        let next = Blocks { from: place.from, until };
        place.from = until;
        if place.from >= place.until {
            self.0.pop_front();
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(from: u64, until: u64) -> Blocks {
        Blocks { from, until }
    }

    #[test]
    fn a_stretch_grows_while_it_is_quick_and_shrinks_when_it_is_not() {
        let mut stride = Stride::default();
        stride.took(Duration::from_millis(30));
        assert_eq!(stride, Stride(128));
        for _ in 0..20 {
            stride.took(Duration::from_millis(1));
        }
        assert_eq!(stride, Stride(MOST));
        for _ in 0..20 {
            stride.took(Duration::from_secs(1));
        }
        assert_eq!(stride, Stride(1));
    }

    #[test]
    fn neighbours_are_one_stretch() {
        let mut walk = Walk::over([blocks(0, 64), blocks(64, 128), blocks(256, 320), blocks(400, 400)]);
        let stride = Stride(100);
        assert_eq!(walk.next(stride), Some(blocks(0, 100)));
        assert_eq!(walk.next(stride), Some(blocks(100, 128)));
        assert_eq!(walk.next(stride), Some(blocks(256, 320)));
        assert_eq!(walk.next(stride), None);
    }

    proptest! {
        #[test]
        fn each_block_comes_once(
            lengths in prop::collection::vec((0_u64..50, 0_u64..200), 0..20), times in prop::collection::vec(0_u64..200, 1..50),
        ) {
            let mut at = 0;
            let places: Vec<_> = lengths.iter().map(|(gap, length)| {
                let place = blocks(at + gap, at + gap + length);
                at = place.until;
                place
            }).collect();
            let expected: Vec<u64> = places.iter().flat_map(|place| place.from..place.until).collect();
            let (mut walk, mut stride, mut seen) = (Walk::over(places), Stride::default(), Vec::new());
            let mut times = times.iter().cycle();
            while let Some(next) = walk.next(stride) {
                prop_assert!(next.from < next.until);
                seen.extend(next.from..next.until);
                stride.took(Duration::from_millis(*times.next().unwrap()));
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
