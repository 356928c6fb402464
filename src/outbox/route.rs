//! Where an event goes: topic, key, partition and the configured headers.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::event::{Event, RowError};
use super::mapping::{Field, Mapping, Part, Source};
use super::record::{Header, Record, Rejection, RejectionReason, Token, Topic};
use super::unpacked::unpack;
use crate::wal::UnixMillis;
use crate::wal::pgoutput::Tuple;

/// Routes events. It remembers the topics it has seen, so that a topic's name is checked and kept once.
#[derive(Debug)]
pub struct Router {
    id: Arc<str>,
    topics: HashMap<Bytes, Topic>,
    /// Where the events go that cannot be sent to their topic; `None`: nowhere.
    dead_letters: Option<Topic>,
}

/// An event that Kafka can never take, and what stands in for it.
#[derive(Debug)]
pub struct Rejected {
    /// What is wrong.
    pub rejection: Rejection,
    /// Its dead letter, with key, value and headers as far as they are known; `None` if there are to be none.
    pub letter: Option<Record>,
}

impl Router {
    /// One that has seen nothing yet, and makes dead letters for the topic `dead_letters`.
    #[must_use]
    pub fn new(dead_letters: Option<Topic>) -> Self {
        Self { id: "id".into(), topics: HashMap::new(), dead_letters }
    }

    /// Makes the record of `event`. Its headers are `id`, then `stamps`, then those of the configuration, then those of its row.
    ///
    /// # Errors
    /// If a value of the row was not sent as asked for ([`RowError`]). An event that Kafka can never take is not an
    /// error but the inner [`Rejected`].
    pub fn route(
        &mut self,
        event: Event<'_>,
        token: Token,
        stamps: impl IntoIterator<Item = Header>,
    ) -> Result<Result<Record, Rejected>, RowError> {
        let mapping = event.mapping;
        let row = &event.row;
        let topic_name = mapping.render(&mapping.topic, row)?;
        let key = mapping.render(&mapping.key, row)?;
        let mut headers = Vec::with_capacity(mapping.headers.len().saturating_add(3));
        headers.push(Header { name: self.id.clone(), value: event.id.clone() });
        headers.extend(stamps);
        for (name, source) in &mapping.headers {
            headers.push(Header { name: name.clone(), value: mapping.render(source, row)? });
        }
        let mut destination = self.destination(&event, topic_name.as_ref(), key.is_none())?;
        if let Some(field) = &mapping.unpacked
            && let Some(text) = mapping.read(row, field)?
        {
            match unpack(&text) {
                Ok(unpacked) => headers.extend(unpacked),
                Err(problem) if destination.is_ok() => {
                    let detail = format!("outbox.columns.headers: column \"{}\" {problem}", field.name);
                    destination = Err((RejectionReason::InvalidHeaders, detail));
                }
                Err(_) => {}
            }
        }
        let Event { id, payload: value, timestamp, .. } = event;
        let record = |topic, partition| Record { token, topic, partition, key, value, timestamp, headers };
        Ok(match destination {
            Ok((topic, partition)) => Ok(record(topic, partition)),
            Err((reason, detail)) => {
                let event_id = String::from_utf8_lossy(id.as_deref().unwrap_or_default()).into_owned();
                let dead_letters = self.dead_letters.clone();
                let letter =
                    dead_letters.map(|topic| record(topic, None).marked_as_dead_letter(reason, topic_name));
                Err(Rejected { rejection: Rejection { event_id, reason, detail }, letter })
            }
        })
    }

    /// What becomes of an event whose `content` cannot be read; `detail` says which it is, and why. Its headers are an `id` that is
    /// null, and `stamps`.
    #[must_use]
    pub fn unreadable(
        &self,
        content: Bytes,
        timestamp: UnixMillis,
        detail: String,
        token: Token,
        stamps: impl IntoIterator<Item = Header>,
    ) -> Rejected {
        let reason = RejectionReason::InvalidMessage;
        let id = Header { name: self.id.clone(), value: None };
        let headers = std::iter::once(id).chain(stamps).collect();
        let letter = self.dead_letters.clone().map(|topic| {
            let record =
                Record { token, topic, partition: None, key: None, value: Some(content), timestamp, headers };
            record.marked_as_dead_letter(reason, None)
        });
        Rejected { rejection: Rejection { event_id: String::new(), reason, detail }, letter }
    }

    /// Topic and partition of an event that Kafka can take; else why not.
    fn destination(&mut self, event: &Event<'_>, topic: Option<&Bytes>, null_key: bool) -> Destination {
        let (mapping, row) = (event.mapping, &event.row);
        if event.id.is_none() {
            let detail =
                format!("column \"{}\" of table \"{}\", its id, is NULL", mapping.id.name, mapping.table);
            return Ok(Err((RejectionReason::Null, detail)));
        }
        let Some(name) = topic else {
            let column = mapping.null_in(&mapping.topic, row)?;
            let detail = format!("route.topic: column \"{column}\" is NULL, and a topic needs its name");
            return Ok(Err((RejectionReason::Null, detail)));
        };
        let Some(topic) = self.topic(name) else {
            let shown = String::from_utf8_lossy(name).into_owned();
            let detail = format!("route.topic: {shown:?} is not a topic name");
            return Ok(Err((RejectionReason::InvalidTopic, detail)));
        };
        if null_key && matches!(mapping.key, Source::Composed(_)) {
            let column = mapping.null_in(&mapping.key, row)?;
            let detail = format!("route.key: column \"{column}\" is NULL, and the key is composed of it");
            return Ok(Err((RejectionReason::Null, detail)));
        }
        let Some(field) = &mapping.partition else {
            return Ok(Ok((topic, None)));
        };
        let Some(text) = mapping.read(row, field)? else {
            return Ok(Ok((topic, None)));
        };
        match std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i32>().ok()) {
            Some(number) if number >= 0 => Ok(Ok((topic, Some(number)))),
            _ => {
                let detail = format!("route.partition: column \"{}\" holds no partition number", field.name);
                Ok(Err((RejectionReason::InvalidPartition, detail)))
            }
        }
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

/// Bytes that most topics, and most composed keys, have room in: one allocation instead of several that grow.
const USUAL: usize = 64;

/// Topic and partition, or why Kafka cannot take the event.
type Destination = Result<Result<(Topic, Option<i32>), (RejectionReason, String)>, RowError>;

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
                let mut text = BytesMut::with_capacity(USUAL);
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
