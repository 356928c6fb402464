//! Several relays that share an outbox.

use super::*;
use crate::outbox::{NOTHING, Shard};
use crate::postgres::shards::ShardSeen;

const FOUR: [(&str, &str); 2] = [("shard.count", "4"), ("shard.index", "1")];

/// Everything as `setup --shards 4` makes it, seen by the second relay.
fn laid_out(survey: &mut Survey) {
    let outbox = outbox(survey).table.clone();
    let seen = |shard: Shard| ShardSeen {
        publication: shard.name("outbox_relay"),
        filters: Some(vec![(outbox.clone(), shard.filter("aggregate_id", "text"))]),
        slot: shard.name("outbox_relay"),
        has_slot: true,
    };
    survey.shards = Shard::all(4).map(seen).collect();
    published(survey).tables[0].row_filter = Shard { count: 4, index: 1 }.filter("aggregate_id", "text");
}

fn shown_of(change: impl FnOnce(&mut Survey)) -> String {
    shown_with(&FOUR, |survey| {
        laid_out(survey);
        change(survey);
    })
}

#[test]
fn a_layout_that_is_as_it_must_be_is_no_problem() {
    assert_eq!(shown_of(|_| {}), "");
}

#[test]
fn a_filter_that_is_not_the_one_of_the_layout_stops_every_relay() {
    insta::assert_snapshot!(shown_of(|survey| survey.shards[3].filters.as_mut().unwrap()[0].1 = None), @r#"
    stop shard_filter: publication "outbox_relay_4_3" sends all rows of "public.outbox", expected those that match ((COALESCE(hashtext(aggregate_id), 0) & 3) = 3)

    hint: rows that match no shard's filter are sent by nobody, and those that match two are sent twice. Change all in one transaction: outbox-relay setup --print --shards 4 shows the SQL, docs/sharding.md how
    "#);
    insta::assert_snapshot!(shown_of(|survey| survey.shards[3].filters.as_mut().unwrap().clear()), @r#"
    stop shard_filter: publication "outbox_relay_4_3" does not publish table "public.outbox", expected those that match ((COALESCE(hashtext(aggregate_id), 0) & 3) = 3)

    hint: rows that match no shard's filter are sent by nobody, and those that match two are sent twice. Change all in one transaction: outbox-relay setup --print --shards 4 shows the SQL, docs/sharding.md how
    "#);
    insta::assert_snapshot!(shown_of(|survey| survey.shards[3].filters = None), @r#"
    stop shard_filter: publication "outbox_relay_4_3" does not exist: nobody sends its part of the keys

    hint: outbox-relay setup --shards 4
    "#);
    insta::assert_snapshot!(shown_of(|survey| published(survey).tables[0].row_filter = Some("(n > 0)".to_owned())), @r#"
    stop shard_filter: publication "outbox_relay_4_1" sends the rows of "public.outbox" that match (n > 0), expected those that match ((COALESCE(hashtext(aggregate_id), 0) & 3) = 1)

    hint: rows that match no shard's filter are sent by nobody, and those that match two are sent twice. Change all in one transaction: outbox-relay setup --print --shards 4 shows the SQL, docs/sharding.md how
    "#);
    insta::assert_snapshot!(shown_of(|survey| survey.shards[0].has_slot = false), @r#"
    warn shard_slot_missing: slot "outbox_relay_4_0" does not exist: events of its part of the keys are not kept for it yet

    hint: start its relay, or outbox-relay setup --shards 4
    "#);
}

#[test]
fn a_layout_that_gives_over_is_told_of_and_goes_on() {
    let retired = |survey: &mut Survey| {
        for part in &mut survey.shards {
            part.filters.as_mut().unwrap()[0].1 = Some(NOTHING.to_owned());
        }
        published(survey).tables[0].row_filter = Some(NOTHING.to_owned());
    };
    insta::assert_snapshot!(shown_of(retired), @r#"
    warn shard_retired: publication "outbox_relay_4_1" sends no row of "public.outbox": it is not in use yet, or the outbox was divided anew

    hint: nothing to do while that is done (docs/sharding.md). If it is done, and the slot has confirmed what was committed before, stop this relay and drop its slot
    "#);
    // If not all of it does, somebody's events are lost.
    let others = |survey: &mut Survey| {
        for part in [0, 2, 3] {
            survey.shards[part].filters.as_mut().unwrap()[0].1 = Some(NOTHING.to_owned());
        }
    };
    assert_eq!(shown_of(others).matches("stop shard_filter").count(), 3);
    let half =
        |survey: &mut Survey| survey.shards[2].filters.as_mut().unwrap()[0].1 = Some(NOTHING.to_owned());
    insta::assert_snapshot!(shown_of(half), @r#"
    stop shard_filter: publication "outbox_relay_4_2" sends the rows of "public.outbox" that match false, expected those that match ((COALESCE(hashtext(aggregate_id), 0) & 3) = 2)

    hint: rows that match no shard's filter are sent by nobody, and those that match two are sent twice. Change all in one transaction: outbox-relay setup --print --shards 4 shows the SQL, docs/sharding.md how
    "#);
}

#[test]
fn what_cannot_be_divided_is_told() {
    insta::assert_snapshot!(shown_of(|survey| survey.server.version_num = 140_024), @"
    stop shard_version: PostgreSQL is 17.11, expected 15 or later: shard.count = 4 needs row filters of publications

    hint: upgrade the server, or let one relay send everything: shard.count = 1
    ");
    let typed = |survey: &mut Survey| outbox(survey).columns[2].type_name = "jsonb".to_owned();
    insta::assert_snapshot!(shown_of(typed), @r#"
    stop shard_key_type: column "aggregate_id" of table "public.outbox", which makes the key, is jsonb: a row filter cannot divide rows by it

    hint: expected text, varchar, uuid, smallint, integer or bigint: make the key of such a column, or let one relay send everything (shard.count = 1)
    "#);
    let two = |survey: &mut Survey| {
        let mut second = survey.tables[0].clone();
        second.found[0].table = Table { id: RelationId(7), name: table("public", "second") };
        second.found[0].columns[2].type_name = "uuid".to_owned();
        let Shard { count, .. } = Shard { count: 4, index: 0 };
        for (part, shard) in survey.shards.iter_mut().zip(Shard::all(count)) {
            let filter = shard.filter("aggregate_id", "uuid");
            part.filters.as_mut().unwrap().push((second.found[0].table.clone(), filter));
        }
        let mut listed = published(survey).tables[0].clone();
        listed.table = second.found[0].table.clone();
        listed.row_filter = Shard { count: 4, index: 1 }.filter("aggregate_id", "uuid");
        published(survey).tables.push(listed);
        survey.tables.push(second);
    };
    insta::assert_snapshot!(shown_of(two), @r#"
    stop shard_keys_differ: the keys of table "public.outbox" and of table "public.second" have types that PostgreSQL hashes in different ways: equal keys would be in different shards, and lose their order

    hint: give the key columns one type; or, if they have no keys in common, follow the tables with relays of their own
    "#);
}
