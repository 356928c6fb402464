//! Tables that patterns mean.

use super::*;
use crate::findings::{published_late, published_too_late, unpublished_yet};

#[test]
fn a_pattern_that_means_nothing_yet_is_told_of() {
    let with = [("outbox.tables", "public.outbox,tenant_*.outbox")];
    let change = |survey: &mut Survey| {
        let entry = config(&with).outbox.tables[1].clone();
        survey.tables.push(Meant { entry, found: Vec::new() });
    };
    insta::assert_snapshot!(shown_with(&with, change), @r#"
    warn tables_none: no table of database "shop" is meant by "tenant_*.outbox" of outbox.tables yet

    hint: nothing to do if there will be some: each has to be put into the publication in the transaction that makes it. Else correct outbox.tables
    "#);
    // It may be all there is.
    let with = [("outbox.tables", "tenant_*.outbox")];
    let change = |survey: &mut Survey| {
        survey.tables = vec![Meant { entry: config(&with).outbox.tables[0].clone(), found: Vec::new() }];
        survey.publication = None;
    };
    insta::assert_snapshot!(shown_with(&with, change), @r#"
    stop publication_missing: publication "outbox_relay" does not exist in database "shop"

    hint: as the table's owner: CREATE PUBLICATION outbox_relay WITH (publish = 'insert', publish_via_partition_root = true)

    ---

    warn tables_none: no table of database "shop" is meant by "tenant_*.outbox" of outbox.tables yet

    hint: nothing to do if there will be some: each has to be put into the publication in the transaction that makes it. Else correct outbox.tables
    "#);
}

#[test]
fn a_table_is_measured_by_its_own_section() {
    let own = [
        ("outbox.tables", "public.*"),
        ("tables.public.outbox.columns.payload", "body"),
        ("tables.public.outbox.columns.timestamp", "payload"),
        ("tables.public.outbox.headers.more", "{more}"),
        ("tables.public.outbox.route.partition", "payload"),
    ];
    insta::assert_snapshot!(shown_with(&own, |_| {}), @r#"
    stop column_missing: table "public.outbox" has no column "body", which tables."public.outbox".columns.payload names; it has id, aggregate_type, aggregate_id, event_type, payload, created_at

    hint: name one of its columns in tables."public.outbox".columns.payload, or: ALTER TABLE public.outbox ADD COLUMN body …

    ---

    stop column_missing: table "public.outbox" has no column "more", which tables."public.outbox".headers.more names; it has id, aggregate_type, aggregate_id, event_type, payload, created_at

    hint: name one of its columns in tables."public.outbox".headers.more, or: ALTER TABLE public.outbox ADD COLUMN more …

    ---

    stop column_type: column "payload" of table "public.outbox" cannot be tables."public.outbox".columns.timestamp: its type (oid 25) is not timestamptz, timestamp or bigint

    hint: it is text: name a timestamptz, timestamp or bigint column, or set tables."public.outbox".columns.timestamp = ""

    ---

    warn partition_column_type: column "payload" of table "public.outbox", which tables."public.outbox".route.partition names, is text: a row in which it is no number of a partition is rejected

    hint: name an integer column, or set tables."public.outbox".route.partition = ""
    "#);
    // What only others need may be missing, and the table's own name is no column.
    let others = [
        ("outbox.tables", "public.*"),
        ("outbox.columns.payload", "nowhere"),
        ("tables.public.outbox.columns.payload", "payload"),
        ("tables.public.outbox.route.topic", "{@schema}.{@table}"),
    ];
    assert_eq!(found_with(&others, |_| {}), []);
}

#[test]
fn a_table_that_is_published_after_it_was_made_is_told_of() {
    let tenant = table("tenant_2", "outbox");
    let patience = std::time::Duration::from_secs(30);
    insta::assert_snapshot!(unpublished_yet(&tenant, "outbox_relay", patience), @r#"
    table "tenant_2.outbox" is new, and outbox.tables means it, but publication "outbox_relay" does not publish it: rows committed before it does are not sent

    hint: ALTER PUBLICATION outbox_relay ADD TABLE tenant_2.outbox; best in the transaction that makes the table. The relay stops if that is not done 30 s from now
    "#);
    insta::assert_snapshot!(published_late(&tenant, "outbox_relay"), @r#"
    table "tenant_2.outbox" was put into publication "outbox_relay" after it was made: rows committed in between are not in the stream

    hint: which they are, but for transactions that were open then: SELECT * FROM tenant_2.outbox WHERE age(xmin) > (SELECT age(r.xmin) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = 'outbox_relay' AND r.prrelid = 'tenant_2.outbox'::regclass); send them again with outbox-relay republish --id …. Put a table into the publication in the transaction that makes it
    "#);
    insta::assert_snapshot!(published_too_late(&tenant, "outbox_relay"), @r#"
    table "tenant_2.outbox" was put into publication "outbox_relay" after it was made, and rows were written into it before the relay saw that: they are not in the stream

    hint: which they are, but for transactions that were open then: SELECT * FROM tenant_2.outbox WHERE age(xmin) > (SELECT age(r.xmin) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = 'outbox_relay' AND r.prrelid = 'tenant_2.outbox'::regclass); send them again with outbox-relay republish --id …. Then start the relay: it goes on where it is
    "#);
}
