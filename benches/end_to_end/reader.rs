//! The reference for reading: whatever the slot sends, as fast as it can be taken, and nothing done with it.
//!
//! It cuts the stream into messages, counts INSERTs, and tells the server every second how far it is. After a read that
//! brought little it sleeps for 200 µs: without it each row of a walsender that is about as fast as its reader is a
//! wake-up, which costs both of them more than the sleep does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use outbox_relay::postgres::conninfo::{Address, ConnInfo};
use postgres_protocol::message::frontend;

use crate::role::{Read as Done, stay};

/// The best of 50 µs to 3 ms, over TCP and over the unix socket.
const PAUSE: Duration = Duration::from_micros(200);

/// A read that brings less has emptied the socket.
const SHORT: usize = 64 * 1024;

const BUFFER: usize = 256 * 1024;

const STATUS: Duration = Duration::from_secs(1);

trait Socket: Read + Write {}
impl<T: Read + Write> Socket for T {}

/// Reads from `slot` until `rows` rows have come; says how long that took.
pub(crate) fn read(url: &str, slot: &str, rows: u64) -> Result<()> {
    let info = ConnInfo::parse(url, &|_| None, &|_| None)?;
    let mut stream = Stream { socket: connect(&info)?, buffer: vec![0; BUFFER], start: 0, end: 0 };
    stream.log_in(&info)?;
    stream.query(&format!(
        "START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 (proto_version '1', publication_names '\"outbox_relay\"')"
    ))?;
    let (mut seen, mut position, mut first) = (0, [0; 8], None);
    let mut told = Instant::now();
    while seen < rows {
        while let Some((tag, body)) = stream.message()? {
            match (tag, body.first_chunk::<9>(), body.get(25)) {
                (b'd', Some([b'w', start @ ..]), Some(b'I')) => {
                    seen += 1;
                    position = *start;
                    first.get_or_insert_with(Instant::now);
                }
                (b'd', ..) => {}
                (b'E', ..) => bail!("the server says: {}", String::from_utf8_lossy(body)),
                _ => {}
            }
        }
        if seen >= rows {
            break;
        }
        if told.elapsed() > STATUS {
            told = Instant::now();
            stream.status(position)?;
        }
        if stream.fill()? < SHORT {
            std::thread::sleep(PAUSE);
        }
    }
    Done { rows: seen, took: first.context("there was nothing to read")?.elapsed() }.say();
    stay()
}

fn connect(info: &ConnInfo) -> Result<Box<dyn Socket>> {
    let host = info.hosts.first().context("the connection string names no host")?;
    Ok(match (&host.address, host.socket_path()) {
        (Address::Tcp(name), _) => {
            let socket = TcpStream::connect((name.as_str(), host.port))?;
            socket.set_nodelay(true)?;
            Box::new(socket)
        }
        (_, Some(path)) => Box::new(UnixStream::connect(path)?),
        _ => bail!("{host} is no address"),
    })
}

/// A connection that blocks.
struct Stream {
    socket: Box<dyn Socket>,
    buffer: Vec<u8>,
    /// What has been read and not been looked at lies between these.
    start: usize,
    end: usize,
}

impl Stream {
    fn log_in(&mut self, info: &ConnInfo) -> Result<()> {
        let parameters =
            [("user", info.user.as_str()), ("database", &info.dbname), ("replication", "database")];
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message)?;
        self.socket.write_all(&message)?;
        self.await_tag(b'Z')
    }

    /// Sends a command whose answer is a stream.
    fn query(&mut self, sql: &str) -> Result<()> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message)?;
        self.socket.write_all(&message)?;
        self.await_tag(b'W')
    }

    fn await_tag(&mut self, wanted: u8) -> Result<()> {
        loop {
            while let Some((tag, body)) = self.message()? {
                match tag {
                    b'E' => bail!("the server says: {}", String::from_utf8_lossy(body)),
                    tag if tag == wanted => return Ok(()),
                    _ => {}
                }
            }
            self.fill()?;
        }
    }

    /// Reads once; how much that was.
    fn fill(&mut self) -> Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let free =
            self.buffer.get_mut(self.end..).filter(|free| !free.is_empty()).context("a row too large")?;
        let count = self.socket.read(free)?;
        if count == 0 {
            bail!("the server has closed the connection");
        }
        self.end += count;
        Ok(count)
    }

    /// The next whole message: its tag and its body.
    fn message(&mut self) -> Result<Option<(u8, &[u8])>> {
        let read = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some((&[tag, a, b, c, d], rest)) = read.split_first_chunk() else {
            return Ok(None);
        };
        // The length counts itself.
        let length =
            usize::try_from(u32::from_be_bytes([a, b, c, d]))?.checked_sub(4).context("a length below 4")?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        self.start += 5 + length;
        Ok(Some((tag, body)))
    }

    /// Tells the server that all before `position` is done.
    fn status(&mut self, position: [u8; 8]) -> Result<()> {
        let mut body = vec![b'r'];
        for _ in ["written", "flushed", "applied"] {
            body.extend(position);
        }
        // A clock that nobody looks at; no reply wanted.
        body.extend([0; 9]);
        let mut message = BytesMut::new();
        frontend::CopyData::new(body.as_slice())?.write(&mut message);
        Ok(self.socket.write_all(&message)?)
    }
}
