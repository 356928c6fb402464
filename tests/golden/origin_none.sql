-- The same for a session that wants nothing from elsewhere.
-- tables: public.outbox
-- options: 'origin', 'none'
-- since: 16

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
SELECT pg_replication_origin_create('elsewhere');
SELECT pg_replication_origin_session_setup('elsewhere');
BEGIN;
SELECT pg_replication_origin_xact_setup('16/B374D848', '2026-01-02 03:04:05+00');
INSERT INTO outbox VALUES (1, 'order', '1', 'from elsewhere', 'value');
COMMIT;
SELECT pg_replication_origin_session_reset();
SELECT pg_replication_origin_drop('elsewhere');
INSERT INTO outbox VALUES (2, 'order', '2', 'from here', 'value');
