-- Of a transaction with savepoints only what was committed is sent, in the order in which it was written.
-- tables: public.outbox

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
BEGIN;
INSERT INTO outbox VALUES (1, 'order', 'key', 'before', 'value');
SAVEPOINT a;
INSERT INTO outbox VALUES (2, 'order', 'key', 'rolled back', 'value');
SAVEPOINT b;
INSERT INTO outbox VALUES (3, 'order', 'key', 'rolled back with it', 'value');
ROLLBACK TO SAVEPOINT a;
INSERT INTO outbox VALUES (4, 'order', 'key', 'after the rollback', 'value');
RELEASE SAVEPOINT a;
INSERT INTO outbox VALUES (5, 'order', 'key', 'last', 'value');
COMMIT;
BEGIN;
INSERT INTO outbox VALUES (6, 'order', 'key', 'never', 'value');
ROLLBACK;
BEGIN;
SAVEPOINT a;
INSERT INTO outbox VALUES (7, 'order', 'key', 'never', 'value');
ROLLBACK TO SAVEPOINT a;
COMMIT;
