//! The connection against a hand-written server: framing, log-in, hostile input.

use super::super::conninfo::Address;
use super::*;
use bytes::BufMut as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

fn pair() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let host = Host { address: Address::Tcp("test".to_owned()), port: 1, password: None };
    (Connection::from_socket(Box::new(ours), host), theirs)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.put_u32(u32::try_from(body.len() + 4).unwrap());
    message.extend_from_slice(body);
    message
}

fn info() -> ConnInfo {
    ConnInfo::parse("user=u password=hunter2 host=test", &|_| None, &|_| None).unwrap()
}

const FIELDS: &[u8] =
    b"SFATAL\0VFATAL\0C57P01\0Mgoing\0Ddetail\0Hhint\0P7\0p8\0qselect\0Wwhere\0sS\0tT\0cC\0dD\0nN\0\
                        Fpostgres.c\0L12\0RProcess\0?new\0\0";

/// A whole session as a server would send it, one message a line.
fn session() -> Vec<Vec<u8>> {
    vec![
        message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]),
        message(b'R', &[0, 0, 0, 0]),
        message(b'S', b"server_version\x0015.3 (Debian)\0"),
        message(b'S', b"in_hot_standby\0off\0"),
        message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
        message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"),
        message(b'Z', b"I"),
        message(b'T', &[0, 0]),
        message(b'D', b"\0\x04\0\0\0\x0274\0\0\0\x011\0\0\0\x030/1\xff\xff\xff\xff"),
        message(b'C', b"IDENTIFY_SYSTEM\0"),
        message(b'Z', b"I"),
        message(b'W', &[0, 0, 0]),
        message(b'd', b"k"),
        message(b'N', b"SWARNING\0VWARNING\0C55000\0Mskipped loading publication\0\0"),
        message(b'c', b""),
        message(b'E', FIELDS),
    ]
}

/// Plays the client's part against a server that says `bytes` whatever it hears, until an error ends it.
async fn play(bytes: &[u8]) -> (Vec<Frame>, Error) {
    let (mut connection, mut peer) = pair();
    peer.write_all(bytes).await.unwrap();
    peer.shutdown().await.unwrap();
    let mut frames = Vec::new();
    let error = async {
        let info = info();
        startup::log_in(&mut connection, &info, &info.hosts[0]).await?;
        connection.identify_system().await?;
        connection.start_replication("s", &["p"], false).await?;
        loop {
            match connection.next_frame()? {
                Some(frame) => frames.push(frame),
                None => connection.progress(true).await?,
            }
        }
    };
    let error: Result<(), Error> = error.await;
    (frames, error.unwrap_err())
}

#[tokio::test]
async fn a_session_from_log_in_to_the_servers_last_words() {
    let (frames, error) = play(&session().concat()).await;
    assert_eq!(frames.len(), 3);
    assert_eq!(frames[0], Frame::CopyData(Bytes::from_static(b"k")));
    assert!(matches!(&frames[1], Frame::Notice(notice) if notice.code == "55000"));
    assert_eq!(frames[2], Frame::CopyDone);
    assert_eq!(error.to_string(), "stream from slot \"s\": FATAL 57P01: going");
    let text = |text: &str| Some(text.to_owned());
    let expected = ServerError {
        severity: "FATAL".to_owned(),
        code: "57P01".to_owned(),
        message: "going".to_owned(),
        detail: text("detail"),
        hint: text("hint"),
        position: Some(7),
        internal_position: Some(8),
        internal_query: text("select"),
        where_: text("where"),
        schema: text("S"),
        table: text("T"),
        column: text("C"),
        data_type: text("D"),
        constraint: text("N"),
        file: text("postgres.c"),
        line: Some(12),
        routine: text("Process"),
    };
    assert_eq!(error.server(), Some(&expected));
}

#[tokio::test]
async fn every_prefix_of_a_session_is_an_error_and_no_panic() {
    let whole = session().concat();
    for end in 0..whole.len() {
        let (_, error) = play(&whole[..end]).await;
        assert!(matches!(error, Error::Closed { .. }), "{end}: {error}");
    }
}

#[tokio::test]
async fn every_flipped_bit_of_a_session_ends_in_an_error_and_no_panic() {
    let whole = session().concat();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (_, error) = play(&bytes).await;
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[tokio::test]
async fn every_kind_of_message_cut_short_is_an_error() {
    for tag in 0..=255_u8 {
        for body in [&[][..], &[0], &[0, 0, 0, 10], &[0xFF; 7], b"a\0b"] {
            let (mut connection, mut peer) = pair();
            peer.write_all(&message(tag, body)).await.unwrap();
            connection.progress(true).await.unwrap();
            match connection.next_frame() {
                Ok(frame) => assert!(matches!(tag, b'd' | b'c' | b'C' | b'S' | b'Z'), "{tag} {frame:?}"),
                Err(error) => {
                    assert!(matches!(error, Error::Protocol { .. } | Error::Server { .. }), "{error}")
                }
            }
        }
    }
}

#[tokio::test]
async fn a_violation_shows_no_content() {
    let (mut connection, mut peer) = pair();
    peer.write_all(&message(b'D', b"\0\x01\0\0\0\x06secret")).await.unwrap();
    connection.progress(true).await.unwrap();
    let error = connection.next_frame().unwrap_err();
    assert_eq!(
        error.to_string(),
        "connect: protocol violation: DataRow, expected CopyData, CopyDone or a notice"
    );
}

#[tokio::test]
async fn a_server_that_cannot_even_fork_is_heard_and_tried_again() {
    let (mut connection, mut peer) = pair();
    peer.write_all(b"Ecould not fork new process for connection\n\0").await.unwrap();
    let info = info();
    let error = startup::log_in(&mut connection, &info, &info.hosts[0]).await.unwrap_err();
    assert_eq!(error.to_string(), "connect: FATAL 08004: could not fork new process for connection");
    assert_eq!(error.disposition(), crate::disposition::Disposition::Retry);
}

/// Found by the fuzz body `connection`: of a message in two pieces only the first was told.
#[tokio::test]
async fn bare_text_may_come_in_pieces() {
    let (mut connection, mut peer) = pair();
    let info = info();
    let log_in = startup::log_in(&mut connection, &info, &info.hosts[0]);
    let say = async {
        let mut heard = [0; 64];
        for piece in [&b"Ecould"[..], b" not fork", b"\n\0"] {
            peer.write_all(piece).await.unwrap();
            // The client has read the piece before when it is woken, so let it.
            tokio::task::yield_now().await;
        }
        assert!(peer.read(&mut heard).await.unwrap() > 0);
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        ended = log_in => ended.unwrap_err(),
        () = say => unreachable!("it is pending for ever"),
    };
    assert_eq!(error.to_string(), "connect: FATAL 08004: could not fork");
}

#[tokio::test]
async fn a_server_that_skips_its_own_proof_is_not_believed() {
    let (mut connection, mut peer) = pair();
    peer.write_all(&[message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"), message(b'R', &[0; 4])].concat())
        .await
        .unwrap();
    let info = info();
    let error = startup::log_in(&mut connection, &info, &info.hosts[0]).await.unwrap_err();
    assert!(error.to_string().contains("AuthenticationOk, expected AuthenticationSASLContinue"), "{error}");
}

#[tokio::test]
async fn what_we_cannot_do_is_named() {
    for (request, expected) in [
        (&b"\0\0\0\x07"[..], "authentication method GSSAPI is not supported"),
        (b"\0\0\0\x09", "authentication method SSPI is not supported"),
        (
            b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0",
            "authentication method SASL without SCRAM-SHA-256 is not supported",
        ),
    ] {
        let (mut connection, mut peer) = pair();
        peer.write_all(&message(b'R', request)).await.unwrap();
        let info = info();
        let error = startup::log_in(&mut connection, &info, &info.hosts[0]).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn finish_writes_what_is_queued_and_waits_for_the_server() {
    let (mut connection, mut peer) = pair();
    connection.queue_copy_data(b"status");
    connection.queue_copy_done();
    assert!(connection.has_pending_output());
    peer.write_all(&[message(b'd', b"still under way"), message(b'c', b"")].concat()).await.unwrap();
    assert!(connection.finish(Duration::from_secs(5)).await);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [message(b'd', b"status"), message(b'c', b""), message(b'X', b"")].concat());
}

#[tokio::test]
async fn finish_does_not_wait_for_a_silent_server() {
    let (mut connection, _peer) = pair();
    connection.queue_copy_done();
    assert!(!connection.finish(Duration::from_millis(20)).await);
    let (mut connection, peer) = pair();
    connection.queue_copy_done();
    drop(peer);
    assert!(!connection.finish(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_server_that_shuts_down_ends_the_stream_without_copy_done() {
    let (mut connection, mut peer) = pair();
    peer.write_all(&message(b'C', b"COPY 0\0")).await.unwrap();
    drop(peer);
    connection.progress(true).await.unwrap();
    assert_eq!(connection.next_frame().unwrap(), Some(Frame::CommandComplete));
    connection.queue_copy_done();
    assert!(connection.finish(Duration::from_secs(5)).await);
}
