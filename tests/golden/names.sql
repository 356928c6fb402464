-- Identifiers with several bytes a character, spaces and quotes, in every place that has one.
-- tables: größe."Ausgang der Bestellungen"
-- headers: "Käufer""in" 東京
-- publication name: "Veröffentlichung 発行, 2"

CREATE SCHEMA größe;
CREATE TYPE größe."Gefühl" AS ENUM ('fröhlich');
CREATE DOMAIN größe.数 AS bigint;
CREATE TABLE größe."Ausgang der Bestellungen" (
    id größe.数, aggregate_type text, aggregate_id text, event_type größe."Gefühl", payload text, "Käufer""in" text, 東京 text
);
INSERT INTO größe."Ausgang der Bestellungen" VALUES (1, 'order', 'Zoë', 'fröhlich', '✓', 'Renée', '🦀');

-- 63 bytes are the most; what is cut off is cut between characters.
CREATE TABLE 東京東京東京東京東京東京東京東京東京東京東京 ("ä23456789 123456789 123456789 123456789 123456789 123456789 12ä" int);
INSERT INTO 東京東京東京東京東京東京東京東京東京東京東京 VALUES (1);
