//! A connection that cannot be had: who is in the way, and who can help.

use super::stream::{NEW_PUBLICATION, not_convertible};
use super::{Finding, SLOT_IN_USE};
use crate::disposition::Disposition;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::error::{Error, ServerError};
use crate::postgres::sql::identifier;

/// Why the relay could not log in, or its session broke.
#[must_use]
pub fn of_login(error: &Error, info: &ConnInfo) -> Finding {
    match error {
        // Where a host may come back, that is what is waited for; else the first one tells what to mend.
        Error::NoHost(errors) => match errors.iter().find(|one| one.disposition() == error.disposition()) {
            Some(one) => Finding { message: error.to_string(), ..of_login(one, info) },
            None => unreachable(error),
        },
        Error::Server { error: server, .. } => of_server(error, server, info),
        Error::PasswordMissing { .. } => Finding::stop(
            "wrong_password",
            error.to_string(),
            "put it into the password file (~/.pgpass, which nobody else may read: chmod 600), PGPASSWORD, or \
             postgres.url; or the whole URL into a file that OUTBOX_RELAY_POSTGRES__URL_FILE names",
        ),
        Error::Scram { .. } => wrong_password(error),
        Error::UnsupportedAuthentication { .. } => Finding::stop(
            "login_refused",
            error.to_string(),
            "use scram-sha-256, md5, password, peer or trust for this role in pg_hba.conf",
        ),
        Error::WrongRole { .. } => Finding::wait(
            "server_unreachable",
            error.to_string(),
            "wait for the failover, or name all hosts of the cluster in postgres.url",
        ),
        _ if error.disposition() == Disposition::Retry => unreachable(error),
        _ => Finding::stop(
            "server_protocol",
            error.to_string(),
            "is this a PostgreSQL server? A pooler such as pgbouncer cannot be used: connect to the server itself",
        ),
    }
}

/// Why the replication connection could not be had, although the control connection could.
#[must_use]
pub fn of_replication(error: &Error, info: &ConnInfo) -> Finding {
    match error.server().map(|server| server.code.as_str()) {
        Some("42501") => Finding::stop(
            "replication_missing",
            format!("role \"{}\" may not replicate: {error}", info.user),
            format!(
                "as a superuser: ALTER ROLE {0} REPLICATION; on Amazon RDS: GRANT rds_replication TO {0}",
                identifier(&info.user)
            ),
        ),
        Some("53300") => Finding::wait(
            "no_free_walsender",
            error.to_string(),
            "end a replication connection that nobody needs (SELECT * FROM pg_stat_replication), or raise \
             max_wal_senders and restart PostgreSQL",
        ),
        _ => of_login(error, info),
    }
}

fn of_server(error: &Error, server: &ServerError, info: &ConnInfo) -> Finding {
    let message = error.to_string();
    let user = identifier(&info.user);
    let database = identifier(&info.dbname);
    let retry = server.disposition() == Disposition::Retry;
    let stop = |id, fix: String| Finding::stop(id, message.clone(), server.hint.clone().unwrap_or(fix));
    match server.code.as_str() {
        "28P01" => wrong_password(error),
        "28000" => stop(
            "login_refused",
            format!(
                "let role {user} into database {database} by a line in pg_hba.conf (no replication line is needed); a role \
                 that is not there: outbox-relay setup; one that may not log in: ALTER ROLE {user} LOGIN"
            ),
        ),
        "3D000" => stop("database_missing", "name the outbox's database in postgres.url".to_owned()),
        "42501" => stop(
            "privilege_missing",
            format!(
                "the relay's role needs LOGIN, REPLICATION and, on the database, CONNECT: as a superuser, ALTER ROLE \
                 {user} LOGIN REPLICATION; GRANT CONNECT ON DATABASE {database} TO {user}"
            ),
        ),
        // Said while a change is decoded: the server looks for the publication as it was at that change.
        "42704" if server.where_.is_some() => stop("publication_skipped", NEW_PUBLICATION.to_owned()),
        // Said while a row is printed: untranslatable_character, character_not_in_repertoire.
        "22P05" | "22021" if server.where_.is_some() => {
            let place = server.where_.as_deref().and_then(|place| place.lines().next());
            stop("value_not_utf8", not_convertible(place.unwrap_or_default()))
        }
        "53300" => Finding::wait(
            "no_free_connection",
            message,
            "end connections that nobody needs, or raise max_connections or the role's or database's CONNECTION LIMIT",
        ),
        "53400" => Finding::wait(
            "no_free_slot",
            message,
            "drop a slot that nobody uses (SELECT slot_name, active FROM pg_replication_slots), or raise \
             max_replication_slots and restart PostgreSQL",
        ),
        "55006" | "42710" => Finding::wait(
            SLOT_IN_USE,
            message,
            "nothing to do if that is another instance of the relay, or its last connection, which the server has not \
             given up yet",
        ),
        "57014" | "55P03" => Finding::wait(
            "server_busy",
            message,
            "something holds a lock on the outbox (VACUUM FULL, ALTER TABLE), or the server is overloaded: SELECT pid, \
             state, query FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE mode = \
             'AccessExclusiveLock')",
        ),
        "57P01" => Finding::wait(
            "server_unreachable",
            message,
            "somebody ended the connection, or the server is being stopped: nothing to do if that is meant",
        ),
        // Classes of SQLSTATE: 08, connection exceptions; 57, somebody or a crash has intervened.
        code if retry && (code.starts_with("08") || code.starts_with("57")) => {
            let unreachable = unreachable(error);
            Finding { fix: server.hint.clone().unwrap_or(unreachable.fix), ..unreachable }
        }
        _ if retry => {
            let fix = server.hint.clone();
            let fix =
                fix.unwrap_or_else(|| "it may pass by itself; see the server's log for more".to_owned());
            Finding::wait("server_busy", message, fix)
        }
        _ => stop("server_error", "see the server's log for more".to_owned()),
    }
}

fn wrong_password(error: &Error) -> Finding {
    Finding::stop(
        "wrong_password",
        error.to_string(),
        "correct the password in postgres.url, PGPASSWORD or the password file (~/.pgpass)",
    )
}

fn unreachable(error: &Error) -> Finding {
    Finding::wait("server_unreachable", error.to_string(), "start the server, or correct its host and port")
}
