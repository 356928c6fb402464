-- The same, published as its leaves: rows come under the names of the leaves, which are no configured outboxes.
-- tables: public.outbox

CREATE TABLE outbox (
    id int, aggregate_type text, aggregate_id text, event_type text, payload text, day date
) PARTITION BY RANGE (day);
CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
CREATE TABLE outbox_2 (day date, payload text, event_type text, gone int, aggregate_id text, aggregate_type text, id int);
ALTER TABLE outbox_2 DROP COLUMN gone;
ALTER TABLE outbox ATTACH PARTITION outbox_2 FOR VALUES FROM ('2026-01-02') TO ('2026-01-03');
BEGIN;
INSERT INTO outbox VALUES (1, 'order', 'key', 'first leaf', 'value', '2026-01-01');
INSERT INTO outbox VALUES (2, 'order', 'key', 'second leaf', 'value', '2026-01-02');
INSERT INTO outbox_1 VALUES (3, 'order', 'key', 'into the leaf itself', 'value', '2026-01-01');
COMMIT;
DROP TABLE outbox_1;
TRUNCATE outbox;
