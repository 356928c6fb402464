//! An outbox without rows: `pg_logical_emit_message(true, prefix, json)`, whose members are the columns.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::mapping::{INT8, Mapping, MappingError, TEXT};
use super::spec::{Spec, TableName};
use super::unpacked::plain;
use crate::wal::pgoutput::Tuple;

/// How messages with one prefix are read.
#[derive(Debug)]
pub struct Messages {
    prefix: String,
    columns: Vec<Member>,
    mapping: Box<Mapping>,
}

/// A member that has a meaning.
#[derive(Debug)]
struct Member {
    name: String,
    /// Its value is JSON, and stays JSON: of a text in quotes the quotes are part of it.
    json: bool,
}

impl Messages {
    /// As `spec` has it; `None` if it relays no messages.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(spec: &Spec) -> Result<Option<Self>, MappingError> {
        let Some(prefix) = spec.message_prefix.clone() else {
            return Ok(None);
        };
        let shape = &spec.shape;
        let is_json = |name: &str| {
            shape.columns.payload == name
                || shape.columns.headers.as_deref().is_some_and(|column| column == name)
        };
        let columns: Vec<_> = shape
            .mapped_columns()
            .into_iter()
            .map(|(name, _)| Member { json: is_json(&name), name })
            .collect();
        let is_time = |name: &str| shape.columns.timestamp.as_deref() == Some(name);
        // There is no type for a point in time in JSON.
        let typed =
            columns.iter().map(|Member { name, .. }| (name.clone(), if is_time(name) { INT8 } else { TEXT }));
        // What errors call a table.
        let name = TableName { schema: "pg_logical_emit_message".to_owned(), name: prefix.clone() };
        let mapping = Mapping::of_columns(shape, name, typed)?;
        Ok(Some(Self { prefix, columns, mapping: Box::new(mapping) }))
    }

    /// The prefix of messages that are events.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How a [`Messages::row`] is read.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The content of a message as a row: a text without its quotes, `null` and what is missing as NULL, anything else as
    /// it is written. `None` if it is no JSON object.
    #[must_use]
    pub fn row(&self, content: &[u8]) -> Option<Tuple> {
        let members: HashMap<String, Box<RawValue>> = serde_json::from_slice(content).ok()?;
        let values = self.columns.iter().map(|Member { name, json }| {
            let value = members.get(name).filter(|value| value.get() != "null")?;
            if *json { Some(Bytes::copy_from_slice(value.get().as_bytes())) } else { plain(value) }
        });
        Some(values.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::outbox::{Columns, Event, Route, Shape, Template, Zone};
    use crate::wal::{PgTimestamp, UnixMillis};

    fn messages() -> Messages {
        let template = |text: &str| Template::parse(text).unwrap();
        let spec = Spec {
            tables: Vec::new(),
            message_prefix: Some("outbox".to_owned()),
            shape: Shape {
                columns: Columns {
                    id: "id".to_owned(),
                    aggregate_type: "kind".to_owned(),
                    aggregate_id: "subject".to_owned(),
                    event_type: None,
                    payload: "payload".to_owned(),
                    headers: Some("more".to_owned()),
                    timestamp: Some("at".to_owned()),
                    timestamp_zone: Zone::utc(),
                },
                headers: Vec::new(),
                route: Route {
                    topic: template("{aggregate_type}"),
                    key: template("{tenant}"),
                    partition: None,
                },
                own: BTreeMap::new(),
            },
            overrides: Vec::new(),
        };
        assert!(Messages::new(&Spec { message_prefix: None, ..spec.clone() }).unwrap().is_none());
        Messages::new(&spec).unwrap().unwrap()
    }

    fn read<'a>(messages: &'a Messages, content: &str) -> Event<'a> {
        let row = messages.row(content.as_bytes()).unwrap();
        let noon = PgTimestamp::from_unix_micros(1_795_327_141_000_000);
        Event::read(messages.mapping(), row, noon, noon).unwrap()
    }

    #[test]
    fn members_are_columns() {
        let messages = messages();
        let event = read(
            &messages,
            r#"{"id": "Zo\u00eb", "payload": {"b":  1.50, "a": 1e400}, "at": 7, "other": []}"#,
        );
        assert_eq!(event.id.as_deref(), Some("Zoë".as_bytes()));
        assert_eq!(event.payload.as_deref(), Some(br#"{"b":  1.50, "a": 1e400}"#.as_slice()));
        assert_eq!((event.timestamp, event.timestamp_replaced), (UnixMillis(7), None));
    }

    #[test]
    fn a_payload_that_is_a_text_keeps_its_quotes() {
        let messages = messages();
        let event = read(&messages, r#"{"id": 7, "payload": "x"}"#);
        assert_eq!(event.id.as_deref(), Some(b"7".as_slice()));
        assert_eq!(event.payload.as_deref(), Some(b"\"x\"".as_slice()));
    }

    #[test]
    fn null_and_what_is_missing_are_null() {
        let messages = messages();
        let event = read(&messages, r#"{"id": null}"#);
        assert_eq!((event.id, event.payload), (None, None));
    }

    #[test]
    fn what_is_no_object_is_no_row() {
        for content in [b"".as_slice(), b"[]", b"7", b"null", b"{", b"{\"a\": \xFF}"] {
            assert!(messages().row(content).is_none(), "{content:?}");
        }
    }
}
