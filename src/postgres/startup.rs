//! From a list of hosts to a session that is ready for replication commands.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::auth::authenticate;
use super::connection::Connection;
use super::conninfo::{Address, ConnInfo, Host, TargetSessionAttrs};
use super::error::Error;
use super::messages::Received;
use super::wire::Socket;
use crate::disposition::Disposition;

/// Settings every session starts with, whatever the role, the database or the server is set to.
///
/// They pin how values are printed: what is relayed must not depend on who connects. 3 for `extra_float_digits` is what
/// PostgreSQL's own subscriber asks for: floats come out exact. And they pin that warnings come: that rows are skipped for
/// want of a publication is no more than a warning since PostgreSQL 18.
const PINNED: [(&str, &str); 7] = [
    ("client_encoding", "UTF8"),
    ("bytea_output", "hex"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("TimeZone", "UTC"),
    ("client_min_messages", "notice"),
];

/// Limits meant for interactive work, which would cut off large transactions, the creation of a slot, and a control
/// connection that has nothing to ask at the moment. `transaction_timeout` is missing because servers before 17 refuse to start a
/// session with a setting they do not know: see [`UNLIMITED_TRANSACTION`].
pub(super) const UNLIMITED: [(&str, &str); 4] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// Said once a session has begun, from this release on.
pub(super) const UNLIMITED_TRANSACTION: (u32, &str) = (17, "SET transaction_timeout = 0");

pub(super) async fn connect(info: &ConnInfo) -> Result<Connection, Error> {
    let mut errors = Vec::new();
    for host in &info.hosts {
        let endpoints = match endpoints(host, info.connect_timeout).await {
            Ok(endpoints) => endpoints,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for endpoint in endpoints {
            // Boxed: the future is large, and is made once a connection.
            match Box::pin(attempt(info, host, &endpoint)).await {
                Ok(connection) => return Ok(connection),
                // The same on every host, most likely, and hammering a second one does not help: as libpq does it.
                Err(error) if error.disposition() == Disposition::Stop => return Err(error),
                Err(error) => errors.push(error),
            }
        }
    }
    match errors.pop() {
        Some(error) if errors.is_empty() => Err(error),
        last => {
            errors.extend(last);
            Err(Error::NoHost(errors))
        }
    }
}

/// One thing to call `connect` on.
enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

async fn endpoints(host: &Host, limit: Option<Duration>) -> Result<Vec<Endpoint>, Error> {
    if let Some(path) = host.socket_path() {
        return Ok(vec![Endpoint::Unix(path)]);
    }
    let Address::Tcp(name) = &host.address else {
        return Ok(Vec::new());
    };
    let resolve = async {
        let found = lookup_host((name.as_str(), host.port)).await?;
        Ok(found.map(Endpoint::Tcp).collect::<Vec<_>>())
    };
    let found = within(limit, resolve).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match found {
        Ok(endpoints) if endpoints.is_empty() => {
            Err(Error::Resolve { host: host.to_string(), cause: io::Error::other("the name has no address") })
        }
        found => found.map_err(|cause| Error::Resolve { host: host.to_string(), cause }),
    }
}

/// One address, from the first packet until the server is ready for commands, within the time limit.
async fn attempt(info: &ConnInfo, host: &Host, endpoint: &Endpoint) -> Result<Connection, Error> {
    let name = match endpoint {
        Endpoint::Tcp(address) if address.to_string() != host.to_string() => {
            format!("{host} ({})", address.ip())
        }
        _ => host.to_string(),
    };
    let work = async {
        let socket =
            open(info, endpoint).await.map_err(|cause| Error::Connect { host: name.clone(), cause })?;
        let mut connection = Connection::from_socket(socket, host.clone());
        connection.action = format!("log in to {name}").into();
        log_in(&mut connection, info, host).await?;
        Ok(connection)
    };
    match within(info.connect_timeout, work).await {
        Ok(result) => result,
        Err(limit) => Err(Error::Timeout { action: format!("connect to {name}").into(), limit }),
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => timeout(limit, work).await.map_err(|_| limit),
        None => Ok(work.await),
    }
}

async fn open(info: &ConnInfo, endpoint: &Endpoint) -> io::Result<Box<dyn Socket>> {
    let address = match endpoint {
        Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Endpoint::Tcp(address) => address,
    };
    let stream = TcpStream::connect(address).await?;
    // A status update is small and must not wait for an acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if let Some(wanted) = &info.keepalives {
        let mut keepalive = TcpKeepalive::new();
        keepalive = wanted.idle.map_or(keepalive.clone(), |idle| keepalive.with_time(idle));
        keepalive = wanted.interval.map_or(keepalive.clone(), |interval| keepalive.with_interval(interval));
        keepalive = wanted.count.map_or(keepalive.clone(), |count| keepalive.with_retries(count));
        socket.set_keepalive(true)?;
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(info.tcp_user_timeout)?;
    Ok(Box::new(stream))
}

/// Startup message, authentication, the rest until ReadyForQuery, and the check that this is the server we want.
pub(super) async fn log_in(connection: &mut Connection, info: &ConnInfo, host: &Host) -> Result<(), Error> {
    let mut parameters = vec![
        ("user", info.user.as_str()),
        ("database", info.dbname.as_str()),
        ("replication", "database"),
        ("application_name", info.application_name.as_str()),
    ];
    parameters.extend(info.options.as_deref().map(|options| ("options", options)));
    // Settings of their own in the packet count more than those within `options`.
    parameters.extend(PINNED.into_iter().chain(UNLIMITED));
    connection.queue(|output| frontend::startup_message(parameters, output))?;
    authenticate(connection, &info.user, host.password.as_ref()).await?;
    loop {
        let received = connection.message().await?;
        match received {
            Received::Other(Message::BackendKeyData(_)) => {}
            Received::Other(Message::ReadyForQuery(_)) => break,
            other => return Err(connection.unexpected(&other, "ReadyForQuery")),
        }
    }
    connection.ready = true;
    check_role(connection, info.target_session_attrs)?;
    let (since, sql) = UNLIMITED_TRANSACTION;
    if connection.server.major >= since {
        connection.simple_query("set transaction_timeout", sql).await?;
    }
    Ok(())
}

fn check_role(connection: &Connection, wanted: TargetSessionAttrs) -> Result<(), Error> {
    let server = connection.server();
    let found = match (wanted, server.in_hot_standby, server.default_transaction_read_only) {
        (TargetSessionAttrs::Any, ..)
        | (TargetSessionAttrs::Primary, Some(false), _)
        | (TargetSessionAttrs::ReadWrite, Some(false), Some(false)) => return Ok(()),
        (_, Some(true), _) => "a standby",
        (_, Some(false), Some(true)) => "read-only by default",
        _ => "a server that does not tell whether it is a standby (PostgreSQL 14 or newer do)",
    };
    Err(Error::WrongRole { host: connection.host().to_string(), wanted: wanted.to_string(), found })
}
