//! The five steps of README.md, typed as they stand there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::fixture::{Outbox, PATIENCE};
use crate::own_server::Server;
use crate::servers::{client, variable};

const README: &str = include_str!("../../README.md");

/// The shell lines of the five steps.
fn five_steps() -> String {
    let (_, rest) = README.split_once("\n## Five steps").unwrap();
    let (steps, _) = rest.split_once("\n##").unwrap();
    let blocks = steps.split("\n```sh\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0);
    let blocks: Vec<_> = blocks.collect();
    assert_eq!(blocks.len(), 5, "a step without lines, or lines without a step");
    blocks.join("\n")
}

/// A folder with the program, to be found by its name.
fn path_with(program: &Path, folder: &Path) -> String {
    let kafka = variable("OUTBOX_TEST_KAFKA_BIN");
    assert!(
        std::fs::metadata(Path::new(&kafka).join("kafka-topics.sh")).is_ok_and(|file| file
            .permissions()
            .mode()
            & 0o111
            != 0),
        "OUTBOX_TEST_KAFKA_BIN = {kafka:?} has no kafka-topics.sh"
    );
    let ours = program.parent().unwrap().display();
    format!("{ours}:{kafka}:{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[tokio::test]
async fn the_five_steps_lead_from_an_existing_postgres_and_kafka_to_the_first_event() {
    let server = Server::start().await;
    let superuser = client(&server.superuser).await;
    superuser.batch_execute("CREATE DATABASE shop").await.unwrap();
    let port = server.superuser.hosts[0].port;
    // Another relay may have the default's port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = five_steps().replace("127.0.0.1:9464", &free.to_string());

    let home = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_outbox-relay"));
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &format!("{script}\nwait")]);
    shell.env("PATH", path_with(program, home.path())).env("HOME", home.path());
    shell.env("OWNER_URL", format!("postgres://postgres@127.0.0.1:{port}/shop"));
    shell.env("KAFKA", variable("OUTBOX_TEST_KAFKA")).env("PGPORT", port.to_string());
    shell.env("OUTBOX_RELAY_HTTP__LISTEN", free.to_string());
    shell.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, shell.output()).await.expect("the steps do not end").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);

    // What the reader is told to expect, in the order of the steps.
    let mut rest: &str = &out;
    for expected in [
        "logical",
        "ALTER SYSTEM",
        include_str!("../../sql/03_publication.sql"),
        "created  slot outbox_relay",
        "ok: nothing keeps the relay from working",
        "streaming",
        "INSERT 0 1",
        "key 42, headers id=",
        "event_type=OrderPaid",
        "{\"amount\": 1999}",
        "state                 streaming",
    ] {
        let (_, after) =
            rest.split_once(expected).unwrap_or_else(|| panic!("{expected:?} is not in\n{rest}\n{err}"));
        rest = after;
    }
    assert!(err.contains("stopped"), "{err}");
}

/// Trap 4.23 of docs/traps.md.
#[tokio::test]
async fn rows_that_were_not_sent_are_sent_with_the_sql_of_the_readme() {
    let outbox = Outbox::create().await;
    outbox.insert("early").await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let (_, rest) = README.split_once("`WITH again AS").unwrap();
    let (sql, _) = rest.split_once('`').unwrap();
    let ids = "SELECT string_agg(id::text, ' ' ORDER BY aggregate_id) FROM outbox";
    let before = outbox.text(ids).await;
    outbox.sql(&format!("WITH again AS{}", sql.replace("2026-01-31", "2001-01-31"))).await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["early"]);
    assert_eq!(outbox.text(ids).await, before);
    assert_eq!(outbox.messages("order")[0].header("id").as_deref(), Some(before.as_str()));
    relay.stop().await;
    outbox.database.drop().await;
}
