-- Columns that the server computes are not sent, unless the publication of a server since 18 asks for it.
-- tables: public.outbox

CREATE TABLE outbox (
    id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text,
    twice int GENERATED ALWAYS AS (id * 2) STORED, payload text
);
INSERT INTO outbox VALUES (1, 'order', 'key', 'x', DEFAULT, 'value');
UPDATE outbox SET payload = 'changed';
