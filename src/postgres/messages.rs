//! Messages of the server, one by one: what every phase of a connection does with them in the same way.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use postgres_protocol::message::backend::{self, ErrorResponseBody, Message};

use super::connection::{Connection, Server};
use super::error::{Error, ServerError};
use super::wire::{BadLength, HEADER};

/// Notices kept while commands run; a server that sends more is told about enough by these.
const MAX_NOTICES: usize = 100;
/// Of text that is no message of protocol 3, so many bytes are waited for. PostgreSQL sends at most 1,000.
const MAX_BARE_TEXT: usize = 4096;
/// What `postgres-protocol` does not know: only replication uses it.
const COPY_BOTH_RESPONSE_TAG: u8 = b'W';

/// One message, as far as this module tells them apart.
pub(super) enum Received {
    CopyData(Bytes),
    CopyBothResponse,
    Notice(Box<ServerError>),
    Other(Message),
}

impl Connection {
    /// The next message that is not a notice, waiting for it.
    pub(super) async fn message(&mut self) -> Result<Received, Error> {
        loop {
            match self.receive()? {
                Some(Received::Notice(notice)) => {
                    if self.notices.len() < MAX_NOTICES {
                        self.notices.push(*notice);
                    }
                }
                Some(other) => return Ok(other),
                None => self.progress(true).await?,
            }
        }
    }

    /// Cuts one message out of the buffer. ParameterStatus and notifications are taken in here; an ErrorResponse
    /// becomes the error it is.
    pub(super) fn receive(&mut self) -> Result<Option<Received>, Error> {
        loop {
            let mut message = match self.wire.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(bad) if self.is_bare_text(&bad) && !self.is_all_there() => return Ok(None),
                Err(bad) => return Err(self.bad_length(&bad)),
            };
            let length = message.len();
            let tag = message.first().copied().unwrap_or(0);
            match tag {
                backend::COPY_DATA_TAG => {
                    message.advance(HEADER);
                    return Ok(Some(Received::CopyData(message.freeze())));
                }
                COPY_BOTH_RESPONSE_TAG if is_copy_both(&message) => {
                    return Ok(Some(Received::CopyBothResponse));
                }
                _ => {}
            }
            let malformed = |problem: io::Error| Error::Protocol {
                action: self.action.clone(),
                came: format!("{} that cannot be read ({problem})", description(tag, length)),
                expected: "a well-formed message",
            };
            // It is all there, so `None` cannot be.
            let Some(message) = Message::parse(&mut message).map_err(malformed)? else {
                return Err(malformed(io::ErrorKind::UnexpectedEof.into()));
            };
            match message {
                Message::ParameterStatus(body) => {
                    let (name, value) = (body.name().map_err(malformed)?, body.value().map_err(malformed)?);
                    self.server.set(name, value);
                }
                Message::NotificationResponse(_) => {}
                Message::NoticeResponse(body) => {
                    let notice = ServerError::from_fields(body.fields()).map_err(malformed)?;
                    return Ok(Some(Received::Notice(Box::new(notice))));
                }
                Message::ErrorResponse(body) => return Err(self.server_error(&body)),
                other => return Ok(Some(Received::Other(other))),
            }
        }
    }

    fn server_error(&self, body: &ErrorResponseBody) -> Error {
        match ServerError::from_fields(body.fields()) {
            Ok(error) => Error::Server { action: self.action.clone(), error: Box::new(error) },
            Err(problem) => Error::Protocol {
                action: self.action.clone(),
                came: format!("an ErrorResponse that cannot be read ({problem})"),
                expected: "a well-formed message",
            },
        }
    }

    /// A server that fails before it speaks protocol 3 (it cannot fork) sends `E` and bare text up to a zero byte, which
    /// libpq shows as well.
    fn is_bare_text(&self, bad: &BadLength) -> bool {
        bad.tag == backend::ERROR_RESPONSE_TAG && !self.ready
    }

    /// Whether the bare text has come to its end, or goes on for longer than anybody wants to know.
    fn is_all_there(&self) -> bool {
        let unread = self.wire.unread();
        unread.len() >= MAX_BARE_TEXT || unread.contains(&0)
    }

    /// A length that cannot be.
    fn bad_length(&self, bad: &BadLength) -> Error {
        if self.is_bare_text(bad) {
            let unread = self.wire.unread();
            let unread = unread.get(..MAX_BARE_TEXT).unwrap_or(unread);
            let text = unread.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(1..).unwrap_or_default());
            let message = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            let (severity, code) = ("FATAL".to_owned(), "08004".to_owned());
            let error = Box::new(ServerError { severity, code, message, ..ServerError::default() });
            return Error::Server { action: self.action.clone(), error };
        }
        Error::Protocol {
            action: self.action.clone(),
            came: format!("a message of type {} with length {}", printable(bad.tag), bad.length),
            expected: "a length from 4 to 1 GiB",
        }
    }

    pub(super) fn unexpected(&self, received: &Received, expected: &'static str) -> Error {
        Error::Protocol { action: self.action.clone(), came: received.name().to_owned(), expected }
    }
}

impl Server {
    fn set(&mut self, name: &str, value: &str) {
        match name {
            "server_version" => {
                let digits = value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
                self.major = digits.parse().unwrap_or(0);
                value.clone_into(&mut self.version);
            }
            "in_hot_standby" => self.in_hot_standby = Some(value == "on"),
            "default_transaction_read_only" => self.default_transaction_read_only = Some(value == "on"),
            _ => {}
        }
    }
}

impl Received {
    fn name(&self) -> &'static str {
        match self {
            Self::CopyData(_) => "CopyData",
            Self::CopyBothResponse => "CopyBothResponse",
            Self::Notice(_) => "NoticeResponse",
            Self::Other(message) => match message {
                Message::AuthenticationOk => "AuthenticationOk",
                Message::BackendKeyData(_) => "BackendKeyData",
                Message::CommandComplete(_) => "CommandComplete",
                Message::CopyDone => "CopyDone",
                Message::CopyInResponse(_) => "CopyInResponse",
                Message::CopyOutResponse(_) => "CopyOutResponse",
                Message::DataRow(_) => "DataRow",
                Message::EmptyQueryResponse => "EmptyQueryResponse",
                Message::ReadyForQuery(_) => "ReadyForQuery",
                Message::RowDescription(_) => "RowDescription",
                _ => "a message of another kind",
            },
        }
    }
}

/// CopyBothResponse: overall format, number of columns, a format for each; none of which matters for replication.
fn is_copy_both(message: &BytesMut) -> bool {
    match message.get(HEADER..) {
        Some(&[_, high, low, ref formats @ ..]) => {
            formats.len() == usize::from(u16::from_be_bytes([high, low])) * 2
        }
        _ => false,
    }
}

fn description(tag: u8, length: usize) -> String {
    format!("a message of type {} with {length} bytes", printable(tag))
}

fn printable(tag: u8) -> String {
    if tag.is_ascii_graphic() { format!("'{}'", char::from(tag)) } else { format!("0x{tag:02X}") }
}
