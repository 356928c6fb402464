//! Fuzz bodies for what reaches the program beside the stream's content: a server's messages from the log-in on,
//! connection strings with their password file, and configuration files. `tests/outside.rs` runs them over [`seeds`] and
//! over damaged ones.

use std::cell::RefCell;
use std::io::{self, Seek as _, Write as _};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use outbox_relay::config;
use outbox_relay::postgres::connection::{Connection, Frame};
use outbox_relay::postgres::conninfo::{ConnInfo, without_password};
use outbox_relay::postgres::error::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A password that must not be found in anything that is printed.
const PASSWORD: &str = "hUnter2";

/// What a server says: first a byte that tells whether it is what follows the log-in, then the messages. It must not
/// matter in which pieces they come.
pub(crate) fn connection(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let bytes: Bytes =
        if first.is_multiple_of(2) { rest.to_vec().into() } else { [seeds::LOGGED_IN, rest].concat().into() };
    let at_once = play(bytes.clone(), usize::MAX);
    assert!(!at_once.1.contains(PASSWORD), "{}", at_once.1);
    for step in [1, 2 + usize::from(first)] {
        assert_eq!(play(bytes.clone(), step), at_once, "in pieces of {step} bytes");
    }
    for frame in &at_once.0 {
        if let Frame::CopyData(body) = frame {
            assert!(body.is_empty() || bytes.windows(body.len()).any(|part| part == body));
        }
    }
}

/// A connection string, and after a zero byte a password file. After a first byte that says so, the string begins with
/// a password that must not be shown, whatever follows.
pub(crate) fn conninfo(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == 0).map(String::from_utf8_lossy);
    let (text, passfile) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (before, secret) = match first % 4 {
        0 => ("", false),
        1 => ("postgres://u:", true),
        2 => ("user=u password=", true),
        _ => ("user=u password='", true),
    };
    if text.contains(PASSWORD) || passfile.contains(PASSWORD) {
        return;
    }
    let whole = if secret { format!("{before}{PASSWORD}{text}") } else { text.into_owned() };
    let file = format!("{passfile}\n*:*:*:*:{PASSWORD}");
    let environment = |name: &str| ["PGUSER", "HOME"].contains(&name).then(|| "/somebody".to_owned());
    let shown = match ConnInfo::parse(&whole, &environment, &|_| Some(file.clone())) {
        Ok(info) => {
            assert!(!info.hosts.is_empty());
            assert!(info.hosts.iter().all(|host| host.port != 0), "{info:?}");
            format!("{info:?} {:?}", info.control_config())
        }
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(PASSWORD), "{whole:?}: {shown}");
    let shown = without_password(&whole).unwrap_or_default();
    assert!(!shown.contains(PASSWORD), "{whole:?}: {shown}");
}

/// A configuration file, after a line with a password.
pub(crate) fn config(data: &[u8]) {
    thread_local! {
        static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new().unwrap());
    }
    let text = format!("postgres.url = \"postgres://u:{PASSWORD}@h/d\"\n{}", String::from_utf8_lossy(data));
    if text.matches(PASSWORD).count() > 1 {
        return;
    }
    FILE.with_borrow_mut(|file| {
        file.rewind().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let written = file.stream_position().unwrap();
        file.as_file().set_len(written).unwrap();
        let shown = match config::effective(Some(file.path()), [], &[]) {
            Ok(settings) => format!("{settings:?}"),
            Err(problems) => {
                assert!(!problems.to_string().is_empty());
                format!("{problems} {problems:?}")
            }
        };
        assert!(!shown.contains(PASSWORD), "{text}\n{shown}");
    });
}

/// Plays the client's part against a server that says `bytes`, at most `step` of them a read, whatever it hears. Its
/// frames, and the words of the error that ends it.
fn play(bytes: Bytes, step: usize) -> (Vec<Frame>, String) {
    let text = format!("user=u password={PASSWORD} host=test");
    let info = ConnInfo::parse(&text, &|_| None, &|_| None).unwrap();
    let mut frames = Vec::new();
    let session = async {
        let mut connection = Connection::over(Server { bytes, step }, &info, &info.hosts[0]).await?;
        connection.identify_system().await?;
        connection.start_replication("s", &["p"], false).await?;
        loop {
            match connection.next_frame()? {
                Some(frame) => frames.push(frame),
                None => connection.progress(true).await?,
            }
        }
    };
    let ended: Result<(), Error> = at_once(session);
    let error = ended.unwrap_err();
    (frames, format!("{error} {:?}", error.server()))
}

/// The result of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits, although the server never keeps it waiting"),
    }
}

/// A socket with a server behind it that does not listen.
struct Server {
    bytes: Bytes,
    step: usize,
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.bytes.len().min(self.step).min(buffer.remaining());
        buffer.put_slice(&self.bytes[..count]);
        self.bytes.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Where a fuzzer starts from.
pub(crate) mod seeds {
    /// A server's part from the first byte until the stream begins.
    pub(super) const LOGGED_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x18server_version\x0015.3\0\
        K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05IT\0\0\0\x06\0\0\
        D\0\0\0\x1c\0\x04\0\0\0\x0274\0\0\0\x011\0\0\0\x030/1\xff\xff\xff\xff\
        C\0\0\0\x14IDENTIFY_SYSTEM\0Z\0\0\0\x05IW\0\0\0\x07\0\0\0";

    /// Messages of a server that streams: CopyData, notices with every field, the end of the stream, an error.
    const STREAM: &[u8] =
        b"d\0\0\0\x05kN\0\0\0\x39SWARNING\0VWARNING\0C55000\0Mskipped loading publication\0\0\
        d\0\0\0\x0awabcdeS\0\0\0\x17in_hot_standby\0off\0A\0\0\0\x0c\0\0\0\x01a\0b\0c\0\0\0\x04\
        C\0\0\0\x09COPY\0E\0\0\0\x81SFATAL\0VFATAL\0C57P01\0Mgoing\0Ddetail\0Hhint\0P7\0p8\0qselect\0Wwhere\0\
        sS\0tT\0cC\0dD\0nN\0Fpostgres.c\0L12\0RProcess\0?new\0\0";

    /// A server that asks for a password in each way, and one that cannot even fork.
    const LOG_INS: [&[u8]; 5] = [
        b"R\0\0\0\x08\0\0\0\x03R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
        b"R\0\0\0\x0c\0\0\0\x05abcdR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
        b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x2a\0\0\0\x0br=abc,s=QSXCR+Q6sek8bf92,i=4096,",
        b"R\0\0\0\x08\0\0\0\x07",
        b"Ecould not fork new process for connection\n\0",
    ];

    pub(crate) fn connections() -> Vec<Vec<u8>> {
        let log_ins = LOG_INS.into_iter().map(|bytes| [b"\0", bytes].concat());
        let whole = [b"\0", LOGGED_IN, STREAM].concat();
        log_ins.chain([whole, [b"\x01", STREAM].concat()]).collect()
    }

    pub(crate) fn conninfos() -> Vec<Vec<u8>> {
        let texts = [
            "\0postgres://rel%40y:p%3Aw@h1:5432,[::1]:5433/sh%20op?connect_timeout=3&options=-c%20a%3Db",
            "\0postgres:///shop?host=/run/pg&port=6000&user=u&target_session_attrs=read-write&sslmode=prefer",
            "\0 user = u\\ v dbname='it\\'s' host=h1,,/s port=6000,,6001 keepalives=0 tcp_user_timeout=5",
            "\0host=h1 user=relay\0# comment\nh1:5432:shop:other:no\nh1:*:sh\\:op:relay:a\\:b\\\\c\r\n*:*:*:*:x",
            "\x01@h1:5432/db?application_name=x",
            "\x01%2F:@h/db",
            "\x02 host=h dbname=d",
            "\x03\\'x' host=h sslpassword=y",
        ];
        texts.map(|text| text.as_bytes().to_vec()).into()
    }

    pub(crate) fn configs() -> Vec<Vec<u8>> {
        let texts = [
            "kafka.\"bootstrap.servers\" = \"k:9092\"\n",
            "[kafka]\nbootstrap.servers = \"k\"\nlinger.ms = 5\n'compression.type' = \"zstd\"\nsasl.password = \"x\"\n",
            "[outbox]\ntables = [\"public.outbox\", 'a.\"B c\"']\n[outbox.headers]\nx = \"{id} {{}}\"\n\
             [outbox.columns]\nid = \"ID\"\ntimestamp_zone = \"Europe/Berlin\"\n[route]\ntopic = \"{aggregate_type}.x\"\n",
            "[delivery]\nmax_in_flight = \"16MiB\"\ndrain_timeout = \"20s\"\nskip = [\"a\", 'b']\nguarantee = 1\n\
             [topics]\ncreate = true\npartitions = 0x10\n[topics.config]\n\"retention.ms\" = 1e3\n",
            "[http]\nlisten = \"127.0.0.1:9464\"\n[log]\nformat = \"json\"\nlevel = 1979-05-27\nx = [[1], {a = 2}]\n",
        ];
        texts.map(|text| text.as_bytes().to_vec()).into()
    }
}
