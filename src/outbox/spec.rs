//! Which tables are outboxes, and what their columns mean: the configuration as the pure modules need it.

use std::collections::BTreeMap;
use std::fmt;

use super::pattern::TablePattern;
use super::template::Template;
use super::zone::Zone;

/// The mapping and routing of all configured tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// `outbox.tables`.
    pub tables: Vec<TablePattern>,
    /// `outbox.message_prefix`: the prefix of logical messages that are events; `None`: none are.
    pub message_prefix: Option<String>,
    /// `[outbox]` and `[route]`: of messages, and of every table that has none of its own.
    pub shape: Shape,
    /// `[tables."…"]`: what single tables have in its place.
    pub overrides: Vec<(TablePattern, Shape)>,
}

/// What the rows of a table become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// `[outbox.columns]`.
    pub columns: Columns,
    /// `[outbox.headers]`, in order.
    pub headers: Vec<(String, Template)>,
    /// `[route]`.
    pub route: Route,
    /// The keys that a section `[tables."…"]` sets, each with its path there; for messages.
    pub own: BTreeMap<String, String>,
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
    /// Whether `table` is one of `outbox.tables`.
    #[must_use]
    pub fn names(&self, table: &TableName) -> bool {
        self.tables.iter().any(|pattern| pattern.matches(table))
    }

    /// What the rows of `table` become. A section that names it goes before one with a pattern, and that before later ones.
    #[must_use]
    pub fn of(&self, table: &TableName) -> &Shape {
        let matching = || self.overrides.iter().filter(|(pattern, _)| pattern.matches(table));
        let exact = matching().find(|(pattern, _)| pattern.exact().is_some());
        exact.or_else(|| matching().next()).map_or(&self.shape, |(_, shape)| shape)
    }

    /// All that rows can become.
    pub fn shapes(&self) -> impl Iterator<Item = &Shape> {
        std::iter::once(&self.shape).chain(self.overrides.iter().map(|(_, shape)| shape))
    }
}

impl Shape {
    /// The key that says this for the table: `general`, or the one of its section.
    #[must_use]
    pub fn key(&self, general: &str) -> String {
        self.own.get(general).cloned().unwrap_or_else(|| general.to_owned())
    }

    /// The columns that a row is read from, each with the configuration's keys that need it.
    #[must_use]
    pub fn mapped_columns(&self) -> Vec<(String, Vec<String>)> {
        let columns = &self.columns;
        let mut mapped: Vec<(String, Vec<String>)> = Vec::new();
        let mut add = |column: &str, key: &str| {
            let key = self.key(key);
            match mapped.iter_mut().find(|(name, _)| name == column) {
                Some((_, keys)) if keys.contains(&key) => {}
                Some((_, keys)) => keys.push(key),
                None => mapped.push((column.to_owned(), vec![key])),
            }
        };
        add(&columns.id, "outbox.columns.id");
        add(&columns.payload, "outbox.columns.payload");
        let headers =
            self.headers.iter().map(|(name, template)| (format!("outbox.headers.{name}"), template));
        let routes =
            [("route.topic".to_owned(), &self.route.topic), ("route.key".to_owned(), &self.route.key)];
        for (key, template) in routes.into_iter().chain(headers) {
            for placeholder in template.columns() {
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

/// The column with the time of a row where no other is named: that of `sql/01_table.sql`.
const CREATED_AT: &str = "created_at";

impl Columns {
    /// The column that tells how old a row is, if the table has it.
    #[must_use]
    pub fn age(&self) -> &str {
        self.timestamp.as_deref().unwrap_or(CREATED_AT)
    }

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
