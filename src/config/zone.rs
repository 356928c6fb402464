//! The name of a time zone becomes its table of offsets.

use jiff::tz::{TimeZone, TimeZoneTransition};
use jiff::{Timestamp, civil};

use super::value::Mistake;
use crate::outbox::Zone;

/// Rules that go on for ever are written out up to here.
const LAST_YEAR: i16 = 2200;

/// Looks up an IANA name, in the system's database or else in the one that is compiled in.
pub(super) fn read(name: &str) -> Result<Zone, Mistake> {
    let zone = TimeZone::get(name).map_err(|_| {
        Mistake::new("is no time zone").hint("give an IANA name, such as UTC or Europe/Berlin")
    })?;
    let end =
        civil::date(LAST_YEAR, 1, 1).to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |end| end.timestamp());
    let instant = |transition: &TimeZoneTransition<'_>| transition.timestamp();
    let offset = |transition: TimeZoneTransition<'_>| {
        (transition.timestamp().as_second(), i64::from(transition.offset().seconds()))
    };
    let first = zone.to_offset(Timestamp::MIN).seconds();
    let transitions = zone.following(Timestamp::MIN).take_while(|transition| instant(transition) < end);
    Ok(Zone::new(i64::from(first), transitions.map(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_the_offsets_of_its_rules() {
        let Ok(berlin) = read("Europe/Berlin") else { panic!("no Europe/Berlin") };
        // Offsets as `SELECT extract(epoch FROM timestamp '…' AT TIME ZONE 'Europe/Berlin')` has them.
        for (local, instant) in [
            ("2026-01-15 12:00:00", 1_768_474_800),
            ("2026-07-15 12:00:00", 1_784_109_600),
            ("2026-03-29 02:30:00", 1_774_747_800),
            ("2026-10-25 02:30:00", 1_792_891_800),
            ("1950-06-01 00:00:00", -618_109_200),
            ("2150-07-01 00:00:00", 5_695_912_800),
        ] {
            let civil: civil::DateTime = local.parse().unwrap();
            let seconds = civil.to_zoned(TimeZone::UTC).unwrap().timestamp().as_second();
            assert_eq!(berlin.instant(seconds), Some(instant), "{local}");
        }
        assert!(read("UTC").is_ok_and(|zone| zone == Zone::utc()));
        assert!(read("Mars/Olympus").is_err());
    }
}
