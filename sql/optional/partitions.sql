-- Optional: the outbox table in partitions by time, for after_publish.action = 'drop-partitions'. In place of 01_table.sql, as
-- the same role; the publication of 03_publication.sql serves it as it is. Then, after 02_role.sql, all of this file's functions.
--
-- A partition is dropped as a file is: no row is deleted, nothing is left to VACUUM. Each event is in Kafka before.

CREATE TABLE IF NOT EXISTS public.outbox (
    id             uuid        NOT NULL DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
    aggregate_type text        NOT NULL,                -- names the topic: "outbox.event.<aggregate_type>"
    aggregate_id   text        NOT NULL,                -- the Kafka key: events of one key stay in order
    event_type     text        NOT NULL,                -- Kafka header "event_type"
    payload        jsonb,                               -- the Kafka value; NULL is a tombstone
    created_at     timestamptz NOT NULL DEFAULT now(),  -- which partition the row is in
    PRIMARY KEY (id, created_at)                        -- a key of a partitioned table has the partition's column in it
) PARTITION BY RANGE (created_at);

-- Makes the partitions of today and of the next days, by UTC. Nobody calls it by itself: let pg_cron, a job of the service, or
-- a person do so, long before the last partition's end, because a row without a partition is refused.
CREATE OR REPLACE FUNCTION public.add_partitions_of_outbox(days integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' AS $$
DECLARE
    parent CONSTANT regclass := 'public.outbox';
    day date;
BEGIN
    FOR day IN SELECT d::date FROM generate_series(current_date, current_date + days, interval '1 day') AS d LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
            (SELECT nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE c.oid = parent),
            (SELECT relname FROM pg_class WHERE oid = parent) || to_char(day, '_YYYYMMDD'),
            parent, day::timestamptz, (day + 1)::timestamptz);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION public.add_partitions_of_outbox(integer) FROM PUBLIC;
SELECT public.add_partitions_of_outbox(7);

-- Detaches the oldest partition whose end is longer ago than the retention, if there is one; whether there was, or NULL
-- if somebody held the table for too long. The relay calls it,
-- and the next function, with the rights of the table's owner: it has none of its own on the table.
--
-- Whoever may call it can do no more than this. Only this table's partitions, never the one for all other values, and never one
-- that is not an hour past its end: a transaction that began before may still write to it. To keep partitions longer whatever the
-- relay is told, write a longer time there.
CREATE OR REPLACE FUNCTION public.detach_partition_of_outbox(keep interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    parent CONSTANT regclass := 'public.outbox';
    least_age CONSTANT interval := '1 hour';
    partition regclass;
BEGIN
    SELECT ended.oid INTO partition
      FROM (SELECT c.oid, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)$')::timestamptz AS upper
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = parent AND c.relispartition) AS ended
     WHERE ended.upper <= now() - greatest(keep, least_age)
       -- Bounds of another type say nothing about the time without a time zone.
       AND (SELECT a.atttypid = 'timestamptz'::regtype AND p.partstrat = 'r' AND p.partnatts = 1
              FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
             WHERE p.partrelid = parent)
     ORDER BY ended.upper LIMIT 1;
    IF partition IS NULL THEN
        RETURN false;
    END IF;
    -- Waits for everybody who writes to the table, and they wait for it: not for long. The next try comes soon.
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent, partition);
    -- Who wrote to it has ended, so all of its rows lie before this position. The comment outlives a crash of the relay.
    EXECUTE format('COMMENT ON TABLE %s IS %L', partition,
        format('outbox-relay: detached from %s at %s', parent::oid, pg_current_wal_insert_lsn()));
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END
$$;

-- Drops a partition that the function above has detached, once the slot has confirmed all of its rows; whether it did, or NULL as
-- above. To keep a detached partition, take its comment away.
CREATE OR REPLACE FUNCTION public.drop_partition_of_outbox(partition oid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    parent CONSTANT regclass := 'public.outbox';
    -- All slots that send rows of the table.
    slots CONSTANT name[] := ARRAY['outbox_relay'];
    written pg_lsn;
BEGIN
    SELECT substring(obj_description(c.oid, 'pg_class') FROM '^outbox-relay: detached from ' || parent::oid || ' at ([0-9A-F]+/[0-9A-F]+)$')
      INTO written
      FROM pg_class c
     WHERE c.oid = partition AND NOT c.relispartition
       AND c.relowner = (SELECT relowner FROM pg_class WHERE oid = parent);
    IF written IS NULL THEN
        RAISE EXCEPTION 'table % was not detached from % by the relay', partition, parent USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF (SELECT count(*) FROM pg_replication_slots WHERE slot_name = ANY (slots) AND confirmed_flush_lsn >= written) < cardinality(slots) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %s', partition::regclass);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END
$$;

-- The functions have the rights of the table's owner, whoever has made them, and only the relay may call them.
DO $$
DECLARE
    parent CONSTANT regclass := 'public.outbox';
    called text;
BEGIN
    FOREACH called IN ARRAY ARRAY['public.detach_partition_of_outbox(interval)', 'public.drop_partition_of_outbox(oid)'] LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', called,
            (SELECT pg_catalog.pg_get_userbyid(relowner) FROM pg_catalog.pg_class WHERE oid = parent));
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', called);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO outbox_relay', called);
    END LOOP;
END
$$;
