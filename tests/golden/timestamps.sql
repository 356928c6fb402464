-- The record's timestamp from a column of each type that may serve; what cannot be one gives the commit time.
-- The header "expected" is the server's own arithmetic.
-- tables: public.with_zone, public.without_zone, public.millis, public.domain
-- timestamp: at
-- headers: expected

CREATE DOMAIN instant AS timestamptz;
CREATE TABLE with_zone (id int, aggregate_type text, aggregate_id text, event_type text, payload text, at timestamptz, expected bigint);
CREATE TABLE without_zone (LIKE with_zone);
ALTER TABLE without_zone ALTER at TYPE timestamp USING at AT TIME ZONE 'UTC';
CREATE TABLE millis (LIKE with_zone);
ALTER TABLE millis ALTER at TYPE bigint USING 0;
CREATE TABLE domain (LIKE with_zone);
ALTER TABLE domain ALTER at TYPE instant;

CREATE TABLE instants (id int, at timestamptz);
INSERT INTO instants VALUES
    (1, '1970-01-01 00:00:00.001+00'), (2, '1970-01-01 00:00:01+00'), (3, '1999-12-31 23:59:59.999999+00'),
    (4, '2000-02-29 12:00:00+00'), (5, '2000-03-01 00:00:00+00'), (6, '2016-12-31 23:59:60+00'),
    (7, '2024-02-29 23:59:59.5+14'), (8, '2025-07-01 00:00:00.000999-12');

BEGIN;
INSERT INTO with_zone SELECT id, 'order', id, NULL, 'with', at, floor(extract(epoch FROM at) * 1000) FROM instants;
INSERT INTO without_zone SELECT id, 'order', id, NULL, 'without', at AT TIME ZONE 'UTC', floor(extract(epoch FROM at) * 1000) FROM instants;
INSERT INTO millis SELECT id, 'order', id, NULL, 'millis', floor(extract(epoch FROM at) * 1000), floor(extract(epoch FROM at) * 1000) FROM instants;
INSERT INTO domain SELECT id, 'order', id, NULL, 'domain', at, floor(extract(epoch FROM at) * 1000) FROM instants;
COMMIT;

-- NULL, before 1970, no point in time, more than an hour ahead.
INSERT INTO with_zone SELECT row_number() OVER (), 'order', 'replaced', NULL, at, at::timestamptz, NULL
FROM (VALUES (NULL), ('1969-12-31 23:59:59.999+00'), ('1970-01-01 00:00:00+00'), ('infinity'), ('-infinity'), ('0044-03-15 00:00:00+00 BC'), ('12345-06-07 08:09:10+00')) AS odd (at);
