//! The SQL of an outbox table: the one of `sql/01_table.sql`, with the configured names.
//!
//! The file's column lines are the source. A column that the configuration maps has its name; one that it says is not
//! there is left out; what it names beyond them (timestamp, partition, placeholders) is added before `created_at`.

use crate::config::{Action, AfterPublish};
use crate::outbox::{Shape, TableName, Template};
use crate::postgres::sql;

pub(super) const FILE: &str = include_str!("../../sql/01_table.sql");

/// Where the file's comments begin.
const COMMENTS_AT: usize = 56;

/// What the file says before its statement.
pub(super) fn head() -> &'static str {
    FILE.split_once(STATEMENT).map_or("", |(head, _)| head)
}

const STATEMENT: &str = "CREATE TABLE";

/// `CREATE TABLE IF NOT EXISTS …;`, with a line end.
pub(super) fn statement(table: &TableName, shape: &Shape, after: &AfterPublish, polls: bool) -> String {
    let mut columns = columns(shape, after, polls);
    let partitioned = after.action == Action::DropPartitions;
    let mut lines: Vec<_> = Vec::new();
    if partitioned {
        for column in &mut columns {
            column.definition = column.definition.replace("PRIMARY KEY", "NOT NULL");
            if column.name == shape.columns.age() {
                column.comment = "which partition the row is in".to_owned();
            }
        }
    }
    for Column { name, definition, comment } in &columns {
        lines.push((format!("{:<14} {definition}", sql::identifier(name)), comment.as_str()));
    }
    let age = sql::identifier(shape.columns.age());
    if partitioned {
        let key = format!("PRIMARY KEY ({}, {age})", sql::identifier(&shape.columns.id));
        lines.push((key, "a key of a partitioned table has the partition's column in it"));
    }
    let last = lines.len().saturating_sub(1);
    let lines = lines.iter().enumerate().map(|(index, (line, comment))| {
        let line = format!("    {line}{}", if index < last { "," } else { "" });
        let width = COMMENTS_AT.max(line.chars().count().saturating_add(2));
        format!("{line:<width$}-- {}\n", one_line(comment))
    });
    let lines: String = lines.collect();
    let partitions = if partitioned { format!(" PARTITION BY RANGE ({age})") } else { String::new() };
    format!("{STATEMENT} IF NOT EXISTS {} (\n{lines}){partitions};\n", sql::table(table))
}

/// A column of the table.
struct Column {
    name: String,
    /// Type and constraints.
    definition: String,
    comment: String,
}

fn columns(shape: &Shape, after: &AfterPublish, polls: bool) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let mut add = |name: &str, definition: &str, comment: String| {
        // Two keys may name the same column.
        if columns.iter().all(|column| column.name != name) {
            columns.push(Column { name: name.to_owned(), definition: definition.to_owned(), comment });
        }
    };
    let mut made_at = None;
    for Column { name, definition, comment } in of_file() {
        match name.as_str() {
            "id" => add(&shape.columns.id, &definition, comment),
            "aggregate_type" => add(&shape.columns.aggregate_type, &definition, of_topic(shape)),
            "aggregate_id" => add(&shape.columns.aggregate_id, &definition, of_key(shape, comment)),
            "event_type" => {
                let event_type = shape.columns.event_type.iter();
                event_type.for_each(|name| add(name, &definition, of_header(shape)));
            }
            "payload" => add(&shape.columns.payload, &definition, comment),
            _ => made_at = Some((name, definition, comment)),
        }
    }
    if let Some(headers) = &shape.columns.headers {
        add(headers, "jsonb", "an object whose members become further Kafka headers".to_owned());
    }
    if let Some(timestamp) = &shape.columns.timestamp {
        add(timestamp, "timestamptz NOT NULL DEFAULT now()", "the record's timestamp".to_owned());
    }
    if let Some(partition) = &shape.route.partition {
        add(partition, "integer     NOT NULL", "the number of the topic's partition".to_owned());
    }
    for (key, template) in templates(shape) {
        for name in template.columns() {
            // What is mapped is there already.
            add(shape.columns.behind(name).0, "text", format!("for {key} = \"{template}\""));
        }
    }
    if let Some((name, definition, comment)) = made_at {
        add(&name, &definition, comment);
    }
    let marks = after.action == Action::Mark;
    if marks || polls {
        let pending = sql::literal(&after.pending_value);
        let comment = if marks {
            format!("{} once the event is in Kafka", sql::literal(&after.published_value))
        } else {
            format!("a row is sent, and deleted, while this is {pending}")
        };
        add(&after.status_column, &format!("text        NOT NULL DEFAULT {pending}"), comment);
        if let (true, Some(published_at)) = (marks, &after.published_at_column) {
            add(published_at, "timestamptz", "when it was found there".to_owned());
        }
    }
    if polls {
        for column in columns.iter_mut().filter(|column| column.name == shape.columns.age()) {
            // Rows of one transaction shall differ.
            column.definition = column.definition.replace("DEFAULT now()", "DEFAULT clock_timestamp()");
            column.comment = "rows are sent in this order".to_owned();
        }
    }
    columns
}

/// The column lines of the file: name, definition, comment.
fn of_file() -> impl Iterator<Item = Column> {
    let lines = FILE.lines().filter_map(|line| line.strip_prefix("    "));
    lines.filter_map(|line| {
        let (column, comment) = line.split_once("-- ")?;
        let (name, definition) = column.trim_end().split_once(' ')?;
        let definition = definition.trim_start().trim_end_matches(',');
        Some(Column { name: name.to_owned(), definition: definition.to_owned(), comment: comment.to_owned() })
    })
}

fn of_topic(shape: &Shape) -> String {
    let topic = &shape.route.topic;
    if topic.placeholders().any(|name| name == "aggregate_type") {
        format!("names the topic: \"{}\"", topic.to_string().replace('{', "<").replace('}', ">"))
    } else {
        "the kind of thing that the event is about".to_owned()
    }
}

fn of_key(shape: &Shape, comment: String) -> String {
    if shape.route.key.placeholders().any(|name| name == "aggregate_id") {
        comment
    } else {
        "the id of the thing that the event is about".to_owned()
    }
}

fn of_header(shape: &Shape) -> String {
    let header = shape.headers.iter().find(|(_, template)| template.to_string() == "{event_type}");
    header.map_or_else(|| "the kind of event".to_owned(), |(name, _)| format!("Kafka header \"{name}\""))
}

/// All templates, each with its key.
fn templates(shape: &Shape) -> impl Iterator<Item = (String, &Template)> {
    let route = [("route.topic".to_owned(), &shape.route.topic), ("route.key".to_owned(), &shape.route.key)]
        .into_iter();
    let headers = shape.headers.iter();
    route.chain(headers.map(|(name, template)| (format!("outbox.headers.{name}"), template)))
}

/// Text for a comment, which ends with its line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
