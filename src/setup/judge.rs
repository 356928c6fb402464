//! What was seen, judged: what is not as the relay needs it, and what a refusal of the server means. Pure.

use super::look::{Publication, Role, Session, Table};
use super::report::{Kind, Problem};
use super::script::Objects;
use super::table::needed;
use crate::outbox::TableName;
use crate::postgres::control::Slot;
use crate::postgres::error::Error;
use crate::postgres::sql::{identifier, literal, table as quoted};

/// A table that was there before.
pub(super) fn table(name: &TableName, found: &Table, objects: &Objects) -> Vec<Problem> {
    let table = quoted(name);
    if !found.usable {
        return vec![Problem::new(
            format!("{table} is not a table"),
            "name the table itself in outbox.tables: views and foreign tables have no write-ahead log",
        )];
    }
    let mut problems: Vec<Problem> = Vec::new();
    for (column, key) in needed(&objects.outbox) {
        if found.columns.contains(&column) {
            continue;
        }
        let message = format!("table {table} has no column {}, which {key} names", identifier(&column));
        let fix = format!("set {key} to one of its columns: {}; or add the column", found.columns.join(", "));
        problems.push(Problem::new(message, fix));
    }
    problems
}

/// The role, be it old or new.
pub(super) fn role(objects: &Objects, session: &Session, found: &Role) -> Vec<Problem> {
    let name = identifier(&objects.role);
    let mut problems = Vec::new();
    let lacks: Vec<_> = [(found.login, "LOGIN"), (found.replication, "REPLICATION")]
        .into_iter()
        .filter(|(has, _)| !has)
        .collect();
    if !lacks.is_empty() {
        let lacks: Vec<_> = lacks.iter().map(|(_, attribute)| *attribute).collect();
        let mut fix = format!("ALTER ROLE {name} {}, as {}", lacks.join(" "), maker(session));
        if found.managed {
            fix = format!("as the administrator: ALTER ROLE {name} LOGIN; GRANT rds_replication TO {name}");
        }
        let message =
            format!("role {name} has no {}, and an existing role is never altered", lacks.join(" and no "));
        problems.push(Problem::new(message, fix));
    }
    if !found.connect {
        let database = identifier(&session.database);
        problems.push(Problem::new(
            format!("role {name} may not connect to database {database}"),
            format!("as the owner of the database: GRANT CONNECT ON DATABASE {database} TO {name}"),
        ));
    }
    problems
}

/// A publication that was there before. `tables` are those that exist.
pub(super) fn publication(
    objects: &Objects,
    found: &Publication,
    tables: &[(TableName, Table)],
) -> Vec<Problem> {
    let name = identifier(&objects.publication);
    let mut problems = Vec::new();
    if !found.inserts {
        problems.push(Problem::new(
            format!("publication {name} does not publish INSERTs, and an existing one is never altered"),
            format!("as its owner: ALTER PUBLICATION {name} SET (publish = 'insert')"),
        ));
    }
    for (table, seen) in tables {
        let table_name = quoted(table);
        if seen.partitioned && !found.root {
            problems.push(Problem::new(
                format!(
                    "publication {name} publishes rows of {table_name} under the names of its partitions, and an \
                     existing one is never altered"
                ),
                format!("as its owner: ALTER PUBLICATION {name} SET (publish_via_partition_root = true)"),
            ));
        } else if !found.tables.contains(table) {
            problems.push(Problem::new(
                format!("publication {name} does not publish table {table_name}, and an existing one is never altered"),
                format!(
                    "as its owner: ALTER PUBLICATION {name} ADD TABLE {table_name}; rows that were written before that \
                     will not be sent"
                ),
            ));
        }
    }
    problems
}

/// A slot that was there before; `new_publication` if the publication was not.
pub(super) fn slot(
    objects: &Objects,
    session: &Session,
    found: &Slot,
    new_publication: bool,
) -> Vec<Problem> {
    let name = &objects.slot;
    let anew = format!("SELECT pg_drop_replication_slot({}), and run setup again", literal(name));
    let physical = "none (a physical slot)";
    let plugin = found.plugin.as_deref().unwrap_or(physical);
    let database = found.database.as_deref().unwrap_or(physical);
    let other = "name another slot in postgres.slot, or drop this one if nobody needs it";
    if plugin != "pgoutput" {
        return vec![Problem::new(format!("slot {name}: plugin is {plugin}, expected pgoutput"), other)];
    }
    if database != session.database {
        let expected = &session.database;
        return vec![Problem::new(
            format!("slot {name}: database is {database}, expected {expected}"),
            other,
        )];
    }
    if found.wal_status.as_deref() == Some("lost") {
        return vec![Problem::new(
            format!("slot {name} is lost (wal_status = lost): the server has removed WAL that it needs"),
            format!(
                "what was committed after {} and not sent will not come again by itself: send those rows again from \
                 the table. Then {anew}, and raise max_slot_wal_keep_size",
                found.confirmed_flush.unwrap_or(crate::lsn::Lsn::ZERO)
            ),
        )];
    }
    if new_publication {
        return vec![Problem::new(
            format!(
                "slot {name} is older than publication {}, which was made now",
                identifier(&objects.publication)
            ),
            format!(
                "a slot cannot read what was written before its publication was made: {anew}. Rows that were written \
                 before that will not be sent"
            ),
        )];
    }
    Vec::new()
}

/// Why the slot cannot be made on this server.
pub(super) fn wal_level(objects: &Objects, session: &Session) -> Option<Problem> {
    let set = "ALTER SYSTEM SET wal_level = logical (on Amazon RDS: rds.logical_replication = 1 in the parameter group), \
               restart PostgreSQL, and run setup again";
    (session.wal_level != "logical").then(|| {
        Problem::new(
            format!(
                "slot {} was not made: wal_level is {}, expected logical",
                objects.slot, session.wal_level
            ),
            set,
        )
    })
}

/// A hot standby.
pub(super) fn standby(session: &Session) -> Option<Problem> {
    session.standby.then(|| {
        Problem::new(
            "the server is a hot standby: nothing can be made there",
            "name the primary, or several hosts with target_session_attrs=primary, in --as",
        )
    })
}

/// What it means that the server did not make something.
pub(super) fn refused(
    kind: Kind,
    name: &str,
    error: &Error,
    session: &Session,
    objects: &Objects,
) -> Problem {
    let Some(said) = error.server() else {
        let again = "run setup again: it goes on where it stopped";
        return Problem::new(format!("{kind} {name} was not made: {error}"), again);
    };
    let detail = said.detail.as_deref().filter(|_| said.code == "42501");
    let detail = detail.map(|detail| format!(" ({})", detail.trim_end_matches('.'))).unwrap_or_default();
    let message =
        format!("{kind} {name} was not made: {} {}: {}{detail}", said.severity, said.code, said.message);
    let fix = match (kind, said.code.as_str()) {
        (_, "42501") => privilege(kind, session, objects),
        (Kind::Table, "3F000") => {
            "make the schema first (CREATE SCHEMA), or correct outbox.tables".to_owned()
        }
        (Kind::Slot, "53400") => {
            "raise max_replication_slots and restart PostgreSQL, or drop a slot that nobody uses: SELECT slot_name, \
             active FROM pg_replication_slots"
                .to_owned()
        }
        _ => said.hint.clone().unwrap_or_else(|| "mend this and run setup again: what exists is left as it is".to_owned()),
    };
    Problem::new(message, fix)
}

/// Which privilege was missing, and who has it.
fn privilege(kind: Kind, session: &Session, objects: &Objects) -> String {
    let user = identifier(&session.user);
    let needs = match kind {
        Kind::Table => {
            let mut schemas: Vec<_> =
                objects.outbox.tables.iter().map(|table| identifier(&table.schema)).collect();
            schemas.dedup();
            format!(
                "role {user} needs CREATE on schema {}, which the owner of the service's tables has",
                schemas.join(", ")
            )
        }
        Kind::Role | Kind::Grant => format!("such a role is made by {} alone", maker(session)),
        Kind::Publication => format!(
            "role {user} must own the tables and needs CREATE on database {}",
            identifier(&session.database)
        ),
        Kind::Slot => format!(
            "role {user} needs REPLICATION; the relay's own role has it, and the relay makes the slot at its first start"
        ),
    };
    format!("{needs}. Name who may with --as URL or OUTBOX_RELAY_SETUP_URL; `setup --print` shows the SQL")
}

/// Who may make a role with REPLICATION, or give it that.
fn maker(session: &Session) -> &'static str {
    if session.version >= 160_000 {
        "a superuser or a role with CREATEROLE and REPLICATION"
    } else {
        "a superuser"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{Columns, Route, Spec, Template, Zone};
    use crate::postgres::error::ServerError;

    fn objects() -> Objects {
        let template = |text: &str| Template::parse(text).unwrap();
        let columns = Columns {
            id: "id".to_owned(),
            aggregate_type: "aggregate_type".to_owned(),
            aggregate_id: "aggregate_id".to_owned(),
            event_type: None,
            payload: "Payload".to_owned(),
            timestamp: None,
            timestamp_zone: Zone::utc(),
        };
        let route =
            Route { topic: template("e.{aggregate_type}"), key: template("{aggregate_id}"), partition: None };
        let spec = Spec { tables: vec![outbox()], columns, headers: Vec::new(), route };
        let name = || "outbox_relay".to_owned();
        Objects { outbox: spec, role: name(), publication: name(), slot: name() }
    }

    fn outbox() -> TableName {
        TableName { schema: "public".to_owned(), name: "outbox".to_owned() }
    }

    fn session() -> Session {
        Session {
            database: "shop".to_owned(),
            user: "owner".to_owned(),
            version: 170_004,
            wal_level: "logical".to_owned(),
            standby: false,
        }
    }

    fn texts(problems: impl IntoIterator<Item = Problem>) -> String {
        problems.into_iter().map(|problem| format!("{problem}\n\n")).collect()
    }

    fn seen(columns: &[&str]) -> Table {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Table { usable: true, partitioned: false, columns }
    }

    #[test]
    fn what_is_as_it_must_be_is_no_problem() {
        let table_seen = seen(&["id", "aggregate_type", "aggregate_id", "Payload", "more"]);
        assert_eq!(table(&outbox(), &table_seen, &objects()), []);
        let role_seen = Role { login: true, replication: true, connect: true, managed: false };
        assert_eq!(role(&objects(), &session(), &role_seen), []);
        let found = Publication { inserts: true, root: false, tables: vec![outbox()] };
        assert_eq!(publication(&objects(), &found, &[(outbox(), table_seen)]), []);
        assert_eq!(slot(&objects(), &session(), &slot_seen("pgoutput", "shop"), false), []);
        assert_eq!((wal_level(&objects(), &session()), standby(&session())), (None, None));
    }

    #[test]
    fn a_table_that_does_not_fit_is_told() {
        insta::assert_snapshot!(texts(table(&outbox(), &seen(&["id", "payload", "aggregate_id"]), &objects())), @r#"
        table public.outbox has no column "Payload", which outbox.columns.payload names

        hint: set outbox.columns.payload to one of its columns: id, payload, aggregate_id; or add the column

        table public.outbox has no column aggregate_type, which route.topic names

        hint: set route.topic to one of its columns: id, payload, aggregate_id; or add the column
        "#);
        let view = Table { usable: false, ..seen(&[]) };
        insta::assert_snapshot!(texts(table(&outbox(), &view, &objects())), @"
        public.outbox is not a table

        hint: name the table itself in outbox.tables: views and foreign tables have no write-ahead log
        ");
    }

    #[test]
    fn a_role_that_may_too_little_is_told() {
        let nothing = Role { login: false, replication: false, connect: false, managed: false };
        insta::assert_snapshot!(texts(role(&objects(), &session(), &nothing)), @"
        role outbox_relay has no LOGIN and no REPLICATION, and an existing role is never altered

        hint: ALTER ROLE outbox_relay LOGIN REPLICATION, as a superuser or a role with CREATEROLE and REPLICATION

        role outbox_relay may not connect to database shop

        hint: as the owner of the database: GRANT CONNECT ON DATABASE shop TO outbox_relay
        ");
        let old = Session { version: 150_000, ..session() };
        let no_replication = Role { login: true, connect: true, ..nothing };
        insta::assert_snapshot!(texts(role(&objects(), &old, &no_replication)), @"
        role outbox_relay has no REPLICATION, and an existing role is never altered

        hint: ALTER ROLE outbox_relay REPLICATION, as a superuser
        ");
        let managed = Role { managed: true, ..no_replication };
        insta::assert_snapshot!(texts(role(&objects(), &old, &managed)), @"
        role outbox_relay has no REPLICATION, and an existing role is never altered

        hint: as the administrator: ALTER ROLE outbox_relay LOGIN; GRANT rds_replication TO outbox_relay
        ");
    }

    #[test]
    fn a_publication_that_hides_rows_is_told() {
        let found = Publication { inserts: false, root: false, tables: Vec::new() };
        insta::assert_snapshot!(texts(publication(&objects(), &found, &[(outbox(), seen(&[]))])), @"
        publication outbox_relay does not publish INSERTs, and an existing one is never altered

        hint: as its owner: ALTER PUBLICATION outbox_relay SET (publish = 'insert')

        publication outbox_relay does not publish table public.outbox, and an existing one is never altered

        hint: as its owner: ALTER PUBLICATION outbox_relay ADD TABLE public.outbox; rows that were written before that will not be sent
        ");
        let partitioned = Table { partitioned: true, ..seen(&[]) };
        let found = Publication { inserts: true, ..found };
        insta::assert_snapshot!(texts(publication(&objects(), &found, &[(outbox(), partitioned)])), @"
        publication outbox_relay publishes rows of public.outbox under the names of its partitions, and an existing one is never altered

        hint: as its owner: ALTER PUBLICATION outbox_relay SET (publish_via_partition_root = true)
        ");
    }

    fn slot_seen(plugin: &str, database: &str) -> Slot {
        Slot {
            plugin: Some(plugin.to_owned()),
            database: Some(database.to_owned()),
            active_pid: None,
            confirmed_flush: "0/16B3748".parse().ok(),
            wal_status: Some("reserved".to_owned()),
            retained_bytes: None,
        }
    }

    #[test]
    fn a_slot_that_is_of_no_use_is_told() {
        let told = |found: Slot, new| texts(slot(&objects(), &session(), &found, new));
        insta::assert_snapshot!(told(slot_seen("wal2json", "shop"), false), @"
        slot outbox_relay: plugin is wal2json, expected pgoutput

        hint: name another slot in postgres.slot, or drop this one if nobody needs it
        ");
        insta::assert_snapshot!(told(slot_seen("pgoutput", "other"), false), @"
        slot outbox_relay: database is other, expected shop

        hint: name another slot in postgres.slot, or drop this one if nobody needs it
        ");
        let physical = Slot { plugin: None, database: None, ..slot_seen("", "") };
        insta::assert_snapshot!(told(physical, false), @"
        slot outbox_relay: plugin is none (a physical slot), expected pgoutput

        hint: name another slot in postgres.slot, or drop this one if nobody needs it
        ");
        let lost = Slot { wal_status: Some("lost".to_owned()), ..slot_seen("pgoutput", "shop") };
        insta::assert_snapshot!(told(lost, false), @"
        slot outbox_relay is lost (wal_status = lost): the server has removed WAL that it needs

        hint: what was committed after 0/16B3748 and not sent will not come again by itself: send those rows again from the table. Then SELECT pg_drop_replication_slot('outbox_relay'), and run setup again, and raise max_slot_wal_keep_size
        ");
        insta::assert_snapshot!(told(slot_seen("pgoutput", "shop"), true), @"
        slot outbox_relay is older than publication outbox_relay, which was made now

        hint: a slot cannot read what was written before its publication was made: SELECT pg_drop_replication_slot('outbox_relay'), and run setup again. Rows that were written before that will not be sent
        ");
    }

    #[test]
    fn a_server_that_cannot_do_it_is_told() {
        let replica = Session { wal_level: "replica".to_owned(), standby: true, ..session() };
        insta::assert_snapshot!(texts(wal_level(&objects(), &replica)), @"
        slot outbox_relay was not made: wal_level is replica, expected logical

        hint: ALTER SYSTEM SET wal_level = logical (on Amazon RDS: rds.logical_replication = 1 in the parameter group), restart PostgreSQL, and run setup again
        ");
        insta::assert_snapshot!(texts(standby(&replica)), @"
        the server is a hot standby: nothing can be made there

        hint: name the primary, or several hosts with target_session_attrs=primary, in --as
        ");
    }

    #[test]
    fn a_refusal_names_who_may() {
        let told = |kind, name: &str, code: &str, message: &str| {
            let error = ServerError {
                severity: "ERROR".to_owned(),
                code: code.to_owned(),
                message: message.to_owned(),
                detail: Some("Only those who may can.".to_owned()),
                ..ServerError::default()
            };
            let error = Error::Server { action: "make".into(), error: Box::new(error) };
            texts([refused(kind, name, &error, &session(), &objects())])
        };
        insta::assert_snapshot!(told(Kind::Table, "public.outbox", "42501", "permission denied for schema public"), @"
        table public.outbox was not made: ERROR 42501: permission denied for schema public (Only those who may can)

        hint: role owner needs CREATE on schema public, which the owner of the service's tables has. Name who may with --as URL or OUTBOX_RELAY_SETUP_URL; `setup --print` shows the SQL
        ");
        insta::assert_snapshot!(told(Kind::Table, "a.b", "3F000", "schema \"a\" does not exist"), @r#"
        table a.b was not made: ERROR 3F000: schema "a" does not exist

        hint: make the schema first (CREATE SCHEMA), or correct outbox.tables
        "#);
        insta::assert_snapshot!(told(Kind::Role, "outbox_relay", "42501", "permission denied to create role"), @"
        role outbox_relay was not made: ERROR 42501: permission denied to create role (Only those who may can)

        hint: such a role is made by a superuser or a role with CREATEROLE and REPLICATION alone. Name who may with --as URL or OUTBOX_RELAY_SETUP_URL; `setup --print` shows the SQL
        ");
        insta::assert_snapshot!(told(Kind::Publication, "outbox_relay", "42501", "must be owner of table outbox"), @"
        publication outbox_relay was not made: ERROR 42501: must be owner of table outbox (Only those who may can)

        hint: role owner must own the tables and needs CREATE on database shop. Name who may with --as URL or OUTBOX_RELAY_SETUP_URL; `setup --print` shows the SQL
        ");
        insta::assert_snapshot!(told(Kind::Slot, "outbox_relay", "42501", "permission denied to use replication slots"), @"
        slot outbox_relay was not made: ERROR 42501: permission denied to use replication slots (Only those who may can)

        hint: role owner needs REPLICATION; the relay's own role has it, and the relay makes the slot at its first start. Name who may with --as URL or OUTBOX_RELAY_SETUP_URL; `setup --print` shows the SQL
        ");
        insta::assert_snapshot!(told(Kind::Slot, "outbox_relay", "53400", "all replication slots are in use"), @"
        slot outbox_relay was not made: ERROR 53400: all replication slots are in use

        hint: raise max_replication_slots and restart PostgreSQL, or drop a slot that nobody uses: SELECT slot_name, active FROM pg_replication_slots
        ");
        insta::assert_snapshot!(told(Kind::Publication, "outbox_relay", "53100", "disk full"), @"
        publication outbox_relay was not made: ERROR 53100: disk full

        hint: mend this and run setup again: what exists is left as it is
        ");
    }
}
