//! The relay's configuration for a captured stream: lines `-- NAME: VALUE` at the head of its `.sql`.
//!
//! `tables`: the outboxes. `timestamp`: `outbox.columns.timestamp`. `headers`: columns that go out as further headers.
//! `since`: the first version that can run it. (The others are for the capture alone, and told by its `--help`.)

use std::collections::HashSet;

use outbox_relay::lsn::Lsn;
use outbox_relay::outbox::{Columns, Shape, Spec, TableName, TablePattern, Template};
use outbox_relay::relay::Start;
use outbox_relay::wal::Timelines;

pub(crate) fn start(sql: &str) -> Start {
    let directive = |name| directive(sql, name);
    let spec = crate::wire::spec(&[]);
    let template = |text: &str| Template::parse(text).unwrap();
    let header = |column: &str| (column.to_owned(), template(&format!("{{{column}}}")));
    let headers =
        std::iter::once("event_type").chain(directive("headers").unwrap_or_default().split_whitespace());
    Start {
        spec: Spec {
            tables: directive("tables").unwrap().split(", ").map(table).collect(),
            shape: Shape {
                columns: Columns {
                    timestamp: directive("timestamp").map(str::to_owned),
                    ..crate::wire::columns()
                },
                headers: headers.map(|name| header(&unquoted(name))).collect(),
                ..spec.shape
            },
            ..spec
        },
        outboxes: Vec::new(),
        source: Some("7000000000000000001/golden".to_owned()),
        timelines: Timelines::only(1),
        confirmed_flush: Lsn::ZERO,
        shard: None,
        max_in_flight: usize::MAX,
        skip: HashSet::new(),
        dead_letters: None,
    }
}

/// The first major version that can run it.
pub(crate) fn since(sql: &str) -> u32 {
    directive(sql, "since").map_or(0, |major| major.parse().unwrap())
}

fn directive<'a>(sql: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("-- {name}: ");
    sql.lines().find_map(|line| line.strip_prefix(&prefix))
}

fn table(name: &str) -> TablePattern {
    let (schema, name) = name.split_once('.').unwrap();
    TableName { schema: unquoted(schema), name: unquoted(name) }.into()
}

/// An identifier as SQL quotes it.
fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    inner.map_or_else(|| name.to_owned(), |inner| inner.replace("\"\"", "\""))
}
