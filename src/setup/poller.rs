//! What a poller needs in the place of publication and slot: an index of pending rows, and a role that may not replicate.

use super::script::{Objects, tagged};
use super::table::one_line;
use crate::outbox::TableName;
use crate::postgres::sql::{self, identifier, literal};

/// What is said before the table's statement, in the place of the head of `sql/01_table.sql`.
pub(super) const HEAD: &str =
    "-- The outbox table: a service inserts one row here in the same transaction as its business rows.
--
-- Run by: the role that owns the service's tables, in the service's database. The service needs INSERT on it; the relay
-- reads the rows that are pending, by time and id, and marks or deletes those that Kafka has.

";

/// Makes the index by which pending rows are found, in their order.
pub(super) fn index(objects: &Objects, name: &TableName) -> String {
    let columns = &objects.outbox.of(name).columns;
    let (index, shown) = (identifier(&format!("{}_pending_idx", name.name)), sql::table(name));
    let (time, id) = (identifier(columns.age()), identifier(&columns.id));
    let pending = objects.after_publish.pending();
    format!(
        "\n-- By which pending rows are found.\nCREATE INDEX IF NOT EXISTS {index} ON {shown} ({time}, {id}) WHERE {pending};\n"
    )
}

/// Makes the role, which needs no right to replicate.
pub(super) fn role(objects: &Objects, name: &str) -> String {
    // A text for format(): of its own, `%` and the quote mean something.
    let in_format = name.replace('\'', "''").replace('%', "%%");
    let block = format!(
        "DO $$
BEGIN
    -- CREATE ROLE has no IF NOT EXISTS. A role that exists is left as it is.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN
        CREATE ROLE {name} LOGIN;
    END IF;

    -- Usually PUBLIC may connect anyway; this keeps the relay working where that was revoked.
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO {in_format}', current_database());
END
$$;
",
        literal(&objects.role)
    );
    format!(
        "
-- The role the relay logs in as. Run by: a role with CREATEROLE, and then, for the rights, the table's owner.
-- The role is made without a password. To give it one:  \\password {}  in psql.

{}",
        one_line(name),
        tagged(&block)
    )
}

#[cfg(test)]
mod tests {
    use super::super::script::tests::{default, odd};
    use super::super::script::whole;
    use super::*;
    use crate::config::Action;

    #[test]
    fn a_poller_needs_a_status_an_index_and_rights() {
        let mut objects = Objects { polls: true, ..default() };
        objects.after_publish.action = Action::Mark;
        insta::assert_snapshot!(whole(&objects), @r#"
        -- The outbox table: a service inserts one row here in the same transaction as its business rows.
        --
        -- Run by: the role that owns the service's tables, in the service's database. The service needs INSERT on it; the relay
        -- reads the rows that are pending, by time and id, and marks or deletes those that Kafka has.

        CREATE TABLE IF NOT EXISTS public.outbox (
            id             uuid        PRIMARY KEY DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
            aggregate_type text        NOT NULL,                -- names the topic: "outbox.event.<aggregate_type>"
            aggregate_id   text        NOT NULL,                -- the Kafka key: events of one key stay in order
            event_type     text        NOT NULL,                -- Kafka header "event_type"
            payload        jsonb,                               -- the Kafka value; NULL is a tombstone
            created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),  -- rows are sent in this order
            status         text        NOT NULL DEFAULT 'PENDING',  -- 'PUBLISHED' once the event is in Kafka
            published_at   timestamptz                          -- when it was found there
        );

        -- By which pending rows are found.
        CREATE INDEX IF NOT EXISTS outbox_pending_idx ON public.outbox (created_at, id) WHERE status = 'PENDING';

        -- The role the relay logs in as. Run by: a role with CREATEROLE, and then, for the rights, the table's owner.
        -- The role is made without a password. To give it one:  \password outbox_relay  in psql.

        DO $$
        BEGIN
            -- CREATE ROLE has no IF NOT EXISTS. A role that exists is left as it is.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'outbox_relay') THEN
                CREATE ROLE outbox_relay LOGIN;
            END IF;

            -- Usually PUBLIC may connect anyway; this keeps the relay working where that was revoked.
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO outbox_relay', current_database());
        END
        $$;

        -- For after_publish.action = 'mark'; by the table's owner.
        GRANT SELECT, UPDATE (status, published_at) ON public.outbox TO outbox_relay;
        "#);
        let mut objects = Objects { polls: true, ..odd() };
        objects.outbox.tables.truncate(1);
        objects.after_publish.action = Action::Delete;
        insta::assert_snapshot!(whole(&objects), @r#"
        -- The outbox table: a service inserts one row here in the same transaction as its business rows.
        --
        -- Run by: the role that owns the service's tables, in the service's database. The service needs INSERT on it; the relay
        -- reads the rows that are pending, by time and id, and marks or deletes those that Kafka has.

        CREATE TABLE IF NOT EXISTS "Sales"."out""box" (
            "Event Id"     uuid        PRIMARY KEY DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
            aggregate_type text        NOT NULL,                -- names the topic: "shop.<aggregate_type>.<region>"
            aggregate_id   text        NOT NULL,                -- the id of the thing that the event is about
            "order"        jsonb,                               -- the Kafka value; NULL is a tombstone
            created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),  -- rows are sent in this order
            shard          integer     NOT NULL,                -- the number of the topic's partition
            region         text,                                -- for route.topic = "shop.{aggregate_type}.{region}"
            tenant         text,                                -- for route.key = "{tenant}"
            status         text        NOT NULL DEFAULT 'PENDING'  -- a row is sent, and deleted, while this is 'PENDING'
        );

        -- By which pending rows are found.
        CREATE INDEX IF NOT EXISTS "out""box_pending_idx" ON "Sales"."out""box" (created_at, "Event Id") WHERE status = 'PENDING';

        -- The role the relay logs in as. Run by: a role with CREATEROLE, and then, for the rights, the table's owner.
        -- The role is made without a password. To give it one:  \password "the 'relay' $$ 100% DROP"  in psql.

        DO $q$
        BEGIN
            -- CREATE ROLE has no IF NOT EXISTS. A role that exists is left as it is.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'the ''relay'' $$ 100%
        DROP') THEN
                CREATE ROLE "the 'relay' $$ 100%
        DROP" LOGIN;
            END IF;

            -- Usually PUBLIC may connect anyway; this keeps the relay working where that was revoked.
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO "the ''relay'' $$ 100%%
        DROP"', current_database());
        END
        $q$;

        -- For after_publish.action = 'delete'; by the table's owner.
        GRANT SELECT, DELETE, UPDATE ("Event Id") ON "Sales"."out""box" TO "the 'relay' $$ 100%
        DROP";
        "#);
    }
}
