//! A position in PostgreSQL's write-ahead log.
//!
//! An [`Lsn`] says only where something is. Whether PostgreSQL may be told to forget what lies before it is another
//! question, answered by another type: [`crate::ack::ConfirmedLsn`].

use std::fmt;
use std::str::FromStr;

/// A log sequence number: a byte position in the write-ahead log (PostgreSQL documentation, type `pg_lsn`).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// `0/0`, which PostgreSQL calls invalid: no position at all. `START_REPLICATION` at it lets the slot decide.
    pub const ZERO: Self = Self(0);

    /// The position `bytes` from the start of the log.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The position as the number of bytes from the start of the log.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Bytes from `earlier` to this position; 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// As PostgreSQL prints a `pg_lsn`: two hexadecimal halves, `16/B374D848`.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not an LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an LSN: expected two hexadecimal numbers of up to 8 digits, such as 16/B374D848")]
pub struct ParseLsnError(String);

/// Strict: each half is one to eight hexadecimal digits. A lenient parser would turn a typing mistake into another
/// position.
impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let parsed = text.split_once('/').and_then(|(high, low)| Some(half(high)? << 32 | half(low)?));
        parsed.map(Self).ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

fn half(digits: &str) -> Option<u64> {
    let hexadecimal = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if hexadecimal { u64::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_what_postgres_prints() {
        for (number, text) in [
            (0, "0/0"),
            (1, "0/1"),
            (0x16_B374_D848, "16/B374D848"),
            (0xFFFF_FFFF, "0/FFFFFFFF"),
            (0x1_0000_0000, "1/0"),
            (u64::MAX, "FFFFFFFF/FFFFFFFF"),
        ] {
            assert_eq!(Lsn::new(number).to_string(), text);
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn::new(number));
        }
        assert_eq!("16/b374d848".parse::<Lsn>().unwrap(), Lsn::new(0x16_B374_D848));
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "/",
            "0/",
            "/0",
            "0",
            "0/100000000",
            "0/123456789",
            "-1/0",
            "+1/0",
            "0 /0",
            "0/0 ",
            "g/0",
            "0/0/0",
            "0x1/0",
        ] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?} was taken for an LSN");
        }
    }

    #[test]
    fn distance_never_wraps() {
        assert_eq!(Lsn::new(10).bytes_since(Lsn::new(4)), 6);
        assert_eq!(Lsn::new(4).bytes_since(Lsn::new(10)), 0);
    }
}
