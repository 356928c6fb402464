-- 1,600 columns, the most that PostgreSQL has; the payload is the last one.
-- tables: public.outbox
-- headers: c6 c1599

DO $$
BEGIN
    EXECUTE 'CREATE TABLE outbox (id int, aggregate_type text, aggregate_id text, event_type text, '
        || (SELECT string_agg('c' || n || ' text', ', ' ORDER BY n) FROM generate_series(5, 1599) AS n)
        || ', payload text)';
    EXECUTE 'INSERT INTO outbox SELECT 1, ''order'', ''key'', ''full'', '
        || (SELECT string_agg(quote_literal(n % 10), ', ' ORDER BY n) FROM generate_series(5, 1599) AS n)
        || ', ''value''';
END $$;
INSERT INTO outbox (id, aggregate_type, c6, c1599, payload) VALUES (2, 'order', '', 'last but one', 'value');
