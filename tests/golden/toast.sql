-- Values that PostgreSQL stores beside the table. An UPDATE that does not touch one does not send it.
-- tables: public.outbox

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL;
INSERT INTO outbox VALUES (1, 'order', '4711', 'placed', repeat('0123456789', 1000));
UPDATE outbox SET event_type = 'changed';
UPDATE outbox SET payload = 'short';
-- With the whole old row it comes all the same, in the old row.
ALTER TABLE outbox REPLICA IDENTITY FULL;
UPDATE outbox SET payload = repeat('ab', 2000);
UPDATE outbox SET event_type = 'again';
