-- The publication: which table's changes the server sends to the relay, and that only INSERTs are sent.
--
-- Run by: the owner of the outbox table, with CREATE on the database.
-- After the table, which it names, and always before the slot (04_slot.sql says why).

DO $$
BEGIN
    -- CREATE PUBLICATION has no IF NOT EXISTS. A publication that exists is left as it is.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'outbox_relay') THEN
        -- insert: the UPDATEs and DELETEs that clean the table up are never sent.
        -- publish_via_partition_root: should the outbox be partitioned, rows arrive under the name of the outbox and
        -- not under that of each partition. For a plain table it changes nothing.
        CREATE PUBLICATION outbox_relay FOR TABLE public.outbox
            WITH (publish = 'insert', publish_via_partition_root = true);
    END IF;
END
$$;
