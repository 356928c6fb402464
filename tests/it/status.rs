//! `outbox-relay status`, against real servers and a relay that runs, or does not.

use std::process::Stdio;

use outbox_relay::postgres::conninfo::Address;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::fixture::{Outbox, PATIENCE, Relay, eventually};
use crate::own_server::Server;
use crate::proxy::Closed;
use crate::servers::Database;

/// `outbox-relay status` for the slot of `outbox`, and for the HTTP endpoint at `listen`.
fn status(outbox: &Outbox, listen: &str, arguments: &[&str]) -> Command {
    let host = &outbox.database.server.hosts[0];
    let Address::Unix(directory) = &host.address else { panic!("no unix socket") };
    let (directory, port, name) = (directory.display(), host.port, &outbox.database.name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
    command.arg("status").args(["--set", &format!("http.listen={listen}")]);
    command.args(["--set", &format!("postgres.slot={}", outbox.slot())]);
    command.env(
        "OUTBOX_RELAY_POSTGRES__URL",
        format!("host={directory} port={port} user=outbox_relay dbname={name}"),
    );
    // It is not asked for.
    command.env("OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS", "kafka.invalid:9092");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it: exit status, stdout. Nothing may be on stderr.
async fn run(mut command: Command) -> (i32, String) {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Runs it with `--json`.
async fn json(outbox: &Outbox, listen: &str) -> (i32, Value) {
    let (code, page) = run(status(outbox, listen, &["--json"])).await;
    (code, serde_json::from_str(&page).unwrap())
}

fn address(relay: &Relay) -> String {
    format!("127.0.0.1:{}", relay.port)
}

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test]
async fn a_relay_that_runs_is_shown_from_both_sides() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    let listen = address(&relay);
    eventually("the delivery is counted", async || {
        json(&outbox, &listen).await.1["relay"]["events_delivered"] == 1
    })
    .await;

    let (code, page) = json(&outbox, &listen).await;
    assert_eq!(code, 0, "{page}");
    let (server, slot) = (&page["server"], &page["slot"]);
    assert_eq!(server["wal_level"], "logical");
    assert_eq!(server["in_recovery"], false);
    assert_eq!(server["version"], outbox.text("current_setting('server_version')").await);
    let identifier = outbox.text("SELECT system_identifier FROM pg_control_system()").await;
    assert_eq!(server["system_identifier"], identifier);
    assert_eq!(slot["name"], outbox.slot());
    assert_eq!(slot["plugin"], "pgoutput");
    assert_eq!(slot["application_name"], "outbox_relay");
    let pid =
        outbox.text("SELECT active_pid FROM pg_replication_slots WHERE database = current_database()").await;
    assert_eq!(slot["active_pid"].to_string(), pid);
    assert!(slot["active_seconds"].as_f64().unwrap() < 600.0, "{slot}");
    assert!(slot["retained_wal_bytes"].as_i64().unwrap() > 0, "{slot}");
    assert!(slot["lag_bytes"].is_i64() && slot["lag_seconds"].is_f64(), "{slot}");
    assert_eq!(slot["wal_status"], "reserved");
    assert_eq!(slot["safe_wal_bytes"], Value::Null);
    assert_eq!(page["problems"], Value::Array(vec![]));
    // What `/status` prints, but for what changes with time.
    let printed: Value = serde_json::from_str(&relay.page("/status").await.unwrap().1).unwrap();
    for same in
        ["version", "started", "state", "state_since", "slot", "server", "events_delivered", "blocked"]
    {
        assert_eq!(page["relay"][same], printed[same], "{same}");
    }
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&page["relay"]), keys(&printed));

    let (code, text) = run(status(&outbox, &listen, &[])).await;
    assert_eq!(code, 0, "{text}");
    for part in [
        &format!("used by               pid {pid} (outbox_relay), for "),
        "wal_level             logical",
        "oldest unconfirmed    none",
        "state                 streaming, for ",
        "delivered             1 event, the last ",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn without_a_relay_postgres_alone_is_shown() {
    let outbox = Outbox::create().await;
    let (code, page) = json(&outbox, NOBODY).await;
    assert_eq!(code, 1, "{page}");
    assert_eq!((&page["slot"], &page["relay"]), (&Value::Null, &Value::Null));
    assert_eq!(page["problems"][0], format!("slot \"{}\" does not exist", outbox.slot()));

    let relay = outbox.relay(&[]);
    relay.ready().await;
    relay.stop().await;
    let (code, page) = json(&outbox, NOBODY).await;
    assert_eq!((code, &page["relay"]), (0, &Value::Null), "{page}");
    assert_eq!((&page["slot"]["active_pid"], &page["slot"]["lag_seconds"]), (&Value::Null, &Value::Null));
    let knows_since_when =
        outbox.text("current_setting('server_version_num')::int >= 170000").await == "true";
    assert_eq!(page["slot"]["inactive_seconds"].is_f64(), knows_since_when, "{page}");
    assert_eq!(json(&outbox, "").await.1["relay"], Value::Null);

    let (code, text) = run(status(&outbox, NOBODY, &[])).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("not running here, or http.listen differs: Connection refused"), "{text}");
    assert!(text.contains("used by               nobody"), "{text}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn without_postgres_the_relay_alone_is_shown() {
    let outbox = Outbox::create().await;
    let port = Closed::new();
    let url = format!("postgres.url=postgres://outbox_relay@{}/{}", port.address, outbox.database.name);
    let relay = outbox.relay(&[&url]);
    relay.ready_says(503, "blocked on postgres").await;
    let mut command = status(&outbox, &address(&relay), &["--json"]);
    command.args(["--set", &url]);
    let (code, page) = run(command).await;
    assert_eq!(code, 1, "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["server"], &page["slot"]), (&Value::Null, &Value::Null));
    assert_eq!(page["relay"]["blocked"]["on"], "postgres");
    let problem = page["problems"][0].as_str().unwrap();
    assert!(problem.starts_with(&format!("connect to {}: ", port.address)), "{problem}");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_postgres_that_does_not_answer_is_given_up_soon() {
    let outbox = Outbox::create().await;
    let port = Closed::new();
    let url = format!("postgres.url=postgres://outbox_relay@{}/{}", port.address, outbox.database.name);
    let server = outbox.database.server.hosts[0].port;
    let proxy = port.open(format!("127.0.0.1:{server}"));
    proxy.freeze();
    let mut command = status(&outbox, NOBODY, &[]);
    command.args(["--set", &url]);
    let (code, text) = run(command).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("problem: look at 127.0.0.1:") && text.contains("no answer within 3s"), "{text}");
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_slot_with_a_limit_shows_it_and_a_lost_one_is_a_problem() {
    let server = Server::start_with(&["--set", "max_slot_wal_keep_size=32MB"]).await;
    let outbox = Outbox::create_on(Database::create_on(server.superuser.clone(), "").await).await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let safe = "outbox_relay_slot_safe_wal_bytes";
    eventually("the limit is shown", async || relay.metric(safe).await.is_some_and(|bytes| bytes > 1e6))
        .await;
    let (_, page) = json(&outbox, &address(&relay)).await;
    assert!(page["slot"]["safe_wal_bytes"].as_i64().unwrap() > 1_000_000, "{page}");
    relay.stop().await;

    // Segments of 16 MiB: the slot's is further back than the limit allows.
    for _ in 0..6 {
        outbox.sql("SELECT pg_logical_emit_message(false, 'test', 'x'); SELECT pg_switch_wal()").await;
    }
    outbox.sql("CHECKPOINT").await;
    let (code, page) = json(&outbox, NOBODY).await;
    assert_eq!((code, &page["slot"]["wal_status"]), (1, &"lost".into()), "{page}");
    let problem = page["problems"][0].as_str().unwrap();
    let reason = page["slot"]["invalidation_reason"].as_str();
    let expected =
        reason.map_or_else(|| "wal_status = lost".to_owned(), |why| format!("invalidation_reason = {why}"));
    assert_eq!(problem, format!("slot \"{}\" cannot be used any more: {expected}", outbox.slot()));
}

#[tokio::test]
async fn watching_prints_a_line_a_second_until_a_signal_or_until_nobody_reads() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let listen = address(&relay);
    for arguments in [&["--watch"][..], &["--watch", "--json"]] {
        let mut child = status(&outbox, &listen, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..3 {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
            if arguments.len() == 1 {
                assert!(line.contains("Z, streaming, ") && line.ends_with("reserved"), "{line}");
            } else {
                let page: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(page["relay"]["state"], "streaming");
            }
        }
        if arguments.len() == 1 {
            let pid = child.id().unwrap().to_string();
            assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        } else {
            drop(lines);
        }
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(0));
    }
    relay.stop().await;
    outbox.database.drop().await;
}
