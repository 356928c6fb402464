//! Which tables are outboxes, and what their columns mean: the configuration as the pure modules need it.

use std::fmt;

use super::template::Template;
use super::zone::Zone;

/// The mapping and routing of all configured tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// `outbox.tables`.
    pub tables: Vec<TableName>,
    /// `outbox.message_prefix`: the prefix of logical messages that are events; `None`: none are.
    pub message_prefix: Option<String>,
    /// `[outbox.columns]`.
    pub columns: Columns,
    /// `[outbox.headers]`, in order.
    pub headers: Vec<(String, Template)>,
    /// `[route]`.
    pub route: Route,
}

/// `[outbox.columns]`: the names of the columns that have a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The event's id.
    pub id: String,
    /// What `{aggregate_type}` stands for.
    pub aggregate_type: String,
    /// What `{aggregate_id}` stands for.
    pub aggregate_id: String,
    /// What `{event_type}` stands for; `None` where the table has none.
    pub event_type: Option<String>,
    /// The record's value.
    pub payload: String,
    /// A JSON object whose members become further headers; `None`: there is no such column.
    pub headers: Option<String>,
    /// The record's timestamp; `None`: the commit time.
    pub timestamp: Option<String>,
    /// What a timestamp column without a zone of its own means.
    pub timestamp_zone: Zone,
}

/// `[route]`: where a record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The topic.
    pub topic: Template,
    /// The key.
    pub key: Template,
    /// The column that holds the partition's number; `None`: the partitioner decides.
    pub partition: Option<String>,
}

impl Spec {
    /// The columns that a row is read from, each with the configuration's keys that need it.
    #[must_use]
    pub fn mapped_columns(&self) -> Vec<(String, Vec<String>)> {
        let columns = &self.columns;
        let mut mapped: Vec<(String, Vec<String>)> = Vec::new();
        let mut add = |column: &str, key: &str| match mapped.iter_mut().find(|(name, _)| name == column) {
            Some((_, keys)) if keys.iter().any(|known| known == key) => {}
            Some((_, keys)) => keys.push(key.to_owned()),
            None => mapped.push((column.to_owned(), vec![key.to_owned()])),
        };
        add(&columns.id, "outbox.columns.id");
        add(&columns.payload, "outbox.columns.payload");
        let headers =
            self.headers.iter().map(|(name, template)| (format!("outbox.headers.{name}"), template));
        let routes =
            [("route.topic".to_owned(), &self.route.topic), ("route.key".to_owned(), &self.route.key)];
        for (key, template) in routes.into_iter().chain(headers) {
            for placeholder in template.placeholders() {
                match columns.behind(placeholder) {
                    (column, true) => add(column, &format!("outbox.columns.{placeholder}")),
                    (column, false) => add(column, &key),
                }
            }
        }
        for (key, column) in [
            ("outbox.columns.headers", &columns.headers),
            ("outbox.columns.timestamp", &columns.timestamp),
            ("route.partition", &self.route.partition),
        ] {
            if let Some(column) = column {
                add(column, key);
            }
        }
        mapped
    }
}

impl Columns {
    /// The column that `{placeholder}` stands for, and whether it is one of the four with a meaning.
    #[must_use]
    pub fn behind<'a>(&'a self, placeholder: &'a str) -> (&'a str, bool) {
        match placeholder {
            "id" => (&self.id, true),
            "aggregate_type" => (&self.aggregate_type, true),
            "aggregate_id" => (&self.aggregate_id, true),
            "event_type" => self.event_type.as_deref().map_or((placeholder, false), |column| (column, true)),
            other => (other, false),
        }
    }
}

/// A table's schema and name, as the catalog has them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}
