-- A stored column is sent if the publication says so; a virtual one never is.
-- tables: public.outbox
-- headers: twice
-- publication: FOR ALL TABLES WITH (publish_generated_columns = stored)
-- since: 18

CREATE TABLE outbox (
    id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text,
    twice int GENERATED ALWAYS AS (id * 2) STORED, seen int GENERATED ALWAYS AS (id * 3) VIRTUAL, payload text
);
INSERT INTO outbox VALUES (1, 'order', 'key', 'x', DEFAULT, DEFAULT, 'value');
