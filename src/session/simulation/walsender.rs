//! One walsender: it sends what the slot has not confirmed, asks and hears, and ends as PostgreSQL's does (walsender.c).
//!
//! What it writes goes out in pieces of any length, after any time; its connection can be cut at any byte, and can swallow
//! everything for a while.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::dice::Dice;
use super::postgres::Postgres;
use super::wire::stream::Sender;
use super::wire::{envelope, xlog_data};
use crate::lsn::Lsn;
use crate::wal::{Envelope, Keepalive, PgTimestamp};

pub(super) struct Walsender {
    postgres: Arc<Postgres>,
    number: u32,
    stream: DuplexStream,
    dice: Dice,
    /// The connection breaks after so many more bytes.
    cut_after: Option<u64>,
    input: BytesMut,
    output: BytesMut,
    write_at: Instant,
    /// It has the slot, and sends.
    streams: bool,
    described: Sender,
    /// The next transaction to be sent, and what is left of the one that is.
    next: usize,
    pending: VecDeque<Bytes>,
    /// All before this was sent, and the highest position that was told to the client.
    sent: u64,
    told: u64,
    last_reply: Instant,
    /// A reply was asked for and has not come.
    waits_for_reply: bool,
    keepalive_at: Instant,
    /// The last words are in the output.
    over: bool,
}

/// More is not put into the output before that has gone.
const OUTPUT: usize = 16 * 1024;

impl Walsender {
    pub(super) fn new(
        postgres: Arc<Postgres>,
        stream: DuplexStream,
        number: u32,
        cut_after: Option<u64>,
        dice: Dice,
    ) -> Self {
        let now = Instant::now();
        Self {
            postgres,
            number,
            stream,
            dice,
            cut_after,
            input: BytesMut::new(),
            output: BytesMut::new(),
            write_at: now,
            streams: false,
            described: Sender::default(),
            next: 0,
            pending: VecDeque::new(),
            sent: 0,
            told: 0,
            last_reply: now,
            waits_for_reply: false,
            keepalive_at: now,
            over: false,
        }
    }

    pub(super) async fn run(mut self) {
        let why = self.live().await;
        let mut server = self.postgres.server();
        if server.holder == Some(self.number) {
            server.holder = None;
        }
        drop(server);
        self.postgres.witness.note(|| format!("walsender {}: {why}", self.number));
        self.postgres.change(|_| ());
    }

    /// Lives until the connection ends, and tells why it does.
    async fn live(&mut self) -> &'static str {
        let mut stirred = self.postgres.stirred();
        loop {
            let now = Instant::now();
            let frozen_until = {
                let server = self.postgres.server();
                if self.number < server.cut_before {
                    return "cut";
                }
                // One that is busy counts the time for which it has heard nothing afterwards, when it has read.
                if server.busy_until > now {
                    self.last_reply = server.busy_until;
                }
                server.frozen_until.max(server.busy_until)
            };
            if frozen_until > now {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(frozen_until) => {}
                    _ = stirred.changed() => {}
                }
                continue;
            }
            if let Err(why) = self.proceed(now) {
                return why;
            }
            if self.over && self.output.is_empty() {
                return "ended as it should";
            }
            let wake = self.wake_at();
            let writes = !self.output.is_empty() && self.write_at <= now;
            let piece = self.piece();
            let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
            tokio::select! {
                biased;
                _ = stirred.changed() => {}
                read = reader.read_buf(&mut self.input) => match read {
                    Ok(0) | Err(_) => return "the client has closed",
                    Ok(_) => {}
                },
                written = writer.write(&self.output[..piece]), if writes => match written {
                    Ok(written) => {
                        if let Err(why) = self.wrote(written) {
                            return why;
                        }
                    }
                    Err(_) => return "the client has closed",
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// How much is written at once.
    fn piece(&mut self) -> usize {
        let most = if self.dice.once_in(4) { 40 } else { 8_192 };
        let piece = self.output.len().min(most);
        self.cut_after.map_or(piece, |left| piece.min(usize::try_from(left).unwrap().max(1)))
    }

    fn wrote(&mut self, written: usize) -> Result<(), &'static str> {
        self.output.advance(written);
        if let Some(left) = &mut self.cut_after {
            *left = left.saturating_sub(u64::try_from(written).unwrap());
            if *left == 0 {
                return Err("cut after so many bytes");
            }
        }
        if self.dice.once_in(6) {
            self.write_at = Instant::now() + Duration::from_millis(self.dice.between(1, 30));
        }
        Ok(())
    }

    /// When something is due, if nothing moves.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + Duration::from_secs(60);
        if !self.output.is_empty() && self.write_at > now {
            wake = wake.min(self.write_at);
        }
        if self.streams {
            let timeout = self.postgres.plan.wal_sender_timeout;
            wake = wake.min(self.last_reply + if self.waits_for_reply { timeout } else { timeout / 2 });
            if self.output.is_empty() && self.pending.is_empty() {
                wake = wake.min(self.keepalive_at);
                if let Some(next) = self.postgres.plan.transactions.get(self.next) {
                    wake = wake.min(self.postgres.witness.at(next.at));
                }
            }
        }
        wake.max(now + Duration::from_millis(1))
    }

    /// Hears what has come, and says what is due.
    fn proceed(&mut self, now: Instant) -> Result<(), &'static str> {
        while let Some(length) = self.input.get(1..5) {
            let length = 1 + usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
            if self.input.len() < length {
                break;
            }
            let message = self.input.split_to(length);
            self.hear(message[0], &message[5..], now)?;
        }
        if !self.streams || self.over {
            return Ok(());
        }
        let timeout = self.postgres.plan.wal_sender_timeout;
        let silent = now - self.last_reply;
        if silent >= timeout {
            if self.postgres.server().excused_until <= now {
                self.postgres.witness.wrong("no status update within wal_sender_timeout");
            }
            return Err("terminated due to replication timeout");
        }
        if silent >= timeout / 2 && !self.waits_for_reply {
            self.keepalive(self.sent, true);
        }
        self.send(now);
        Ok(())
    }

    fn hear(&mut self, tag: u8, body: &[u8], now: Instant) -> Result<(), &'static str> {
        match (tag, body.first()) {
            (b'Q', _) => {
                let mut server = self.postgres.server();
                if server.holder.is_some() {
                    return Err("the slot is in use");
                }
                server.holder = Some(self.number);
                let confirmed = server.confirmed;
                drop(server);
                self.streams = true;
                let transactions = &self.postgres.plan.transactions;
                // What it has confirmed is not sent again: `SnapBuildXactNeedsSkip` looks at the commit record's start.
                self.next = transactions
                    .partition_point(|written| written.transaction.commit_lsn.as_u64() < confirmed);
                self.last_reply = now;
                self.put(b'W', &[0, 0, 0]);
                // It reads from further back.
                self.sent = confirmed.saturating_sub(self.dice.between(0, 2_000));
                self.keepalive(self.sent, false);
                self.sent = confirmed;
                self.told = confirmed;
            }
            (b'd', Some(b'r')) => {
                let flushed = u64::from_be_bytes(body[9..17].try_into().unwrap());
                self.last_reply = now;
                self.waits_for_reply = false;
                self.postgres.told(flushed, self.told);
                if body[33] == 1 {
                    self.keepalive(self.sent, false);
                }
            }
            (b'c', _) => {
                self.put(b'c', b"");
                self.put(b'C', b"COPY 0\0");
                self.over = true;
            }
            (b'X', _) => return Err("the client has taken leave"),
            _ => self.postgres.witness.wrong(&format!("the server got {:?}", char::from(tag))),
        }
        Ok(())
    }

    /// Sends what there is, as far as there is room.
    fn send(&mut self, now: Instant) {
        let postgres = Arc::clone(&self.postgres);
        let stopping = postgres.server().stopping;
        let until = stopping.unwrap_or(now);
        while self.output.len() < OUTPUT {
            if let Some(body) = self.pending.pop_front() {
                self.put(b'd', &body);
                if self.pending.is_empty() {
                    let sent = &postgres.plan.transactions[self.next - 1].transaction;
                    self.sent = sent.end_lsn().as_u64();
                    self.told = self.told.max(self.sent);
                } else if self.dice.once_in(50) {
                    self.keepalive(self.sent, false);
                }
                continue;
            }
            match postgres.plan.transactions.get(self.next) {
                Some(written) if postgres.witness.at(written.at) <= until => {
                    let messages = self.described.messages(&written.transaction);
                    let sent = written.transaction.commit_time;
                    let count = messages.len();
                    let bodies = messages.iter().enumerate();
                    self.pending = bodies
                        .map(|(number, message)| xlog_data(written.place(number, count), sent, message))
                        .collect();
                    self.next += 1;
                }
                _ => return self.caught_up(now, stopping.is_some()),
            }
        }
    }

    /// Everything was sent.
    fn caught_up(&mut self, now: Instant, stopping: bool) {
        if !stopping {
            self.sent = self.sent.max(self.postgres.end_of_log());
            if self.keepalive_at <= now {
                self.keepalive(self.sent, false);
                self.keepalive_at = now + Duration::from_millis(self.dice.between(20, 3_000));
            }
            return;
        }
        if self.output.is_empty() {
            if self.postgres.server().confirmed >= self.sent {
                self.put(b'C', b"COPY 0\0");
                self.over = true;
            } else if !self.waits_for_reply {
                self.keepalive(self.sent, true);
            }
        }
        self.keepalive_at = now + Duration::from_secs(1);
    }

    fn keepalive(&mut self, wal_end: u64, reply_requested: bool) {
        self.waits_for_reply |= reply_requested;
        self.told = self.told.max(wal_end);
        let micros = self.postgres.witness.elapsed().as_micros();
        let sent = PgTimestamp::from_micros(i64::try_from(micros).unwrap());
        let keepalive = Keepalive { wal_end: Lsn::new(wal_end), sent, reply_requested };
        self.put(b'd', &envelope(&Envelope::Keepalive(keepalive)));
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        self.output.put_u8(tag);
        self.output.put_u32(u32::try_from(body.len() + 4).unwrap());
        self.output.put_slice(body);
    }
}
