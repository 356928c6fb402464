-- The replication slot: the server's memory of how far the relay has come. It needs wal_level = logical.
--
-- Run by: a superuser or a role with REPLICATION (the relay's own will do), in the database of the outbox; in a
-- transaction that has written nothing yet, so each of these files on its own.
--
-- Last, after the publication: the server decodes each change with the catalog as it was when the change was made. A
-- slot that is older than its publication meets changes at which there was no publication, and then either fails
-- ("publication does not exist", up to PostgreSQL 17) or passes over them without sending the rows (18).
--
-- Events committed after this are kept for the relay, whether it runs or not; earlier ones are not sent. From now on
-- the server also keeps its write-ahead log until the relay has read it: drop a slot that is not used any more with
-- SELECT pg_drop_replication_slot('outbox_relay'), and consider max_slot_wal_keep_size.
--
-- Creating a slot waits for all transactions that are open at that moment.

DO $$
DECLARE
    existing record;
    made record;
BEGIN
    SELECT slot_name, plugin, database INTO existing
    FROM pg_catalog.pg_replication_slots WHERE slot_name = 'outbox_relay';

    IF found THEN
        -- Slots have one namespace for the whole server: one of this name may serve another database.
        IF existing.plugin IS DISTINCT FROM 'pgoutput' OR existing.database IS DISTINCT FROM current_database() THEN
            RAISE EXCEPTION 'slot "outbox_relay" exists, with plugin % in database %, expected pgoutput in %',
                coalesce(existing.plugin, '(none)'), coalesce(existing.database, '(none)'), current_database();
        END IF;
    -- Assigned, not PERFORMed: a query's snapshot is lost if the server reads meanwhile that tables were made or dropped
    -- ("snapshot reference … is not owned by resource owner"), and an expression needs none.
    ELSIF current_setting('server_version_num')::int >= 170000 THEN
        -- failover: standbys that synchronise slots keep a copy, so the relay can go on after a promotion.
        made := pg_catalog.pg_create_logical_replication_slot('outbox_relay', 'pgoutput', failover => true);
    ELSE
        made := pg_catalog.pg_create_logical_replication_slot('outbox_relay', 'pgoutput');
    END IF;
END
$$;
