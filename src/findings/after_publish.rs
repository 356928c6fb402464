//! `[after_publish]`: may the relay do with published rows what it is told to, can it, and would it touch others.

use super::{Finding, Wanted};
use crate::after_publish::{grant, index};
use crate::config::{Action, AfterPublish};
use crate::postgres::cleaning::Cleaning;
use crate::postgres::sql::{self, identifier, literal};
use crate::postgres::survey::{Kind, Outbox, Survey};

/// That rows would be taken for published. A backfill sends them.
pub const UNSENT_ROWS: &str = "after_publish_unsent_rows";

/// What is wrong with each of the tables that exist.
pub(super) fn after_publish(survey: &Survey, wanted: &Wanted<'_>) -> Vec<Finding> {
    let both = survey.outboxes().filter_map(|outbox| {
        let seen = survey.cleaning.iter().find(|seen| seen.table == outbox.table.name)?;
        Some((outbox, seen))
    });
    both.flat_map(|(outbox, seen)| table(outbox, seen, survey, wanted)).collect()
}

fn table(outbox: &Outbox, seen: &Cleaning, survey: &Survey, wanted: &Wanted<'_>) -> Vec<Finding> {
    let after = wanted.after_publish;
    let mut findings = columns(outbox, wanted);
    let has_columns = findings.is_empty();
    match after.action {
        Action::Keep => return findings,
        Action::Delete => {}
        Action::Mark => findings.extend(feeds_itself(outbox, seen, survey, wanted)),
        Action::DropPartitions => findings.extend(partitions(outbox, seen, after)),
    }
    let partitioned = outbox.kind == Kind::Partitioned;
    if has_columns {
        findings.extend(rights(outbox, seen, survey, wanted));
        let index = index(
            after,
            &wanted.outbox.of(&outbox.table.name).columns,
            &outbox.table.name,
            partitioned,
            None,
        );
        let lacks_index = !seen.indexed
            && outbox.columns.iter().any(|it| it.name == wanted.outbox.of(&outbox.table.name).columns.age());
        findings.extend(index.filter(|_| lacks_index).map(|fix| {
            Finding::warn(
                "after_publish_index",
                format!(
                    "table \"{}\" has no index by which published rows are found: each time all of it is read",
                    outbox.table.name
                ),
                fix,
            )
        }));
    }
    if seen.unsent && !wanted.backfill {
        findings.push(unsent(outbox, after, wanted));
    }
    if seen.row_security && after.action != Action::DropPartitions {
        findings.push(Finding::warn(
            "after_publish_row_security",
            format!(
                "table \"{}\" has row-level security: published rows that its policies hide from role {} stay",
                outbox.table.name,
                identifier(&survey.role.name)
            ),
            format!("a policy for the relay, or ALTER ROLE {} BYPASSRLS", identifier(&survey.role.name)),
        ));
    }
    findings
}

/// The columns that rows are chosen by, or that are changed.
fn columns(outbox: &Outbox, wanted: &Wanted<'_>) -> Vec<Finding> {
    let after = wanted.after_publish;
    let table = &outbox.table.name;
    let found = |name: &str| outbox.columns.iter().find(|column| column.name == name);
    let missing = |name: &str, key: &str, definition: &str, or: &str| {
        found(name).is_none().then(|| {
            Finding::stop(
                "after_publish_column",
                format!("table \"{table}\" has no column \"{name}\", which {key} names"),
                format!(
                    "ALTER TABLE {} ADD COLUMN {} {definition}; or {or}",
                    sql::table(table),
                    identifier(name)
                ),
            )
        })
    };
    match after.action {
        Action::Keep | Action::DropPartitions => Vec::new(),
        Action::Delete if after.retention.is_zero() => Vec::new(),
        Action::Delete => {
            let name = wanted.outbox.of(&outbox.table.name).columns.age();
            if let Some(column) = found(name) {
                return aged(outbox, name, column.base_type, &column.type_name).into_iter().collect();
            }
            let definition = "timestamptz NOT NULL DEFAULT now()";
            let or = "name one that tells a row's age in outbox.columns.timestamp, or leave after_publish.retention out";
            missing(name, "after_publish.retention needs and outbox.columns.timestamp", definition, or)
                .into_iter()
                .collect()
        }
        Action::Mark => {
            // Rows that are there were sent, or will be: neither is known of a column that is new.
            let status = format!("text NOT NULL DEFAULT {}", literal(&after.pending_value));
            let or = "correct after_publish.status_column";
            let mut all: Vec<_> = missing(&after.status_column, "after_publish.status_column", &status, or)
                .into_iter()
                .collect();
            if let Some(name) = &after.published_at_column {
                let or = "set after_publish.published_at_column = \"\"";
                all.extend(missing(name, "after_publish.published_at_column", "timestamptz", or));
            }
            all
        }
    }
}

/// Object ids of bigint, timestamp and timestamptz (src/include/catalog/pg_type.dat).
const TIMES: [u32; 3] = [20, 1114, 1184];

fn aged(outbox: &Outbox, name: &str, base_type: u32, type_name: &str) -> Option<Finding> {
    (!TIMES.contains(&base_type)).then(|| {
        Finding::stop(
            "after_publish_column_type",
            format!(
                "column \"{name}\" of table \"{}\" is {type_name}, and after_publish.retention needs a time",
                outbox.table.name
            ),
            "name a timestamptz, timestamp or bigint column in outbox.columns.timestamp",
        )
    })
}

/// Marking is an UPDATE, which comes back as an INSERT in two cases.
fn feeds_itself(outbox: &Outbox, seen: &Cleaning, survey: &Survey, wanted: &Wanted<'_>) -> Vec<Finding> {
    let Wanted { publication: name, after_publish: after, .. } = *wanted;
    let table = &outbox.table.name;
    let mut findings = Vec::new();
    let changed: Vec<_> = std::iter::once(&after.status_column).chain(&after.published_at_column).collect();
    if let Some(column) = seen.partition_key.iter().find(|column| changed.contains(column)) {
        findings.push(Finding::stop(
            "after_publish_partition_key",
            format!(
                "table \"{table}\" is partitioned by \"{column}\", which \"mark\" changes: the row would move to another \
                 partition, and be sent again as a new one"
            ),
            "partition it by another column, or choose another after_publish.action",
        ));
    }
    let publication = survey.publication.as_ref();
    let published = publication.and_then(|publication| publication.of(outbox));
    let updates = publication.is_some_and(|publication| publication.further.contains(&"UPDATE"));
    if let Some(filter) = published.and_then(|published| published.row_filter.as_ref()).filter(|_| updates) {
        findings.push(Finding::stop(
            "after_publish_feeds_itself",
            format!(
                "publication \"{name}\" publishes UPDATEs of \"{table}\", of the rows that match {filter}: a row that comes to \
                 match it is sent as a new one, and \"mark\" changes rows"
            ),
            format!("ALTER PUBLICATION {} SET (publish = 'insert')", identifier(name)),
        ));
    }
    findings
}

/// What `drop-partitions` needs of the table and of its owner.
fn partitions(outbox: &Outbox, seen: &Cleaning, after: &AfterPublish) -> Vec<Finding> {
    let table = &outbox.table.name;
    if !seen.by_time {
        return vec![Finding::stop(
            "after_publish_partitions",
            format!(
                "table \"{table}\" is not partitioned by ranges of one timestamptz column, which after_publish.action = \
                 \"{}\" needs",
                after.action.as_str()
            ),
            "make it so (sql/optional/partitions.sql), or set after_publish.action = \"delete\"",
        )];
    }
    if !seen.functions {
        return vec![Finding::stop(
            "after_publish_functions",
            format!(
                "the functions that drop partitions of \"{table}\" with the rights of its owner are not there"
            ),
            "outbox-relay setup makes them, as the table's owner; setup --print shows the SQL (sql/optional/partitions.sql)",
        )];
    }
    Vec::new()
}

fn rights(outbox: &Outbox, seen: &Cleaning, survey: &Survey, wanted: &Wanted<'_>) -> Option<Finding> {
    let after = wanted.after_publish;
    if seen.allowed || after.action == Action::DropPartitions && !seen.functions {
        return None;
    }
    let table = &outbox.table.name;
    let fix = grant(after, &wanted.outbox.of(&outbox.table.name).columns, table, &survey.role.name)?;
    Some(Finding::stop(
        "after_publish_rights",
        format!(
            "role {} may not do what after_publish.action = \"{}\" needs on table \"{table}\"",
            identifier(&survey.role.name),
            after.action.as_str()
        ),
        format!("as the table's owner: {fix}"),
    ))
}

/// Rows before the slot, which look like published ones.
fn unsent(outbox: &Outbox, after: &AfterPublish, wanted: &Wanted<'_>) -> Finding {
    let table = &outbox.table.name;
    let shown = sql::table(table);
    let (would, remedy) = match after.action {
        Action::Mark => {
            let (column, value) = (identifier(&after.status_column), literal(&after.published_value));
            let pending = literal(&after.pending_value);
            ("marked", format!("UPDATE {shown} SET {column} = {value} WHERE {column} = {pending}"))
        }
        Action::Keep | Action::Delete => ("deleted", format!("DELETE FROM {shown}")),
        Action::DropPartitions => ("dropped", format!("DELETE FROM {shown}, and VACUUM {shown}")),
    };
    Finding::stop(
        UNSENT_ROWS,
        format!(
            "table \"{table}\" has rows, and slot \"{}\" does not exist yet: they would never be sent, and be {would} as if \
             they had been",
            wanted.slot
        ),
        format!(
            "to have them sent first: postgres.backfill = true; if they need not be sent: {remedy}; to send them yourself: \
             make the slot with after_publish.action = \"keep\", then outbox-relay republish, then change the action"
        ),
    )
}
