//! Decoding: every message comes through whole, and no bytes whatever get past the checks.

use bytes::Bytes;
use outbox_relay::wal::pgoutput;
use outbox_relay::wal::{Envelope, Problem, XLogData};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::damage::{damage, damaged};
use crate::messages::{envelope, message};
use crate::wire::{self, Message};
use crate::{config, fuzz};

proptest! {
    #![proptest_config(config("tests/regressions/bytes.txt"))]

    #[test]
    fn a_message_is_decoded_to_what_was_encoded(message in message()) {
        let decoded = pgoutput::Message::decode(message.encode()).unwrap();
        prop_assert_eq!(Message::from(&decoded), message);
    }

    #[test]
    fn an_envelope_is_decoded_to_what_was_encoded(envelope in envelope()) {
        prop_assert_eq!(Envelope::decode(wire::envelope(&envelope)), Ok(envelope));
    }

    /// Of a message without its last bytes, a field is missing; and the error tells which and where.
    #[test]
    fn a_message_cut_short_is_refused(message in message(), cut in any::<Index>()) {
        let whole = message.encode();
        let short = whole.slice(..cut.index(whole.len()));
        let error = pgoutput::Message::decode(short.clone()).unwrap_err();
        prop_assert!(error.offset <= short.len());
        match error.problem {
            Problem::TooShort { needed, left } => {
                prop_assert!(left < needed);
                // The length before a value counts as its first four bytes.
                prop_assert!(short.len() - error.offset == left, "{}", error);
            }
            Problem::Unterminated => {}
            other => prop_assert!(false, "cut short, but: {}", other),
        }
    }

    #[test]
    fn a_message_that_goes_on_is_refused(message in message(), more in vec(any::<u8>(), 1..9)) {
        let whole = message.encode();
        let long = [whole.as_ref(), more.as_slice()].concat();
        let error = pgoutput::Message::decode(Bytes::from(long)).unwrap_err();
        prop_assert_eq!((error.offset, error.problem), (whole.len(), Problem::TooLong(more.len())));
    }

    #[test]
    fn a_keepalive_has_one_length(envelope in envelope(), cut in any::<Index>(), more in vec(any::<u8>(), 1..9)) {
        let whole = wire::envelope(&envelope);
        let short = whole.slice(..cut.index(whole.len()));
        let long = Bytes::from([whole.as_ref(), more.as_slice()].concat());
        match envelope {
            Envelope::Keepalive(_) => {
                prop_assert!(Envelope::decode(short).is_err());
                prop_assert!(Envelope::decode(long).is_err());
            }
            Envelope::XLogData(XLogData { data, .. }) => {
                let header = whole.len() - data.len();
                prop_assert_eq!(Envelope::decode(short.clone()).is_ok(), short.len() >= header);
                prop_assert!(Envelope::decode(long).is_ok());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in proptest::option::of(prop::sample::select(b"BCORYIUDTMwk".to_vec())), bytes in vec(any::<u8>(), 0..120)) {
        let bytes: Vec<u8> = kind.into_iter().chain(bytes).collect();
        fuzz::message(&bytes);
        fuzz::envelope(&bytes);
    }

    #[test]
    fn damaged_messages_are_read_or_refused(message in message(), damage in vec(damage(), 1..4)) {
        fuzz::message(&damaged(message.encode(), &damage));
    }

    #[test]
    fn damaged_envelopes_are_read_or_refused(envelope in envelope(), damage in vec(damage(), 1..4)) {
        fuzz::envelope(&damaged(wire::envelope(&envelope), &damage));
    }

    #[test]
    fn damaged_rows_are_read_or_refused(seed in prop::sample::select(fuzz::row::seeds()), damage in vec(damage(), 0..6)) {
        fuzz::row::row(&damaged(seed.into(), &damage));
    }

    #[test]
    fn damaged_histories_are_read_or_refused(seed in prop::sample::select(fuzz::seeds::histories()), damage in vec(damage(), 0..6)) {
        fuzz::history(&damaged(seed, &damage));
    }

    #[test]
    fn damaged_sessions_are_followed_or_refused(seed in prop::sample::select(fuzz::seeds::sessions()), damage in vec(damage(), 0..6)) {
        fuzz::session(&damaged(seed, &damage));
    }
}

#[test]
fn fuzz_bodies_run_over_their_seeds() {
    fuzz::corpus::over("message", fuzz::message, &fuzz::seeds::messages());
    fuzz::corpus::over("envelope", fuzz::envelope, &fuzz::seeds::envelopes());
    fuzz::corpus::over("session", fuzz::session, &fuzz::seeds::sessions());
    fuzz::corpus::over("row", fuzz::row::row, &fuzz::row::seeds());
    fuzz::corpus::over("history", fuzz::history, &fuzz::seeds::histories());
}
