//! The questions of a sweep, and what the answers mean.

use bytes::Bytes;

use super::horizon::{Look, Origin};
use super::statements::{self, Job, Place, TOGETHER};
use super::walk::Blocks;
use crate::postgres::control::Catalog;
use crate::postgres::error::Error;

const LOOK: &str = "look how far the log is";
const PLACE: &str = "look at an outbox table";
const SEARCH: &str = "look for published rows";

/// The server's present moment.
pub(super) async fn look(catalog: &Catalog, slot: &str) -> Result<Look, Error> {
    let rows = catalog.texts(LOOK, &statements::look(slot)).await?;
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let read = || {
        let [xmin, insert, timeline, walsender, segment, page] = row else { return None };
        Some(Look {
            xmin: text(xmin)?.parse().ok()?,
            insert: text(insert)?.parse().ok()?,
            segment: text(segment)?.parse().ok()?,
            page: text(page)?.parse().ok()?,
            origin: Origin {
                timeline: u32::from_str_radix(text(timeline)?, 16).ok()?,
                walsender: text(walsender).and_then(|pid| pid.parse().ok()),
            },
        })
    };
    read().ok_or_else(|| unexpected(LOOK, "a snapshot and a position"))
}

/// Table `id`, and its number of blocks; nothing if it is not there any more, or not published.
pub(super) async fn place(
    catalog: &Catalog,
    id: u32,
    publication: &str,
) -> Result<Option<(Place, u64)>, Error> {
    let rows = catalog.texts(PLACE, &statements::place(id, publication)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let read = || {
        let [table, partitioned, filter, blocks] = row.as_slice() else { return None };
        let filter = text(filter).map(str::to_owned);
        let place =
            Place { table: text(table)?.to_owned(), partitioned: text(partitioned)? == "true", filter };
        Some((place, text(blocks)?.parse().ok()?))
    };
    read().map(Some).ok_or_else(|| unexpected(PLACE, "a table"))
}

/// Where there are rows of `job`, and how many were found at once.
pub(super) async fn search(catalog: &Catalog, sql: &str) -> Result<(Vec<Blocks>, u64), Error> {
    let (mut places, mut found) = (Vec::new(), 0_u64);
    for row in catalog.texts(SEARCH, sql).await? {
        let read = || {
            let [group, count] = row.as_slice() else { return None };
            let from = text(group)?.parse::<u64>().ok()?.checked_mul(TOGETHER)?;
            Some((Blocks { from, until: from.checked_add(TOGETHER)? }, text(count)?.parse::<u64>().ok()?))
        };
        let (place, count) = read().ok_or_else(|| unexpected(SEARCH, "blocks and a number of rows"))?;
        places.push(place);
        found = found.saturating_add(count);
    }
    Ok((places, found))
}

/// What the changing of rows is called in an error.
pub(super) const fn action(job: &Job) -> &'static str {
    match job.deed {
        statements::Deed::Delete => "delete published rows",
        statements::Deed::Mark(_) => "mark published rows",
    }
}

/// A value as text; nothing for NULL.
pub(super) fn text(value: &Option<Bytes>) -> Option<&str> {
    std::str::from_utf8(value.as_deref()?).ok()
}

pub(super) fn unexpected(action: &'static str, expected: &'static str) -> Error {
    Error::Protocol { action: action.into(), came: "another answer".to_owned(), expected }
}
