//! What `[after_publish]` needs, as a person reads it. Real servers stage it in `tests/it/after_publish.rs`.

use super::*;
use crate::postgres::cleaning::Cleaning;

const DELETE: (&str, &str) = ("after_publish.action", "delete");
const MARK: (&str, &str) = ("after_publish.action", "mark");
const DROP: (&str, &str) = ("after_publish.action", "drop-partitions");

/// A table with everything that any action needs.
fn served(survey: &mut Survey) {
    let outbox = outbox(survey);
    outbox.columns.push(column("status", 25, "text"));
    outbox.columns.push(column("published_at", 1184, "timestamp with time zone"));
    survey.cleaning = vec![Cleaning {
        table: table("public", "outbox"),
        allowed: true,
        row_security: false,
        partition_key: Vec::new(),
        by_time: true,
        functions: true,
        indexed: true,
        unsent: false,
    }];
}

/// What is found after a change of that.
fn found(set: &[(&str, &str)], change: impl FnOnce(&mut Survey)) -> String {
    shown_with(set, |survey| {
        served(survey);
        change(survey);
    })
}

#[test]
fn a_table_that_serves_has_no_findings() {
    for action in [DELETE, MARK, DROP] {
        assert_eq!(found(&[action], |_| {}), "");
    }
    assert_eq!(found(&[DELETE, ("after_publish.retention", "7d")], |_| {}), "");
}

#[test]
fn columns_that_are_missing_or_of_the_wrong_type() {
    let without = |survey: &mut Survey| {
        outbox(survey).columns.retain(|column| column.type_name == "text" && column.name != "status")
    };
    insta::assert_snapshot!(found(&[MARK], without), @r#"
    stop after_publish_column: table "public.outbox" has no column "status", which after_publish.status_column names

    hint: ALTER TABLE public.outbox ADD COLUMN status text NOT NULL DEFAULT 'PENDING'; or correct after_publish.status_column

    ---

    stop after_publish_column: table "public.outbox" has no column "published_at", which after_publish.published_at_column names

    hint: ALTER TABLE public.outbox ADD COLUMN published_at timestamptz; or set after_publish.published_at_column = ""
    "#);
    insta::assert_snapshot!(found(&[DELETE, ("after_publish.retention", "7d")], without), @r#"
    stop after_publish_column: table "public.outbox" has no column "created_at", which after_publish.retention needs and outbox.columns.timestamp names

    hint: ALTER TABLE public.outbox ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(); or name one that tells a row's age in outbox.columns.timestamp, or leave after_publish.retention out
    "#);
    assert_eq!(found(&[DELETE], without), "");
    let old = [DELETE, ("after_publish.retention", "7d"), ("outbox.columns.timestamp", "event_type")];
    insta::assert_snapshot!(found(&old, |_| {}).split("\n\n---\n\n").last().unwrap(), @r#"
    stop after_publish_column_type: column "event_type" of table "public.outbox" is text, and after_publish.retention needs a time

    hint: name a timestamptz, timestamp or bigint column in outbox.columns.timestamp
    "#);
}

#[test]
fn rights_and_indexes_that_are_missing() {
    let without = |survey: &mut Survey| {
        survey.cleaning[0].allowed = false;
        survey.cleaning[0].indexed = false;
    };
    insta::assert_snapshot!(found(&[DELETE], without), @r#"
    stop after_publish_rights: role outbox_relay may not do what after_publish.action = "delete" needs on table "public.outbox"

    hint: as the table's owner: GRANT SELECT, DELETE, UPDATE (id) ON public.outbox TO outbox_relay
    "#);
    insta::assert_snapshot!(found(&[MARK], without), @r#"
    stop after_publish_rights: role outbox_relay may not do what after_publish.action = "mark" needs on table "public.outbox"

    hint: as the table's owner: GRANT SELECT, UPDATE (status, published_at) ON public.outbox TO outbox_relay

    ---

    warn after_publish_index: table "public.outbox" has no index by which published rows are found: each time all of it is read

    hint: CREATE INDEX CONCURRENTLY ON public.outbox (created_at) WHERE status = 'PENDING'
    "#);
    insta::assert_snapshot!(found(&[DELETE, ("after_publish.retention", "7d")], |survey| {
        survey.cleaning[0].indexed = false;
        outbox(survey).kind = Kind::Partitioned;
    }), @r#"
    warn after_publish_index: table "public.outbox" has no index by which published rows are found: each time all of it is read

    hint: CREATE INDEX ON public.outbox (created_at)
    "#);
    insta::assert_snapshot!(found(&[DROP], without), @r#"
    stop after_publish_rights: role outbox_relay may not do what after_publish.action = "drop-partitions" needs on table "public.outbox"

    hint: as the table's owner: GRANT EXECUTE ON FUNCTION public.detach_partition_of_outbox(interval), public.drop_partition_of_outbox(oid) TO outbox_relay
    "#);
    insta::assert_snapshot!(found(&[DELETE], |survey| survey.cleaning[0].row_security = true), @r#"
    warn after_publish_row_security: table "public.outbox" has row-level security: published rows that its policies hide from role outbox_relay stay

    hint: a policy for the relay, or ALTER ROLE outbox_relay BYPASSRLS
    "#);
}

#[test]
fn marks_that_would_be_sent_as_new_events() {
    insta::assert_snapshot!(found(&[MARK], |survey| survey.cleaning[0].partition_key = vec!["status".to_owned()]), @r#"
    stop after_publish_partition_key: table "public.outbox" is partitioned by "status", which "mark" changes: the row would move to another partition, and be sent again as a new one

    hint: partition it by another column, or choose another after_publish.action
    "#);
    let filtered = |survey: &mut Survey| {
        published(survey).further = vec!["UPDATE", "DELETE"];
        published(survey).tables[0].row_filter = Some("(status = 'PUBLISHED'::text)".to_owned());
    };
    let finding = found(&[MARK], filtered);
    insta::assert_snapshot!(finding.split("\n\n---\n\n").next().unwrap(), @r#"
    stop after_publish_feeds_itself: publication "outbox_relay" publishes UPDATEs of "public.outbox", of the rows that match (status = 'PUBLISHED'::text): a row that comes to match it is sent as a new one, and "mark" changes rows

    hint: ALTER PUBLICATION outbox_relay SET (publish = 'insert')
    "#);
    assert!(!found(&[DELETE], filtered).contains("stop"));
    assert!(!found(&[MARK], |survey| published(survey).further = vec!["UPDATE"]).contains("stop"));
}

#[test]
fn partitions_that_cannot_be_dropped() {
    insta::assert_snapshot!(found(&[DROP], |survey| survey.cleaning[0].by_time = false), @r#"
    stop after_publish_partitions: table "public.outbox" is not partitioned by ranges of one timestamptz column, which after_publish.action = "drop-partitions" needs

    hint: make it so (sql/optional/partitions.sql), or set after_publish.action = "delete"
    "#);
    insta::assert_snapshot!(found(&[DROP], |survey| survey.cleaning[0].functions = false), @r#"
    stop after_publish_functions: the functions that drop partitions of "public.outbox" with the rights of its owner are not there

    hint: outbox-relay setup makes them, as the table's owner; setup --print shows the SQL (sql/optional/partitions.sql)
    "#);
}

#[test]
fn rows_that_nobody_has_sent() {
    let before = |survey: &mut Survey| {
        survey.slot = None;
        survey.cleaning[0].unsent = true;
    };
    insta::assert_snapshot!(found(&[DELETE], before), @r#"
    stop after_publish_unsent_rows: table "public.outbox" has rows, and slot "outbox_relay" does not exist yet: they would never be sent, and be deleted as if they had been

    hint: to have them sent first: postgres.backfill = true; if they need not be sent: DELETE FROM public.outbox; to send them yourself: make the slot with after_publish.action = "keep", then outbox-relay republish, then change the action
    "#);
    insta::assert_snapshot!(found(&[MARK], before), @r#"
    stop after_publish_unsent_rows: table "public.outbox" has rows, and slot "outbox_relay" does not exist yet: they would never be sent, and be marked as if they had been

    hint: to have them sent first: postgres.backfill = true; if they need not be sent: UPDATE public.outbox SET status = 'PUBLISHED' WHERE status = 'PENDING'; to send them yourself: make the slot with after_publish.action = "keep", then outbox-relay republish, then change the action
    "#);
    insta::assert_snapshot!(found(&[DROP], before), @r#"
    stop after_publish_unsent_rows: table "public.outbox" has rows, and slot "outbox_relay" does not exist yet: they would never be sent, and be dropped as if they had been

    hint: to have them sent first: postgres.backfill = true; if they need not be sent: DELETE FROM public.outbox, and VACUUM public.outbox; to send them yourself: make the slot with after_publish.action = "keep", then outbox-relay republish, then change the action
    "#);
}
