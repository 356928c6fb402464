//! Kafka, behind librdkafka.
//!
//! In go [`crate::outbox::Record`]s, in stream order, from one place; out come [`Event`]s: a report for each record, and
//! librdkafka's own troubles. librdkafka alone retries; a failed report is the end of its retrying and of this producer.

mod bell;
mod create;
mod describe;
mod error;
mod hurry;
mod librdkafka;
mod lookup;
mod native;
mod produce;
mod producer;
mod survey;

pub use create::NewTopic;
pub use error::{Error, Undelivered, Verdict};
pub use lookup::{Ask, Limit, Lookup, TopicState};
pub use producer::{Client, Event, Producer, SendError};
pub use survey::{Cluster, Seen, Step, Topic, TopicSeen, Trouble, survey};
