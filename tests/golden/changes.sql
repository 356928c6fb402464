-- INSERT, UPDATE, DELETE and TRUNCATE, with what each replica identity sends of the old row.
-- tables: public.outbox

CREATE TABLE outbox (
    id uuid PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload jsonb
);
CREATE TABLE full_identity (a int PRIMARY KEY, b text);
ALTER TABLE full_identity REPLICA IDENTITY FULL;
CREATE TABLE index_identity (a int, b text NOT NULL);
CREATE UNIQUE INDEX by_b ON index_identity (b);
ALTER TABLE index_identity REPLICA IDENTITY USING INDEX by_b;
CREATE TABLE no_identity (a int);

BEGIN;
INSERT INTO outbox VALUES
    ('00000000-0000-4000-8000-000000000001', 'order', '4711', 'placed', '{"total": 5, "items": [1, 2]}'),
    ('00000000-0000-4000-8000-000000000002', 'order', NULL, NULL, NULL);
INSERT INTO full_identity VALUES (1, 'one');
INSERT INTO index_identity VALUES (1, 'one');
INSERT INTO no_identity VALUES (1);
INSERT INTO outbox VALUES ('00000000-0000-4000-8000-000000000003', 'no topic', '1', 'x', '{}');
COMMIT;

-- The key unchanged: no old row. The key changed: the old key.
BEGIN;
UPDATE outbox SET event_type = 'changed' WHERE aggregate_id = '4711';
UPDATE outbox SET id = '00000000-0000-4000-8000-000000000009' WHERE aggregate_id = '4711';
UPDATE full_identity SET b = 'two';
UPDATE index_identity SET a = 2;
UPDATE index_identity SET b = 'two';
COMMIT;

BEGIN;
DELETE FROM outbox WHERE aggregate_id = '4711';
DELETE FROM full_identity;
DELETE FROM index_identity;
COMMIT;

TRUNCATE outbox, full_identity RESTART IDENTITY CASCADE;

-- The position counts every row of a transaction, but no TRUNCATE.
BEGIN;
INSERT INTO full_identity VALUES (2, 'two');
UPDATE full_identity SET b = 'three';
TRUNCATE outbox;
INSERT INTO outbox VALUES ('00000000-0000-4000-8000-000000000004', 'order', '4711', 'placed', '{}');
COMMIT;
