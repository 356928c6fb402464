//! The two clocks of an event: PostgreSQL counts microseconds from 2000, Kafka milliseconds from 1970.

/// Microseconds from 1970-01-01 to 2000-01-01 UTC.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// PostgreSQL's `TimestampTz`: microseconds since 2000-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PgTimestamp(i64);

impl PgTimestamp {
    /// From microseconds since 2000-01-01 UTC.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From microseconds since 1970-01-01 UTC; the ends of the range are kept.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(POSTGRES_EPOCH_MICROS))
    }

    /// Microseconds since 2000-01-01 UTC.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Microseconds since 1970-01-01 UTC; the ends of the range are kept.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0.saturating_add(POSTGRES_EPOCH_MICROS)
    }

    /// The same instant for Kafka, rounded down to its millisecond.
    #[must_use]
    pub const fn unix_millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_add(POSTGRES_EPOCH_MICROS).div_euclid(1000))
    }
}

/// Milliseconds since 1970-01-01 00:00 UTC, the unit of a Kafka record's timestamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_between_the_epochs() {
        assert_eq!(PgTimestamp::from_micros(0).unix_millis(), UnixMillis(946_684_800_000));
        assert_eq!(PgTimestamp::from_micros(-1).unix_millis(), UnixMillis(946_684_799_999));
        assert_eq!(PgTimestamp::from_unix_micros(1_999).unix_millis(), UnixMillis(1));
        assert_eq!(PgTimestamp::from_unix_micros(-1).unix_millis(), UnixMillis(-1));
    }
}
