//! Where an event goes: topic, key, partition and the configured headers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::event::{Event, RowError};
use super::mapping::{Field, Mapping, Part, Source};
use super::record::{Header, Record, Rejection, RejectionReason, Token, Topic};
use crate::wal::pgoutput::Tuple;

/// Routes events. It remembers the topics it has seen, so that a topic's name is checked and kept once.
#[derive(Debug)]
pub struct Router {
    id: Arc<str>,
    topics: HashMap<Bytes, Topic>,
}

impl Default for Router {
    fn default() -> Self {
        Self { id: "id".into(), topics: HashMap::new() }
    }
}

impl Router {
    /// Makes the record of `event`. Its headers are `id`, then `stamps`, then those of the configuration.
    ///
    /// # Errors
    /// If a value of the row was not sent as asked for ([`RowError`]). An event that Kafka can never take is not an
    /// error but the inner [`Rejection`].
    pub fn route(
        &mut self,
        event: Event<'_>,
        token: Token,
        stamps: impl IntoIterator<Item = Header>,
    ) -> Result<Result<Record, Rejection>, RowError> {
        let mapping = event.mapping;
        let row = &event.row;
        let reject = |reason, detail| {
            let event_id = String::from_utf8_lossy(event.id.as_deref().unwrap_or_default()).into_owned();
            Ok(Err(Rejection { event_id, reason, detail }))
        };
        let Some(id) = event.id.clone() else {
            let detail =
                format!("column \"{}\" of table \"{}\", its id, is NULL", mapping.id.name, mapping.table);
            return reject(RejectionReason::Null, detail);
        };
        let Some(topic_name) = mapping.render(&mapping.topic, row)? else {
            let column = mapping.null_in(&mapping.topic, row)?;
            return reject(
                RejectionReason::Null,
                format!("route.topic: column \"{column}\" is NULL, and a topic needs its name"),
            );
        };
        let Some(topic) = self.topic(&topic_name) else {
            let shown = String::from_utf8_lossy(&topic_name).into_owned();
            return reject(
                RejectionReason::InvalidTopic,
                format!("route.topic: {shown:?} is not a topic name"),
            );
        };
        let key = mapping.render(&mapping.key, row)?;
        if key.is_none() && matches!(mapping.key, Source::Composed(_)) {
            let column = mapping.null_in(&mapping.key, row)?;
            return reject(
                RejectionReason::Null,
                format!("route.key: column \"{column}\" is NULL, and the key is composed of it"),
            );
        }
        let partition = match &mapping.partition {
            None => None,
            Some(field) => match mapping.read(row, field)? {
                None => None,
                Some(text) => match std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i32>().ok())
                {
                    Some(number) if number >= 0 => Some(number),
                    _ => {
                        let detail =
                            format!("route.partition: column \"{}\" holds no partition number", field.name);
                        return reject(RejectionReason::InvalidPartition, detail);
                    }
                },
            },
        };
        let mut headers = Vec::with_capacity(mapping.headers.len().saturating_add(3));
        headers.push(Header { name: self.id.clone(), value: Some(id) });
        headers.extend(stamps);
        for (name, source) in &mapping.headers {
            headers.push(Header { name: name.clone(), value: mapping.render(source, row)? });
        }
        let Event { payload: value, timestamp, .. } = event;
        Ok(Ok(Record { token, topic, partition, key, value, timestamp, headers }))
    }

    fn topic(&mut self, name: &Bytes) -> Option<Topic> {
        if let Some(topic) = self.topics.get(name) {
            return Some(topic.clone());
        }
        let topic = Topic::new(name)?;
        // A copy of its own: `name` may be a slice that would keep a whole socket buffer alive.
        self.topics.insert(Bytes::copy_from_slice(name), topic.clone());
        Some(topic)
    }
}

impl Mapping {
    /// The first column of a template that is NULL in this row; for messages.
    fn null_in<'m>(&self, source: &'m Source, row: &Tuple) -> Result<&'m str, RowError> {
        let fields: Vec<&Field> = match source {
            Source::Fixed(_) => Vec::new(),
            Source::Column(field) => vec![field],
            Source::Composed(parts) => parts.iter().filter_map(Part::field).collect(),
        };
        for field in fields {
            if self.read(row, field)?.is_none() {
                return Ok(&field.name);
            }
        }
        Ok("")
    }

    /// The text of a template for one row; `None` if a column in it is NULL.
    fn render(&self, source: &Source, row: &Tuple) -> Result<Option<Bytes>, RowError> {
        match source {
            Source::Fixed(text) => Ok(Some(text.clone())),
            Source::Column(field) => self.read(row, field),
            Source::Composed(parts) => {
                let mut text = BytesMut::new();
                for part in parts {
                    match part {
                        Part::Literal(literal) => text.extend_from_slice(literal),
                        Part::Column(field) => match self.read(row, field)? {
                            Some(value) => text.extend_from_slice(&value),
                            None => return Ok(None),
                        },
                    }
                }
                Ok(Some(text.freeze()))
            }
        }
    }
}
