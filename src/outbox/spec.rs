//! Which tables are outboxes, and what their columns mean: the configuration as the pure modules need it.

use std::fmt;

use super::template::Template;
use super::zone::Zone;

/// The mapping and routing of all configured tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// `outbox.tables`.
    pub tables: Vec<TableName>,
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
