//! The one checked reader for everything the server sends in a replication stream.

use bytes::Bytes;

/// Input that does not have the form PostgreSQL documents for it. It holds no content of the message: contents may be
/// a user's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} message: {field} at byte {offset}: {problem}")]
pub struct DecodeError {
    /// The message that was read, by PostgreSQL's name for it.
    pub message: &'static str,
    /// The field that was read.
    pub field: &'static str,
    /// Where that field starts, in bytes from the start of the message.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The message ends inside the field.
    #[error("{needed} bytes are needed, {left} are left")]
    TooShort {
        /// Bytes the field has.
        needed: usize,
        /// Bytes the message still has.
        left: usize,
    },
    /// The message goes on after its last field.
    #[error("{0} bytes are left over")]
    TooLong(usize),
    /// A string without the zero byte at its end.
    #[error("the string is not terminated")]
    Unterminated,
    /// A name that is not UTF-8, which `client_encoding = UTF8` rules out.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// A kind or flag that is not documented.
    #[error("unexpected value {0}")]
    Unexpected(i64),
}

/// Reads the fields of one message in order. Each method takes the field's name, for the error.
pub(super) struct Reader {
    message: &'static str,
    all: Bytes,
    at: usize,
}

impl Reader {
    pub(super) fn new(message: &'static str, all: Bytes) -> Self {
        Self { message, all, at: 0 }
    }

    /// Names the message, once its first byte has told what it is.
    pub(super) fn rename(&mut self, message: &'static str) {
        self.message = message;
    }

    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// A name: UTF-8, ended by a zero byte.
    pub(super) fn name(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let rest = self.all.get(self.at..).unwrap_or_default();
        let Some(len) = rest.iter().position(|byte| *byte == 0) else {
            return Err(self.error(field, Problem::Unterminated));
        };
        let name = std::str::from_utf8(rest.get(..len).unwrap_or_default());
        let name = name.map_err(|_| self.error(field, Problem::NotUtf8))?.to_owned();
        self.at = self.at.saturating_add(len).saturating_add(1);
        Ok(name)
    }

    /// A four-byte length and that many bytes; where they start and how many they are.
    pub(super) fn counted(&mut self, field: &'static str) -> Result<(usize, usize), DecodeError> {
        let start = self.at;
        let len = self.i32(field)?;
        let len = usize::try_from(len).map_err(|_| DecodeError {
            message: self.message,
            field,
            offset: start,
            problem: Problem::Unexpected(i64::from(len)),
        })?;
        let at = self.at;
        self.need(field, len)?;
        self.at = self.at.saturating_add(len);
        Ok((at, len))
    }

    /// All that is left, without a copy.
    pub(super) fn rest(self) -> Bytes {
        let mut all = self.all;
        all.split_off(self.at.min(all.len()))
    }

    /// The whole message, which must have been read to its last byte.
    pub(super) fn finish(self) -> Result<Bytes, DecodeError> {
        match self.left() {
            0 => Ok(self.all),
            left => Err(self.error("end of message", Problem::TooLong(left))),
        }
    }

    /// The error for `value`, a field of `width` bytes that was just read.
    pub(super) fn unexpected(&self, field: &'static str, width: usize, value: i64) -> DecodeError {
        let offset = self.at.saturating_sub(width);
        DecodeError { message: self.message, field, offset, problem: Problem::Unexpected(value) }
    }

    fn left(&self) -> usize {
        self.all.len().saturating_sub(self.at)
    }

    fn need(&self, field: &'static str, needed: usize) -> Result<(), DecodeError> {
        let left = self.left();
        if left < needed { Err(self.error(field, Problem::TooShort { needed, left })) } else { Ok(()) }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let rest = self.all.get(self.at..).unwrap_or_default();
        let Some(array) = rest.first_chunk::<N>() else {
            return Err(self.error(field, Problem::TooShort { needed: N, left: rest.len() }));
        };
        self.at = self.at.saturating_add(N);
        Ok(*array)
    }

    fn error(&self, field: &'static str, problem: Problem) -> DecodeError {
        DecodeError { message: self.message, field, offset: self.at, problem }
    }
}
