-- Values in the binary format, which the relay does not ask for: a session that gets them must not send them on.
-- tables: public.outbox
-- options: 'binary', 'true'

CREATE TYPE mood AS ENUM ('sad');
CREATE TABLE outbox (
    id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload bytea, n numeric, at timestamptz, m mood
);
INSERT INTO outbox VALUES (1, 'order', 'key', 'x', '\x00ff', 1.5, '2026-11-22 05:59:01+00', 'sad');
UPDATE outbox SET id = 2;
