-- Ways for rows to get into a table: COPY, ON CONFLICT, WITH, a trigger, a block with an exception.
-- tables: public.outbox

CREATE TABLE outbox (id int PRIMARY KEY, aggregate_type text, aggregate_id text, event_type text, payload text);
COPY outbox FROM STDIN;
1	order	key	copied	a\tb\nc\\d
2	order	\N	\N	\N
3	order		copied	
\.
INSERT INTO outbox VALUES (4, 'order', 'key', 'conflicts', 'value'), (5, 'order', 'key', 'does not', 'value')
ON CONFLICT DO NOTHING;
INSERT INTO outbox VALUES (5, 'order', 'key', 'conflicts', 'value'), (6, 'order', 'key', 'does not', 'value')
ON CONFLICT (id) DO UPDATE SET payload = excluded.payload;

CREATE TABLE orders (n int PRIMARY KEY);
CREATE FUNCTION write_event() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO outbox VALUES (NEW.n, 'order', NEW.n, 'by a trigger', 'value'); RETURN NEW; END$$;
CREATE TRIGGER write_event AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION write_event();
WITH made AS (INSERT INTO orders VALUES (7), (8) RETURNING n)
INSERT INTO outbox SELECT n + 100, 'order', n, 'by a query', 'value' FROM made;
DO $$
BEGIN
    INSERT INTO outbox VALUES (9, 'order', 'key', 'before the exception', 'value');
    BEGIN
        INSERT INTO outbox VALUES (10, 'order', 'key', 'rolled back', 'value');
        INSERT INTO outbox VALUES (9, 'order', 'key', 'twice', 'value');
    EXCEPTION WHEN unique_violation THEN
        INSERT INTO outbox VALUES (11, 'order', 'key', 'after the exception', 'value');
    END;
END $$;
