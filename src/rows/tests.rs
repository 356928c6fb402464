//! Both ends of the pipe: what a session gets, and what it says.

use bytes::Bytes;

use super::*;
use crate::ack::Ack;
use crate::lsn::Lsn;
use crate::postgres::connection::{Connection, Frame};
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::error::Error;
use crate::wal::pgoutput::{self, Message, Relation, RelationId, Value};
use crate::wal::{Envelope, PgTimestamp, status_update};

const TABLE: RelationId = RelationId(16_384);

fn pipe(numbers: &Numbers) -> (Connection, RowStream) {
    let info = ConnInfo::parse("host=db user=u dbname=shop", &|_| None, &|_| None).unwrap();
    RowStream::new(numbers, &info.hosts[0])
}

fn relation() -> Relation {
    let column = |name: &str, type_id| pgoutput::Column {
        key: false,
        name: name.to_owned(),
        type_id,
        type_modifier: -1,
    };
    Relation {
        id: TABLE,
        schema: "public".to_owned(),
        name: "outbox".to_owned(),
        replica_identity: b'n',
        columns: vec![column("id", 2950), column("payload", 3802)],
    }
}

fn row<'a>(name: u64, values: &'a [Option<&'a str>]) -> Row<'a> {
    let (committed, now) = (PgTimestamp::from_micros(5), PgTimestamp::from_micros(9));
    Row { table: TABLE, name, committed, now, values }
}

/// What comes next.
async fn next(connection: &mut Connection) -> Frame {
    loop {
        if let Some(frame) = connection.next_frame().unwrap() {
            return frame;
        }
        connection.progress(true).await.unwrap();
    }
}

async fn message(connection: &mut Connection) -> (Message, PgTimestamp) {
    let Frame::CopyData(body) = next(connection).await else { panic!("no CopyData") };
    let Envelope::XLogData(data) = Envelope::decode(body).unwrap() else { panic!("no XLogData") };
    (Message::decode(data.data).unwrap(), data.sent)
}

#[tokio::test]
async fn a_row_comes_as_a_transaction_of_its_own_and_its_number_is_confirmed() {
    let numbers = Numbers::default();
    let (mut connection, mut stream) = pipe(&numbers);
    stream.describe(&relation());
    let name = stream.name("a row");
    assert_eq!(stream.row(&row(name, &[Some("a"), None])), 1);
    let server = tokio::spawn(async move {
        stream.flush().await.unwrap();
        while stream.confirmed() < 1 {
            stream.turn().await.unwrap();
        }
        stream
    });

    assert_eq!(message(&mut connection).await.0, Message::Relation(relation()));
    let (begin, sent) = message(&mut connection).await;
    let Message::Begin(begin) = begin else { panic!("{begin:?}") };
    assert_eq!((begin.commit_lsn, begin.commit_time), (Lsn::new(name), PgTimestamp::from_micros(5)));
    assert_eq!(sent, PgTimestamp::from_micros(9));
    let (insert, _) = message(&mut connection).await;
    let Message::Insert(insert) = insert else { panic!("{insert:?}") };
    assert_eq!(insert.relation, TABLE);
    assert_eq!(insert.new.value(0), Some(Value::Text(Bytes::from("a"))));
    assert_eq!((insert.new.value(1), insert.new.len()), (Some(Value::Null), 2));
    let (commit, _) = message(&mut connection).await;
    let Message::Commit(commit) = commit else { panic!("{commit:?}") };
    assert_eq!((commit.commit_lsn, commit.end_lsn), (Lsn::new(name), Lsn::new(1)));

    connection.queue_copy_data(&status_update(Ack::new(Lsn::new(1)).position(), sent, false));
    connection.progress(false).await.unwrap();
    assert!(!server.await.unwrap().is_over());
}

#[tokio::test]
async fn who_asks_for_a_reply_gets_one_and_who_takes_leave_gets_an_end() {
    let (mut connection, mut stream) = pipe(&Numbers::default());
    let server = tokio::spawn(async move {
        while !stream.is_over() {
            stream.turn().await.unwrap();
        }
        stream.end().await;
    });
    connection.queue_copy_data(&status_update(
        Ack::new(Lsn::ZERO).position(),
        PgTimestamp::from_micros(0),
        true,
    ));
    let Frame::CopyData(body) = next(&mut connection).await else { panic!("no reply") };
    let Envelope::Keepalive(reply) = Envelope::decode(body).unwrap() else { panic!("no keepalive") };
    assert_eq!((reply.wal_end, reply.reply_requested), (Lsn::ZERO, false));
    connection.queue_copy_done();
    assert!(connection.finish(std::time::Duration::from_secs(5)).await);
    server.await.unwrap();
}

#[tokio::test]
async fn an_error_reaches_the_session_with_its_code() {
    let (mut connection, stream) = pipe(&Numbers::default());
    let server = tokio::spawn(async move {
        stream.fail(&Error::Closed { action: "read the outbox".into() }).await;
    });
    connection.progress(true).await.unwrap();
    let error = connection.next_frame().unwrap_err();
    assert_eq!(error.server().unwrap().code, "08006");
    assert_eq!(error.server().unwrap().message, "read the outbox: the server closed the connection");
    drop(connection);
    server.await.unwrap();
}

#[test]
fn a_row_keeps_its_name_and_another_version_has_another() {
    let numbers = Numbers::default();
    let ((_session, before), (_other, after)) = (pipe(&numbers), pipe(&numbers));
    assert_eq!(before.name(("a", 1)), after.name(("a", 1)));
    assert_ne!(before.name(("a", 1)), before.name(("a", 2)));
    // Out of reach of what is confirmed.
    assert!(before.name("a") > u64::MAX / 2);
}

#[tokio::test]
async fn numbers_go_on_from_one_stream_to_the_next() {
    let numbers = Numbers::default();
    let (_session, mut stream) = pipe(&numbers);
    stream.row(&row(1, &[]));
    stream.row(&row(2, &[]));
    let (_session, mut next) = pipe(&numbers);
    assert_eq!((next.confirmed(), next.row(&row(3, &[]))), (2, 3));
}
