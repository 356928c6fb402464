//! Connection strings as libpq reads them: a URL or `name=value` pairs go in, with the environment and the password
//! file as arguments; out comes a [`ConnInfo`] from which both connections are made. Nothing here does IO, except
//! [`read_passfile`]; nothing here ever prints a password.
//!
//! Source: PostgreSQL documentation, "Database Connection Control Functions". What libpq knows and the relay does not
//! do yet is refused, never ignored.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs as ControlTarget};

use crate::secret::Secret;

mod parameters;
mod passfile;
mod shown;
mod syntax;
#[cfg(test)]
mod tests;

pub use passfile::read as read_passfile;
pub use shown::without_password;

use parameters::Resolved;

/// libpq waits for ever by default; a relay with several hosts must come to the next one.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that is gone without a word is noticed after 30 s, half of PostgreSQL's usual `wal_sender_timeout`, whether
/// something is on its way to it or not. Operating systems take hours.
const DEFAULT_KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
const DEFAULT_KEEPALIVES_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_KEEPALIVES_COUNT: u32 = 4;
const DEFAULT_TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_APPLICATION_NAME: &str = "outbox_relay";

/// Everything needed to connect. `Debug` shows it without its passwords.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// Where to try, in this order; never empty.
    pub hosts: Vec<Host>,
    /// The role.
    pub user: String,
    /// The database.
    pub dbname: String,
    /// What the server shows as `application_name`.
    pub application_name: String,
    /// Extra command-line options for the server process (`-c name=value …`).
    pub options: Option<String>,
    /// How long one address may take until the server is ready for queries; `None`: as long as it likes.
    pub connect_timeout: Option<Duration>,
    /// Which of the hosts will do.
    pub target_session_attrs: TargetSessionAttrs,
    /// TCP keepalive; `None`: off.
    pub keepalives: Option<Keepalives>,
    /// How long sent data may stay unacknowledged before the kernel gives the connection up; `None`: its default.
    pub tcp_user_timeout: Option<Duration>,
}

/// One server address of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A name to resolve, or a directory with a socket in it.
    pub address: Address,
    /// The TCP port, which is also the number in the socket's file name.
    pub port: u16,
    /// From the string, `PGPASSWORD` or the password file (which may have another one for each host).
    pub password: Option<Secret>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host name or an IP address.
    Tcp(String),
    /// The directory of a unix-domain socket.
    Unix(PathBuf),
}

/// What a server must be, to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// Whatever answers first.
    Any,
    /// Not in recovery, and transactions are read-write by default.
    ReadWrite,
    /// Not in recovery.
    Primary,
}

/// TCP keepalive settings; `None`: the operating system's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keepalives {
    /// Silence before the first probe.
    pub idle: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Lost probes until the connection counts as dead.
    pub count: Option<u32>,
}

/// What is wrong with a connection string. The string itself is never quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnInfoError {
    /// It cannot be taken apart.
    #[error("connection string: {0}")]
    Syntax(String),
    /// libpq has no such parameter.
    #[error("connection string: unknown parameter \"{name}\"{}", .nearest.map(|n| format!("\n\nhint: did you mean \"{n}\"?")).unwrap_or_default())]
    Unknown {
        /// The name, or its number in the string where the name itself could be a piece of a password.
        name: String,
        /// The known name that looks most like it.
        nearest: Option<&'static str>,
    },
    /// libpq can do it and this program cannot.
    #[error("connection string: {0} is not supported yet")]
    NotSupported(String),
    /// A value that its parameter cannot have.
    #[error("connection string: {parameter}: {problem}")]
    Invalid {
        /// The parameter.
        parameter: String,
        /// What is expected.
        problem: String,
    },
}

impl ConnInfo {
    /// Reads `text`, a URL or `name=value` pairs. What it leaves open comes from `environment` (`PGHOST`,
    /// `PGPASSWORD`, … as in libpq), then from the password file, then from the defaults.
    ///
    /// # Errors
    ///
    /// Anything malformed, unknown, or not supported yet.
    pub fn parse(
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
        read_passfile: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<Self, ConnInfoError> {
        let resolved = Resolved::new(syntax::parameters(text)?, environment)?;
        let user = resolved
            .get("user")
            .or_else(|| environment("USER").filter(|user| !user.is_empty()))
            .ok_or_else(|| ConnInfoError::Syntax("it names no user, and neither does PGUSER".to_owned()))?;
        let dbname = resolved.get("dbname").unwrap_or_else(|| user.clone());

        let mut hosts = hosts(&resolved)?;
        if let Some(password) = resolved.get("password") {
            for host in &mut hosts {
                host.password = Some(Secret::new(password.clone()));
            }
        } else if let Some(content) =
            passfile_path(&resolved, environment).and_then(|path| read_passfile(&path))
        {
            for host in &mut hosts {
                host.password = passfile::find(&content, host, &dbname, &user);
            }
        }

        let keepalives = if resolved.integer("keepalives")?.unwrap_or(1) == 0 {
            None
        } else {
            Some(Keepalives {
                idle: resolved.time("keepalives_idle", SECOND, DEFAULT_KEEPALIVES_IDLE)?,
                interval: resolved.time("keepalives_interval", SECOND, DEFAULT_KEEPALIVES_INTERVAL)?,
                count: Some(resolved.integer("keepalives_count")?.unwrap_or(DEFAULT_KEEPALIVES_COUNT))
                    .filter(|count| *count > 0),
            })
        };
        Ok(Self {
            hosts,
            application_name: resolved
                .get("application_name")
                .or_else(|| resolved.get("fallback_application_name"))
                .unwrap_or_else(|| DEFAULT_APPLICATION_NAME.to_owned()),
            options: resolved.get("options"),
            connect_timeout: resolved.time("connect_timeout", SECOND, DEFAULT_CONNECT_TIMEOUT)?,
            target_session_attrs: match resolved.get("target_session_attrs").as_deref() {
                Some("read-write") => TargetSessionAttrs::ReadWrite,
                Some("primary") => TargetSessionAttrs::Primary,
                _ => TargetSessionAttrs::Any,
            },
            keepalives,
            tcp_user_timeout: resolved.time(
                "tcp_user_timeout",
                Duration::from_millis(1),
                DEFAULT_TCP_USER_TIMEOUT,
            )?,
            user,
            dbname,
        })
    }

    /// The same, for `host` alone: so that the control connection looks at the server that also streams.
    #[must_use]
    pub fn at(&self, host: &Host) -> Self {
        Self { hosts: vec![host.clone()], ..self.clone() }
    }

    /// The settings of the control connection. `tokio-postgres` knows one password for all hosts: where the password
    /// file has several, narrow down with [`ConnInfo::at`] first.
    #[must_use]
    pub fn control_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.user(&self.user).dbname(&self.dbname).application_name(&self.application_name);
        for host in &self.hosts {
            match &host.address {
                Address::Tcp(name) => config.host(name),
                Address::Unix(dir) => config.host_path(dir),
            };
            config.port(host.port);
        }
        if let Some(password) = self.hosts.iter().find_map(|host| host.password.as_ref()) {
            config.password(password.reveal());
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        if let Some(limit) = self.connect_timeout {
            config.connect_timeout(limit);
        }
        if let Some(limit) = self.tcp_user_timeout {
            config.tcp_user_timeout(limit);
        }
        config.keepalives(self.keepalives.is_some());
        if let Some(keepalives) = &self.keepalives {
            keepalives.idle.map(|idle| config.keepalives_idle(idle));
            keepalives.interval.map(|interval| config.keepalives_interval(interval));
            keepalives.count.map(|count| config.keepalives_retries(count));
        }
        config.target_session_attrs(match self.target_session_attrs {
            TargetSessionAttrs::Any => ControlTarget::Any,
            // The nearest it has: a primary whose transactions are read-only by default is passed over.
            TargetSessionAttrs::ReadWrite | TargetSessionAttrs::Primary => ControlTarget::ReadWrite,
        });
        config.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable);
        config
    }
}

impl Host {
    /// The file of the unix-domain socket; `None` for TCP.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.address {
            Address::Tcp(_) => None,
            Address::Unix(dir) => Some(dir.join(format!(".s.PGSQL.{}", self.port))),
        }
    }
}

/// `db.example:5432`, `[::1]:5432`, `/run/postgresql/.s.PGSQL.5432`.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Address::Tcp(name) => write!(f, "{name}:{}", self.port),
            Address::Unix(dir) => write!(f, "{}/.s.PGSQL.{}", dir.display(), self.port),
        }
    }
}

impl fmt::Display for TargetSessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::Primary => "primary",
        })
    }
}

/// The lists `host` and `port` side by side: one port is for all hosts, else there are as many as hosts; an empty
/// item is the default.
fn hosts(resolved: &Resolved) -> Result<Vec<Host>, ConnInfoError> {
    let names = resolved.get("host").unwrap_or_default();
    let ports = resolved.get("port").unwrap_or_default();
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let ports: Vec<&str> = ports.split(',').map(str::trim).collect();
    if ports.len() != 1 && ports.len() != names.len() {
        return Err(ConnInfoError::Invalid {
            parameter: "port".to_owned(),
            problem: format!(
                "{} ports for {} hosts: expected one for all, or one for each",
                ports.len(),
                names.len()
            ),
        });
    }
    let ports = ports.iter().cycle();
    names.iter().zip(ports).enumerate().map(|(index, (name, port))| host(index + 1, name, port)).collect()
}

fn host(number: usize, name: &str, port: &str) -> Result<Host, ConnInfoError> {
    let port = match port {
        "" => DEFAULT_PORT,
        // The text is not quoted: after "user:pa/ss@host" it is the beginning of the password.
        text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| ConnInfoError::Invalid {
            parameter: "port".to_owned(),
            problem: format!(
                "what follows host {number} is not a number from 1 to 65535 (in a URL, special characters of a \
                 password are written percent-encoded)"
            ),
        })?,
    };
    let address = match name {
        "" => Address::Tcp("localhost".to_owned()),
        name if name.starts_with('@') => {
            return Err(ConnInfoError::NotSupported(
                "a socket in the abstract namespace (host=@…)".to_owned(),
            ));
        }
        name if name.starts_with('/') => Address::Unix(PathBuf::from(name)),
        name => Address::Tcp(name.to_owned()),
    };
    Ok(Host { address, port, password: None })
}

fn passfile_path(resolved: &Resolved, environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let default =
        || environment("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".pgpass"));
    resolved.get("passfile").map(PathBuf::from).or_else(default)
}
