-- Optional, for outbox.source = "poll": wakes the relay when an event is committed, instead of at its next look.
--
-- Run by: the owner of the outbox table.
--
-- Not free. A transaction that notifies holds a lock of the whole server while it commits, so such commits come one after the
-- other, each with its own flush to disk, in all databases (PreCommit_Notify in PostgreSQL's async.c). docs/poll.md has what
-- that cost where it was measured; many commits a second do better without it, and with a short poll.interval.

CREATE OR REPLACE FUNCTION public.outbox_notify() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    -- Once a transaction, however many statements it has: the server drops equal notifications.
    NOTIFY outbox;
    RETURN NULL;
END
$$;

CREATE TRIGGER outbox_notify AFTER INSERT ON public.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION public.outbox_notify();
