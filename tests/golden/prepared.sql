-- A prepared transaction is sent when it is committed, behind those that were committed meanwhile.
-- tables: public.outbox

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
BEGIN;
INSERT INTO outbox VALUES (1, 'order', 'key', 'prepared', 'value');
PREPARE TRANSACTION 'golden first';
BEGIN;
INSERT INTO outbox VALUES (2, 'order', 'key', 'prepared and rolled back', 'value');
PREPARE TRANSACTION 'golden second';
INSERT INTO outbox VALUES (3, 'order', 'key', 'meanwhile', 'value');
ROLLBACK PREPARED 'golden second';
COMMIT PREPARED 'golden first';
