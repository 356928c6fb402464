-- Content of pg_logical_emit_message, as a session with messages 'true' gets it.
-- tables: public.outbox
-- options: 'messages', 'true'

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
SELECT pg_logical_emit_message(false, 'alone', '');
BEGIN;
SELECT pg_logical_emit_message(true, 'audit', 'in the transaction');
INSERT INTO outbox VALUES (1, 'order', '1', 'between two messages', 'value');
SELECT pg_logical_emit_message(true, '', '\x00ff'::bytea);
-- Not part of it: sent before its Begin.
SELECT pg_logical_emit_message(false, 'größe', 'at once');
COMMIT;
