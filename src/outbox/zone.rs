//! A time zone as a table: what a `timestamp without time zone` means.
//!
//! The table is made from the zone's rules once, at start, so that reading a row needs no rules and no files.

/// The offsets of a time zone from UTC, and from when each was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Seconds east of UTC before the first transition.
    first: i64,
    /// Each transition: the local time, by the new offset, at which it happens, and that offset.
    transitions: Vec<(i64, i64)>,
}

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub const fn utc() -> Self {
        Self { first: 0, transitions: Vec::new() }
    }

    /// A zone that begins with offset `first` and changes at `transitions`: the instant, in seconds since 1970-01-01 UTC,
    /// and the new offset in seconds east, oldest first.
    #[must_use]
    pub fn new(first: i64, transitions: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let local = |(instant, offset): (i64, i64)| (instant.saturating_add(offset), offset);
        Self { first, transitions: transitions.into_iter().map(local).collect() }
    }

    /// The instant of `local`, both in seconds since 1970-01-01. An hour that a transition skips is read by the offset
    /// before it, and one that it repeats by the offset after it, as PostgreSQL does (`DetermineTimeZoneOffset`).
    #[must_use]
    pub fn instant(&self, local: i64) -> Option<i64> {
        let passed = self.transitions.partition_point(|(from, _)| *from <= local);
        let last = passed.checked_sub(1).and_then(|last| self.transitions.get(last));
        local.checked_sub(last.map_or(self.first, |(_, offset)| *offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_and_repeated_hours_are_read_as_postgres_does() {
        // Summer time (+2 h instead of +1 h) from second 10,000 to second 50,000.
        let zone = Zone::new(3_600, [(10_000, 7_200), (50_000, 3_600)]);
        assert_eq!(zone.instant(0), Some(-3_600));
        // 13,600 to 17,200 does not exist.
        assert_eq!(zone.instant(13_599), Some(9_999));
        assert_eq!(zone.instant(15_000), Some(11_400));
        assert_eq!(zone.instant(17_200), Some(10_000));
        // 53,600 to 57,200 comes twice.
        assert_eq!(zone.instant(53_599), Some(46_399));
        assert_eq!(zone.instant(53_600), Some(50_000));
        assert_eq!(zone.instant(57_200), Some(53_600));
        assert_eq!(Zone::utc().instant(7), Some(7));
    }
}
