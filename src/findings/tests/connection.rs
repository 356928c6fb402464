//! Why a connection cannot be had.

use std::io;
use std::time::Duration;

use super::info;
use crate::findings::{Finding, of_login, of_replication};
use crate::postgres::error::{Error, ServerError};

fn server(code: &str, message: &str) -> Error {
    let error = ServerError {
        severity: "FATAL".to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
        ..Default::default()
    };
    Error::Server { action: "connect to db:5432".into(), error: Box::new(error) }
}

fn refused() -> Error {
    Error::Connect { host: "db:5432".to_owned(), cause: io::Error::from_raw_os_error(111) }
}

fn shown(finding: &Finding) -> String {
    format!("{} {}: {finding}", finding.level.as_str(), finding.id)
}

fn login(error: &Error) -> String {
    shown(&of_login(error, &info()))
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    insta::assert_snapshot!(login(&refused()), @"
    wait server_unreachable: connect to db:5432: Connection refused (os error 111)

    hint: start the server, or correct its host and port
    ");
    let silent = Error::Timeout { action: "connect to db:5432".into(), limit: Duration::from_secs(10) };
    insta::assert_snapshot!(login(&silent), @"
    wait server_unreachable: connect to db:5432: no answer within 10s

    hint: start the server, or correct its host and port
    ");
    insta::assert_snapshot!(login(&server("57P03", "the database system is starting up")), @"
    wait server_unreachable: connect to db:5432: FATAL 57P03: the database system is starting up

    hint: start the server, or correct its host and port
    ");
    insta::assert_snapshot!(login(&server("53300", "too many connections for role \"outbox_relay\"")), @r#"
    wait no_free_connection: connect to db:5432: FATAL 53300: too many connections for role "outbox_relay"

    hint: end connections that nobody needs, or raise max_connections or the role's or database's CONNECTION LIMIT
    "#);
    let standby =
        Error::WrongRole { host: "db:5432".to_owned(), wanted: "primary".to_owned(), found: "a standby" };
    insta::assert_snapshot!(login(&standby), @"
    wait server_unreachable: db:5432: is a standby, target_session_attrs asks for primary

    hint: wait for the failover, or name all hosts of the cluster in postgres.url
    ");
}

#[test]
fn a_login_that_is_refused_is_mended_by_somebody() {
    insta::assert_snapshot!(login(&server("28P01", "password authentication failed for user \"outbox_relay\"")), @r#"
    stop wrong_password: connect to db:5432: FATAL 28P01: password authentication failed for user "outbox_relay"

    hint: correct the password in postgres.url, PGPASSWORD or the password file (~/.pgpass)
    "#);
    insta::assert_snapshot!(login(&Error::PasswordMissing { user: "outbox_relay".to_owned() }), @r#"
    stop wrong_password: log in as "outbox_relay": the server asks for a password, and none is configured

    hint: put it into the password file (~/.pgpass, which nobody else may read: chmod 600), PGPASSWORD, or postgres.url; or the whole URL into a file that OUTBOX_RELAY_POSTGRES__URL_FILE names
    "#);
    insta::assert_snapshot!(login(&server("28000", "no pg_hba.conf entry for host \"10.0.0.7\", user \"outbox_relay\", database \"shop\", no encryption")), @r#"
    stop login_refused: connect to db:5432: FATAL 28000: no pg_hba.conf entry for host "10.0.0.7", user "outbox_relay", database "shop", no encryption

    hint: let role outbox_relay into database shop by a line in pg_hba.conf (no replication line is needed); a role that is not there: outbox-relay setup; one that may not log in: ALTER ROLE outbox_relay LOGIN
    "#);
    insta::assert_snapshot!(login(&server("3D000", "database \"shop\" does not exist")), @r#"
    stop database_missing: connect to db:5432: FATAL 3D000: database "shop" does not exist

    hint: name the outbox's database in postgres.url
    "#);
    insta::assert_snapshot!(login(&server("42501", "permission denied for database \"shop\"")), @r#"
    stop privilege_missing: connect to db:5432: FATAL 42501: permission denied for database "shop"

    hint: the relay's role needs LOGIN, REPLICATION and, on the database, CONNECT: as a superuser, ALTER ROLE outbox_relay LOGIN REPLICATION; GRANT CONNECT ON DATABASE shop TO outbox_relay
    "#);
    let gss =
        Error::UnsupportedAuthentication { user: "outbox_relay".to_owned(), method: "GSSAPI".to_owned() };
    insta::assert_snapshot!(login(&gss), @r#"
    stop login_refused: log in as "outbox_relay": authentication method GSSAPI is not supported

    hint: use scram-sha-256, md5, password, peer or trust for this role in pg_hba.conf
    "#);
    insta::assert_snapshot!(login(&server("XX001", "page is damaged")), @"
    stop server_error: connect to db:5432: FATAL XX001: page is damaged

    hint: see the server's log for more
    ");
    let other = Error::Protocol {
        action: "log in".into(),
        came: "'H'".to_owned(),
        expected: "an authentication request",
    };
    insta::assert_snapshot!(login(&other), @"
    stop server_protocol: log in: protocol violation: 'H', expected an authentication request

    hint: is this a PostgreSQL server? A pooler such as pgbouncer cannot be used: connect to the server itself
    ");
}

#[test]
fn what_passes_by_itself_is_told_as_such() {
    insta::assert_snapshot!(login(&server("42710", "replication slot \"outbox_relay\" already exists")), @r#"
    wait slot_in_use: connect to db:5432: FATAL 42710: replication slot "outbox_relay" already exists

    hint: nothing to do if that is another instance of the relay, or its last connection, which the server has not given up yet
    "#);
    insta::assert_snapshot!(login(&server("57014", "canceling statement due to statement timeout")), @"
    wait server_busy: connect to db:5432: FATAL 57014: canceling statement due to statement timeout

    hint: something holds a lock on the outbox (VACUUM FULL, ALTER TABLE), or the server is overloaded: SELECT pid, state, query FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE mode = 'AccessExclusiveLock')
    ");
    insta::assert_snapshot!(login(&server("53100", "could not extend file: No space left on device")), @"
    wait server_busy: connect to db:5432: FATAL 53100: could not extend file: No space left on device

    hint: it may pass by itself; see the server's log for more
    ");
    insta::assert_snapshot!(login(&server("57P01", "terminating connection due to administrator command")), @"
    wait server_unreachable: connect to db:5432: FATAL 57P01: terminating connection due to administrator command

    hint: somebody ended the connection, or the server is being stopped: nothing to do if that is meant
    ");
}

#[test]
fn of_several_hosts_the_one_that_decides_is_told() {
    insta::assert_snapshot!(login(&Error::NoHost(vec![server("28P01", "no"), refused()])), @"
    wait server_unreachable: no host could be used: connect to db:5432: FATAL 28P01: no; connect to db:5432: Connection refused (os error 111)

    hint: start the server, or correct its host and port
    ");
    insta::assert_snapshot!(login(&Error::NoHost(vec![server("28P01", "no"), server("3D000", "no")])), @"
    stop wrong_password: no host could be used: connect to db:5432: FATAL 28P01: no; connect to db:5432: FATAL 3D000: no

    hint: correct the password in postgres.url, PGPASSWORD or the password file (~/.pgpass)
    ");
}

#[test]
fn a_replication_connection_needs_a_right_and_a_walsender() {
    let replication = |error: &Error| shown(&of_replication(error, &info()));
    insta::assert_snapshot!(replication(&server("42501", "permission denied to start WAL sender")), @r#"
    stop replication_missing: role "outbox_relay" may not replicate: connect to db:5432: FATAL 42501: permission denied to start WAL sender

    hint: as a superuser: ALTER ROLE outbox_relay REPLICATION; on Amazon RDS: GRANT rds_replication TO outbox_relay
    "#);
    insta::assert_snapshot!(replication(&server("53300", "number of requested standby connections exceeds \"max_wal_senders\" (currently 2)")), @r#"
    wait no_free_walsender: connect to db:5432: FATAL 53300: number of requested standby connections exceeds "max_wal_senders" (currently 2)

    hint: end a replication connection that nobody needs (SELECT * FROM pg_stat_replication), or raise max_wal_senders and restart PostgreSQL
    "#);
    insta::assert_snapshot!(replication(&refused()), @"
    wait server_unreachable: connect to db:5432: Connection refused (os error 111)

    hint: start the server, or correct its host and port
    ");
}
