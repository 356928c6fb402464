//! Several relays that share an outbox: the filters of their publications must be exactly those of the layout. A row that none of
//! them lets through is sent by nobody, and nothing in any stream says so.

use super::{Finding, Wanted};
use crate::config::Sharding;
use crate::outbox::{KeyType, NOTHING, Shard, Spec, TableName, key_column};
use crate::postgres::publication::Published;
use crate::postgres::shards::ShardSeen;
use crate::postgres::survey::{Outbox, Settings};

/// Since then publications have row filters.
const FILTERS_ROWS: u32 = 15;

/// What is wrong with the layout as a whole.
pub(super) fn layout(
    seen: &[ShardSeen],
    outboxes: &[&Outbox],
    server: &Settings,
    wanted: &Wanted<'_>,
) -> Vec<Finding> {
    let Some(sharding) = wanted.sharding else { return Vec::new() };
    let count = sharding.shard.count;
    if server.major() < FILTERS_ROWS {
        return vec![Finding::stop(
            "shard_version",
            format!(
                "PostgreSQL is {}, expected {FILTERS_ROWS} or later: shard.count = {count} needs row filters of publications",
                server.version
            ),
            "upgrade the server, or let one relay send everything: shard.count = 1",
        )];
    }
    let mut findings: Vec<_> =
        outboxes.iter().filter_map(|outbox| key_type(outbox, wanted.outbox).err()).collect();
    let types: Vec<_> = outboxes
        .iter()
        .filter_map(|outbox| Some((&outbox.table.name, key_type(outbox, wanted.outbox).ok()??)))
        .collect();
    findings.extend(differing(&types, wanted.outbox));
    if seen.iter().all(|part| part.filters.as_deref().is_some_and(is_retired)) {
        // Another layout has taken over, or has not given over yet: of this one's own publication it is told anyway.
        return findings;
    }
    for (part, shard) in seen.iter().zip(Shard::all(count)) {
        let own = part.publication == wanted.publication;
        match &part.filters {
            None if own => {}
            None => findings.push(missing(part, sharding)),
            Some(_) if own => {}
            Some(filters) => findings.extend(outboxes.iter().filter_map(|outbox| {
                let found = filters.iter().find(|(table, _)| table.is_same(&outbox.table));
                let filter = found.map(|(_, filter)| filter.as_deref());
                wrong(outbox, filter, &part.publication, shard, wanted)
            })),
        }
        if !part.has_slot && !own {
            findings.push(Finding::warn(
                "shard_slot_missing",
                format!(
                    "slot \"{}\" does not exist: events of its part of the keys are not kept for it yet",
                    part.slot
                ),
                format!("start its relay, or outbox-relay setup --shards {count}"),
            ));
        }
    }
    findings
}

/// What is wrong with the filter of an outbox in this shard's own publication; also looked at while streaming.
pub(super) fn filter(outbox: &Outbox, published: &Published, wanted: &Wanted<'_>) -> Option<Finding> {
    let sharding = wanted.sharding?;
    let filter = published.row_filter.as_deref();
    if filter == Some(NOTHING) {
        return Some(Finding::warn(
            "shard_retired",
            format!(
                "publication \"{}\" sends no row of \"{}\": it is not in use yet, or the outbox was divided anew",
                wanted.publication, outbox.table.name
            ),
            "nothing to do while that is done (docs/sharding.md). If it is done, and the slot has confirmed what was committed \
             before, stop this relay and drop its slot",
        ));
    }
    wrong(outbox, Some(filter), wanted.publication, sharding.shard, wanted)
}

/// Nothing of any table is sent.
fn is_retired(filters: &[(crate::postgres::control::Table, Option<String>)]) -> bool {
    !filters.is_empty() && filters.iter().all(|(_, filter)| filter.as_deref() == Some(NOTHING))
}

/// A filter that is not the one of the layout; `found` is none if the table is not published at all.
fn wrong(
    outbox: &Outbox,
    found: Option<Option<&str>>,
    publication: &str,
    shard: Shard,
    wanted: &Wanted<'_>,
) -> Option<Finding> {
    let expected = expected(outbox, wanted.outbox, shard)?;
    let table = &outbox.table.name;
    let found = match found {
        Some(Some(filter)) if filter == expected => return None,
        Some(Some(filter)) => format!("sends the rows of \"{table}\" that match {filter}"),
        Some(None) => format!("sends all rows of \"{table}\""),
        None => format!("does not publish table \"{table}\""),
    };
    Some(Finding::stop(
        "shard_filter",
        format!("publication \"{publication}\" {found}, expected those that match {expected}"),
        format!(
            "rows that match no shard's filter are sent by nobody, and those that match two are sent twice. Change all in one \
             transaction: outbox-relay setup --print --shards {} shows the SQL, docs/sharding.md how",
            shard.count
        ),
    ))
}

/// The filter that a table must have; `None` if its key cannot be divided, which is told otherwise.
fn expected(outbox: &Outbox, spec: &Spec, shard: Shard) -> Option<String> {
    let column = column(outbox, spec)?;
    shard.filter(&crate::postgres::sql::identifier(&column.name), &column.type_name)
}

/// The column that makes the key.
fn column<'a>(outbox: &'a Outbox, spec: &Spec) -> Option<&'a crate::postgres::survey::Column> {
    let shape = spec.of(&outbox.table.name);
    let (name, _) = shape.columns.behind(key_column(&shape.route.key)?);
    outbox.columns.iter().find(|column| column.name == name)
}

/// How its key is hashed; nothing if the column is missing, which is told otherwise.
fn key_type(outbox: &Outbox, spec: &Spec) -> Result<Option<KeyType>, Finding> {
    let Some(column) = column(outbox, spec) else { return Ok(None) };
    match KeyType::of(&column.type_name) {
        Some(found) => Ok(Some(found)),
        None => Err(Finding::stop(
            "shard_key_type",
            format!(
                "column \"{}\" of table \"{}\", which makes the key, is {}: a row filter cannot divide rows by it",
                column.name, outbox.table.name, column.type_name
            ),
            "expected text, varchar, uuid, smallint, integer or bigint: make the key of such a column, or let one relay send \
             everything (shard.count = 1)",
        )),
    }
}

/// Equal keys of two tables must be in one shard.
fn differing(types: &[(&TableName, KeyType)], spec: &Spec) -> Option<Finding> {
    let text = || (None, KeyType::Text);
    let messages = spec.message_prefix.is_some().then(text);
    let mut all = messages.into_iter().chain(types.iter().map(|(name, of)| (Some(*name), *of)));
    let (first, of) = all.next()?;
    let (other, _) = all.find(|(_, found)| *found != of)?;
    let named = |name: Option<&TableName>| {
        name.map_or("messages (outbox.message_prefix)".to_owned(), |name| format!("table \"{name}\""))
    };
    Some(Finding::stop(
        "shard_keys_differ",
        format!(
            "the keys of {} and of {} have types that PostgreSQL hashes in different ways: equal keys would be in different shards, \
             and lose their order",
            named(first),
            named(other)
        ),
        "give the key columns one type; or, if they have no keys in common, follow the tables with relays of their own",
    ))
}

fn missing(part: &ShardSeen, sharding: &Sharding) -> Finding {
    Finding::stop(
        "shard_filter",
        format!("publication \"{}\" does not exist: nobody sends its part of the keys", part.publication),
        format!("outbox-relay setup --shards {}", sharding.shard.count),
    )
}
