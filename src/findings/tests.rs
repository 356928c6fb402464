//! Every finding about PostgreSQL, as a person reads it. Real servers stage them in `tests/it/check.rs`.

mod after_publish;
mod changes;
mod connection;
mod shards;
mod tenants;

use super::*;
use crate::config;
use crate::outbox::TableName;
use crate::postgres::control::Slot;
use crate::postgres::control::Table;
use crate::postgres::outboxes::Meant;
use crate::postgres::publication::{Listed, Publication, Published};
use crate::postgres::survey::{Column, Kind, Outbox, Role, Settings};
use crate::wal::pgoutput::RelationId;

fn table(schema: &str, name: &str) -> TableName {
    TableName { schema: schema.to_owned(), name: name.to_owned() }
}

fn column(name: &str, base_type: u32, type_name: &str) -> Column {
    Column { name: name.to_owned(), base_type, type_name: type_name.to_owned(), generated: false }
}

fn info() -> ConnInfo {
    ConnInfo::parse("postgres://outbox_relay@db/shop", &|_| None, &|_| None).unwrap()
}

/// A server that has all the relay needs.
fn healthy() -> Survey {
    let outbox = Table { id: RelationId(16_385), name: table("public", "outbox") };
    let names = ["id", "aggregate_type", "aggregate_id", "event_type", "payload", "created_at"];
    let mut columns: Vec<_> = names.iter().map(|name| column(name, 25, "text")).collect();
    columns[5] = column("created_at", 1184, "timestamp with time zone");
    Survey {
        shards: Vec::new(),
        server: Settings {
            version_num: 170_011,
            version: "17.11".to_owned(),
            wal_level: "logical".to_owned(),
            in_recovery: false,
            slots: 1,
            max_slots: 10,
            synchronous_standby_names: String::new(),
            synchronized_standby_slots: Some(String::new()),
            standbys: 0,
            wal_sender_timeout: std::time::Duration::from_secs(60),
        },
        role: Role { name: "outbox_relay".to_owned(), limits: Vec::new() },
        tables: vec![Meant {
            entry: outbox.name.clone().into(),
            found: vec![Outbox {
                table: outbox.clone(),
                kind: Kind::Plain,
                unlogged: false,
                columns,
                has_rows: false,
                readable: false,
                inherited: false,
            }],
        }],
        publication: Some(Publication {
            id: 16_390,
            version: 740,
            owner: 10,
            inserts: true,
            further: Vec::new(),
            via_root: true,
            all_tables: false,
            listed: vec![outbox.id],
            tables: vec![Published {
                table: outbox,
                columns: Some(names.map(str::to_owned).to_vec()),
                row_filter: None,
                listed: Some(Listed { id: 16_391, from_the_first: false, perhaps_newer: false }),
            }],
            perhaps_newer: false,
        }),
        slot: Some(Slot {
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            confirmed_flush: Some(Lsn::new(0x3_9A00_0060)),
            wal_status: Some("reserved".to_owned()),
            ..Slot::default()
        }),
        cleaning: Vec::new(),
    }
}

fn config(set: &[(&str, &str)]) -> Config {
    let least =
        [("postgres.url", "postgres://outbox_relay@db/shop"), ("kafka.bootstrap.servers", "kafka:9092")];
    let set: Vec<_> = least.iter().chain(set).map(|(key, value)| ((*key).into(), (*value).into())).collect();
    config::load(None, [], &set).unwrap()
}

/// What is found on the healthy server after a change, with these `--set`.
fn found_with(set: &[(&str, &str)], change: impl FnOnce(&mut Survey)) -> Vec<Finding> {
    let mut survey = healthy();
    change(&mut survey);
    postgres(&Wanted::new(&config(set), &info()), &survey, None)
}

/// The same as text; several findings are parted by a line.
fn shown_with(set: &[(&str, &str)], change: impl FnOnce(&mut Survey)) -> String {
    let shown = |finding: &Finding| format!("{} {}: {finding}", finding.level.as_str(), finding.id);
    found_with(set, change).iter().map(shown).collect::<Vec<_>>().join("\n\n---\n\n")
}

fn shown(change: impl FnOnce(&mut Survey)) -> String {
    shown_with(&[], change)
}

fn outbox(survey: &mut Survey) -> &mut Outbox {
    &mut survey.tables[0].found[0]
}

fn published(survey: &mut Survey) -> &mut Publication {
    survey.publication.as_mut().unwrap()
}

fn slot(survey: &mut Survey) -> &mut Slot {
    survey.slot.as_mut().unwrap()
}

#[test]
fn a_healthy_server_has_no_findings() {
    assert_eq!(found_with(&[], |_| {}), []);
    // A column that no template needs may be missing, or be left out.
    let without = |survey: &mut Survey| {
        outbox(survey).columns.retain(|column| column.name != "created_at");
        published(survey).tables[0].columns.as_mut().unwrap().pop();
    };
    assert_eq!(found_with(&[], without), []);
    // PostgreSQL 14 publishes all columns and does not list them.
    assert_eq!(found_with(&[], |survey| published(survey).tables[0].columns = None), []);
    // The slot is made at the first start.
    assert_eq!(found_with(&[], |survey| survey.slot = None), []);
}

#[test]
fn the_server() {
    insta::assert_snapshot!(shown(|survey| survey.server.wal_level = "replica".to_owned()), @"
    stop wal_level: wal_level = replica, expected logical

    hint: as a superuser: ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL (a managed service has it as a parameter, such as rds.logical_replication = 1)
    ");
    insta::assert_snapshot!(shown(|survey| survey.server.synchronous_standby_names = "ANY 1 (*)".to_owned()), @r#"
    stop synchronous_standby: synchronous_standby_names = 'ANY 1 (*)' includes the relay (application_name "outbox_relay"): commits would wait for Kafka

    hint: name the physical standbys in synchronous_standby_names, or give the relay an application_name that is not there, in postgres.url
    "#);
    insta::assert_snapshot!(shown(|survey| survey.server.standbys = 2), @"
    warn standbys_may_lag: 2 standbys follow this server, and synchronized_standby_slots is empty: after a failover Kafka may have events of transactions that the new primary never got

    hint: ALTER SYSTEM SET synchronized_standby_slots = 'the slot of each standby that may be promoted'; then SELECT pg_reload_conf()
    ");
    insta::assert_snapshot!(shown(|survey| survey.role.limits = vec!["statement_timeout=30s".to_owned()]), @r#"
    warn role_limit: statement_timeout=30s is set for role "outbox_relay" or its database: it does not reach the relay, whose sessions set it to 0

    hint: nothing to do; to take it away from the role: ALTER ROLE outbox_relay RESET statement_timeout
    "#);
    let old = |version: &str, version_num, in_recovery| {
        let version = version.to_owned();
        move |survey: &mut Survey| {
            survey.server = Settings { version, version_num, in_recovery, ..survey.server.clone() };
        }
    };
    insta::assert_snapshot!(shown(old("13.14", 130_014, false)), @"
    stop server_version: PostgreSQL is 13.14, expected 14 or later

    hint: upgrade the server
    ");
    insta::assert_snapshot!(shown(old("15.19", 150_019, true)), @"
    wait server_in_recovery: the server is a standby, and PostgreSQL 15 decodes on a primary only (a standby can since 16)

    hint: name all hosts in postgres.url and add target_session_attrs=primary, or promote the standby
    ");
    assert_eq!(shown(old("16.15", 160_015, true)), "");
}

#[test]
fn the_table() {
    insta::assert_snapshot!(shown(|survey| survey.tables[0].found.clear()), @r#"
    stop table_missing: table "public.outbox" does not exist in database "shop"

    hint: create it (outbox-relay setup does), or name the right one in outbox.tables
    "#);
    insta::assert_snapshot!(shown(|survey| outbox(survey).kind = Kind::Other("a view")), @r#"
    stop table_kind: "public.outbox" is a view, expected a table

    hint: name the table that the services write to in outbox.tables
    "#);
    insta::assert_snapshot!(shown(|survey| outbox(survey).unlogged = true), @r#"
    stop table_unlogged: table "public.outbox" is UNLOGGED: its rows are not in the write-ahead log

    hint: ALTER TABLE public.outbox SET LOGGED
    "#);
}

#[test]
fn columns() {
    let without_two = |survey: &mut Survey| {
        outbox(survey)
            .columns
            .retain(|column| !["aggregate_type", "payload"].contains(&column.name.as_str()));
    };
    insta::assert_snapshot!(shown_with(&[("route.topic", "{aggregate_type}.{tenant}")], without_two), @r#"
    stop column_missing: table "public.outbox" has no column "payload", which outbox.columns.payload names; it has id, aggregate_id, event_type, created_at

    hint: name one of its columns in outbox.columns.payload, or: ALTER TABLE public.outbox ADD COLUMN payload …

    ---

    stop column_missing: table "public.outbox" has no column "aggregate_type", which outbox.columns.aggregate_type names; it has id, aggregate_id, event_type, created_at

    hint: name one of its columns in outbox.columns.aggregate_type, or: ALTER TABLE public.outbox ADD COLUMN aggregate_type …

    ---

    stop column_missing: table "public.outbox" has no column "tenant", which route.topic names; it has id, aggregate_id, event_type, created_at

    hint: name one of its columns in route.topic, or: ALTER TABLE public.outbox ADD COLUMN tenant …
    "#);
    insta::assert_snapshot!(shown(|survey| published(survey).tables[0].columns = Some(vec!["id".to_owned(), "payload".to_owned(), "aggregate_id".to_owned(), "event_type".to_owned()])), @r#"
    stop publication_columns: publication "outbox_relay" leaves out column "aggregate_type" of table "public.outbox", which outbox.columns.aggregate_type names; it has id, payload, aggregate_id, event_type

    hint: BEGIN; ALTER PUBLICATION outbox_relay DROP TABLE public.outbox; ALTER PUBLICATION outbox_relay ADD TABLE public.outbox; COMMIT; or name one of its columns in outbox.columns.aggregate_type
    "#);
    insta::assert_snapshot!(shown(|survey| outbox(survey).columns[4].generated = true), @r#"
    stop column_generated: column "payload" of table "public.outbox", which outbox.columns.payload names, is generated, and not in the stream

    hint: map a column that the services write; PostgreSQL publishes generated columns since 18
    "#);
    insta::assert_snapshot!(
        shown(|survey| {
            survey.server.version_num = 180_006;
            outbox(survey).columns[4].generated = true;
            published(survey).tables[0].columns.as_mut().unwrap().retain(|column| column != "payload");
        }),
        @r#"
    stop column_generated: column "payload" of table "public.outbox", which outbox.columns.payload names, is generated, and not in the stream

    hint: ALTER PUBLICATION outbox_relay SET (publish_generated_columns = stored)
    "#
    );
    // PostgreSQL 18 can publish generated columns.
    let published_generated = |survey: &mut Survey| {
        survey.server.version_num = 180_006;
        outbox(survey).columns[4].generated = true;
    };
    assert_eq!(shown(published_generated), "");
    insta::assert_snapshot!(shown_with(&[("outbox.columns.timestamp", "payload")], |_| {}), @r#"
    stop column_type: column "payload" of table "public.outbox" cannot be outbox.columns.timestamp: its type (oid 25) is not timestamptz, timestamp or bigint

    hint: it is text: name a timestamptz, timestamp or bigint column, or set outbox.columns.timestamp = ""
    "#);
    assert_eq!(shown_with(&[("outbox.columns.timestamp", "created_at")], |_| {}), "");
    insta::assert_snapshot!(shown_with(&[("route.partition", "event_type")], |_| {}), @r#"
    warn partition_column_type: column "event_type" of table "public.outbox", which route.partition names, is text: a row in which it is no number of a partition is rejected

    hint: name an integer column, or set route.partition = ""
    "#);
}

#[test]
fn the_publication() {
    insta::assert_snapshot!(shown(|survey| survey.publication = None), @r#"
    stop publication_missing: publication "outbox_relay" does not exist in database "shop"

    hint: as the table's owner: CREATE PUBLICATION outbox_relay FOR TABLE public.outbox WITH (publish = 'insert', publish_via_partition_root = true)
    "#);
    insta::assert_snapshot!(shown(|survey| published(survey).inserts = false), @r#"
    stop publication_without_inserts: publication "outbox_relay" does not publish INSERTs

    hint: ALTER PUBLICATION outbox_relay SET (publish = 'insert')
    "#);
    insta::assert_snapshot!(shown(|survey| published(survey).tables.clear()), @r#"
    stop publication_without_table: publication "outbox_relay" does not publish table "public.outbox"

    hint: ALTER PUBLICATION outbox_relay ADD TABLE public.outbox; for a partitioned table also SET (publish_via_partition_root = true). Rows that were written meanwhile will not be sent
    "#);
    insta::assert_snapshot!(
        shown(|survey| {
            outbox(survey).kind = Kind::Partitioned;
            published(survey).via_root = false;
            let leaf = Table { id: RelationId(16_400), name: table("public", "outbox_1") };
            published(survey).tables[0].table = leaf;
        }),
        @r#"
    stop publication_without_root: publication "outbox_relay" sends the rows of "public.outbox" under the names of its partitions

    hint: ALTER PUBLICATION outbox_relay SET (publish_via_partition_root = true)
    "#
    );
    insta::assert_snapshot!(shown(|survey| published(survey).tables[0].row_filter = Some("(aggregate_id <> ''::text)".to_owned())), @r#"
    warn publication_row_filter: publication "outbox_relay" sends only those rows of "public.outbox" that match (aggregate_id <> ''::text): others are never sent

    hint: if every row shall be sent: BEGIN; ALTER PUBLICATION outbox_relay DROP TABLE public.outbox; ALTER PUBLICATION outbox_relay ADD TABLE public.outbox; COMMIT
    "#);
    insta::assert_snapshot!(
        shown(|survey| {
            published(survey).all_tables = true;
            published(survey).further = vec!["UPDATE", "DELETE"];
        }),
        @r#"
    warn publication_all_tables: publication "outbox_relay" is FOR ALL TABLES: the server decodes and sends the INSERTs of every table, and the relay stops at a row of a table that is dropped before it was read

    hint: make a publication of the outbox alone (outbox-relay setup --print shows the SQL), then a new slot

    ---

    warn publication_further_operations: publication "outbox_relay" also publishes UPDATE, DELETE: they are sent, counted and ignored

    hint: ALTER PUBLICATION outbox_relay SET (publish = 'insert')
    "#
    );
    insta::assert_snapshot!(shown(|survey| published(survey).perhaps_newer = true), @r#"
    warn publication_perhaps_newer: the server's books do not show that publication "outbox_relay" is older than slot "outbox_relay": if it was made after the slot, the relay stops at rows that were written before that; if it was altered, rows that it left out before are not sent

    hint: nothing to do if it was made first, as outbox-relay setup does: other slots of the server hide the order for a time. If it was made or altered later: send the rows written before that again from the table; if the relay stops at them, also drop the slot, and let the relay make it anew
    "#);
}

#[test]
fn the_slot() {
    insta::assert_snapshot!(shown(|survey| slot(survey).plugin = None), @r#"
    stop slot_of_another: slot "outbox_relay": plugin is none (a physical slot), expected pgoutput

    hint: name another slot in postgres.slot, or drop this one if nobody needs it
    "#);
    insta::assert_snapshot!(shown(|survey| slot(survey).plugin = Some("wal2json".to_owned())), @r#"
    stop slot_of_another: slot "outbox_relay": plugin is wal2json, expected pgoutput

    hint: name another slot in postgres.slot, or drop this one if nobody needs it
    "#);
    insta::assert_snapshot!(shown(|survey| slot(survey).database = Some("other".to_owned())), @r#"
    stop slot_of_another: slot "outbox_relay": database is other, expected shop

    hint: name another slot in postgres.slot, or drop this one if nobody needs it
    "#);
    insta::assert_snapshot!(shown(|survey| slot(survey).wal_status = Some("lost".to_owned())), @r#"
    stop slot_lost: slot "outbox_relay" is lost (wal_status = lost): the WAL after 3/9A000060 was removed

    hint: what was committed after that position and not sent is lost to this slot. Send those rows again from the table, then SELECT pg_drop_replication_slot('outbox_relay') and start the relay, and raise max_slot_wal_keep_size
    "#);
    insta::assert_snapshot!(shown(|survey| slot(survey).wal_status = Some("unreserved".to_owned())), @r#"
    warn slot_almost_lost: slot "outbox_relay" is about to be lost (wal_status = unreserved): the next checkpoint may remove WAL that it needs

    hint: let the relay catch up now, and raise max_slot_wal_keep_size: ALTER SYSTEM SET max_slot_wal_keep_size = '…'; then SELECT pg_reload_conf()
    "#);
    insta::assert_snapshot!(shown(|survey| slot(survey).active_pid = Some(4711)), @r#"
    wait slot_in_use: slot "outbox_relay" is in use by process 4711 of the server

    hint: nothing to do if that is the relay (outbox-relay status tells how it is): another instance waits as its standby. Who it is: SELECT * FROM pg_stat_replication
    "#);
    insta::assert_snapshot!(shown_with(&[("postgres.create_slot", "false")], |survey| survey.slot = None), @r#"
    stop slot_missing: replication slot "outbox_relay" does not exist, and postgres.create_slot is false

    hint: outbox-relay setup, or SELECT pg_create_logical_replication_slot('outbox_relay', 'pgoutput')
    "#);
    insta::assert_snapshot!(
        shown(|survey| {
            survey.slot = None;
            survey.server.max_slots = 1;
            outbox(survey).has_rows = true;
        }),
        @r#"
    wait no_free_slot: no replication slot is free for "outbox_relay": max_replication_slots = 1, and there are 1

    hint: drop one that nobody uses (SELECT slot_name, active FROM pg_replication_slots), or raise max_replication_slots and restart PostgreSQL

    ---

    warn rows_before_slot: table "public.outbox" has rows, and slot "outbox_relay" does not exist yet: rows that were committed before it is made are not sent

    hint: if they shall be sent: postgres.backfill = true sends them before it makes the slot, and outbox-relay setup --backfill does so once
    "#
    );
    let survey = Survey { slot: None, ..healthy() };
    let gone = postgres(&Wanted::new(&config(&[]), &info()), &survey, Some(Lsn::new(0x3_9A00_0060)));
    insta::assert_snapshot!(gone[0], @r#"
    slot "outbox_relay" is gone: somebody has dropped it. It was confirmed up to 3/9A000060 when it was seen last

    hint: what was committed after that position and not sent will not come again by itself. Start the relay: it makes the slot anew, from then on; and send those rows again from the table
    "#);
}

#[test]
fn a_slot_that_is_lost_says_why() {
    let lost = |reason: &str| {
        shown(|survey| {
            slot(survey).wal_status = Some("lost".to_owned());
            slot(survey).invalidation_reason = Some(reason.to_owned());
        })
    };
    insta::assert_snapshot!(lost("idle_timeout"), @r#"
    stop slot_lost: slot "outbox_relay" is lost (wal_status = lost): nobody used it for too long, and it stands at 3/9A000060

    hint: what was committed after that position and not sent is lost to this slot. Send those rows again from the table, then SELECT pg_drop_replication_slot('outbox_relay') and start the relay, and raise idle_replication_slot_timeout
    "#);
    insta::assert_snapshot!(lost("wal_level_insufficient"), @r#"
    stop slot_lost: slot "outbox_relay" is lost (wal_status = lost): wal_level was not logical for a time, and it stands at 3/9A000060

    hint: what was committed after that position and not sent is lost to this slot. Send those rows again from the table, then SELECT pg_drop_replication_slot('outbox_relay') and start the relay, and keep wal_level = logical, also on the primary
    "#);
    insta::assert_snapshot!(lost("rows_removed"), @r#"
    stop slot_lost: slot "outbox_relay" is lost (wal_status = lost): rows_removed, and it stands at 3/9A000060

    hint: what was committed after that position and not sent is lost to this slot. Send those rows again from the table, then SELECT pg_drop_replication_slot('outbox_relay') and start the relay, and on a standby, turn hot_standby_feedback on
    "#);
    assert!(lost("wal_removed").contains("the WAL after 3/9A000060 was removed"));
}

#[test]
fn a_standbys_copy_of_the_slot_is_of_no_use_before_a_promotion() {
    insta::assert_snapshot!(shown(|survey| slot(survey).synced = true), @r#"
    wait server_in_recovery: slot "outbox_relay" is a copy that this standby keeps of its primary's: nobody can use it before a promotion

    hint: name all hosts in postgres.url and add target_session_attrs=primary, or promote the standby
    "#);
}

#[test]
fn the_stream() {
    let notice = crate::postgres::error::ServerError {
        severity: "WARNING".to_owned(),
        code: "55000".to_owned(),
        message: "skipped loading publication \"outbox_relay\"".to_owned(),
        ..Default::default()
    };
    insta::assert_snapshot!(publication_skipped(&notice), @r#"
    PostgreSQL skips rows of the outbox: WARNING 55000: skipped loading publication "outbox_relay"

    hint: the publication was made, or made again, after the slot's position, or is gone. Make it, if it is gone; then drop the slot, let the relay make a new one, and send the rows that were written before that from the table
    "#);
    insta::assert_snapshot!(partition_leaf(&table("public", "outbox_1")), @r#"
    rows of partition "public.outbox_1" are published under its own name, not that of its table

    hint: name the partitions in outbox.tables, and start the relay: rows that are written already come under these names. For later ones ALTER PUBLICATION … SET (publish_via_partition_root = true); when the relay stops at the first of them, name the table again
    "#);
    insta::assert_snapshot!(table_gone(&table("public", "notes")), @r#"
    rows of table "public.notes" are in the stream, but the table is not in the catalog any more

    hint: if it was no outbox, take it out of the publication and make a new slot; if it was one, its last events are in the WAL that this slot holds
    "#);
}

#[test]
fn odd_names_are_quoted_in_sql() {
    let odd = |survey: &mut Survey| {
        survey.tables[0].entry = table("Shop \"1\"", "Out'box").into();
        outbox(survey).table.name = table("Shop \"1\"", "Out'box");
        outbox(survey).table.id = RelationId(1);
    };
    insta::assert_snapshot!(shown_with(&[("postgres.publication", "My \"pub\"")], odd), @r#"
    stop publication_without_table: publication "My "pub"" does not publish table "Shop "1".Out'box"

    hint: ALTER PUBLICATION "My ""pub""" ADD TABLE "Shop ""1"""."Out'box"; for a partitioned table also SET (publish_via_partition_root = true). Rows that were written meanwhile will not be sent
    "#);
}

#[test]
fn several_findings_are_a_list_and_warnings_stay_out_of_it() {
    let change = |survey: &mut Survey| {
        survey.server.wal_level = "replica".to_owned();
        survey.publication = None;
        survey.role.limits = vec!["lock_timeout=1s".to_owned()];
    };
    let refused = Findings(found_with(&[], change)).accept().unwrap_err();
    insta::assert_snapshot!(refused, @r#"
    2 findings in PostgreSQL

      stop: wal_level = replica, expected logical
        hint: as a superuser: ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL (a managed service has it as a parameter, such as rds.logical_replication = 1)

      stop: publication "outbox_relay" does not exist in database "shop"
        hint: as the table's owner: CREATE PUBLICATION outbox_relay FOR TABLE public.outbox WITH (publish = 'insert', publish_via_partition_root = true)
    "#);
    assert_eq!((refused.hint(), refused.disposition()), (None, Disposition::Stop));
    insta::assert_snapshot!(refused.line(), @r#"wal_level = replica, expected logical; publication "outbox_relay" does not exist in database "shop""#);
    let limit = |survey: &mut Survey| survey.role.limits = vec!["lock_timeout=1s".to_owned()];
    assert_eq!(Findings(found_with(&[], limit)).accept().unwrap().len(), 1);
    let waits = Findings(found_with(&[], |survey| slot(survey).active_pid = Some(1))).accept().unwrap_err();
    assert_eq!(waits.disposition(), Disposition::Retry);
}
