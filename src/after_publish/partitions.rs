//! `drop-partitions`: whole partitions, by functions of the table's owner (`sql/optional/partitions.sql`).
//!
//! A partition whose time is over is detached, which waits for everybody who writes to it, and gets a comment: so it is found
//! again after a crash at any point. Then all that the log has by now is waited for, and it is dropped. The function that drops
//! it asks the slot itself once more, so that not even a relay that is wrong, or is not one, loses a row.

use std::time::Duration;

use super::ask::{text, unexpected};
use super::sweep::{Failure, Passed, Sweep};
use crate::clock;
use crate::outbox::TableName;
use crate::postgres::cleaning::{detaching, dropping};
use crate::postgres::control::Catalog;
use crate::postgres::error::Error;
use crate::postgres::sql::{self, literal};

const DETACH: &str = "detach partitions";
const LIST: &str = "look for detached partitions";
const DROP: &str = "drop detached partitions";

/// Detaches what is due, waits, and drops what is detached, now or before.
pub(super) async fn pass(
    sweep: &mut Sweep,
    catalog: &Catalog,
    tables: &[TableName],
    keep: Duration,
    passed: &mut Passed,
) -> Result<(), Failure> {
    for table in tables {
        let began = clock::now();
        let keep = format!("interval '{} seconds'", keep.as_secs_f64());
        // One at a time, so that nobody waits for more than one.
        let sql = format!("SELECT {}({keep})::text", detaching(table));
        let more = loop {
            match answer(catalog, DETACH, &sql).await? {
                Some(true) => {}
                nothing_or_held => break nothing_or_held,
            }
        };
        passed.held |= more.is_none();
        let detached = detached(catalog, table).await?;
        passed.took = passed.took.saturating_add(clock::since(began));
        if detached.is_empty() {
            continue;
        }
        // Everybody who wrote to them had ended before they were detached.
        sweep.settled(catalog).await?;
        for partition in detached {
            let sql = format!("SELECT {}({partition})::text", dropping(table));
            if answer(catalog, DROP, &sql).await? == Some(true) {
                sweep.changed(1, passed);
            } else {
                // The slot may hear of it a moment later than it was told.
                passed.held = true;
            }
        }
    }
    Ok(())
}

/// Object ids of what the owner of `table` has detached from it for us.
async fn detached(catalog: &Catalog, table: &TableName) -> Result<Vec<u32>, Error> {
    let name = literal(&sql::table(table));
    let sql = format!(
        "SELECT c.oid::text FROM pg_class c JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass \
            AND d.objsubid = 0 \
          WHERE d.description LIKE 'outbox-relay: detached from ' || {name}::regclass::oid || ' at %' \
            AND c.relowner = (SELECT relowner FROM pg_class WHERE oid = {name}::regclass) AND NOT c.relispartition \
          ORDER BY c.oid"
    );
    let rows = catalog.texts(LIST, &sql).await?;
    let ids = rows.iter().map(|row| row.first().and_then(text).and_then(|id| id.parse().ok()));
    ids.collect::<Option<_>>().ok_or_else(|| unexpected(LIST, "object ids"))
}

/// What a function says: yes, no, or nothing, if somebody holds the table.
async fn answer(catalog: &Catalog, action: &'static str, sql: &str) -> Result<Option<bool>, Error> {
    let rows = catalog.texts(action, sql).await?;
    let said = rows.first().and_then(|row| row.first()).ok_or_else(|| unexpected(action, "true or false"))?;
    Ok(text(said).map(|said| said == "true"))
}
