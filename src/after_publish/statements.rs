//! What is said to PostgreSQL, as text. Pure.
//!
//! Only [`removal`] changes anything, and it takes a [`Settled`].

use super::horizon::{Origin, Settled};
use super::walk::Blocks;
use crate::config::AfterPublish;
use crate::outbox::Columns;
use crate::postgres::sql::{identifier, literal};
use crate::postgres::survey::Outbox;

/// What becomes of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// They are deleted.
    Delete,
    /// The assignments of an UPDATE.
    Mark(String),
}

/// Which rows are meant, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) deed: Deed,
    /// A condition that an index may serve; without one, all rows are meant.
    pub(super) choice: Option<String>,
}

/// A table, as it is when a pass begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// As SQL writes it.
    pub(super) table: String,
    pub(super) partitioned: bool,
    /// Of the publication: rows that do not meet it are never sent, or by another relay.
    pub(super) filter: Option<String>,
}

/// A session of its own: nothing waits for its commits, which a crash may undo and the next pass does again. Nobody waits for
/// it either: it gives up what it cannot have at once.
pub(super) fn session(zone: &str) -> String {
    format!(
        "SET synchronous_commit = off; SET lock_timeout = '100ms'; SET statement_timeout = '30s'; \
         SET default_transaction_isolation = 'read committed'; SET TimeZone = {}",
        literal(zone)
    )
}

/// A look at the server. PostgreSQL takes the snapshot of a statement before it computes anything, so the position is read
/// later. The functions are volatile: they are not computed ahead.
pub(super) fn look(slot: &str) -> String {
    format!(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, pg_current_wal_insert_lsn()::text, \
                substring(pg_walfile_name(pg_current_wal_insert_lsn()) for 8), \
                ({})::text, \
                pg_size_bytes(current_setting('wal_segment_size'))::text, current_setting('wal_block_size')",
        walsender(slot)
    )
}

fn walsender(slot: &str) -> String {
    format!("SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = {}", literal(slot))
}

/// Looks at table `id`: its name, whether it is partitioned, how many blocks it has, and the filter of the publication. No row
/// if it is not published.
pub(super) fn place(id: u32, publication: &str) -> String {
    // Before PostgreSQL 15 there is no such column, and no filter.
    format!(
        "SELECT format('%I.%I', n.nspname, c.relname), (c.relkind = 'p')::text, to_jsonb(p) ->> 'rowfilter', \
                (SELECT coalesce(max(pg_relation_size(t.oid)), 0) / current_setting('block_size')::int8 \
                   FROM (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)) AS t)::text \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_publication_tables p ON p.schemaname = n.nspname AND p.tablename = c.relname \
          WHERE c.oid = {id} AND p.pubname = {}",
        literal(publication)
    )
}

/// Blocks that are looked for together.
pub(super) const TOGETHER: u64 = 64;

/// Rows that are looked for at once.
pub(super) const AT_ONCE: u64 = 200_000;

/// Where there are rows to be changed: numbers of groups of [`TOGETHER`] blocks, and how many rows were found. `None` where
/// all of the table is gone through.
pub(super) fn search(job: &Job, place: &Place, settled: Settled) -> Option<String> {
    job.choice.as_ref()?;
    let Place { table, .. } = place;
    Some(format!(
        "SELECT ((ctid::text::point)[0]::int8 / {TOGETHER})::text, count(*)::text FROM \
             (SELECT ctid FROM {table} WHERE {} LIMIT {AT_ONCE}) AS found GROUP BY 1, (ctid::text::point)[0]::int8 / {TOGETHER} \
          ORDER BY (ctid::text::point)[0]::int8 / {TOGETHER}",
        conditions(job, place, settled)
    ))
}

/// Deletes or marks the settled rows of `blocks` that nobody has locked.
///
/// Rows are locked in the order in which they lie there. One that was changed since the statement's snapshot is locked in its
/// new form, which the outer statement's snapshot does not show: it is left alone. The server must still be the one on which
/// the session's walsender runs.
pub(super) fn removal(
    job: &Job,
    place: &Place,
    settled: Settled,
    blocks: Blocks,
    slot: &str,
    origin: Origin,
) -> String {
    let Place { table, partitioned, .. } = place;
    let Blocks { from, until } = blocks;
    let range = format!("ctid >= '({from},0)' AND ctid < '({until},0)'");
    let conditions = conditions(job, place, settled);
    let pid = origin.walsender.unwrap_or(0);
    let chosen = |columns: &str| {
        format!(
            "SELECT {columns} FROM {table} WHERE {range} AND {conditions} AND ({}) = {pid} FOR UPDATE SKIP LOCKED",
            walsender(slot)
        )
    };
    // A row's place is its own within its partition alone.
    let those = if *partitioned {
        format!("{range} AND (tableoid, ctid) IN ({})", chosen("tableoid, ctid"))
    } else {
        format!("ctid = ANY (ARRAY({}))", chosen("ctid"))
    };
    match &job.deed {
        Deed::Delete => format!("DELETE FROM {table} WHERE {those}"),
        Deed::Mark(assignments) => format!("UPDATE {table} SET {assignments} WHERE {those}"),
    }
}

/// That a row is meant, and settled.
///
/// `xmin` has 32 bits, and so has `age`, which counts from the next transaction; both sides of a comparison count from the same
/// one (`GetStableLatestTransactionId`). A row that was frozen long ago keeps its number, which after 2^31 transactions looks
/// like one to come; none that is to come is a billion ahead. Should the horizon itself be that old, nothing is touched.
fn conditions(job: &Job, place: &Place, settled: Settled) -> String {
    let xid = settled.xid();
    let choice = job.choice.as_ref().map(|choice| format!("{choice} AND ")).unwrap_or_default();
    let filter = place.filter.as_ref().map(|filter| format!(" AND ({filter})")).unwrap_or_default();
    format!(
        "{choice}(age(xmin) > age('{xid}'::xid) OR age(xmin) < -1000000000) AND age('{xid}'::xid) >= 0{filter}"
    )
}

/// Changes the status, and notes the time.
pub(super) fn mark(after: &AfterPublish) -> Job {
    let status = identifier(&after.status_column);
    let mut assignments = format!("{status} = {}", literal(&after.published_value));
    if let Some(column) = &after.published_at_column {
        assignments.push_str(&format!(", {} = now()", identifier(column)));
    }
    Job { deed: Deed::Mark(assignments), choice: Some(after.pending()) }
}

/// Deletes what is older than the retention; all, if that is nothing. `None` if the table has no column that tells.
pub(super) fn delete(after: &AfterPublish, columns: &Columns, outbox: &Outbox) -> Option<Job> {
    let choice = if after.retention.is_zero() { None } else { Some(older(after, columns, outbox)?) };
    Some(Job { deed: Deed::Delete, choice })
}

/// Object ids of bigint, timestamp and timestamptz (src/include/catalog/pg_type.dat).
const BIGINT: u32 = 20;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

/// A comparison that an index on the column can serve.
fn older(after: &AfterPublish, columns: &Columns, outbox: &Outbox) -> Option<String> {
    let name = columns.age();
    let column = outbox.columns.iter().find(|column| column.name == name)?;
    let (name, age) = (identifier(name), format!("interval '{} seconds'", after.retention.as_secs_f64()));
    match column.base_type {
        // Milliseconds since 1970, as for the record's timestamp.
        BIGINT => Some(format!("{name} < (extract(epoch FROM now() - {age}) * 1000)::int8")),
        // In the time zone of the session, which is that of the column.
        TIMESTAMP => Some(format!("{name} < localtimestamp - {age}")),
        TIMESTAMPTZ => Some(format!("{name} < now() - {age}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::after_publish::horizon::{Horizon, Look};
    use crate::config;
    use crate::lsn::Lsn;
    use crate::outbox::TableName;
    use crate::postgres::control::Table;
    use crate::postgres::survey::{Column, Kind};
    use crate::wal::pgoutput::RelationId;

    const ORIGIN: Origin = Origin { timeline: 1, walsender: Some(4711) };

    fn settled() -> Settled {
        let look =
            Look { xmin: (3 << 32) + 742, insert: Lsn::ZERO, segment: 16 << 20, page: 8_192, origin: ORIGIN };
        Horizon::of(&look, ORIGIN).unwrap().reached(Lsn::ZERO).unwrap()
    }

    fn config(set: &[(&str, &str)]) -> config::Config {
        let needed = [("postgres.url", "postgres://r@db/shop"), ("kafka.bootstrap.servers", "kafka:9092")];
        let all: Vec<_> =
            needed.iter().chain(set).map(|(key, value)| ((*key).into(), (*value).into())).collect();
        config::load(None, [], &all).unwrap()
    }

    fn place(partitioned: bool, filter: Option<&str>) -> Place {
        Place { table: "public.outbox".to_owned(), partitioned, filter: filter.map(str::to_owned) }
    }

    fn outbox(base_type: u32) -> Outbox {
        let column =
            Column { name: "created_at".to_owned(), base_type, type_name: String::new(), generated: false };
        Outbox {
            table: Table {
                id: RelationId(7),
                name: TableName { schema: "public".to_owned(), name: "outbox".to_owned() },
            },
            kind: Kind::Plain,
            unlogged: false,
            columns: vec![column],
            has_rows: false,
            readable: true,
            inherited: false,
        }
    }

    fn delete(retention: &str, base_type: u32) -> Option<Job> {
        let config = config(&[("after_publish.action", "delete"), ("after_publish.retention", retention)]);
        super::delete(&config.after_publish, &config.outbox.shape.columns, &outbox(base_type))
    }

    fn removed(job: &Job, place: &Place) -> String {
        removal(job, place, settled(), Blocks { from: 64, until: 192 }, "it's", ORIGIN)
    }

    #[test]
    fn only_what_is_settled_is_deleted() {
        let all = delete("0s", 25).unwrap();
        insta::assert_snapshot!(removed(&all, &place(false, None)), @"DELETE FROM public.outbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM public.outbox WHERE ctid >= '(64,0)' AND ctid < '(192,0)' AND (age(xmin) > age('742'::xid) OR age(xmin) < -1000000000) AND age('742'::xid) >= 0 AND (SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = 'it''s') = 4711 FOR UPDATE SKIP LOCKED))");
        insta::assert_snapshot!(removed(&all, &place(true, Some("(a = 1) OR (b = 2)"))), @"DELETE FROM public.outbox WHERE ctid >= '(64,0)' AND ctid < '(192,0)' AND (tableoid, ctid) IN (SELECT tableoid, ctid FROM public.outbox WHERE ctid >= '(64,0)' AND ctid < '(192,0)' AND (age(xmin) > age('742'::xid) OR age(xmin) < -1000000000) AND age('742'::xid) >= 0 AND ((a = 1) OR (b = 2)) AND (SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = 'it''s') = 4711 FOR UPDATE SKIP LOCKED)");
        assert_eq!(search(&all, &place(false, None), settled()), None);
    }

    #[test]
    fn what_is_marked_is_looked_for_first() {
        let job = mark(&config(&[("after_publish.action", "mark")]).after_publish);
        insta::assert_snapshot!(removed(&job, &place(false, None)), @"UPDATE public.outbox SET status = 'PUBLISHED', published_at = now() WHERE ctid = ANY (ARRAY(SELECT ctid FROM public.outbox WHERE ctid >= '(64,0)' AND ctid < '(192,0)' AND status = 'PENDING' AND (age(xmin) > age('742'::xid) OR age(xmin) < -1000000000) AND age('742'::xid) >= 0 AND (SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = 'it''s') = 4711 FOR UPDATE SKIP LOCKED))");
        insta::assert_snapshot!(search(&job, &place(false, None), settled()).unwrap(), @"SELECT ((ctid::text::point)[0]::int8 / 64)::text, count(*)::text FROM (SELECT ctid FROM public.outbox WHERE status = 'PENDING' AND (age(xmin) > age('742'::xid) OR age(xmin) < -1000000000) AND age('742'::xid) >= 0 LIMIT 200000) AS found GROUP BY 1, (ctid::text::point)[0]::int8 / 64 ORDER BY (ctid::text::point)[0]::int8 / 64");
    }

    #[test]
    fn a_row_s_age_is_told_in_the_terms_of_its_column() {
        let older = |base_type| delete("1d", base_type).and_then(|job| job.choice);
        insta::assert_snapshot!(older(TIMESTAMPTZ).unwrap(), @"created_at < now() - interval '86400 seconds'");
        insta::assert_snapshot!(older(TIMESTAMP).unwrap(), @"created_at < localtimestamp - interval '86400 seconds'");
        insta::assert_snapshot!(older(BIGINT).unwrap(), @"created_at < (extract(epoch FROM now() - interval '86400 seconds') * 1000)::int8");
        assert_eq!(older(25), None);
    }
}
