-- The table changes between and inside transactions; the rows that follow are read by the new description.
-- tables: public.outbox

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
INSERT INTO outbox VALUES (1, 'order', 'key', 'as created', 'value');

ALTER TABLE outbox ADD COLUMN note text DEFAULT 'noted';
INSERT INTO outbox VALUES (2, 'order', 'key', 'column added', 'value', 'note');

-- Inside a transaction.
BEGIN;
INSERT INTO outbox VALUES (3, 'order', 'key', 'before the drop', 'value', 'note');
ALTER TABLE outbox DROP COLUMN note;
INSERT INTO outbox VALUES (4, 'order', 'key', 'column dropped', 'value');
ALTER TABLE outbox ALTER payload TYPE bytea USING convert_to(payload, 'UTF8');
INSERT INTO outbox VALUES (5, 'order', 'key', 'payload is bytea', '\x76616c7565');
COMMIT;

-- Dropped and added again: last in the row.
ALTER TABLE outbox DROP COLUMN aggregate_id;
ALTER TABLE outbox ADD COLUMN aggregate_id int;
INSERT INTO outbox VALUES (6, 'order', 'key is the number', '\x76616c7565', 6);

-- A mapped column renamed: no record is possible. Its name back: it is.
ALTER TABLE outbox RENAME COLUMN payload TO content;
INSERT INTO outbox VALUES (7, 'order', 'payload is gone', '\x76616c7565', 7);
ALTER TABLE outbox RENAME COLUMN content TO payload;
INSERT INTO outbox VALUES (8, 'order', 'payload is back', '\x76616c7565', 8);

-- A renamed table goes on being the outbox, and so does its namesake that comes later.
ALTER TABLE outbox RENAME TO outbox_old;
INSERT INTO outbox_old VALUES (9, 'order', 'table renamed', '\x76616c7565', 9);
CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
INSERT INTO outbox VALUES (10, 'order', 'key', 'the new one', 'value');
CREATE SCHEMA archive;
ALTER TABLE outbox_old SET SCHEMA archive;
INSERT INTO archive.outbox_old VALUES (11, 'order', 'schema changed', '\x76616c7565', 11);
