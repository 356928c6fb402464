//! An error or a notice as PostgreSQL sent it, every field kept.

use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;
use tokio_postgres::error::{DbError, ErrorPosition};

use crate::disposition::Disposition;

/// The fields of an ErrorResponse or a NoticeResponse (PostgreSQL documentation, "Error and Notice Message Fields").
/// Text that is not UTF-8 (possible before the session's encoding is agreed) has its bad bytes replaced.
///
/// `Display` is severity, code and message. Detail, `where` and the message of a data error can quote values of a
/// row: whoever logs them decides by the class of the code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `NOTICE`, …, not translated.
    pub severity: String,
    /// The SQLSTATE, five characters.
    pub code: String,
    /// What happened, in one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the query, counted in characters from 1.
    pub position: Option<u32>,
    /// Where in `internal_query`.
    pub internal_position: Option<u32>,
    /// A query the server made itself.
    pub internal_query: Option<String>,
    /// The call stack, for logical decoding the slot, the output plugin and the callback.
    pub where_: Option<String>,
    /// The schema it is about.
    pub schema: Option<String>,
    /// The table it is about.
    pub table: Option<String>,
    /// The column it is about.
    pub column: Option<String>,
    /// The data type it is about.
    pub data_type: Option<String>,
    /// The constraint it is about.
    pub constraint: Option<String>,
    /// The server's source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The function in it.
    pub routine: Option<String>,
}

impl ServerError {
    /// Reads the fields of a message body.
    ///
    /// # Errors
    ///
    /// A field without an end, something behind the last one, or no severity, code or message.
    pub(crate) fn from_fields(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut error = Self::default();
        let mut translated_severity = String::new();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => translated_severity = value,
                b'V' => error.severity = value,
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'P' => error.position = value.parse().ok(),
                b'p' => error.internal_position = value.parse().ok(),
                b'q' => error.internal_query = Some(value),
                b'W' => error.where_ = Some(value),
                b's' => error.schema = Some(value),
                b't' => error.table = Some(value),
                b'c' => error.column = Some(value),
                b'd' => error.data_type = Some(value),
                b'n' => error.constraint = Some(value),
                b'F' => error.file = Some(value),
                b'L' => error.line = value.parse().ok(),
                b'R' => error.routine = Some(value),
                // "Frontends should silently ignore fields of unrecognized type."
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = translated_severity;
        }
        if error.severity.is_empty() || error.code.is_empty() || error.message.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "severity, code or message is missing"));
        }
        Ok(error)
    }

    /// Whether trying again can help, by SQLSTATE (PostgreSQL documentation, "PostgreSQL Error Codes").
    ///
    /// What describes a state of the server that passes is tried again; what somebody has to change, and every code
    /// not thought of here, stops: nothing is lost by stopping.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        let class = self.code.get(..2).unwrap_or("");
        match (class, self.code.as_str()) {
            // A dropped database does not come back.
            (_, "57P04") => Disposition::Stop,
            // A WAL segment or a library is not there (undefined_file, duplicate_file).
            (_, "58P01" | "58P02") => Disposition::Stop,
            // Corrupted data or index: somebody must look.
            (_, "XX001" | "XX002") => Disposition::Stop,
            // Slot active (object_in_use): its last user may not be gone yet, or another instance relays. A lock not
            // available passes likewise. The rest of 55 is prerequisites: wal_level, a lost slot, a slot of another
            // kind, a publication newer than the slot.
            (_, "55006" | "55P03") => Disposition::Retry,
            // The slot appeared meanwhile (duplicate_object): the next try finds it.
            (_, "42710") => Disposition::Retry,
            // Read-only transaction: a standby, or a primary about to be one. Time-outs of idle or long transactions.
            (_, "25006" | "25P03" | "25P04") => Disposition::Retry,
            // Connection trouble, rolled back by serialization or deadlock, out of memory, disk, connections, slots or
            // walsenders, shutdown or start of the server and cancelled queries, IO trouble of the server, internal
            // errors.
            ("08" | "40" | "53" | "57" | "58" | "XX", _) => Disposition::Retry,
            // 28 authentication and pg_hba.conf, 3D no such database, 42 missing privilege, slot, publication or
            // setting, 0A not supported by this server, 22 data that has no UTF-8, 26 and 34 a pooler in between, and
            // all else.
            _ => Disposition::Stop,
        }
    }
}

/// `FATAL 28P01: password authentication failed for user "x"`.
impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, self.message)
    }
}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (position, internal_position, internal_query) = match error.position() {
            Some(ErrorPosition::Original(position)) => (Some(*position), None, None),
            Some(ErrorPosition::Internal { position, query }) => (None, Some(*position), Some(query.clone())),
            None => (None, None, None),
        };
        Self {
            severity: error
                .parsed_severity()
                .map_or_else(|| error.severity().to_owned(), |severity| severity.to_string()),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: owned(error.detail()),
            hint: owned(error.hint()),
            position,
            internal_position,
            internal_query,
            where_: owned(error.where_()),
            schema: owned(error.schema()),
            table: owned(error.table()),
            column: owned(error.column()),
            data_type: owned(error.datatype()),
            constraint: owned(error.constraint()),
            file: owned(error.file()),
            line: error.line(),
            routine: owned(error.routine()),
        }
    }
}
