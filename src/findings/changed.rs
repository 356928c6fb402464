//! A publication that somebody has changed between two looks at it, so that rows may be missing in the stream.
//!
//! Not every change is one to stop at: a table that was added, a further operation, a filter show what they were for. One
//! that shows nothing but that it happened was probably made, and then undone.

use super::Finding;
use crate::postgres::publication::{Publication, Published};
use crate::postgres::survey::Outbox;

/// What may be missing since `before`, for the `outboxes` that are published.
#[must_use]
pub fn publication_changed(
    before: &Publication,
    now: &Publication,
    outboxes: &[&Outbox],
    name: &str,
) -> Vec<Finding> {
    if before.id != now.id {
        // Dropped and made again: the stream itself stops at the rows in between.
        return Vec::new();
    }
    if before.version != now.version && looks_like(before, now) {
        return vec![missing(
            format!("publication \"{name}\" was altered, and is as it was before"),
            "while it did not publish INSERTs",
        )];
    }
    let both = |outbox: &&Outbox| Some((before.of(outbox)?, now.of(outbox)?));
    outboxes.iter().filter_map(both).filter_map(|(before, now)| table_changed(before, now, name)).collect()
}

/// Whether all that ALTER PUBLICATION … SET, OWNER or RENAME could have been for is as before.
fn looks_like(before: &Publication, now: &Publication) -> bool {
    let shown = |publication: &Publication| {
        (publication.inserts, publication.further.clone(), publication.via_root, publication.owner)
    };
    shown(before) == shown(now)
}

fn table_changed(before: &Published, now: &Published, publication: &str) -> Option<Finding> {
    let (Some(entry), Some(entry_now)) = (before.listed, now.listed) else {
        return None;
    };
    if entry.id == entry_now.id || entry_now.from_the_first {
        return None;
    }
    let table = &now.table.name;
    if before.table.id != now.table.id {
        return Some(missing(
            format!("table \"{table}\" was made again, and later put into publication \"{publication}\""),
            "before that",
        ));
    }
    let same = (&before.columns, &before.row_filter) == (&now.columns, &now.row_filter);
    let what = format!("table \"{table}\" was taken out of publication \"{publication}\" and put back");
    if same {
        return Some(missing(what, "in between"));
    }
    // There is no other way to change them.
    Some(Finding::warn(
        "publication_changed",
        format!(
            "{what} with another row filter or list of columns: rows that it left out in between are not in the stream"
        ),
        "nothing to do if it was one command (ALTER PUBLICATION … SET TABLE) or one transaction; else look for such rows in the \
         table, and send them again",
    ))
}

fn missing(what: String, when: &str) -> Finding {
    Finding::stop(
        "publication_changed",
        format!("{what}: rows that were committed {when} are not in the stream"),
        "look for them in the table, and send them again. Then, or if it all was one transaction, start the relay: it goes \
         on where it is",
    )
}
