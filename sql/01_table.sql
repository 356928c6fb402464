-- The outbox table: a service inserts one row here in the same transaction as its business rows.
--
-- Run by: the role that owns the service's tables, in the service's database.
-- First, because the publication names the table.
--
-- The service needs INSERT on it and nothing else; the relay needs no privilege on it at all: it reads the
-- write-ahead log. Rows may be deleted at any time after their commit, even in the same transaction.

CREATE TABLE IF NOT EXISTS public.outbox (
    id             uuid        PRIMARY KEY DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
    aggregate_type text        NOT NULL,                -- names the topic: "outbox.event.<aggregate_type>"
    aggregate_id   text        NOT NULL,                -- the Kafka key: events of one key stay in order
    event_type     text        NOT NULL,                -- Kafka header "event_type"
    payload        jsonb,                               -- the Kafka value; NULL is a tombstone
    created_at     timestamptz NOT NULL DEFAULT now()   -- for people and clean-up jobs, not for the relay
);
