//! The replication stream of a real PostgreSQL.

use std::time::Duration;

use bytes::Bytes;
use outbox_relay::disposition::Disposition;
use outbox_relay::lsn::Lsn;
use outbox_relay::postgres::connection::{Connection, Frame};
use outbox_relay::postgres::error::Error;
use tokio::time::timeout;

use crate::servers::{Database, superuser};

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
    [&b"r"[..], &position, &position, &position, &0_u64.to_be_bytes(), &[0]].concat()
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
    connection.start_replication(&database.name, &["the 'odd', \"name"], false).await.unwrap();
    (database, connection)
}

async fn confirmed(database: &Database) -> Lsn {
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    database.client.query_one(sql, &[&database.name]).await.unwrap().get::<_, String>(0).parse().unwrap()
}

#[tokio::test]
async fn an_insert_arrives_and_a_status_update_moves_the_slot() {
    let (database, mut connection) = streaming("").await;
    database.client.batch_execute("INSERT INTO outbox VALUES (1, 'hello')").await.unwrap();
    let insert = next_message(&mut connection, b'I').await;
    assert!(insert.windows(5).any(|window| window == b"hello"));
    let commit = next_message(&mut connection, b'C').await;
    let end = Lsn::new(u64::from_be_bytes(commit[25 + 10..25 + 18].try_into().unwrap()));
    assert!(confirmed(&database).await < end);

    connection.queue_copy_data(&status_update(end));
    connection.queue_copy_done();
    assert!(connection.finish(LONG).await, "the server answers CopyDone with CopyDone");
    assert_eq!(confirmed(&database).await, end, "the last update before CopyDone counts");
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
        second.start_replication(&database.name, &["any"], false).await.unwrap_err()
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
    assert_eq!((server.severity.as_str(), server.code.as_str()), ("FATAL", "57P01"));
    assert_eq!(server.message, "terminating connection due to administrator command");
    assert!(server.file.is_some() && server.line.is_some() && server.routine.is_some());
    assert_eq!(error.disposition(), Disposition::Retry);
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn an_absent_publication_is_told_by_an_error_or_from_18_on_by_a_notice() {
    let database = Database::create("").await;
    database.client.batch_execute("CREATE TABLE outbox (id int)").await.unwrap();
    let mut connection = Connection::connect(&database.info()).await.unwrap();
    connection.create_slot(&database.name, false).await.unwrap();
    connection.start_replication(&database.name, &["absent"], false).await.unwrap();
    database.client.batch_execute("INSERT INTO outbox VALUES (1)").await.unwrap();
    let told = loop {
        match next(&mut connection).await {
            Ok(Frame::CopyData(_)) => {}
            other => break other,
        }
    };
    if connection.server().major >= 18 {
        assert!(matches!(&told, Ok(Frame::Notice(notice)) if notice.code == "55000"), "{told:?}");
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
        assert!(database.client.query_one(sql, &[&database.name]).await.unwrap().get::<_, bool>(0));
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
        database.client.execute("INSERT INTO outbox VALUES (1, $1)", &[&text]).await.unwrap();
        let insert = next_message(&mut connection, b'I').await;
        assert!(insert.ends_with(text.as_bytes()), "{encoding}");
        drop(connection);
        database.drop().await;
    }
}

#[tokio::test]
async fn a_control_connection_error_keeps_what_the_server_said() {
    let database = Database::create("").await;
    let cause = database.client.batch_execute("SELECT * FROM nothing_here").await.unwrap_err();
    let error = Error::from_control("look at the catalog", cause);
    let server = error.server().unwrap();
    assert_eq!((server.code.as_str(), server.position), ("42P01", Some(15)));
    assert!(error.to_string().starts_with("look at the catalog: ERROR 42P01: relation \"nothing_here\""));
    assert!(server.file.is_some() && server.routine.is_some());
    database.client.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await.unwrap_err();
    let gone = database.client.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(Error::from_control("ask", gone).disposition(), Disposition::Retry);
    database.drop().await;
}
