//! The replication connection against a real PostgreSQL.

use std::time::Duration;

use bytes::Bytes;
use outbox_relay::disposition::Disposition;
use outbox_relay::lsn::Lsn;
use outbox_relay::postgres::connection::{Connection, Frame};
use outbox_relay::postgres::conninfo::{Address, ConnInfo, Host, TargetSessionAttrs};
use outbox_relay::postgres::error::Error;
use tokio::time::timeout;

use crate::servers::{Database, client, superuser, superuser_tcp};

/// Nothing here takes a tenth of it.
const LONG: Duration = Duration::from_secs(20);

async fn next(connection: &mut Connection) -> Result<Frame, Error> {
    let wait = async {
        loop {
            match connection.next_frame()? {
                Some(frame) => return Ok(frame),
                None => connection.progress(true).await?,
            }
        }
    };
    timeout(LONG, wait).await.expect("no frame came")
}

/// The next XLogData whose pgoutput message is of `kind`, other frames passed over.
async fn next_message(connection: &mut Connection, kind: u8) -> Bytes {
    loop {
        if let Frame::CopyData(body) = next(connection).await.unwrap()
            && body[0] == b'w'
            && body[25] == kind
        {
            return body;
        }
    }
}

fn status_update(position: Lsn) -> Vec<u8> {
    let position = position.as_u64().to_be_bytes();
    [
        &b"r"[..],
        &position,
        &position,
        &position,
        &0_u64.to_be_bytes(),
        &[0],
    ]
    .concat()
}

fn refusal(result: Result<Connection, Error>) -> Error {
    result.err().expect("logged in")
}

/// A database with a table, its publication, and a connection that streams from a new slot.
async fn streaming(options: &str) -> (Database, Connection) {
    let database = Database::create(options).await;
    let sql = "CREATE TABLE outbox (id int, payload text); CREATE PUBLICATION \"the 'odd', \"\"name\" FOR TABLE outbox";
    database.client.batch_execute(sql).await.unwrap();
    let mut connection = Connection::connect(&database.info()).await.unwrap();
    let created = connection.create_slot(&database.name, true).await.unwrap();
    assert_eq!(created.name, database.name);
    assert!(created.consistent_point > Lsn::ZERO);
    connection
        .start_replication(&database.name, &["the 'odd', \"name"])
        .await
        .unwrap();
    (database, connection)
}

async fn confirmed(database: &Database) -> Lsn {
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    database
        .client
        .query_one(sql, &[&database.name])
        .await
        .unwrap()
        .get::<_, String>(0)
        .parse()
        .unwrap()
}

fn as_user(user: &str, password: Option<&str>) -> ConnInfo {
    let secret = password.map(|password| outbox_relay::secret::Secret::new(password.to_owned()));
    let mut info = ConnInfo {
        user: user.to_owned(),
        ..superuser_tcp()
    };
    for host in &mut info.hosts {
        host.password.clone_from(&secret);
    }
    info
}

#[tokio::test]
async fn every_method_of_authentication_lets_the_right_password_in_and_no_other() {
    let server = client(&superuser()).await;
    for (user, encryption) in [
        ("auth_password", "scram-sha-256"),
        ("auth_md5", "md5"),
        ("auth_scram", "scram-sha-256"),
    ] {
        // Roles may be there from an earlier run.
        let _ = server
            .batch_execute(&format!("CREATE ROLE {user} LOGIN REPLICATION"))
            .await;
        let sql = format!("SET password_encryption = '{encryption}'; ALTER ROLE {user} PASSWORD 'rïght'");
        server.batch_execute(&sql).await.unwrap();

        Connection::connect(&as_user(user, Some("rïght")))
            .await
            .map(drop)
            .unwrap();

        let wrong = refusal(Connection::connect(&as_user(user, Some("wrong"))).await);
        assert_eq!(wrong.server().unwrap().code, "28P01", "{wrong}");
        assert_eq!(wrong.disposition(), Disposition::Stop);
        assert!(wrong.to_string().ends_with(&format!(
            "FATAL 28P01: password authentication failed for user \"{user}\""
        )));

        let missing = refusal(Connection::connect(&as_user(user, None)).await);
        assert!(matches!(missing, Error::PasswordMissing { .. }), "{missing}");
        assert_eq!(missing.disposition(), Disposition::Stop);
    }
    Connection::connect(&superuser_tcp()).await.map(drop).unwrap();
    Connection::connect(&superuser()).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_database_that_is_absent_stops_and_a_server_that_is_absent_does_not() {
    let absent = refusal(
        Connection::connect(&ConnInfo {
            dbname: "no such".to_owned(),
            ..superuser()
        })
        .await,
    );
    assert_eq!(
        (absent.server().unwrap().code.as_str(), absent.disposition()),
        ("3D000", Disposition::Stop)
    );

    let nowhere = Host {
        address: Address::Unix("/nowhere".into()),
        port: 1,
        password: None,
    };
    let down = Host {
        address: Address::Tcp("127.0.0.1".to_owned()),
        port: 1,
        password: None,
    };
    let unresolvable = Host {
        address: Address::Tcp("no-such-host.invalid".to_owned()),
        port: 1,
        password: None,
    };
    let mut info = ConnInfo {
        hosts: vec![nowhere, down, unresolvable],
        ..superuser()
    };
    let error = refusal(Connection::connect(&info).await);
    let text = error.to_string();
    for part in [
        "connect to /nowhere/.s.PGSQL.1: ",
        "connect to 127.0.0.1:1: ",
        "resolve no-such-host.invalid:1: ",
    ] {
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
    let mut connection = Connection::connect(&ConnInfo {
        options,
        ..database.info()
    })
    .await
    .unwrap();
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
        let rows = connection
            .simple_query("show", &format!("SHOW {name}"))
            .await
            .unwrap();
        assert_eq!(rows[0].text(0), Some(expected), "{name}");
    }
    if connection.server().major >= 17 {
        let rows = connection
            .simple_query("show", "SHOW transaction_timeout")
            .await
            .unwrap();
        assert_eq!(rows[0].text(0), Some("0"));
    }
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn the_server_is_identified_and_its_role_is_checked() {
    let info = ConnInfo {
        target_session_attrs: TargetSessionAttrs::ReadWrite,
        ..superuser()
    };
    let mut connection = Connection::connect(&info).await.unwrap();
    assert!(connection.server().major >= 14);
    assert_eq!(connection.server().in_hot_standby, Some(false));
    let identity = connection.identify_system().await.unwrap();
    assert!(identity.system_id.parse::<u64>().unwrap() > 0);
    assert!(identity.timeline >= 1 && identity.xlog_pos > Lsn::ZERO);
    assert_eq!(identity.database.as_deref(), Some("postgres"));
    let error = connection.timeline_history(99).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("read the history of timeline 99: ERROR 58P01: "),
        "{error}"
    );
    connection.identify_system().await.expect("usable after an ERROR");

    let read_only = Some("-c default_transaction_read_only=on".to_owned());
    let error = refusal(
        Connection::connect(&ConnInfo {
            options: read_only.clone(),
            ..info.clone()
        })
        .await,
    );
    assert!(
        error
            .to_string()
            .ends_with("is read-only by default, target_session_attrs asks for read-write")
    );
    assert_eq!(error.disposition(), Disposition::Retry);
    let primary = ConnInfo {
        options: read_only,
        target_session_attrs: TargetSessionAttrs::Primary,
        ..info
    };
    Connection::connect(&primary).await.map(drop).unwrap();
}

#[tokio::test]
async fn an_insert_arrives_and_a_status_update_moves_the_slot() {
    let (database, mut connection) = streaming("").await;
    database
        .client
        .batch_execute("INSERT INTO outbox VALUES (1, 'hello')")
        .await
        .unwrap();
    let insert = next_message(&mut connection, b'I').await;
    assert!(insert.windows(5).any(|window| window == b"hello"));
    let commit = next_message(&mut connection, b'C').await;
    let end = Lsn::new(u64::from_be_bytes(commit[25 + 10..25 + 18].try_into().unwrap()));
    assert!(confirmed(&database).await < end);

    connection.queue_copy_data(&status_update(end));
    connection.queue_copy_done();
    assert!(
        connection.finish(LONG).await,
        "the server answers CopyDone with CopyDone"
    );
    assert_eq!(
        confirmed(&database).await,
        end,
        "the last update before CopyDone counts"
    );
    database.drop().await;
}

#[tokio::test]
async fn a_row_larger_than_the_buffer_and_many_small_ones_arrive_whole() {
    let (database, mut connection) = streaming("").await;
    let sql = "INSERT INTO outbox SELECT n, repeat('x', n) FROM generate_series(1, 2000) n;
               INSERT INTO outbox VALUES (0, repeat('y', 20000000)); INSERT INTO outbox VALUES (-1, 'end')";
    database.client.batch_execute(sql).await.unwrap();
    for n in 1..=2000 {
        let insert = next_message(&mut connection, b'I').await;
        // Envelope 25, message header 8, then kind and length of each column.
        assert_eq!(insert.len(), 25 + 8 + 5 + n.to_string().len() + 5 + n);
        assert!(insert.ends_with(&vec![b'x'; n]));
    }
    let insert = next_message(&mut connection, b'I').await;
    assert!(insert.ends_with(&vec![b'y'; 20_000_000]));
    assert!(next_message(&mut connection, b'I').await.ends_with(b"end"));
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn a_terminated_walsender_says_why_with_every_field() {
    let (database, mut connection) = streaming("").await;
    let busy = async {
        let mut second = Connection::connect(&database.info()).await.unwrap();
        second
            .start_replication(&database.name, &["any"])
            .await
            .unwrap_err()
    };
    let busy = busy.await;
    assert_eq!(
        (busy.server().unwrap().code.as_str(), busy.disposition()),
        ("55006", Disposition::Retry),
        "{busy}"
    );

    let sql = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1";
    database.client.query(sql, &[&database.name]).await.unwrap();
    let error = loop {
        match next(&mut connection).await {
            Ok(Frame::CopyData(_)) => {}
            Ok(frame) => panic!("{frame:?}"),
            Err(error) => break error,
        }
    };
    let server = error.server().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(
        (server.severity.as_str(), server.code.as_str()),
        ("FATAL", "57P01")
    );
    assert_eq!(
        server.message,
        "terminating connection due to administrator command"
    );
    assert!(server.file.is_some() && server.line.is_some() && server.routine.is_some());
    assert_eq!(error.disposition(), Disposition::Retry);
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn what_is_absent_or_forbidden_stops() {
    let database = Database::create("").await;
    let mut connection = Connection::connect(&database.info()).await.unwrap();
    let absent = connection
        .start_replication("no_such_slot", &["p"])
        .await
        .unwrap_err();
    assert_eq!(
        (absent.server().unwrap().code.as_str(), absent.disposition()),
        ("42704", Disposition::Stop)
    );
    assert!(
        absent
            .to_string()
            .starts_with("start replication from slot \"no_such_slot\": ERROR 42704: ")
    );
    connection.create_slot(&database.name, false).await.unwrap();
    let twice = connection.create_slot(&database.name, false).await.unwrap_err();
    assert_eq!(
        (twice.server().unwrap().code.as_str(), twice.disposition()),
        ("42710", Disposition::Retry)
    );

    let role = format!("{}_plain", database.name);
    database
        .client
        .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .await
        .unwrap();
    let forbidden = refusal(
        Connection::connect(&ConnInfo {
            user: role.clone(),
            ..database.info()
        })
        .await,
    );
    assert_eq!(
        (forbidden.server().unwrap().code.as_str(), forbidden.disposition()),
        ("42501", Disposition::Stop)
    );
    database
        .client
        .batch_execute(&format!("DROP ROLE {role}"))
        .await
        .unwrap();
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn an_absent_publication_is_told_by_an_error_or_from_18_on_by_a_notice() {
    let database = Database::create("").await;
    database
        .client
        .batch_execute("CREATE TABLE outbox (id int)")
        .await
        .unwrap();
    let mut connection = Connection::connect(&database.info()).await.unwrap();
    connection.create_slot(&database.name, false).await.unwrap();
    connection
        .start_replication(&database.name, &["absent"])
        .await
        .unwrap();
    database
        .client
        .batch_execute("INSERT INTO outbox VALUES (1)")
        .await
        .unwrap();
    let told = loop {
        match next(&mut connection).await {
            Ok(Frame::CopyData(_)) => {}
            other => break other,
        }
    };
    if connection.server().major >= 18 {
        assert!(
            matches!(&told, Ok(Frame::Notice(notice)) if notice.code == "55000"),
            "{told:?}"
        );
    } else {
        let error = told.unwrap_err();
        assert_eq!(
            (error.server().unwrap().code.as_str(), error.disposition()),
            ("42704", Disposition::Stop)
        );
    }
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn a_failover_slot_is_made_where_the_server_can() {
    let (database, connection) = streaming("").await;
    if connection.server().major >= 17 {
        let sql = "SELECT failover FROM pg_replication_slots WHERE slot_name = $1";
        assert!(
            database
                .client
                .query_one(sql, &[&database.name])
                .await
                .unwrap()
                .get::<_, bool>(0)
        );
    }
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn a_notice_is_kept_beside_the_answer() {
    let mut connection = Connection::connect(&superuser()).await.unwrap();
    drop(connection.take_notices());
    let sql = "DO $$BEGIN RAISE NOTICE 'look here' USING HINT = 'a hint', ERRCODE = '01234'; END$$";
    connection.simple_query("raise a notice", sql).await.unwrap();
    let notices = connection.take_notices();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].to_string(), "NOTICE 01234: look here");
    assert_eq!(notices[0].hint.as_deref(), Some("a hint"));
    assert!(connection.take_notices().is_empty());
}

#[tokio::test]
async fn a_database_in_another_encoding_gives_utf_8() {
    for (encoding, text) in [("EUC_KR", "주문 접수"), ("LATIN1", "Größe é")] {
        let options = format!("TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        let (database, mut connection) = streaming(&options).await;
        database
            .client
            .execute("INSERT INTO outbox VALUES (1, $1)", &[&text])
            .await
            .unwrap();
        let insert = next_message(&mut connection, b'I').await;
        assert!(insert.ends_with(text.as_bytes()), "{encoding}");
        drop(connection);
        database.drop().await;
    }
}

#[tokio::test]
async fn a_control_connection_error_keeps_what_the_server_said() {
    let database = Database::create("").await;
    let cause = database
        .client
        .batch_execute("SELECT * FROM nothing_here")
        .await
        .unwrap_err();
    let error = Error::from_control("look at the catalog", cause);
    let server = error.server().unwrap();
    assert_eq!((server.code.as_str(), server.position), ("42P01", Some(15)));
    assert!(
        error
            .to_string()
            .starts_with("look at the catalog: ERROR 42P01: relation \"nothing_here\"")
    );
    assert!(server.file.is_some() && server.routine.is_some());
    database
        .client
        .batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")
        .await
        .unwrap_err();
    let gone = database.client.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(Error::from_control("ask", gone).disposition(), Disposition::Retry);
    database.drop().await;
}
