-- The table's file is written anew between and inside transactions. Only what is inserted comes.
-- tables: public.outbox

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL;
INSERT INTO outbox VALUES (1, 'order', 'key', 'as created', repeat('long ', 600));
VACUUM FULL outbox;
INSERT INTO outbox VALUES (2, 'order', 'key', 'after VACUUM FULL', 'value');
CLUSTER outbox USING outbox_pkey;
BEGIN;
INSERT INTO outbox VALUES (3, 'order', 'key', 'before the rewrite', 'value');
ALTER TABLE outbox ALTER id TYPE bigint;
INSERT INTO outbox VALUES (4, 'order', 'key', 'id is bigint', 'value');
ALTER TABLE outbox ADD at timestamptz DEFAULT clock_timestamp();
ALTER TABLE outbox DROP at;
INSERT INTO outbox VALUES (5, 'order', 'key', 'after the rewrite', 'value');
COMMIT;
-- The replica identity goes with its index.
ALTER TABLE outbox DROP CONSTRAINT outbox_pkey;
INSERT INTO outbox VALUES (6, 'order', 'key', 'no key', 'value');
