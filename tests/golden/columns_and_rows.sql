-- A publication with a column list and a row filter. An UPDATE that moves a row into the filter comes as an INSERT, one that
-- moves it out as a DELETE.
-- tables: public.outbox
-- publication: WITH (publish = 'insert, update, delete')
-- since: 15

CREATE TABLE outbox (
    secret text, id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, noise text, payload text
);
ALTER TABLE outbox REPLICA IDENTITY FULL;
ALTER PUBLICATION golden ADD TABLE outbox WHERE (event_type <> 'internal');
BEGIN;
INSERT INTO outbox VALUES ('s', 1, 'order', 'key', 'all columns', 'n', 'value');
INSERT INTO outbox VALUES ('s', 2, 'order', 'key', 'internal', 'n', 'value');
INSERT INTO outbox VALUES ('s', 3, 'order', 'key', NULL, 'n', 'a NULL does not match');
COMMIT;
UPDATE outbox SET event_type = 'moved in' WHERE id = 2;
UPDATE outbox SET event_type = 'internal' WHERE id = 1;
DELETE FROM outbox;

-- The list may not hide columns of the replica identity from an UPDATE.
ALTER PUBLICATION golden SET (publish = 'insert');
ALTER PUBLICATION golden SET TABLE outbox (payload, id, aggregate_type, aggregate_id, event_type);
INSERT INTO outbox VALUES ('s', 4, 'order', 'key', 'listed columns', 'n', 'value');
-- A mapped column is left out: no record is possible.
ALTER PUBLICATION golden SET TABLE outbox (id, aggregate_type, aggregate_id, event_type);
INSERT INTO outbox VALUES ('s', 5, 'order', 'key', 'payload is left out', 'n', 'value');
ALTER PUBLICATION golden SET TABLE outbox (id, aggregate_type, aggregate_id, event_type, payload) WHERE (id <> 6);
INSERT INTO outbox VALUES ('s', 6, 'order', 'key', 'filtered', 'n', 'value');
INSERT INTO outbox VALUES ('s', 7, 'order', 'key', 'list and filter', 'n', 'value');
