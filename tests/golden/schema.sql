-- A publication of a schema: also its later tables, and those that come into it.
-- tables: events.outbox
-- publication: WITH (publish = 'insert')
-- since: 15

CREATE SCHEMA events;
ALTER PUBLICATION golden ADD TABLES IN SCHEMA events;
CREATE TABLE outside (n int);
CREATE TABLE events.outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
BEGIN;
INSERT INTO outside VALUES (1);
INSERT INTO events.outbox VALUES (1, 'order', 'key', 'inside', 'value');
ALTER TABLE events.outbox SET SCHEMA public;
INSERT INTO outbox VALUES (2, 'order', 'key', 'moved out', 'value');
ALTER TABLE outbox SET SCHEMA events;
INSERT INTO events.outbox VALUES (3, 'order', 'key', 'moved back', 'value');
COMMIT;
