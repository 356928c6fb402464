//! Tells systemd how the relay is, as sd_notify(3) describes it: ready, what it does, that it lives, that it stops.
//!
//! The protocol is one datagram with lines of `NAME=value`. It is written here because the crates for it read the
//! environment themselves, which in this program `main` alone does. Without a service manager nothing is sent, and what
//! cannot be sent is no reason to stop relaying.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::status::{Blocked, State, Status};

/// The service manager that started the relay, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// It kills the relay if it hears nothing for this long.
    watchdog: Option<Duration>,
}

/// How often the state is looked at.
const TICK: Duration = Duration::from_secs(1);

impl ServiceManager {
    /// The one that listens at `socket`, the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    /// `watchdog` is from [`watchdog`].
    ///
    /// # Errors
    /// If it is neither, or no socket can be made.
    pub fn at(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(socket)?,
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected /path or @name")),
        };
        Ok(Self { socket: Some((UnixDatagram::unbound()?, address)), watchdog })
    }

    /// The relay works: what was started after it may go on.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The relay ends because of an error: why, in one line.
    pub fn failed(&self, text: &str) {
        self.send(&format!("STATUS={}", one_line(text)));
    }

    /// The relay was told to stop, and will.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Tells changes of state and, while the session task turns, that the relay lives. It never ends.
    pub async fn follow(&self, status: &Status) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let tick = self.watchdog.map_or(TICK, |watchdog| TICK.min(watchdog / 2));
        let mut told = String::new();
        loop {
            let now = status.snapshot();
            let line = describe(now.state, now.blocked.as_ref());
            if line != told {
                self.send(&format!("STATUS={line}"));
                told = line;
            }
            if self.watchdog.is_some() && status.is_live(Instant::now()) {
                self.send("WATCHDOG=1");
            }
            tokio::time::sleep(tick).await;
        }
    }

    fn send(&self, lines: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(lines.as_bytes(), address)
        {
            tracing::debug!("service manager: {error}");
        }
    }
}

/// How often the service manager wants a sign of life: `microseconds` is the value of `WATCHDOG_USEC`. It may be meant
/// for another process, whose number is then in `WATCHDOG_PID`.
#[must_use]
pub fn watchdog(microseconds: Option<&str>, its_process: Option<&str>, own_process: u32) -> Option<Duration> {
    let ours = its_process.is_none_or(|process| process.parse() == Ok(own_process));
    let period = microseconds?.parse().ok().map(Duration::from_micros)?;
    Some(period).filter(|period| ours && !period.is_zero())
}

/// The state in one line: a second one would be read as another message.
fn describe(state: State, blocked: Option<&Blocked>) -> String {
    let text = match blocked {
        Some(blocked) => format!("blocked on {}: {}", blocked.on.as_str(), blocked.reason),
        None => state.as_str().to_owned(),
    };
    one_line(&text)
}

fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::On;

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        for (microseconds, process) in
            [(None, None), (Some("1000000"), Some("8")), (Some("0"), None), (Some("soon"), None)]
        {
            assert_eq!(watchdog(microseconds, process, 7), None);
        }
    }

    #[test]
    fn a_reason_cannot_become_a_message_of_its_own() {
        let reason = "no answer\n\nMAINPID=1".to_owned();
        let blocked = Blocked { on: On::Postgres, since: Instant::now(), reason };
        let line = describe(State::Connecting, Some(&blocked));
        assert_eq!(line, "blocked on postgres: no answer MAINPID=1");
        assert_eq!(describe(State::Streaming, None), "streaming");
    }

    #[tokio::test]
    async fn a_session_task_that_does_not_turn_gives_no_sign_of_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.as_os_str(), Some(Duration::from_millis(4))).unwrap();
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let status = Status::new(long_ago, std::time::SystemTime::now());
        let heard = async {
            let mut heard = Vec::new();
            let mut states = State::ALL.into_iter().cycle().skip(1);
            while heard.len() < 20 {
                let mut buffer = [0; 100];
                let length = socket.recv(&mut buffer).await.unwrap();
                heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                // Something to tell at each look, and a turn of the task before the second half.
                status.enter(states.next().unwrap());
                if heard.len() == 10 {
                    status.turn(Instant::now());
                }
            }
            heard
        };
        let heard = tokio::select! {
            heard = heard => heard,
            never = manager.follow(&status) => match never {},
        };
        let lives = |messages: &[String]| messages.contains(&"WATCHDOG=1".to_owned());
        assert!(!lives(&heard[..10]), "{heard:?}");
        assert!(lives(&heard[10..]), "{heard:?}");
    }

    #[test]
    fn an_address_is_a_path_or_an_abstract_name() {
        assert!(ServiceManager::at(OsStr::new("/run/systemd/notify"), None).is_ok());
        assert!(ServiceManager::at(OsStr::new("@name"), None).is_ok());
        for wrong in ["", "name", "vsock:2:1234"] {
            assert!(ServiceManager::at(OsStr::new(wrong), None).is_err(), "{wrong:?}");
        }
    }
}
