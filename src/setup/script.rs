//! The SQL that makes what the relay needs: the files of `sql/`, with the configured names in the place of theirs.
//!
//! With default names it is those files, byte for byte. Each part must run in a transaction of its own, in this order.

use super::{poller, published, shards, table};
use crate::config::{Action, AfterPublish, Sharding};
use crate::outbox::{Spec, TableName, TablePattern};
use crate::postgres::sql::{self, identifier, literal};

/// What is to be there, by name.
#[derive(Debug, Clone)]
pub struct Objects {
    /// The outbox tables and their columns.
    pub outbox: Spec,
    /// The role that the relay logs in as.
    pub role: String,
    /// The publication.
    pub publication: String,
    /// The slot: lower-case letters, digits and underscores, as PostgreSQL demands.
    pub slot: String,
    /// What becomes of published rows.
    pub after_publish: AfterPublish,
    /// `shard.count`: with more than one, publication and slot are called so with the layout behind.
    pub shards: u32,
    /// The shard whose publication and slot these are.
    pub sharding: Option<Sharding>,
    /// Rows are read by their status: there is neither publication nor slot.
    pub polls: bool,
}

impl Objects {
    /// The tables that are to be there. Those of a pattern are made by others.
    pub(super) fn named(&self) -> impl Iterator<Item = TableName> {
        self.outbox.tables.iter().filter_map(TablePattern::exact)
    }

    /// The patterns.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &TablePattern> {
        self.outbox.tables.iter().filter(|entry| entry.exact().is_none())
    }
}

/// The role's name where postgres.url does not give one.
pub const DEFAULT_ROLE: &str = "outbox_relay";

const ROLE: &str = include_str!("../../sql/02_role.sql");
const PUBLICATION: &str = include_str!("../../sql/03_publication.sql");
const SLOT: &str = include_str!("../../sql/04_slot.sql");

/// All parts, as `cat sql/*.sql` puts them together.
#[must_use]
pub fn whole(objects: &Objects) -> String {
    let made: Vec<_> = objects.named().map(|name| table(objects, &name)).collect();
    let partitioned = objects.after_publish.action == Action::DropPartitions;
    let served = |name: TableName| match partitioned {
        true => Some(published::functions(objects, &name)),
        false => published::rights(objects, &name),
    };
    let rights: String = objects.named().filter_map(served).collect();
    if objects.polls {
        return [poller::HEAD.to_owned(), made.join("\n"), role(objects), rights].concat();
    }
    let (publications, slots) = match objects.shards {
        0 | 1 => (publication(objects), slot(objects)),
        _ => (shards::all(objects), objects.parts().iter().map(slot).collect()),
    };
    [table::head().to_owned(), made.join("\n"), role(objects), rights, publications, slots].concat()
}

/// Makes one table.
pub(super) fn table(objects: &Objects, name: &TableName) -> String {
    let made = table::statement(name, objects.outbox.of(name), &objects.after_publish, objects.polls);
    made + &published::index(objects, name).unwrap_or_default()
}

/// Makes the role, and lets it connect.
pub(super) fn role(objects: &Objects) -> String {
    let name = identifier(&objects.role);
    if objects.polls {
        return poller::role(objects, &name);
    }
    // A text for format(): of its own, `%` and the quote mean something.
    let in_format = name.replace('\'', "''").replace('%', "%%");
    fill(
        ROLE,
        &[
            ("\\password outbox_relay", format!("\\password {}", table::one_line(&name))),
            ("rolname = 'outbox_relay'", format!("rolname = {}", literal(&objects.role))),
            ("CREATE ROLE outbox_relay", format!("CREATE ROLE {name}")),
            ("rds_replication TO outbox_relay", format!("rds_replication TO {name}")),
            ("%I TO outbox_relay", format!("%I TO {in_format}")),
        ],
    )
}

/// Makes the publication.
pub(super) fn publication(objects: &Objects) -> String {
    if objects.sharding.is_some() {
        return shards::publication(objects);
    }
    let name = identifier(&objects.publication);
    let pubname = ("pubname = 'outbox_relay'", format!("pubname = {}", literal(&objects.publication)));
    let tables: Vec<_> = objects.named().map(|name| sql::table(&name)).collect();
    let patterns: Vec<_> = objects.patterns().map(|pattern| fits(pattern, objects)).collect();
    if patterns.is_empty() {
        let create = format!("CREATE PUBLICATION {name} FOR TABLE {}", tables.join(", "));
        return fill(
            PUBLICATION,
            &[pubname, ("CREATE PUBLICATION outbox_relay FOR TABLE public.outbox", create)],
        );
    }
    let listed = if tables.is_empty() { "NULL".to_owned() } else { literal(&tables.join(", ")) };
    let create = format!(
        "-- Of each pattern of outbox.tables, the tables that there are now. Later ones have to be put into the publication
        -- in the transaction that makes them: ALTER PUBLICATION {} ADD TABLE …
        EXECUTE (
            SELECT {}
                   || coalesce(' FOR TABLE ' || nullif(concat_ws(', ', {listed}, string_agg(format('%I.%I', n.nspname, c.relname), ', ')), ''), '')
                   || ' WITH (publish = ''insert'', publish_via_partition_root = true)'
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
              AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
              AND ({})
        );",
        table::one_line(&name),
        literal(&format!("CREATE PUBLICATION {name}")),
        patterns.join("\n                   OR "),
    );
    fill(PUBLICATION, &[pubname, (STATEMENT, create)])
}

/// The statement of the file.
const STATEMENT: &str = "CREATE PUBLICATION outbox_relay FOR TABLE public.outbox
            WITH (publish = 'insert', publish_via_partition_root = true);";

/// A condition for the tables that fit a pattern and are not named.
fn fits(pattern: &TablePattern, objects: &Objects) -> String {
    let like = |column: &str, names| format!("{column}::text LIKE {}", literal(&sql::like(names)));
    let fits = [like("n.nspname", &pattern.schema), like("c.relname", &pattern.name)].join(" AND ");
    let named = objects.named().filter(|name| pattern.matches(name));
    let not = named.map(|TableName { schema, name }| {
        format!(" AND (n.nspname, c.relname) <> ({}, {})", literal(&schema), literal(&name))
    });
    format!("{fits}{}", not.collect::<String>())
}

/// Makes the slot.
pub(super) fn slot(objects: &Objects) -> String {
    // The name of a slot needs no quoting anywhere.
    fill(SLOT, &[("outbox_relay", objects.slot.clone())])
}

/// `file` with each of the texts replaced. What has been put in is not looked at again.
pub(super) fn fill(file: &str, replacements: &[(&str, String)]) -> String {
    let tag = tag(replacements);
    let tag =
        [("DO $$", format!("DO {tag}")), ("AS $$", format!("AS {tag}")), ("\n$$;", format!("\n{tag};"))];
    let replacements: Vec<_> = replacements.iter().chain(&tag).collect();
    let mut filled = String::new();
    let mut rest = file;
    while let Some(c) = rest.chars().next() {
        let found = replacements.iter().find_map(|(text, by)| Some((rest.strip_prefix(text)?, by)));
        match found {
            Some((after, by)) => {
                filled.push_str(by);
                rest = after;
            }
            None => {
                filled.push(c);
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
    }
    filled
}

/// A block, its quotes being others than `$$` if a name in it has that.
pub(super) fn tagged(block: &str) -> String {
    let inner = block.strip_prefix("DO $$").and_then(|block| block.strip_suffix("\n$$;\n"));
    let Some(inner) = inner else { return block.to_owned() };
    let tag = tag(&[("", inner.to_owned())]);
    format!("DO {tag}{inner}\n{tag};\n")
}

/// The quotes around a block: `$$`, unless a name has that in it.
fn tag(replacements: &[(&str, String)]) -> String {
    let mut tag = "$$".to_owned();
    while replacements.iter().any(|(_, by)| by.contains(&tag)) {
        tag.insert(1, 'q');
    }
    tag
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::outbox::{Columns, NamePattern, Route, Shape, Template, Zone};

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    pub(in crate::setup) fn default() -> Objects {
        Objects {
            outbox: Spec {
                tables: vec![TableName { schema: "public".to_owned(), name: "outbox".to_owned() }.into()],
                message_prefix: None,
                shape: Shape {
                    columns: Columns {
                        id: "id".to_owned(),
                        aggregate_type: "aggregate_type".to_owned(),
                        aggregate_id: "aggregate_id".to_owned(),
                        event_type: Some("event_type".to_owned()),
                        payload: "payload".to_owned(),
                        headers: None,
                        timestamp: None,
                        timestamp_zone: Zone::utc(),
                    },
                    headers: vec![("event_type".to_owned(), template("{event_type}"))],
                    route: Route {
                        topic: template("outbox.event.{aggregate_type}"),
                        key: template("{aggregate_id}"),
                        partition: None,
                    },
                    own: BTreeMap::new(),
                },
                overrides: Vec::new(),
            },
            role: "outbox_relay".to_owned(),
            publication: "outbox_relay".to_owned(),
            slot: "outbox_relay".to_owned(),
            after_publish: AfterPublish {
                action: Action::Keep,
                retention: std::time::Duration::ZERO,
                status_column: "status".to_owned(),
                pending_value: "PENDING".to_owned(),
                published_value: "PUBLISHED".to_owned(),
                published_at_column: Some("published_at".to_owned()),
                timestamp_zone: "UTC".to_owned(),
            },
            shards: 1,
            sharding: None,
            polls: false,
        }
    }

    #[test]
    fn with_default_names_it_is_the_files() {
        let files = [table::FILE, ROLE, PUBLICATION, SLOT].concat();
        assert_eq!(whole(&default()), files);
    }

    pub(in crate::setup) fn odd() -> Objects {
        let mut objects = default();
        let spec = &mut objects.outbox;
        spec.tables = vec![
            TableName { schema: "Sales".to_owned(), name: "out\"box".to_owned() }.into(),
            TableName { schema: "public".to_owned(), name: "events".to_owned() }.into(),
        ];
        let spec = &mut spec.shape;
        spec.columns.id = "Event Id".to_owned();
        spec.columns.event_type = None;
        spec.columns.payload = "order".to_owned();
        spec.columns.timestamp = Some("created_at".to_owned());
        spec.headers = vec![("tenant".to_owned(), template("{tenant}/{aggregate_type}"))];
        spec.route.topic = template("shop.{aggregate_type}.{region}");
        spec.route.key = template("{tenant}");
        spec.route.partition = Some("shard".to_owned());
        objects.role = "the 'relay' $$ 100%\nDROP".to_owned();
        objects.publication = "Pub's".to_owned();
        objects.slot = "1shop".to_owned();
        objects
    }

    #[test]
    fn other_names_are_quoted_where_they_stand() {
        let objects = odd();
        insta::assert_snapshot!(table(&objects, &objects.outbox.tables[0].exact().unwrap()), @r#"
        CREATE TABLE IF NOT EXISTS "Sales"."out""box" (
            "Event Id"     uuid        PRIMARY KEY DEFAULT gen_random_uuid(),  -- the event id: Kafka header "id"
            aggregate_type text        NOT NULL,                -- names the topic: "shop.<aggregate_type>.<region>"
            aggregate_id   text        NOT NULL,                -- the id of the thing that the event is about
            "order"        jsonb,                               -- the Kafka value; NULL is a tombstone
            created_at     timestamptz NOT NULL DEFAULT now(),  -- the record's timestamp
            shard          integer     NOT NULL,                -- the number of the topic's partition
            region         text,                                -- for route.topic = "shop.{aggregate_type}.{region}"
            tenant         text                                 -- for route.key = "{tenant}"
        );
        "#);
        let block = |text: String| text.split_once("DO ").unwrap().1.to_owned();
        insta::assert_snapshot!(block(role(&objects)), @r#"
        $q$
        BEGIN
            -- CREATE ROLE has no IF NOT EXISTS. A role that exists is left as it is.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'the ''relay'' $$ 100%
        DROP') THEN
                IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_replication') THEN
                    -- Amazon RDS and Aurora: nobody there can have REPLICATION; this membership stands for it.
                    CREATE ROLE "the 'relay' $$ 100%
        DROP" LOGIN;
                    GRANT rds_replication TO "the 'relay' $$ 100%
        DROP";
                ELSE
                    CREATE ROLE "the 'relay' $$ 100%
        DROP" LOGIN REPLICATION;
                END IF;
            END IF;

            -- Usually PUBLIC may connect anyway; this keeps the relay working where that was revoked.
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO "the ''relay'' $$ 100%%
        DROP"', current_database());
        END
        $q$;
        "#);
        insta::assert_snapshot!(block(publication(&objects)), @r#"
        $$
        BEGIN
            -- CREATE PUBLICATION has no IF NOT EXISTS. A publication that exists is left as it is.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'Pub''s') THEN
                -- insert: the UPDATEs and DELETEs that clean the table up are never sent.
                -- publish_via_partition_root: should the outbox be partitioned, rows arrive under the name of the outbox and
                -- not under that of each partition. For a plain table it changes nothing.
                CREATE PUBLICATION "Pub's" FOR TABLE "Sales"."out""box", public.events
                    WITH (publish = 'insert', publish_via_partition_root = true);
            END IF;
        END
        $$;
        "#);
        insta::assert_snapshot!(block(slot(&objects)), @r#"
        $$
        DECLARE
            existing record;
            made record;
        BEGIN
            SELECT slot_name, plugin, database INTO existing
            FROM pg_catalog.pg_replication_slots WHERE slot_name = '1shop';

            IF found THEN
                -- Slots have one namespace for the whole server: one of this name may serve another database.
                IF existing.plugin IS DISTINCT FROM 'pgoutput' OR existing.database IS DISTINCT FROM current_database() THEN
                    RAISE EXCEPTION 'slot "1shop" exists, with plugin % in database %, expected pgoutput in %',
                        coalesce(existing.plugin, '(none)'), coalesce(existing.database, '(none)'), current_database();
                END IF;
            -- Assigned, not PERFORMed: a query's snapshot is lost if the server reads meanwhile that tables were made or dropped
            -- ("snapshot reference … is not owned by resource owner"), and an expression needs none.
            ELSIF current_setting('server_version_num')::int >= 170000 THEN
                -- failover: standbys that synchronise slots keep a copy, so the relay can go on after a promotion.
                made := pg_catalog.pg_create_logical_replication_slot('1shop', 'pgoutput', failover => true);
            ELSE
                made := pg_catalog.pg_create_logical_replication_slot('1shop', 'pgoutput');
            END IF;
        END
        $$;
        "#);
    }

    #[test]
    fn of_patterns_the_tables_that_there_are_get_into_the_publication() {
        let name = |text: &str| NamePattern::new(text.split('*').map(str::to_owned).collect());
        let pattern = |schema, table| TablePattern { schema: name(schema), name: name(table) };
        let mut objects = default();
        objects.outbox.tables =
            vec![pattern("tenant_*", "outbox"), pattern("tenant_1", "out'box"), pattern("*", "out*")];
        assert_eq!(whole(&objects).matches("CREATE TABLE").count(), 1);
        insta::assert_snapshot!(publication(&objects).split_once("DO ").unwrap().1, @r#"
        $$
        BEGIN
            -- CREATE PUBLICATION has no IF NOT EXISTS. A publication that exists is left as it is.
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'outbox_relay') THEN
                -- insert: the UPDATEs and DELETEs that clean the table up are never sent.
                -- publish_via_partition_root: should the outbox be partitioned, rows arrive under the name of the outbox and
                -- not under that of each partition. For a plain table it changes nothing.
                -- Of each pattern of outbox.tables, the tables that there are now. Later ones have to be put into the publication
                -- in the transaction that makes them: ALTER PUBLICATION outbox_relay ADD TABLE …
                EXECUTE (
                    SELECT 'CREATE PUBLICATION outbox_relay'
                           || coalesce(' FOR TABLE ' || nullif(concat_ws(', ', 'tenant_1."out''box"', string_agg(format('%I.%I', n.nspname, c.relname), ', ')), ''), '')
                           || ' WITH (publish = ''insert'', publish_via_partition_root = true)'
                    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                    WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
                      AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
                      AND (n.nspname::text LIKE E'tenant\\_%' AND c.relname::text LIKE 'outbox'
                           OR n.nspname::text LIKE '%' AND c.relname::text LIKE 'out%' AND (n.nspname, c.relname) <> ('tenant_1', 'out''box'))
                );
            END IF;
        END
        $$;
        "#);
    }

    #[test]
    fn nothing_of_the_default_names_is_left() {
        let whole = whole(&odd());
        for name in ["outbox_relay", "public.outbox", "aggregate_id\"", "event_type"] {
            assert!(!whole.contains(name), "{name}:\n{whole}");
        }
        // A comment with a line break in a name would not be a comment any more.
        assert!(whole.contains("\\password \"the 'relay' $$ 100% DROP\"  in psql"), "{whole}");
    }
}
