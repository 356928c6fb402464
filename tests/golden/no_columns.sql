-- Tables without columns: made so, and become so. An outbox that has lost its columns cannot be relayed.
-- tables: public.outbox

CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
BEGIN;
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO nothing SELECT FROM generate_series(1, 2);
COMMIT;
ALTER TABLE nothing REPLICA IDENTITY FULL;
DELETE FROM nothing;
TRUNCATE nothing;

CREATE TABLE outbox (id int, aggregate_type text, aggregate_id text, event_type text, payload text);
INSERT INTO outbox VALUES (1, 'order', 'key', 'all columns', 'value');
BEGIN;
ALTER TABLE outbox DROP id, DROP aggregate_type, DROP aggregate_id, DROP event_type, DROP payload;
INSERT INTO outbox DEFAULT VALUES;
COMMIT;
ALTER TABLE outbox ADD id int, ADD aggregate_type text, ADD aggregate_id text, ADD event_type text, ADD payload text;
INSERT INTO outbox VALUES (2, 'order', 'key', 'columns again', 'value');
