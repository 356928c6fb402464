//! The SQL of an outbox that several relays share: a publication and a slot for each, and how one layout gives over to another.
//!
//! What the key's column is hashed with depends on its type, which only the server knows: so the filters are made there.

use super::script::{Objects, slot, tagged};
use crate::config::Sharding;
use crate::outbox::{NOTHING, Shard, TableName, TablePattern, key_column};
use crate::postgres::sql::{identifier, like, literal};

/// What a publication sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sends {
    /// Its part of the keys.
    Part,
    /// Nothing yet.
    Nothing,
}

impl Objects {
    /// The same for each shard, with its own publication and slot; only this, if there are no shards.
    pub(super) fn parts(&self) -> Vec<Self> {
        let part = |shard: Shard| Self {
            publication: shard.name(&self.publication),
            slot: shard.name(&self.slot),
            sharding: Some(Sharding {
                shard,
                publication: self.publication.clone(),
                slot: self.slot.clone(),
            }),
            ..self.clone()
        };
        match self.shards {
            0 | 1 => vec![self.clone()],
            count => Shard::all(count).map(part).collect(),
        }
    }
}

/// Makes the publication of one shard, if it is missing. `part` is one of [`Objects::parts`].
pub(super) fn publication(part: &Objects) -> String {
    match &part.sharding {
        Some(Sharding { shard, publication, .. }) => {
            let base = Objects { publication: publication.clone(), ..part.clone() };
            publications(&base, shard.count, shard.index..=shard.index, Sends::Part)
        }
        None => String::new(),
    }
}

/// Makes the publications of all shards, and says what they are.
pub(super) fn all(objects: &Objects) -> String {
    let count = objects.shards;
    let last = count.saturating_sub(1);
    let made = publications(objects, count, 0..=last, Sends::Part);
    format!(
        "-- The publications of {count} shards: each sends the rows whose keys hash to it, and only INSERTs; a NULL key is in the first.
--
-- Run by: the owner of the outbox table, with CREATE on the database, on PostgreSQL 15 or later.
-- After the table, which they name, and always before the slots (below it is said why).

{made}"
    )
}

/// SQL that has the layout of `objects` take over from that of `from` shards. Each part is to be run by itself.
#[must_use]
pub fn change(objects: &Objects, from: u32) -> String {
    let count = objects.shards.max(1);
    let last = count.saturating_sub(1);
    let old: Vec<_> = match from {
        0 | 1 => vec![(objects.publication.clone(), objects.slot.clone())],
        from => {
            Shard::all(from).map(|old| (old.name(&objects.publication), old.name(&objects.slot))).collect()
        }
    };
    let slots: Vec<_> = objects.parts().iter().map(slot_alone).collect();
    let list = |names: Vec<String>| names.join(", ");
    let old_slots = list(old.iter().map(|(_, slot)| literal(slot)).collect());
    let old_publications = list(old.iter().map(|(publication, _)| identifier(publication)).collect());
    format!(
        "-- From {from} to {count}: docs/sharding.md says what to do between these parts, and why. Run by the owner of the tables; the
-- slots by a role with REPLICATION.

-- 1. The new publications, which send nothing yet.

{}
-- 2. The new slots: they keep what is committed from now on. Each of these by itself.

{}
-- 3. The change. Writers wait meanwhile, so that each of their transactions is wholly of one layout or of the other.

{}
SELECT pg_current_wal_insert_lsn() AS changed_at;

-- 4. When this is true for each, stop the old relays and start the new ones. Not before: an event of a key would overtake an
--    older one. In the place of CHANGED_AT, what part 3 has printed.
-- SELECT slot_name, confirmed_flush_lsn >= 'CHANGED_AT' AS done FROM pg_replication_slots WHERE slot_name IN ({old_slots});

-- 5. When the old relays are gone.
-- SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name IN ({old_slots});
-- DROP PUBLICATION {old_publications};
",
        publications(objects, count, 0..=last, Sends::Nothing),
        slots.join("\n"),
        give_over(objects, count, &old),
    )
}

/// Only the statement of the slot's file.
fn slot_alone(part: &Objects) -> String {
    let whole = slot(part);
    whole.split_once("\n\n").map_or(whole.clone(), |(_, statement)| statement.to_owned())
}

fn publications(
    objects: &Objects,
    count: u32,
    shards: std::ops::RangeInclusive<u32>,
    sends: Sends,
) -> String {
    let name = literal(&objects.publication);
    let filter = match sends {
        Sends::Part => filter(count),
        Sends::Nothing => literal(NOTHING),
    };
    tagged(&format!(
        "DO $$
DECLARE
    found record;
    hash text;
    name text;
    tables text;
BEGIN
    FOR shard IN {} .. {} LOOP
        name := {name} || '_{count}_' || shard;
        -- CREATE PUBLICATION has no IF NOT EXISTS. A publication that exists is left as it is.
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = name);
        tables := NULL;
{}            tables := concat_ws(', ', tables, format('%s WHERE (%s)', found.name, {filter}));
        END LOOP;
        EXECUTE format('CREATE PUBLICATION %I %s WITH (publish = ''insert'', publish_via_partition_root = true)',
                       name, 'FOR TABLE ' || tables);
    END LOOP;
END
$$;
",
        shards.start(),
        shards.end(),
        each_table(objects),
    ))
}

fn give_over(objects: &Objects, count: u32, old: &[(String, String)]) -> String {
    let name = literal(&objects.publication);
    let last = count.saturating_sub(1);
    let old: Vec<_> = old.iter().map(|(publication, _)| literal(publication)).collect();
    let filter = filter(count);
    tagged(&format!(
        "DO $$
DECLARE
    found record;
    hash text;
    name text;
    tables text;
BEGIN
    FOR shard IN 0 .. {last} LOOP
        tables := NULL;
{}            EXECUTE format('LOCK TABLE %s IN EXCLUSIVE MODE', found.name);
            tables := concat_ws(', ', tables, format('%s WHERE (%s)', found.name, {filter}));
        END LOOP;
        EXECUTE format('ALTER PUBLICATION %I SET TABLE %s', {name} || '_{count}_' || shard, tables);
    END LOOP;
    tables := NULL;
{}            tables := concat_ws(', ', tables, format('%s WHERE (%s)', found.name, '{NOTHING}'));
        END LOOP;
    FOREACH name IN ARRAY ARRAY[{}] LOOP
        EXECUTE format('ALTER PUBLICATION %I SET TABLE %s', name, tables);
    END LOOP;
END
$$;
",
        each_table(objects),
        each_table(objects),
        old.join(", "),
    ))
}

/// An expression for the filter of `shard`, from the `hash` of the key.
fn filter(count: u32) -> String {
    match count.is_power_of_two() {
        true => format!("format('(coalesce(%s, 0) & {}) = %s', hash, shard)", count.saturating_sub(1)),
        // The remainder has the sign of the hash.
        false => format!("format('((coalesce(%s, 0) %% {count}) + {count}) %% {count} = %s', hash, shard)"),
    }
}

/// The head of a loop over the tables, which sets `found.name` and `hash`.
fn each_table(objects: &Objects) -> String {
    let spec = &objects.outbox;
    let column = |shape: &crate::outbox::Shape| {
        let placeholder = key_column(&shape.route.key).unwrap_or_default();
        literal(shape.columns.behind(placeholder).0)
    };
    // As `Spec::of`: a section that names the table goes before one with a pattern.
    let mut sections: Vec<_> = spec.overrides.iter().collect();
    sections.sort_by_key(|(pattern, _)| pattern.exact().is_none());
    let cases =
        sections.iter().map(|(pattern, shape)| format!("WHEN {} THEN {} ", fits(pattern), column(shape)));
    let cases: String = cases.collect();
    let key = match cases.is_empty() {
        true => column(&spec.shape),
        false => format!("CASE {cases}ELSE {} END", column(&spec.shape)),
    };
    let tables: Vec<_> = spec.tables.iter().map(fits).collect();
    format!(
        "        FOR found IN
            SELECT format('%I.%I', n.nspname, c.relname) AS name, a.attname, format_type(a.atttypid, NULL) AS type
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = {key}
            WHERE c.relkind IN ('r', 'p') AND ({})
            ORDER BY 1
        LOOP
            hash := CASE found.type
                WHEN 'text' THEN format('hashtext(%I)', found.attname)
                WHEN 'character varying' THEN format('hashtext(%I)', found.attname)
                WHEN 'uuid' THEN format('uuid_hash(%I)', found.attname)
                WHEN 'smallint' THEN format('hashint2(%I)', found.attname)
                WHEN 'integer' THEN format('hashint4(%I)', found.attname)
                WHEN 'bigint' THEN format('hashint8(%I)', found.attname)
            END;
            IF hash IS NULL THEN
                RAISE EXCEPTION 'the key of % is %: expected text, varchar, uuid, smallint, integer or bigint',
                    found.name, coalesce(found.type, 'not there');
            END IF;
",
        tables.join(" OR ")
    )
}

/// A condition for the tables that an entry of `outbox.tables` means.
fn fits(pattern: &TablePattern) -> String {
    match pattern.exact() {
        Some(TableName { schema, name }) => {
            format!("(n.nspname = {} AND c.relname = {})", literal(&schema), literal(&name))
        }
        None => format!(
            "(n.nspname::text LIKE {} AND c.relname::text LIKE {} AND c.relpersistence = 'p' AND NOT c.relispartition \
             AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema')",
            literal(&like(&pattern.schema)),
            literal(&like(&pattern.name))
        ),
    }
}
