//! `Lsn`: text and number are two names of one position.

use outbox_relay::lsn::Lsn;
use proptest::prelude::*;

use crate::config;

/// PostgreSQL's own form, written another way than the parser: `%X/%X` of two 32-bit halves.
fn is_lsn(text: &str) -> bool {
    let halves: Vec<&str> = text.split('/').collect();
    let half = |half: &&str| matches!(half.len(), 1..=8) && half.chars().all(|c| c.is_ascii_hexdigit());
    halves.len() == 2 && halves.iter().all(half)
}

proptest! {
    #![proptest_config(config("tests/regressions/lsn.txt"))]

    #[test]
    fn what_is_printed_is_read_back(number in any::<u64>()) {
        let lsn = Lsn::new(number);
        prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        prop_assert_eq!(lsn.to_string().to_lowercase().parse(), Ok(lsn));
        prop_assert_eq!(format!("{lsn:?}"), lsn.to_string());
    }

    #[test]
    fn what_is_read_is_the_number_it_spells(high in "[0-9a-fA-F]{0,9}", low in "[0-9a-fA-F]{0,9}") {
        let text = format!("{high}/{low}");
        let spelled = format!("{high:0>8}{low:0>8}");
        let expected = is_lsn(&text).then(|| u64::from_str_radix(&spelled, 16).unwrap());
        prop_assert_eq!(text.parse::<Lsn>().ok().map(Lsn::as_u64), expected);
    }

    #[test]
    fn nothing_else_is_read(text in prop_oneof!["\\PC{0,20}", "[+ -]?[0-9A-Fa-fgx]{0,9}[/ ]{0,2}[+-]?[0-9A-Fa-f]{0,9} ?"]) {
        match text.parse::<Lsn>() {
            Ok(_) => prop_assert!(is_lsn(&text)),
            Err(error) => {
                prop_assert!(!is_lsn(&text));
                prop_assert!(error.to_string().contains(&text), "{} does not quote the text", error);
            }
        }
    }

    #[test]
    fn order_and_distance_are_those_of_the_numbers(a in any::<u64>(), b in any::<u64>()) {
        let (low, high) = (Lsn::new(a.min(b)), Lsn::new(a.max(b)));
        prop_assert!(low <= high);
        prop_assert_eq!(high.bytes_since(low), a.abs_diff(b));
        prop_assert_eq!(low.bytes_since(high), 0);
    }
}
