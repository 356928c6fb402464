//! What `[after_publish]` needs beside the table: an index, rights, and the functions that drop partitions.

use super::poller;
use super::script::{Objects, fill};
use crate::after_publish;
use crate::config::Action;
use crate::outbox::TableName;
use crate::postgres::cleaning::{adding, detaching, dropping};
use crate::postgres::sql::{self, identifier, literal};

const PARTITIONS: &str = include_str!("../../sql/optional/partitions.sql");

/// Where the functions begin in the file of partitions.
const FUNCTIONS: &str = "-- Makes the partitions of today";

/// Makes the index by which published rows of a new table are found, if that takes one.
pub(super) fn index(objects: &Objects, name: &TableName) -> Option<String> {
    let Objects { outbox, after_publish: after, .. } = objects;
    if objects.polls {
        return Some(poller::index(objects, name));
    }
    let (index, partitioned) =
        (format!("{}_published_idx", name.name), after.action == Action::DropPartitions);
    let sql = after_publish::index(after, &outbox.of(name).columns, name, partitioned, Some(&index))?;
    Some(format!("\n-- By which published rows are found.\n{sql};\n"))
}

/// What the relay may do with published rows, as the table's owner grants it; nothing if it leaves them alone, or if that comes
/// with the functions.
pub(super) fn rights(objects: &Objects, name: &TableName) -> Option<String> {
    let Objects { outbox, after_publish: after, role, .. } = objects;
    let sql = after_publish::grant(after, &outbox.of(name).columns, name, role)?;
    (after.action != Action::DropPartitions).then(|| {
        format!(
            "\n-- For after_publish.action = '{}'; by the table's owner.\n{sql};\n\n",
            after.action.as_str()
        )
    })
}

/// Makes partitions of a table, and what drops them.
pub(super) fn functions(objects: &Objects, name: &TableName) -> String {
    let (_, functions) = PARTITIONS.split_once(FUNCTIONS).unwrap_or_default();
    let (detach, drop) = (detaching(name), dropping(name));
    // A text for format(): of its own, `%` and the quote mean something.
    let role = identifier(&objects.role).replace('\'', "''").replace('%', "%%");
    let filled = fill(
        functions,
        &[
            ("'public.detach_partition_of_outbox(interval)'", literal(&format!("{detach}(interval)"))),
            ("'public.drop_partition_of_outbox(oid)'", literal(&format!("{drop}(oid)"))),
            ("public.add_partitions_of_outbox", adding(name)),
            ("public.detach_partition_of_outbox", detach),
            ("public.drop_partition_of_outbox", drop),
            ("'public.outbox'", literal(&sql::table(name))),
            ("ARRAY['outbox_relay']", format!("ARRAY[{}]", literal(&objects.slot))),
            ("TO outbox_relay'", format!("TO {role}'")),
        ],
    );
    format!("{FUNCTIONS}{filled}\n")
}

#[cfg(test)]
mod tests {
    use super::super::script::tests::{default, odd};
    use super::super::script::{publication, role, slot, table, whole};
    use super::*;
    use crate::config::AfterPublish;

    fn first(objects: &Objects) -> TableName {
        objects.named().next().unwrap()
    }

    fn with(action: Action, objects: Objects) -> Objects {
        Objects { after_publish: AfterPublish { action, ..objects.after_publish }, ..objects }
    }

    #[test]
    fn with_default_names_partitions_are_made_as_the_optional_file_makes_them() {
        let objects = with(Action::DropPartitions, default());
        let name = &first(&objects);
        let head = PARTITIONS.split_once("CREATE TABLE").unwrap().0;
        assert_eq!(
            format!("{head}{}\n{}", table(&objects, name), functions(&objects, name)),
            format!("{PARTITIONS}\n")
        );
        let whole = whole(&objects);
        let parts = [table(&objects, name), role(&objects), functions(&objects, name), publication(&objects)];
        assert!(whole.ends_with(&[parts.concat(), slot(&objects)].concat()), "{whole}");
    }

    #[test]
    fn what_rows_become_needs_is_made_with_the_table_and_granted() {
        let shown = |objects: &Objects| {
            let name = &first(objects);
            format!("{}{}", table(objects, name), rights(objects, name).unwrap_or_default())
        };
        insta::assert_snapshot!(shown(&with(Action::Mark, default())), @r#"
        CREATE TABLE IF NOT EXISTS public.outbox (
            id             uuid        PRIMARY KEY DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
            aggregate_type text        NOT NULL,                -- names the topic: "outbox.event.<aggregate_type>"
            aggregate_id   text        NOT NULL,                -- the Kafka key: events of one key stay in order
            event_type     text        NOT NULL,                -- Kafka header "event_type"
            payload        jsonb,                               -- the Kafka value; NULL is a tombstone
            created_at     timestamptz NOT NULL DEFAULT now(),  -- for people and clean-up jobs, not for the relay
            status         text        NOT NULL DEFAULT 'PENDING',  -- 'PUBLISHED' once the event is in Kafka
            published_at   timestamptz                          -- when it was found there
        );

        -- By which published rows are found.
        CREATE INDEX IF NOT EXISTS outbox_published_idx ON public.outbox (created_at) WHERE status = 'PENDING';

        -- For after_publish.action = 'mark'; by the table's owner.
        GRANT SELECT, UPDATE (status, published_at) ON public.outbox TO outbox_relay;
        "#);
        insta::assert_snapshot!(rights(&with(Action::Delete, default()), &first(&default())).unwrap(), @"

        -- For after_publish.action = 'delete'; by the table's owner.
        GRANT SELECT, DELETE, UPDATE (id) ON public.outbox TO outbox_relay;
        ");
        let mut later = with(Action::Delete, odd());
        later.after_publish.retention = std::time::Duration::from_secs(60);
        insta::assert_snapshot!(shown(&later), @r#"
        CREATE TABLE IF NOT EXISTS "Sales"."out""box" (
            "Event Id"     uuid        PRIMARY KEY DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
            aggregate_type text        NOT NULL,                -- names the topic: "shop.<aggregate_type>.<region>"
            aggregate_id   text        NOT NULL,                -- the id of the thing that the event is about
            "order"        jsonb,                               -- the Kafka value; NULL is a tombstone
            created_at     timestamptz NOT NULL DEFAULT now(),  -- the record's timestamp
            shard          integer     NOT NULL,                -- the number of the topic's partition
            region         text,                                -- for route.topic = "shop.{aggregate_type}.{region}"
            tenant         text                                 -- for route.key = "{tenant}"
        );

        -- By which published rows are found.
        CREATE INDEX IF NOT EXISTS "out""box_published_idx" ON "Sales"."out""box" (created_at);

        -- For after_publish.action = 'delete'; by the table's owner.
        GRANT SELECT, DELETE, UPDATE ("Event Id") ON "Sales"."out""box" TO "the 'relay' $$ 100%
        DROP";
        "#);
        let mut odd = with(Action::Mark, odd());
        odd.after_publish.status_column = "State\"s".to_owned();
        odd.after_publish.pending_value = "it's new".to_owned();
        odd.after_publish.published_at_column = None;
        insta::assert_snapshot!(shown(&odd), @r#"
        CREATE TABLE IF NOT EXISTS "Sales"."out""box" (
            "Event Id"     uuid        PRIMARY KEY DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
            aggregate_type text        NOT NULL,                -- names the topic: "shop.<aggregate_type>.<region>"
            aggregate_id   text        NOT NULL,                -- the id of the thing that the event is about
            "order"        jsonb,                               -- the Kafka value; NULL is a tombstone
            created_at     timestamptz NOT NULL DEFAULT now(),  -- the record's timestamp
            shard          integer     NOT NULL,                -- the number of the topic's partition
            region         text,                                -- for route.topic = "shop.{aggregate_type}.{region}"
            tenant         text,                                -- for route.key = "{tenant}"
            "State""s"     text        NOT NULL DEFAULT 'it''s new'  -- 'PUBLISHED' once the event is in Kafka
        );

        -- By which published rows are found.
        CREATE INDEX IF NOT EXISTS "out""box_published_idx" ON "Sales"."out""box" (created_at) WHERE "State""s" = 'it''s new';

        -- For after_publish.action = 'mark'; by the table's owner.
        GRANT SELECT, UPDATE ("State""s") ON "Sales"."out""box" TO "the 'relay' $$ 100%
        DROP";
        "#);
        assert_eq!(rights(&default(), &first(&default())), None);
    }

    #[test]
    fn other_names_are_quoted_in_the_functions_of_partitions() {
        let objects = with(Action::DropPartitions, odd());
        let functions = functions(&objects, &first(&objects));
        for name in ["public.", "'outbox_relay'", "TO outbox_relay", "AS $$", "DO $$"] {
            assert!(!functions.contains(name), "{name}: {functions}");
        }
        let lines = functions
            .lines()
            .filter(|line| ["out\"\"box", "1shop", "relay''"].iter().any(|name| line.contains(name)));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
        CREATE OR REPLACE FUNCTION "Sales"."add_partitions_of_out""box"(days integer) RETURNS void
            parent CONSTANT regclass := '"Sales"."out""box"';
        REVOKE ALL ON FUNCTION "Sales"."add_partitions_of_out""box"(integer) FROM PUBLIC;
        SELECT "Sales"."add_partitions_of_out""box"(7);
        CREATE OR REPLACE FUNCTION "Sales"."detach_partition_of_out""box"(keep interval) RETURNS boolean
            parent CONSTANT regclass := '"Sales"."out""box"';
        CREATE OR REPLACE FUNCTION "Sales"."drop_partition_of_out""box"(partition oid) RETURNS boolean
            parent CONSTANT regclass := '"Sales"."out""box"';
            slots CONSTANT name[] := ARRAY['1shop'];
            parent CONSTANT regclass := '"Sales"."out""box"';
            FOREACH called IN ARRAY ARRAY['"Sales"."detach_partition_of_out""box"(interval)', '"Sales"."drop_partition_of_out""box"(oid)'] LOOP
                EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO "the ''relay'' $$ 100%%
        "#);
    }
}
