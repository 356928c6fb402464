//! Logging in to a real PostgreSQL, and the commands before the stream.

use outbox_relay::disposition::Disposition;
use outbox_relay::lsn::Lsn;
use outbox_relay::postgres::connection::Connection;
use outbox_relay::postgres::conninfo::{Address, ConnInfo, Host, TargetSessionAttrs};
use outbox_relay::postgres::error::Error;

use crate::servers::{Database, client, superuser, superuser_tcp};

fn refusal(result: Result<Connection, Error>) -> Error {
    result.err().expect("logged in")
}

fn as_user(user: &str, password: Option<&str>) -> ConnInfo {
    let secret = password.map(|password| outbox_relay::secret::Secret::new(password.to_owned()));
    let mut info = ConnInfo { user: user.to_owned(), ..superuser_tcp() };
    for host in &mut info.hosts {
        host.password.clone_from(&secret);
    }
    info
}

#[tokio::test]
async fn every_method_of_authentication_lets_the_right_password_in_and_no_other() {
    let server = client(&superuser()).await;
    for (user, encryption) in
        [("auth_password", "scram-sha-256"), ("auth_md5", "md5"), ("auth_scram", "scram-sha-256")]
    {
        // Roles may be there from an earlier run.
        let _ = server.batch_execute(&format!("CREATE ROLE {user} LOGIN REPLICATION")).await;
        let sql = format!("SET password_encryption = '{encryption}'; ALTER ROLE {user} PASSWORD 'rïght'");
        server.batch_execute(&sql).await.unwrap();

        Connection::connect(&as_user(user, Some("rïght"))).await.map(drop).unwrap();

        let wrong = refusal(Connection::connect(&as_user(user, Some("wrong"))).await);
        assert_eq!(wrong.server().unwrap().code, "28P01", "{wrong}");
        assert_eq!(wrong.disposition(), Disposition::Stop);
        assert!(
            wrong
                .to_string()
                .ends_with(&format!("FATAL 28P01: password authentication failed for user \"{user}\""))
        );

        let missing = refusal(Connection::connect(&as_user(user, None)).await);
        assert!(matches!(missing, Error::PasswordMissing { .. }), "{missing}");
        assert_eq!(missing.disposition(), Disposition::Stop);
    }
    Connection::connect(&superuser_tcp()).await.map(drop).unwrap();
    Connection::connect(&superuser()).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_database_that_is_absent_stops_and_a_server_that_is_absent_does_not() {
    let absent =
        refusal(Connection::connect(&ConnInfo { dbname: "no such".to_owned(), ..superuser() }).await);
    assert_eq!((absent.server().unwrap().code.as_str(), absent.disposition()), ("3D000", Disposition::Stop));

    let nowhere = Host { address: Address::Unix("/nowhere".into()), port: 1, password: None };
    let down = Host { address: Address::Tcp("127.0.0.1".to_owned()), port: 1, password: None };
    let unresolvable =
        Host { address: Address::Tcp("no-such-host.invalid".to_owned()), port: 1, password: None };
    let mut info = ConnInfo { hosts: vec![nowhere, down, unresolvable], ..superuser() };
    let error = refusal(Connection::connect(&info).await);
    let text = error.to_string();
    for part in
        ["connect to /nowhere/.s.PGSQL.1: ", "connect to 127.0.0.1:1: ", "resolve no-such-host.invalid:1: "]
    {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(error.disposition(), Disposition::Retry);

    // The last one of the list answers.
    let up = superuser().hosts.remove(0);
    info.hosts.push(up.clone());
    assert_eq!(Connection::connect(&info).await.unwrap().host(), &up);
}

#[tokio::test]
async fn the_session_is_pinned_whatever_the_role_is_set_to() {
    let database = Database::create("").await;
    let sql = format!(
        "ALTER DATABASE {0} SET statement_timeout = '1s'; ALTER DATABASE {0} SET bytea_output = 'escape';
         ALTER DATABASE {0} SET DateStyle = 'German'; ALTER DATABASE {0} SET TimeZone = 'Asia/Tokyo';
         ALTER DATABASE {0} SET extra_float_digits = -5; ALTER DATABASE {0} SET idle_session_timeout = '1s';
         ALTER DATABASE {0} SET client_min_messages = 'debug1'",
        database.name
    );
    database.client.batch_execute(&sql).await.unwrap();
    let options = Some("-c wal_sender_timeout=4s -c lock_timeout=3s".to_owned());
    let mut connection = Connection::connect(&ConnInfo { options, ..database.info() }).await.unwrap();
    for (name, expected) in [
        ("client_encoding", "UTF8"),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("bytea_output", "hex"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("extra_float_digits", "3"),
        ("wal_sender_timeout", "4s"),
        ("application_name", "outbox_relay"),
    ] {
        let rows = connection.simple_query("show", &format!("SHOW {name}")).await.unwrap();
        assert_eq!(rows[0].text(0), Some(expected), "{name}");
    }
    if connection.server().major >= 17 {
        let rows = connection.simple_query("show", "SHOW transaction_timeout").await.unwrap();
        assert_eq!(rows[0].text(0), Some("0"));
    }
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn the_server_is_identified_and_its_role_is_checked() {
    let info = ConnInfo { target_session_attrs: TargetSessionAttrs::ReadWrite, ..superuser() };
    let mut connection = Connection::connect(&info).await.unwrap();
    assert!(connection.server().major >= 14);
    assert_eq!(connection.server().in_hot_standby, Some(false));
    let identity = connection.identify_system().await.unwrap();
    assert!(identity.system_id.parse::<u64>().unwrap() > 0);
    assert!(identity.timeline >= 1 && identity.xlog_pos > Lsn::ZERO);
    assert_eq!(identity.database.as_deref(), Some("postgres"));
    let error = connection.timeline_history(99).await.unwrap_err();
    assert!(error.to_string().starts_with("read the history of timeline 99: ERROR 58P01: "), "{error}");
    connection.identify_system().await.expect("usable after an ERROR");

    let read_only = Some("-c default_transaction_read_only=on".to_owned());
    let error = refusal(Connection::connect(&ConnInfo { options: read_only.clone(), ..info.clone() }).await);
    assert!(error.to_string().ends_with("is read-only by default, target_session_attrs asks for read-write"));
    assert_eq!(error.disposition(), Disposition::Retry);
    let primary = ConnInfo { options: read_only, target_session_attrs: TargetSessionAttrs::Primary, ..info };
    Connection::connect(&primary).await.map(drop).unwrap();
}

#[tokio::test]
async fn what_is_absent_or_forbidden_stops() {
    let database = Database::create("").await;
    let mut connection = Connection::connect(&database.info()).await.unwrap();
    let absent = connection.start_replication("no_such_slot", &["p"], false).await.unwrap_err();
    assert_eq!((absent.server().unwrap().code.as_str(), absent.disposition()), ("42704", Disposition::Stop));
    assert!(absent.to_string().starts_with("start replication from slot \"no_such_slot\": ERROR 42704: "));
    connection.create_slot(&database.name, false).await.unwrap();
    let twice = connection.create_slot(&database.name, false).await.unwrap_err();
    assert_eq!((twice.server().unwrap().code.as_str(), twice.disposition()), ("42710", Disposition::Retry));

    let role = format!("{}_plain", database.name);
    database.client.batch_execute(&format!("CREATE ROLE {role} LOGIN")).await.unwrap();
    let forbidden = refusal(Connection::connect(&ConnInfo { user: role.clone(), ..database.info() }).await);
    assert_eq!(
        (forbidden.server().unwrap().code.as_str(), forbidden.disposition()),
        ("42501", Disposition::Stop)
    );
    database.client.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    drop(connection);
    database.drop().await;
}
