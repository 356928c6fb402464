-- Every type that is seen in outboxes: as a header, each value goes out as PostgreSQL prints it; bytea as raw bytes.
-- tables: public.outbox
-- headers: v_text v_varchar v_char v_uuid v_json v_jsonb v_bytea v_smallint v_integer v_bigint v_numeric v_real v_double v_boolean v_timestamptz v_timestamp v_date v_time v_interval v_inet v_ints v_texts v_enum v_composite d_bytea d_bytea_2 d_text d_timestamptz d_enum

CREATE TYPE mood AS ENUM ('sad', 'glad as can be', 'größer');
CREATE TYPE place AS (street text, number int, geo float8[]);
CREATE DOMAIN raw AS bytea;
CREATE DOMAIN raw_over_raw AS raw;
CREATE DOMAIN short AS text CHECK (length(VALUE) < 10);
CREATE DOMAIN instant AS timestamptz;
CREATE DOMAIN good_mood AS mood;
CREATE TABLE outbox (
    id bigint PRIMARY KEY, aggregate_type text, aggregate_id int, event_type mood, payload raw,
    v_text text, v_varchar varchar(20), v_char char(6), v_uuid uuid, v_json json, v_jsonb jsonb, v_bytea bytea,
    v_smallint smallint, v_integer integer, v_bigint bigint, v_numeric numeric(30, 10), v_real real, v_double float8,
    v_boolean boolean, v_timestamptz timestamptz, v_timestamp timestamp, v_date date, v_time time(3), v_interval interval,
    v_inet inet, v_ints int[], v_texts text[], v_enum mood, v_composite place,
    d_bytea raw, d_bytea_2 raw_over_raw, d_text short, d_timestamptz instant, d_enum good_mood
);

-- Usual values. json keeps its spaces and its order of keys, jsonb does not.
INSERT INTO outbox VALUES (
    1, 'order', 42, 'sad', '\x00010203ff',
    'plain', 'varied', 'pad', '6F9619FF-8B86-D011-B42D-00C04FC964FF', '{"b":  1, "a": [1,2 ]}', '{"b":  1, "a": [1,2 ]}', '\xdeadbeef',
    -32768, 2147483647, 9223372036854775807, 12345.6789, 1.1, 0.1,
    true, '2026-11-22 05:59:01.123456+02', '2026-11-22 05:59:01', '2026-11-22', '05:59:01.5', '1 year 2 mons -3 days 04:05:06.7',
    '192.168.0.1/24', '{1,NULL,3}', '{a,"b c",NULL,"NULL","q\"u\\o"}', 'glad as can be', ROW('Main "St"', 1, '{1.5,NaN}'),
    '\x', '\x00', 'short', '1999-12-31 23:59:59.999999+00', 'größer'
);
-- Nothing.
INSERT INTO outbox (id, aggregate_type) VALUES (2, 'order');
-- Empty.
INSERT INTO outbox (id, aggregate_type, aggregate_id, payload, v_text, v_varchar, v_char, v_json, v_bytea, v_ints, v_texts, d_bytea, d_text)
VALUES (3, 'order', 0, '', '', '', '', '""', '', '{}', '{}', '', '');
-- The edges.
INSERT INTO outbox (id, aggregate_type, v_text, v_jsonb, v_numeric, v_real, v_double, v_boolean, v_timestamptz, v_timestamp, v_date, v_interval, v_inet, v_composite)
VALUES (4, 'order', E'\u0001 \t\n Zoë 東京 \U0001F980', '{"\u20ac": "\ud83e\udd80", "n": 1e400}'::text::jsonb, 'NaN', 'NaN', 'NaN', false, 'infinity', '-infinity', '0044-03-15 BC', '0', '::1', ROW(NULL, NULL, NULL)),
       (5, 'order', '\x', '1.000000000000000000000000000000', 0, '-Infinity', 1.7976931348623157e308, NULL, '0001-01-01 00:00:00+00 BC', '294276-12-31 23:59:59.999999', 'infinity', '-178000000 years', 'fe80::1/10', ROW('', 0, '{}')),
       (6, 'order', 'null', 'null', -99999999999999999999.9999999999, 1e-45, 5e-324, NULL, '1883-11-18 12:00:00-04:56:02', NULL, '5874897-12-31', '-00:00:00.000001', NULL, NULL);
