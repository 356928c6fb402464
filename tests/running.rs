//! The program while it runs, seen from outside: its log, its signals, what it tells systemd. It needs no servers: it
//! waits for a PostgreSQL that is not there.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A relay that cannot reach its PostgreSQL. It is killed with the test.
struct Relay(Child);

impl Relay {
    fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
        command.arg("run").args(arguments).env_clear().envs(variables.iter().copied()).envs([
            // Nobody listens on port 1.
            ("OUTBOX_RELAY_POSTGRES__URL", "postgres://relay:hunter2@127.0.0.1:1/shop"),
            ("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
            ("OUTBOX_RELAY_HTTP__LISTEN", "127.0.0.1:0"),
        ]);
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The lines of the log as they are written.
    fn log(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stderr.take().unwrap()).lines().map(Result::unwrap)
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `--set` for a server that says to every client that it is starting up, with this hint.
fn starting_server(hint: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let set = format!("postgres.url=postgres://relay:hunter2@{}/shop", listener.local_addr().unwrap());
    let fields = format!("SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0H{hint}\0\0");
    std::thread::spawn(move || {
        for mut client in listener.incoming().map(Result::unwrap) {
            let mut length = [0; 4];
            while client.read_exact(&mut length).is_ok() {
                let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
                client.read_exact(&mut body).unwrap();
                // A request for encryption has nothing but a code.
                if body.len() == 4 {
                    client.write_all(b"N").unwrap();
                    continue;
                }
                let length = u32::try_from(fields.len() + 4).unwrap();
                client
                    .write_all(&[b"E", length.to_be_bytes().as_slice(), fields.as_bytes()].concat())
                    .unwrap();
                break;
            }
        }
    });
    set
}

/// What is awaited comes within a second, or it does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a service manager hears.
struct Manager(UnixDatagram);

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// All that was told up to the first message that begins so.
    fn hear_until(&self, begin: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.hear());
            if heard.last().unwrap().starts_with(begin) {
                return heard;
            }
        }
    }
}

#[test]
fn systemd_hears_when_the_relay_is_ready_what_it_does_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
    let relay = Relay::start(&[], &variables);
    assert_eq!(manager.hear(), "READY=1");
    let heard = manager.hear_until("STATUS=blocked on postgres: ");
    assert!(!heard.concat().contains("hunter2"), "{heard:?}");
    assert!(manager.hear_until("WATCHDOG=1").len() < 10);
    relay.signal("TERM");
    manager.hear_until("STOPPING=1");
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn systemd_may_listen_at_an_abstract_name_and_is_spared_what_it_did_not_ask_for() {
    let name = format!("outbox-relay-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::new(UnixDatagram::bind_addr(&address).unwrap());
    let other = [("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")];
    let relay =
        Relay::start(&[], &[[("NOTIFY_SOCKET", format!("@{name}").as_str())].as_slice(), &other].concat());
    let heard = manager.hear_until("STATUS=blocked on postgres");
    relay.signal("INT");
    let heard = [heard, manager.hear_until("STOPPING=1")].concat();
    assert_eq!(heard.first().unwrap(), "READY=1");
    assert!(!heard.contains(&"WATCHDOG=1".to_owned()), "{heard:?}");
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn systemd_is_not_told_that_a_relay_without_its_address_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("http.listen={}", taken.local_addr().unwrap());
    let relay = Relay::start(&["--set", &listen], &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(relay.wait().code(), Some(1));
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 100]).is_err());
}

#[test]
fn a_relay_relays_although_systemd_cannot_be_told() {
    let mut relay = Relay::start(&[], &[("NOTIFY_SOCKET", "vsock:2:1234")]);
    let mut log = relay.log();
    let line = log.find(|line| line.contains("NOTIFY_SOCKET")).unwrap();
    assert!(
        line.ends_with("NOTIFY_SOCKET=vsock:2:1234: expected /path or @name: systemd is told nothing"),
        "{line}"
    );
    assert!(log.any(|line| line.contains("trying again")));
    relay.signal("TERM");
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn each_line_of_a_json_log_is_an_object_also_if_its_message_has_several_lines() {
    let server = starting_server("say \"please\"\nand wait");
    let mut relay = Relay::start(&["--set", "log.format=json", "--set", &server], &[]);
    let log = relay.log().map(|line| {
        assert!(!line.contains("hunter2"), "{line}");
        let object: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for name in ["timestamp", "level", "message", "target"] {
            assert!(object[name].is_string(), "{name}: {line}");
        }
        object
    });
    let mut log = log.map(|object| object["message"].as_str().unwrap().to_owned());
    let told = log.find(|message| message.contains("trying again")).unwrap();
    assert!(
        told.starts_with("trying again: ") && told.ends_with("\n\nhint: say \"please\"\nand wait"),
        "{told}"
    );
    relay.signal("TERM");
    assert!(log.any(|message| message == "SIGTERM: stopping"));
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn a_text_log_has_time_level_and_message_and_no_colour_where_there_is_no_terminal() {
    let server = starting_server("say \"please\"");
    let mut relay = Relay::start(&["--set", &server], &[]);
    let mut log = relay.log();
    let first = log.next().unwrap();
    let (time, rest) = first.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{first}");
    assert_eq!(rest, format!(" INFO outbox-relay starts version=\"{}\"", env!("CARGO_PKG_VERSION")));
    let told = log.find(|line| line.contains("trying again")).unwrap();
    assert!(
        told.contains(" WARN ") && told.contains("FATAL 57P03") && !told.contains(['\u{1b}', '\\']),
        "{told}"
    );
    // The hint stands below, after an empty line, as everywhere.
    assert_eq!(log.next().as_deref(), Some(""));
    assert_eq!(log.next().as_deref(), Some("hint: say \"please\""));
    relay.signal("TERM");
    assert_eq!(relay.wait().code(), Some(0));
}
