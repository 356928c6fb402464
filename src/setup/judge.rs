//! What was seen, judged: what is not as the relay needs it, and what a refusal of the server means. Pure.

use super::look::{Role, Session};
use super::report::Kind;
use super::script::Objects;
use crate::findings::{Finding, Level, SLOT_IN_USE};
use crate::postgres::error::Error;
use crate::postgres::sql::{identifier, literal};

/// The role, be it old or new.
pub(super) fn role(objects: &Objects, session: &Session, found: &Role) -> Vec<Finding> {
    let name = identifier(&objects.role);
    let mut problems = Vec::new();
    let replicates = found.replication || objects.polls;
    let lacks: Vec<_> =
        [(found.login, "LOGIN"), (replicates, "REPLICATION")].into_iter().filter(|(has, _)| !has).collect();
    if !lacks.is_empty() {
        let lacks: Vec<_> = lacks.iter().map(|(_, attribute)| *attribute).collect();
        let mut fix = format!("ALTER ROLE {name} {}, as {}", lacks.join(" "), maker(session));
        if found.managed {
            fix = format!("as the administrator: ALTER ROLE {name} LOGIN; GRANT rds_replication TO {name}");
        }
        let message =
            format!("role {name} has no {}, and an existing role is never altered", lacks.join(" and no "));
        problems.push(Finding::stop("role_attributes", message, fix));
    }
    if !found.connect {
        let database = identifier(&session.database);
        problems.push(Finding::stop(
            "connect_missing",
            format!("role {name} may not connect to database {database}"),
            format!("as the owner of the database: GRANT CONNECT ON DATABASE {database} TO {name}"),
        ));
    }
    problems
}

/// A slot that was there before its publication, which was made now.
pub(super) fn older_slot(objects: &Objects) -> Finding {
    let Objects { slot, publication, .. } = objects;
    Finding::stop(
        "publication_newer_than_slot",
        format!("slot \"{slot}\" is older than publication \"{publication}\", which was made now"),
        format!(
            "a slot cannot read what was written before its publication was made: SELECT pg_drop_replication_slot({}), and \
             run setup again. Rows that were written before that will not be sent",
            literal(slot)
        ),
    )
}

/// What the relay would find afterwards, as far as it is for setup to tell. What is missing was refused, and that is told.
pub(super) fn remains(findings: Vec<Finding>) -> impl Iterator<Item = Finding> {
    let told = ["table_missing", "publication_missing", SLOT_IN_USE];
    findings.into_iter().filter(move |finding| finding.level != Level::Warn && !told.contains(&finding.id))
}

/// A hot standby.
pub(super) fn standby(session: &Session) -> Option<Finding> {
    session.standby.then(|| {
        Finding::stop(
            "server_in_recovery",
            "the server is a hot standby: nothing can be made there",
            "name the primary, or several hosts with target_session_attrs=primary, in --as",
        )
    })
}

/// A server without row filters.
pub(super) fn too_old(session: &Session, objects: &Objects) -> Option<Finding> {
    (objects.shards > 1 && session.version < 150_000).then(|| {
        Finding::stop(
            "shard_version",
            format!(
                "the server is older than PostgreSQL 15, and --shards {} needs row filters of publications",
                objects.shards
            ),
            "upgrade the server, or let one relay send everything",
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
) -> Finding {
    let Some(said) = error.server() else {
        let again = "run setup again: it goes on where it stopped";
        return Finding::stop("not_made", format!("{kind} {name} was not made: {error}"), again);
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
        _ => said
            .hint
            .clone()
            .unwrap_or_else(|| "mend this and run setup again: what exists is left as it is".to_owned()),
    };
    Finding::stop("not_made", message, fix)
}

/// Which privilege was missing, and who has it.
fn privilege(kind: Kind, session: &Session, objects: &Objects) -> String {
    let user = identifier(&session.user);
    let needs = match kind {
        Kind::Table => {
            let mut schemas: Vec<_> = objects.named().map(|table| identifier(&table.schema)).collect();
            schemas.dedup();
            format!(
                "role {user} needs CREATE on schema {}, which the owner of the service's tables has",
                schemas.join(", ")
            )
        }
        Kind::Role | Kind::Grant => format!("such a role is made by {} alone", maker(session)),
        Kind::Rights | Kind::Functions => format!("role {user} must own the table"),
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::outbox::{Columns, Route, Shape, Spec, TableName, Template, Zone};
    use crate::postgres::error::ServerError;

    fn objects() -> Objects {
        let template = |text: &str| Template::parse(text).unwrap();
        let columns = Columns {
            id: "id".to_owned(),
            aggregate_type: "aggregate_type".to_owned(),
            aggregate_id: "aggregate_id".to_owned(),
            event_type: None,
            payload: "Payload".to_owned(),
            headers: None,
            timestamp: None,
            timestamp_zone: Zone::utc(),
        };
        let route =
            Route { topic: template("e.{aggregate_type}"), key: template("{aggregate_id}"), partition: None };
        let shape = Shape { columns, headers: Vec::new(), route, own: BTreeMap::new() };
        let spec = Spec { tables: vec![outbox().into()], message_prefix: None, shape, overrides: Vec::new() };
        let name = || "outbox_relay".to_owned();
        let needed = [("postgres.url", "postgres://r@db/shop"), ("kafka.bootstrap.servers", "kafka:9092")];
        let needed = needed.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let after_publish = crate::config::load(None, [], &needed).unwrap().after_publish;
        Objects {
            outbox: spec,
            role: name(),
            publication: name(),
            slot: name(),
            after_publish,
            shards: 1,
            sharding: None,
            polls: false,
        }
    }

    fn outbox() -> TableName {
        TableName { schema: "public".to_owned(), name: "outbox".to_owned() }
    }

    fn session() -> Session {
        Session { database: "shop".to_owned(), user: "owner".to_owned(), version: 170_004, standby: false }
    }

    fn texts(problems: impl IntoIterator<Item = Finding>) -> String {
        problems.into_iter().map(|problem| format!("{problem}\n\n")).collect()
    }

    #[test]
    fn what_is_as_it_must_be_is_no_problem() {
        let role_seen = Role { login: true, replication: true, connect: true, managed: false };
        assert_eq!(role(&objects(), &session(), &role_seen), []);
        assert_eq!(standby(&session()), None);
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
    fn a_slot_that_is_older_than_its_publication_is_told() {
        insta::assert_snapshot!(older_slot(&objects()), @r#"
        slot "outbox_relay" is older than publication "outbox_relay", which was made now

        hint: a slot cannot read what was written before its publication was made: SELECT pg_drop_replication_slot('outbox_relay'), and run setup again. Rows that were written before that will not be sent
        "#);
    }

    #[test]
    fn what_is_told_otherwise_and_what_only_warns_is_left_out() {
        let found = vec![
            Finding::stop("table_missing", "", ""),
            Finding::stop("wal_level", "", ""),
            Finding::wait("no_free_slot", "", ""),
            Finding::wait(SLOT_IN_USE, "", ""),
            Finding::warn("role_limit", "", ""),
        ];
        let ids: Vec<_> = remains(found).map(|finding| finding.id).collect();
        assert_eq!(ids, ["wal_level", "no_free_slot"]);
    }

    #[test]
    fn a_server_that_cannot_do_it_is_told() {
        let replica = Session { standby: true, ..session() };
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
        insta::assert_snapshot!(told(Kind::Publication, "outbox_relay", "53100", "disk full"), @"
        publication outbox_relay was not made: ERROR 53100: disk full

        hint: mend this and run setup again: what exists is left as it is
        ");
    }
}
