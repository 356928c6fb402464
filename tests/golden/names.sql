-- Identifiers with several bytes a character, spaces and quotes; a table without columns.
-- tables: größe."Ausgang der Bestellungen"
-- headers: "Käufer""in" 東京

CREATE SCHEMA größe;
CREATE TABLE größe."Ausgang der Bestellungen" (
    id int, aggregate_type text, aggregate_id text, event_type text, payload text, "Käufer""in" text, 東京 text
);
CREATE TABLE nothing ();
INSERT INTO größe."Ausgang der Bestellungen" VALUES (1, 'order', 'Zoë', 'ausgelöst', '✓', 'Renée', '🦀');
INSERT INTO nothing DEFAULT VALUES;
