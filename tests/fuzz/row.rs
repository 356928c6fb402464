//! A fuzz body for the values of a row: `bytea`, timestamps of each type, and the texts that make key and topic.

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{Columns, Record};
use outbox_relay::relay::{Error, Relay, Step, Tally};
use outbox_relay::wal::PgTimestamp;
use outbox_relay::wal::pgoutput::{Begin, RelationId, Value};

use crate::wire::stream::table;
use crate::wire::{Message, columns, spec, xlog_data};

const BYTEA: u32 = 17;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

/// When the row is committed and sent: 2026-11-22 05:59:01 UTC, in milliseconds since 1970.
const NOW: i64 = 1_795_327_141_000;

/// A byte that chooses the columns' types, then their values, with a zero byte between: timestamp, payload, id, type, key.
/// A value that is one of the bytes 1 to 3 is NULL, binary, or left out as unchanged.
pub(crate) fn row(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let timestamp_type = [TIMESTAMPTZ, TIMESTAMP, INT8][usize::from(first) % 3];
    let payload_type = if first & 0x80 == 0 { TEXT } else { BYTEA };
    let mut values: Vec<Value> = rest.splitn(5, |byte| *byte == 0).map(value).collect();
    values.resize(5, Value::Null);
    let types = [
        ("at", timestamp_type),
        ("payload", payload_type),
        ("id", TEXT),
        ("aggregate_type", TEXT),
        ("aggregate_id", TEXT),
        ("event_type", TEXT),
    ];
    let outbox = table(10, "public", "outbox", &types);
    let all = values.iter().cloned().chain([Value::Null]).collect();

    let mut spec = spec(&["public"]);
    spec.shape.columns = Columns { timestamp: Some("at".to_owned()), ..columns() };
    let mut relay = super::relay_of(spec, Lsn::ZERO);
    let sent = PgTimestamp::from_unix_micros(NOW * 1_000);
    let begin = Message::Begin(Begin { commit_lsn: Lsn::new(100), commit_time: sent, xid: 1 });
    for message in [begin, Message::Relation(outbox)] {
        assert_eq!(relay.wal(xlog_data(Lsn::ZERO, sent, &message)), Ok(Step::Nothing));
    }
    let insert = Message::Insert(RelationId(10), all);
    match relay.wal(xlog_data(Lsn::ZERO, sent, &insert)) {
        Ok(Step::Record(record)) => is_of(&record, &values, payload_type, &relay),
        Ok(Step::Rejected(rejection)) => assert!(!rejection.detail.is_empty()),
        // Not the value, which may be somebody's payload.
        Err(Error::Row(error)) => {
            assert!(error.to_string().starts_with("a row of table \"public.outbox\": column"))
        }
        other => panic!("{other:?}"),
    }
}

fn value(bytes: &[u8]) -> Value {
    match bytes {
        [1] => Value::Null,
        [2] => Value::Binary(Bytes::from_static(b"binary")),
        [3] => Value::Unchanged,
        text => Value::Text(Bytes::copy_from_slice(text)),
    }
}

/// `record` says what the row says.
fn is_of(record: &Record, values: &[Value], payload_type: u32, relay: &Relay) {
    let [at, payload, id, _, key] = values else { panic!("{values:?}") };
    match (payload, &record.value) {
        (Value::Null, None) => {}
        (Value::Text(text), Some(value)) if payload_type == TEXT => assert_eq!(text, value),
        (Value::Text(text), Some(value)) => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text.to_ascii_lowercase(), format!("\\x{hex}").as_bytes());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(text_of(id), record.headers[0].value);
    assert_eq!(text_of(key), record.key);

    let millis = record.timestamp.0;
    assert!(millis > 0, "librdkafka takes 0 for now");
    let replaced = match relay.tally() {
        tally if tally == Tally::default() => {
            assert!(millis <= NOW + 3_600_000, "a broker refuses {millis}");
            let text = text_of(at).unwrap();
            let text = std::str::from_utf8(&text).unwrap();
            assert!(says(text, millis), "{text:?} became {millis}");
            return;
        }
        Tally { timestamps_null: 1, .. } => *at == Value::Null,
        Tally { timestamps_out_of_range: 1, .. } | Tally { timestamps_ahead: 1, .. } => *at != Value::Null,
        tally => panic!("{tally:?}"),
    };
    assert!(replaced && millis == NOW, "{at:?} became {millis}");
}

fn text_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// Whether `text` is how PostgreSQL prints that time: as a number, or as a time in UTC, whose microseconds are cut off.
fn says(text: &str, millis: i64) -> bool {
    if text.parse() == Ok(millis) {
        return true;
    }
    let text = text.strip_suffix("+00").unwrap_or(text);
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let (date, clock) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(date);
    let (hour, minute, second) = (clock / 3_600_000, clock / 60_000 % 60, clock / 1_000 % 60);
    let printed = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    let is_fraction =
        (1..=6).contains(&fraction.len()) && fraction.bytes().all(|digit| digit.is_ascii_digit());
    printed == seconds && is_fraction && format!("{fraction:0<3}")[..3] == format!("{:03}", clock % 1_000)
}

/// The date so many days after 1970-01-01, found by going there year by year and month by month.
fn civil(mut days: i64) -> (i64, i64, i64) {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, i64::try_from(month).unwrap() + 1, days + 1)
}

/// Where a fuzzer starts from.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let rest = "\0{\"total\": 5}\x005b0d\0order\x004711";
    let row = |first: u8, text: &str| [&[first], text.as_bytes()].concat();
    vec![
        row(0, &format!("2026-11-22 05:59:01.123456+00{rest}")),
        row(0, &format!("infinity{rest}")),
        row(0, &format!("2000-02-29 23:59:59.5+00{rest}")),
        row(1, &format!("1970-01-01 00:00:01{rest}")),
        row(1, &format!("0044-03-15 12:00:00 BC{rest}")),
        row(2, &format!("1795327141123{rest}")),
        row(2, "\x01\0\x01\0\x01\0order\0\x01"),
        row(0x80, "\x01\0\\x00ffAb\0id\0order\0"),
        row(0x81, "2026-11-22 06:59:02\0\x02\0id\0order\0key"),
    ]
}
