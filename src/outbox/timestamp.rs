//! Points in time as PostgreSQL prints them under `DateStyle = ISO` and `TimeZone = UTC`.

use super::zone::Zone;
use crate::wal::{PgTimestamp, UnixMillis};

const SECONDS_A_DAY: i64 = 86_400;

/// Reads a `timestamptz`, `2026-11-22 05:59:01.123456+00`, or a `timestamp`, which has no offset and is a time of `zone`. `None` for `infinity`,
/// `-infinity`, years before Christ, and anything that PostgreSQL does not print.
pub(super) fn parse_timestamp(text: &[u8], zone: &Zone) -> Option<UnixMillis> {
    let text = std::str::from_utf8(text).ok()?;
    let universal = text.strip_suffix("+00");
    let text = universal.unwrap_or(text);
    let (date, time) = text.split_once(' ')?;
    let (year, month_and_day) = date.split_once('-')?;
    let (month, day) = month_and_day.split_once('-')?;
    let (year, month, day) = (year_number(year)?, two_digits(month)?, two_digits(day)?);
    let (clock, micros) = match time.split_once('.') {
        None => (time, 0),
        Some((clock, fraction)) if fraction.len() <= 6 => {
            (clock, number(fraction).and_then(|_| number(&format!("{fraction:0<6}")))?)
        }
        Some(_) => return None,
    };
    let (hour, minute_and_second) = clock.split_once(':')?;
    let (minute, second) = minute_and_second.split_once(':')?;
    let (hour, minute, second) = (two_digits(hour)?, two_digits(minute)?, two_digits(second)?);
    let in_range = year > 0
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let seconds = days_from_civil(year, month, day)?
        .checked_mul(SECONDS_A_DAY)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?;
    let seconds = if universal.is_some() { seconds } else { zone.instant(seconds)? };
    let unix_micros = seconds.checked_mul(1_000_000)?.checked_add(micros)?;
    Some(PgTimestamp::from_unix_micros(unix_micros).unix_millis())
}

/// Reads a `bigint` of milliseconds since 1970.
pub(super) fn parse_epoch_millis(text: &[u8]) -> Option<UnixMillis> {
    std::str::from_utf8(text).ok()?.parse().ok().map(UnixMillis)
}

fn number(digits: &str) -> Option<i64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Four digits, or more that do not begin with a zero.
fn year_number(digits: &str) -> Option<i64> {
    let printed = digits.len() == 4 || (digits.len() > 4 && !digits.starts_with('0'));
    if printed { number(digits) } else { None }
}

fn two_digits(digits: &str) -> Option<i64> {
    if digits.len() == 2 { number(digits) } else { None }
}

const fn days_of(year: i64, month: i64) -> i64 {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. Years are counted from March, so that the leap
/// day is the last of its year and the days before a month follow the line (153 m + 2) / 5.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let (year, month) =
        if month > 2 { (year, month.checked_sub(3)?) } else { (year.checked_sub(1)?, month.checked_add(9)?) };
    let leap_days =
        year.div_euclid(4).checked_sub(year.div_euclid(100))?.checked_add(year.div_euclid(400))?;
    let days_before_month = month.checked_mul(153)?.checked_add(2)?.div_euclid(5);
    // 0000-03-01 lies 719,468 days before 1970-01-01.
    year.checked_mul(365)?
        .checked_add(leap_days)?
        .checked_add(days_before_month)?
        .checked_add(day)?
        .checked_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<i64> {
        parse_timestamp(text.as_bytes(), &Zone::utc()).map(|UnixMillis(millis)| millis)
    }

    #[test]
    fn reads_what_postgres_prints() {
        assert_eq!(millis("1970-01-01 00:00:00+00"), Some(0));
        assert_eq!(millis("2026-11-22 05:59:01.123456+00"), Some(1_795_327_141_123));
        assert_eq!(millis("2000-02-29 23:59:59.5"), Some(951_868_799_500));
        assert_eq!(millis("2100-03-01 00:00:00+00"), Some(4_107_542_400_000));
        assert_eq!(millis("1969-12-31 23:59:59.999+00"), Some(-1));
        assert_eq!(millis("0001-01-01 00:00:00+00"), Some(-62_135_596_800_000));
        assert_eq!(millis("12345-06-07 08:09:10+00"), Some(327_416_976_550_000));
    }

    #[test]
    fn has_no_instant_for_the_rest() {
        for text in [
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "",
            "2026-11-22",
            "2026-13-01 00:00:00+00",
            "2026-11-22 05:59:01+02",
            // Nor are these what PostgreSQL prints. Found by the fuzz body `row`.
            "2026-02-30 00:00:00+00",
            "2100-02-29 00:00:00+00",
            "2026-00-01 00:00:00+00",
            "2026-11-00 00:00:00+00",
            "2026-11-22 24:00:00+00",
            "2026-11-22 05:60:01+00",
            "2026-11-22 05:59:60+00",
            "2026-11-22 5:59:01+00",
            "26-11-22 05:59:01+00",
            "02026-11-22 05:59:01+00",
            "2026-11-22 05:59:01.+00",
            "2026-11-22 05:59:01.1234567+00",
            "2026-11-22 05:59+00",
            "2026-11-22 05:59:01:00+00",
            "2026-11-22-01 05:59:01+00",
            "0000-01-01 00:00:00+00",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn reads_epoch_milliseconds() {
        assert_eq!(parse_epoch_millis(b"1795327141123"), Some(UnixMillis(1_795_327_141_123)));
        assert_eq!(parse_epoch_millis(b"-5"), Some(UnixMillis(-5)));
        assert_eq!(parse_epoch_millis(b"1.5"), None);
    }
}
