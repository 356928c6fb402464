//! One row of an outbox, read through its table's mapping.

use bytes::Bytes;

use super::mapping::{Field, Mapping, TimestampType};
use super::spec::TableName;
use super::timestamp::{parse_epoch_millis, parse_timestamp};
use crate::wal::pgoutput::{Tuple, Value};
use crate::wal::{PgTimestamp, UnixMillis};

/// A committed event, not yet routed.
#[derive(Debug)]
pub struct Event<'a> {
    /// How its row is read.
    pub mapping: &'a Mapping,
    /// Its id; `None` for SQL NULL.
    pub id: Option<Bytes>,
    /// Its payload; `None` for SQL NULL.
    pub payload: Option<Bytes>,
    /// Its time: that of the timestamp column, else that of its commit.
    pub timestamp: UnixMillis,
    /// Why the commit time stands in for the timestamp column.
    pub timestamp_replaced: Option<TimestampReplaced>,
    pub(super) row: Tuple,
}

/// Why a timestamp column's value could not be the record's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimestampReplaced {
    /// SQL NULL.
    Null,
    /// Not after 1970-01-01 (librdkafka replaces 0 by the present), or not a point in time (`infinity`).
    OutOfRange,
    /// More than an hour ahead of the server's clock: brokers refuse such a record.
    Ahead,
}

/// A value that cannot be read: the server sent what the relay did not ask for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row of table \"{table}\": column \"{column}\" {problem}")]
pub struct RowError {
    /// The table.
    pub table: TableName,
    /// The column.
    pub column: String,
    /// What is wrong; no value.
    pub problem: &'static str,
}

/// Brokers refuse a record stamped more than `log.message.timestamp.after.max.ms` ahead: by default an hour.
const LARGEST_LEAD_MILLIS: i64 = 3_600_000;

impl<'a> Event<'a> {
    /// Reads the mapped columns of `row`. `committed` is the transaction's commit time, `now` the server's clock as it
    /// sent the row.
    ///
    /// # Errors
    /// If a mapped value was not sent as text, or a `bytea` not in hex.
    pub fn read(
        mapping: &'a Mapping,
        row: Tuple,
        committed: PgTimestamp,
        now: PgTimestamp,
    ) -> Result<Self, RowError> {
        let id = mapping.read(&row, &mapping.id)?;
        let payload = mapping.read(&row, &mapping.payload)?;
        let (timestamp, timestamp_replaced) = match &mapping.timestamp {
            None => (committed.unix_millis(), None),
            Some((field, kind)) => match record_time(mapping.read(&row, field)?, kind, now.unix_millis()) {
                Ok(timestamp) => (timestamp, None),
                Err(why) => (committed.unix_millis(), Some(why)),
            },
        };
        Ok(Self { mapping, id, payload, timestamp, timestamp_replaced, row })
    }
}

impl Event<'_> {
    /// The value of the column that makes its key, the first one if there are several; `None` for SQL NULL.
    ///
    /// # Errors
    /// As [`Event::read`].
    pub fn key_column(&self) -> Result<Option<Bytes>, RowError> {
        match self.mapping.key_field() {
            Some(field) => self.mapping.read(&self.row, field),
            None => Ok(None),
        }
    }
}

impl Mapping {
    /// What is made of one column of a row; `None` for SQL NULL.
    pub(super) fn read(&self, row: &Tuple, field: &Field) -> Result<Option<Bytes>, RowError> {
        let value = self.column(row, field)?;
        Ok(field.functions.iter().fold(value, |value, function| function.apply(value)))
    }

    fn column(&self, row: &Tuple, field: &Field) -> Result<Option<Bytes>, RowError> {
        let problem = match row.value(field.index) {
            Some(Value::Null) => return Ok(None),
            Some(Value::Text(text)) if !field.bytea => return Ok(Some(text)),
            Some(Value::Text(text)) => match decode_hex(&text) {
                Some(raw) => return Ok(Some(raw)),
                None => "is bytea, but not in the hex format that the session asked for",
            },
            Some(Value::Binary(_)) => "came in binary format, which the session did not ask for",
            Some(Value::Unchanged) => "was left out as unchanged, which an INSERT cannot be",
            None => "lies beyond the row's last column",
        };
        Err(RowError { table: self.table.clone(), column: field.name.as_ref().to_owned(), problem })
    }
}

fn record_time(
    text: Option<Bytes>,
    kind: &TimestampType,
    now: UnixMillis,
) -> Result<UnixMillis, TimestampReplaced> {
    let text = text.ok_or(TimestampReplaced::Null)?;
    let parsed = match kind {
        TimestampType::Text(zone) => parse_timestamp(&text, zone),
        TimestampType::EpochMillis => parse_epoch_millis(&text),
    };
    match parsed {
        Some(UnixMillis(millis)) if millis <= 0 => Err(TimestampReplaced::OutOfRange),
        Some(UnixMillis(millis)) if millis > now.0.saturating_add(LARGEST_LEAD_MILLIS) => {
            Err(TimestampReplaced::Ahead)
        }
        Some(timestamp) => Ok(timestamp),
        None => Err(TimestampReplaced::OutOfRange),
    }
}

/// `bytea_output = hex`: `\x` and two digits a byte.
fn decode_hex(text: &[u8]) -> Option<Bytes> {
    let digits = text.strip_prefix(b"\\x")?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytea_gives_its_raw_bytes() {
        assert_eq!(decode_hex(b"\\x00ff1A").unwrap().as_ref(), [0x00, 0xFF, 0x1A]);
        assert_eq!(decode_hex(b"\\x").unwrap().as_ref(), [0u8; 0]);
        for text in [b"00".as_slice(), b"\\x0", b"\\xg0", b"\\000"] {
            assert_eq!(decode_hex(text), None);
        }
    }

    #[test]
    fn a_time_that_a_broker_refuses_is_replaced() {
        let now = UnixMillis(1_795_327_141_000);
        let time = |text: &'static str| {
            record_time(Some(Bytes::from_static(text.as_bytes())), &TimestampType::EpochMillis, now)
        };
        assert_eq!(record_time(None, &TimestampType::EpochMillis, now), Err(TimestampReplaced::Null));
        assert_eq!(time("0"), Err(TimestampReplaced::OutOfRange));
        assert_eq!(time("-1"), Err(TimestampReplaced::OutOfRange));
        assert_eq!(time("1"), Ok(UnixMillis(1)));
        assert_eq!(time("1795330741000"), Ok(UnixMillis(1_795_330_741_000)));
        assert_eq!(time("1795330741001"), Err(TimestampReplaced::Ahead));
        assert_eq!(time("99999999999999999999"), Err(TimestampReplaced::OutOfRange));
    }
}
