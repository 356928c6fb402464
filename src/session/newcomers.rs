//! Tables that patterns of `outbox.tables` mean, and that were made while the session streams: a new tenant's, for example.
//!
//! Their rows are relayed by their names, if the publication has them. If it has not, nothing comes, and nobody would know: so it
//! is said at once, and after a while, in which somebody may put the table in, the relay stops. Pure: time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::findings::{self, Finding};
use crate::postgres::outboxes::Newcomer;
use crate::postgres::publication::Publication;
use crate::postgres::survey::Outbox;
use crate::wal::pgoutput::RelationId;

/// The newcomers that are not published.
pub(super) struct Newcomers {
    unpublished: HashMap<RelationId, Waiting>,
    /// The server notices if a table is published after it has seen a row of it.
    notices: bool,
}

struct Waiting {
    since: Instant,
    /// Rows were written into it.
    written: bool,
}

/// Whoever makes a table and publishes it in two transactions is done by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Before 15 pgoutput keeps in mind for a whole session that a table was not published when it first saw a row of it
/// (`rel_sync_cache_relation_cb` in pgoutput.c), and passes over all that follow.
const NOTICES: u32 = 150_000;

impl Newcomers {
    /// None yet, on a server of this version.
    pub(super) fn new(version_num: u32) -> Self {
        Self { unpublished: HashMap::new(), notices: version_num >= NOTICES }
    }

    /// Of the tables that were `found` new, those that `publication` has, to be watched from now on; and what is wrong.
    pub(super) fn seen(
        &mut self,
        found: Vec<Newcomer>,
        publication: &Publication,
        name: &str,
        now: Instant,
    ) -> (Vec<Outbox>, Vec<Finding>) {
        // What was dropped again is not waited for.
        self.unpublished.retain(|id, _| found.iter().any(|newcomer| newcomer.outbox.table.id == *id));
        let (mut published, mut findings) = (Vec::new(), Vec::new());
        for Newcomer { outbox, written } in found {
            let (id, table) = (outbox.table.id, outbox.table.name.clone());
            if let Some(entry) = publication.of(&outbox) {
                let waited = self.unpublished.remove(&id);
                let late = entry.listed.map_or(waited.is_some(), |listed| !listed.from_the_first);
                if late && (waited.is_some_and(|waited| waited.written) || written && !self.notices) {
                    findings.push(findings::published_too_late(&table, name));
                } else if late {
                    findings.push(findings::published_late(&table, name));
                }
                published.push(outbox);
                continue;
            }
            let waiting = self.unpublished.entry(id).or_insert(Waiting { since: now, written: false });
            waiting.written |= written;
            findings.push(match now.duration_since(waiting.since) {
                waited if waited >= PATIENCE => findings::unpublished(publication, name, &outbox),
                _ => findings::unpublished_yet(&table, name, PATIENCE),
            });
        }
        (published, findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::TableName;
    use crate::postgres::control::Table;
    use crate::postgres::publication::{Listed, Published};
    use crate::postgres::survey::Kind;

    fn newcomer(written: bool) -> Newcomer {
        let name = TableName { schema: "tenant_2".to_owned(), name: "outbox".to_owned() };
        let outbox = Outbox {
            table: Table { id: RelationId(7), name },
            kind: Kind::Plain,
            unlogged: false,
            columns: Vec::new(),
            has_rows: false,
            readable: false,
            inherited: false,
        };
        Newcomer { outbox, written }
    }

    fn publication(listed: Option<Option<Listed>>) -> Publication {
        let published = |listed| Published {
            table: newcomer(false).outbox.table,
            columns: None,
            row_filter: None,
            listed,
        };
        Publication {
            id: 1,
            version: 1,
            owner: 10,
            inserts: true,
            further: Vec::new(),
            via_root: true,
            all_tables: false,
            listed: Vec::new(),
            tables: listed.map(published).into_iter().collect(),
            perhaps_newer: false,
        }
    }

    fn entry(from_the_first: bool) -> Option<Option<Listed>> {
        Some(Some(Listed { id: 9, from_the_first, perhaps_newer: false }))
    }

    /// Tables to be watched, and levels and ids of findings.
    type Told = (usize, Vec<(&'static str, &'static str)>);

    fn told((published, findings): (Vec<Outbox>, Vec<Finding>)) -> Told {
        let ids = findings.iter().map(|finding| (finding.level.as_str(), finding.id));
        (published.len(), ids.collect())
    }

    /// What is told of a table that is, `seconds` after the first look, written into and published like this.
    fn looks(version: u32, looks: &[(u64, bool, Option<Option<Listed>>)]) -> Vec<Told> {
        let (start, mut newcomers) = (Instant::now(), Newcomers::new(version));
        let look = |(seconds, written, listed): &(u64, bool, Option<Option<Listed>>)| {
            let now = start + Duration::from_secs(*seconds);
            told(newcomers.seen(vec![newcomer(*written)], &publication(*listed), "relay", now))
        };
        looks.iter().map(look).collect()
    }

    const YET: (&str, &str) = ("warn", "table_unpublished");
    const LATE: (&str, &str) = ("warn", "table_published_late");
    const TOO_LATE: (&str, &str) = ("stop", "table_published_late");
    const STOP: (&str, &str) = ("stop", "publication_without_table");

    #[test]
    fn a_table_that_was_published_when_it_was_made_is_nothing_to_speak_of() {
        assert_eq!(looks(180_000, &[(0, true, entry(true))]), [(1, vec![])]);
        // FOR ALL TABLES names none.
        assert_eq!(looks(180_000, &[(0, true, Some(None))]), [(1, vec![])]);
    }

    #[test]
    fn one_that_is_not_published_is_told_of_at_once_and_stops_the_relay_after_a_while() {
        let told = looks(180_000, &[(0, false, None), (10, false, None), (29, true, None), (30, true, None)]);
        assert_eq!(told, [(0, vec![YET]), (0, vec![YET]), (0, vec![YET]), (0, vec![STOP])]);
    }

    #[test]
    fn one_that_is_published_later_is_told_of_and_stops_the_relay_if_rows_were_written_before() {
        assert_eq!(
            looks(180_000, &[(0, false, None), (10, true, entry(false))]),
            [(0, vec![YET]), (1, vec![LATE])]
        );
        assert_eq!(
            looks(180_000, &[(0, true, None), (10, true, entry(false))]),
            [(0, vec![YET]), (1, vec![TOO_LATE])]
        );
        assert_eq!(
            looks(180_000, &[(0, true, None), (10, true, Some(None))]),
            [(0, vec![YET]), (1, vec![TOO_LATE])]
        );
        assert_eq!(looks(180_000, &[(0, true, entry(false))]), [(1, vec![LATE])]);
    }

    #[test]
    fn before_15_one_that_is_published_later_may_be_passed_over() {
        assert_eq!(looks(140_000, &[(0, true, entry(false))]), [(1, vec![TOO_LATE])]);
        assert_eq!(looks(140_000, &[(0, false, entry(false))]), [(1, vec![LATE])]);
    }

    #[test]
    fn one_that_is_dropped_and_made_again_begins_anew() {
        let (start, mut newcomers) = (Instant::now(), Newcomers::new(180_000));
        let none = publication(None);
        assert_eq!(told(newcomers.seen(vec![newcomer(false)], &none, "relay", start)), (0, vec![YET]));
        assert_eq!(told(newcomers.seen(Vec::new(), &none, "relay", start + PATIENCE)), (0, vec![]));
        let again = start + PATIENCE * 2;
        assert_eq!(told(newcomers.seen(vec![newcomer(false)], &none, "relay", again)), (0, vec![YET]));
    }
}
