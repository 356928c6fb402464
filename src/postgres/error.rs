//! What can go wrong between the relay and PostgreSQL, on both connections, and whether to try again.
//!
//! Messages begin with the action that failed. They carry no payload: of a message that should not have come, only
//! its type and length are told.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use crate::disposition::Disposition;

pub use super::server_error::ServerError;

/// What the relay was doing: `start replication`, `identify system`.
pub type Action = Cow<'static, str>;

/// An error of a connection to PostgreSQL. `Display` says everything that is known, causes included.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name server gave no address.
    #[error("resolve {host}: {cause}")]
    Resolve {
        /// The host and port, as configured.
        host: String,
        /// Why.
        cause: io::Error,
    },
    /// No connection to this address.
    #[error("connect to {host}: {cause}")]
    Connect {
        /// The host and port or the socket's path; with the address if there are several.
        host: String,
        /// Why.
        cause: io::Error,
    },
    /// An established connection broke.
    #[error("{action}: {cause}")]
    Io {
        /// What was being done.
        action: Action,
        /// Why.
        cause: io::Error,
    },
    /// The server ended the connection without a word.
    #[error("{action}: the server closed the connection")]
    Closed {
        /// What was being done.
        action: Action,
    },
    /// It took too long.
    #[error("{action}: no answer within {}", humantime::format_duration(*.limit))]
    Timeout {
        /// What was being done.
        action: Action,
        /// The limit.
        limit: Duration,
    },
    /// The server refused, or ended the session and said why.
    #[error("{action}: {error}")]
    Server {
        /// What was being done.
        action: Action,
        /// All it said.
        error: Box<ServerError>,
    },
    /// The server wants a password and there is none.
    #[error("log in as \"{user}\": the server asks for a password, and none is configured")]
    PasswordMissing {
        /// The role.
        user: String,
    },
    /// The server wants a kind of authentication that the relay cannot do.
    #[error("log in as \"{user}\": authentication method {method} is not supported")]
    UnsupportedAuthentication {
        /// The role.
        user: String,
        /// The method the server chose.
        method: String,
    },
    /// The SCRAM exchange failed on our side: the server does not know the password it asks for, or speaks wrongly.
    #[error("log in as \"{user}\": SCRAM exchange: {problem}")]
    Scram {
        /// The role.
        user: String,
        /// What was wrong.
        problem: String,
    },
    /// The server said something that has no place here.
    #[error("{action}: protocol violation: {came}, expected {expected}")]
    Protocol {
        /// What was being done.
        action: Action,
        /// What came, without its content.
        came: String,
        /// What should have come.
        expected: &'static str,
    },
    /// The server is not what `target_session_attrs` asks for.
    #[error("{host}: is {found}, target_session_attrs asks for {wanted}")]
    WrongRole {
        /// The host and port.
        host: String,
        /// What was asked for.
        wanted: String,
        /// What it is.
        found: &'static str,
    },
    /// Several hosts, and none would do.
    #[error("no host could be used: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoHost(Vec<Self>),
    /// Any other error of the control connection's driver.
    #[error("{action}: {cause}")]
    Control {
        /// What was being done.
        action: Action,
        /// The driver's error.
        cause: tokio_postgres::Error,
    },
}

impl Error {
    /// An error of the control connection, with everything the server said.
    #[must_use]
    pub fn from_control(action: impl Into<Action>, cause: tokio_postgres::Error) -> Self {
        let action = action.into();
        if let Some(error) = cause.as_db_error() {
            return Self::Server { action, error: Box::new(error.into()) };
        }
        if cause.is_closed() {
            return Self::Closed { action };
        }
        let io = std::error::Error::source(&cause).and_then(|source| source.downcast_ref::<io::Error>());
        // The driver also reports malformed messages as io errors of these two kinds; they are no broken connection.
        let broken =
            io.filter(|io| !matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData));
        match broken {
            Some(io) => Self::Io { action, cause: copy(io) },
            None => Self::Control { action, cause },
        }
    }

    /// Whether trying again can help. This is the one place where that is decided for the PostgreSQL side.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            // The server is away, is just starting or stopping, or the way to it is cut.
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Io { .. }
            | Self::Closed { .. }
            | Self::Timeout { .. } => Disposition::Retry,
            // A failover may be on its way.
            Self::WrongRole { .. } => Disposition::Retry,
            Self::Server { error, .. } => error.disposition(),
            // One host that may come back is reason enough.
            Self::NoHost(errors) => {
                let retry = errors.iter().any(|error| error.disposition() == Disposition::Retry);
                if retry { Disposition::Retry } else { Disposition::Stop }
            }
            // Configuration, or a peer that does not speak our protocol: the same next time.
            Self::PasswordMissing { .. }
            | Self::UnsupportedAuthentication { .. }
            | Self::Scram { .. }
            | Self::Protocol { .. }
            | Self::Control { .. } => Disposition::Stop,
        }
    }

    /// What the server said, if it is the server's error.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// The driver keeps its io error; this one has the same code, or else kind and text.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> Error {
        let error =
            ServerError { severity: "FATAL".to_owned(), code: code.to_owned(), ..ServerError::default() };
        Error::Server { action: "start replication".into(), error: Box::new(error) }
    }

    #[test]
    fn what_somebody_must_change_stops() {
        for code in [
            "28P01", "28000", "3D000", "42501", "42704", "42601", "0A000", "55000", "57P04", "58P01",
            "22P05", "22023", "XX001", "P0001", "26000", "", "é",
        ] {
            assert_eq!(server(code).disposition(), Disposition::Stop, "{code}");
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        for code in [
            "57P01", "57P02", "57P03", "57P05", "57014", "55006", "55P03", "53300", "53400", "53100",
            "08006", "08P01", "40001", "25006", "42710", "58030", "XX000",
        ] {
            assert_eq!(server(code).disposition(), Disposition::Retry, "{code}");
        }
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for error in [
            Error::Resolve { host: "db:5432".to_owned(), cause: refused() },
            Error::Connect { host: "db:5432".to_owned(), cause: refused() },
            Error::Io { action: "stream".into(), cause: refused() },
            Error::Closed { action: "stream".into() },
            Error::NoHost(vec![server("28P01"), server("57P03")]),
        ] {
            assert_eq!(error.disposition(), Disposition::Retry, "{error}");
        }
        assert_eq!(Error::NoHost(vec![server("28P01")]).disposition(), Disposition::Stop);
    }

    #[test]
    fn a_message_names_action_severity_code_and_text() {
        let error = ServerError {
            severity: "FATAL".to_owned(),
            code: "28P01".to_owned(),
            message: "password authentication failed for user \"x\"".to_owned(),
            detail: Some("kept, not shown".to_owned()),
            ..ServerError::default()
        };
        let error = Error::Server { action: "log in".into(), error: Box::new(error) };
        assert_eq!(error.to_string(), "log in: FATAL 28P01: password authentication failed for user \"x\"");
        assert_eq!(error.server().unwrap().detail.as_deref(), Some("kept, not shown"));
    }
}
