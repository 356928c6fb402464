//! A column whose JSON object becomes record headers.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::record::{Header, OWN_HEADERS};

/// The members of the JSON object `text` as headers, by their names. A string gives its text, `null` a null value, and
/// anything else stays JSON, as it is written.
///
/// # Errors
/// What is wrong, without a value.
pub(super) fn unpack(text: &[u8]) -> Result<Vec<Header>, String> {
    let members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(text).map_err(|_| "holds no JSON object".to_owned())?;
    members
        .into_iter()
        .map(|(name, value)| {
            if OWN_HEADERS.contains(&name.as_str()) {
                return Err(format!("has a member \"{name}\", which is one of the relay's own headers"));
            }
            Ok(Header { name: name.into(), value: plain(&value) })
        })
        .collect()
}

/// A JSON value as plain text: a text without its quotes, anything else as it is written; nothing for `null`.
pub(super) fn plain(value: &RawValue) -> Option<Bytes> {
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => {
            Some(serde_json::from_str::<String>(text).unwrap_or_default().into())
        }
        text => Some(Bytes::copy_from_slice(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let text_of = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
        let headers = unpack(text.as_bytes())?.into_iter();
        Ok(headers.map(|header| (header.name.as_ref().to_owned(), header.value.map(text_of))).collect())
    }

    #[test]
    fn members_become_headers_in_the_order_of_their_names() {
        let found =
            unpacked(r#"{"b": "Zo\u00eb \"x\"", "a": null, "": "", "n": 1.50e400, "o": {"x":  [1, true]}}"#);
        let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            found.unwrap(),
            [
                header("", Some("")),
                header("a", None),
                header("b", Some("Zoë \"x\"")),
                header("n", Some("1.50e400")),
                header("o", Some(r#"{"x":  [1, true]}"#)),
            ]
        );
        assert_eq!(unpacked("{}"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "null", "7", "\"x\"", "{\"a\": 1", "{} {}"] {
            assert_eq!(unpacked(text), Err("holds no JSON object".to_owned()), "{text}");
        }
    }

    #[test]
    fn the_relays_own_headers_are_not_to_be_had() {
        for name in OWN_HEADERS {
            let found = unpacked(&format!("{{\"{name}\": \"x\"}}"));
            assert_eq!(
                found,
                Err(format!("has a member \"{name}\", which is one of the relay's own headers"))
            );
        }
    }
}
