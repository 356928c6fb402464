//! What `status` prints in each situation, as a person has to read it.

use std::time::Duration;

use super::*;
use crate::report::Blocked;

fn slot() -> Slot {
    Slot {
        plugin: Some("pgoutput".to_owned()),
        database: Some("shop".to_owned()),
        active_pid: Some(4242),
        application_name: Some("outbox_relay".to_owned()),
        connected: Some(Duration::from_secs(7_380)),
        confirmed_flush: "16/B3740000".parse().ok(),
        restart: "16/B2000000".parse().ok(),
        wal_status: Some("reserved".to_owned()),
        retained_bytes: Some(24_434_760),
        lag_bytes: Some(55_368),
        safe_wal_bytes: Some(1_000_000_000),
        ..Slot::default()
    }
}

fn report() -> Report {
    Report {
        version: "1.2.3".to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        state: "streaming".to_owned(),
        state_seconds: 7_379.0,
        server: Some("db.example:5432".to_owned()),
        slot: "orders".to_owned(),
        received_lsn: "16/B374D848".to_owned(),
        confirmed_lsn: "16/B3740000".to_owned(),
        in_flight_records: 3,
        in_flight_bytes: 1_700,
        oldest_unconfirmed_age_seconds: 0.0123,
        events_delivered: 1234,
        last_delivery_seconds_ago: Some(0.4),
        ..Report::default()
    }
}

fn answered(report: &Report) -> Relay {
    Relay::read("127.0.0.1:9464".to_owned(), &serde_json::to_string(report).unwrap())
}

fn silent() -> Relay {
    Relay::Silent { address: "127.0.0.1:9464".to_owned(), reason: "Connection refused".to_owned() }
}

fn standing(slot: Option<Slot>, relay: Relay) -> Standing {
    let server = Server {
        version: "17.5".to_owned(),
        system_identifier: Some("7500000000000000000".to_owned()),
        in_recovery: false,
        wal_level: "logical".to_owned(),
        current: "16/B374D848".parse().ok(),
    };
    let (host, database) = ("db.example:5432".to_owned(), "shop".to_owned());
    Standing {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045),
        slot: "orders".to_owned(),
        postgres: Ok(Postgres { host, database, server, slot, pending: None }),
        relay,
    }
}

#[test]
fn all_is_well() {
    let standing = standing(Some(slot()), answered(&report()));
    insta::assert_snapshot!(standing.text(), @"
    Relay at http://127.0.0.1:9464
      state                 streaming, for 2h 2m 59s
      server                db.example:5432
      received              16/B374D848
      confirmed             16/B3740000
      in flight             3 records, 1.7 KiB
      oldest unconfirmed    0.0s old
      delivered             1234 events, the last 0.4s ago
      started               2026-01-02T03:04:05Z, version 1.2.3

    Slot orders
      used by               pid 4242 (outbox_relay), for 2h 3m
      confirmed             16/B3740000
      behind the server     54.1 KiB
      oldest unconfirmed    0.0s old
      restart_lsn           16/B2000000
      holds WAL             23.3 MiB
      WAL until it is lost  953.7 MiB
      wal_status            reserved

    PostgreSQL at db.example:5432
      version               17.5, primary
      database              shop
      system identifier     7500000000000000000
      wal_level             logical
      current LSN           16/B374D848
    ");
    insta::assert_snapshot!(standing.line(), @"2026-01-02T03:04:05Z, streaming, 3 in flight, 1234 delivered, oldest unconfirmed 0.0s old, 54.1 KiB behind, holds 23.3 MiB, reserved");
    insta::assert_snapshot!(format!("{:#}", standing.json()), @r#"
    {
      "pending": null,
      "problems": [],
      "relay": {
        "backfill": null,
        "blocked": null,
        "cleaned": 0,
        "cleaning_error": null,
        "confirmed_lsn": "16/B3740000",
        "events_delivered": 1234,
        "in_flight_bytes": 1700,
        "in_flight_records": 3,
        "last_delivery_seconds_ago": 0.4,
        "oldest_unconfirmed_age_seconds": 0.0123,
        "publication": "",
        "received_lsn": "16/B374D848",
        "server": "db.example:5432",
        "slot": "orders",
        "slot_health": null,
        "started": "2026-01-02T03:04:05Z",
        "state": "streaming",
        "state_seconds": 7379.0,
        "state_since": "",
        "version": "1.2.3"
      },
      "server": {
        "current_lsn": "16/B374D848",
        "database": "shop",
        "host": "db.example:5432",
        "in_recovery": false,
        "system_identifier": "7500000000000000000",
        "version": "17.5",
        "wal_level": "logical"
      },
      "slot": {
        "active_pid": 4242,
        "active_seconds": 7380.0,
        "application_name": "outbox_relay",
        "confirmed_flush_lsn": "16/B3740000",
        "conflicting": null,
        "database": "shop",
        "inactive_seconds": null,
        "invalidation_reason": null,
        "lag_bytes": 55368,
        "lag_seconds": 0.0123,
        "name": "orders",
        "plugin": "pgoutput",
        "restart_lsn": "16/B2000000",
        "retained_wal_bytes": 24434760,
        "safe_wal_bytes": 1000000000,
        "wal_status": "reserved"
      }
    }
    "#);
}

#[test]
fn the_relay_is_down() {
    let inactive = Slot {
        active_pid: None,
        application_name: None,
        connected: None,
        inactive: Some(Duration::from_secs(200)),
        safe_wal_bytes: None,
        ..slot()
    };
    let standing = standing(Some(inactive), silent());
    assert!(standing.problems().is_empty());
    insta::assert_snapshot!(standing.text(), @"
    Relay at http://127.0.0.1:9464
      not running here, or http.listen differs: Connection refused

    Slot orders
      used by               nobody, for 3m 20s
      confirmed             16/B3740000
      behind the server     54.1 KiB
      oldest unconfirmed    unknown: only the relay that streams knows
      restart_lsn           16/B2000000
      holds WAL             23.3 MiB
      WAL until it is lost  no limit
      wal_status            reserved

    PostgreSQL at db.example:5432
      version               17.5, primary
      database              shop
      system identifier     7500000000000000000
      wal_level             logical
      current LSN           16/B374D848
    ");
    insta::assert_snapshot!(standing.line(), @"2026-01-02T03:04:05Z, relay does not answer, 54.1 KiB behind, holds 23.3 MiB, reserved");
    assert_eq!(standing.json()["relay"], Value::Null);
    assert_eq!(standing.json()["slot"]["lag_seconds"], Value::Null);
}

#[test]
fn postgres_is_away_and_the_relay_says_since_when() {
    let report = Report {
        state: "connecting".to_owned(),
        blocked: Some(Blocked {
            on: "postgres".to_owned(),
            seconds: 95.0,
            reason: "connect to db.example:5432: Connection refused".to_owned(),
            ..Blocked::default()
        }),
        ..report()
    };
    let error = "connect to db.example:5432: Connection refused".to_owned();
    let standing = Standing { postgres: Err(error), ..standing(None, answered(&report)) };
    insta::assert_snapshot!(standing.text(), @"
    problem: connect to db.example:5432: Connection refused

    hint: outbox-relay check looks at everything that the relay needs

    Relay at http://127.0.0.1:9464
      state                 connecting, for 2h 2m 59s
      blocked on            postgres, for 1m 35s
      reason                connect to db.example:5432: Connection refused
      server                db.example:5432
      received              16/B374D848
      confirmed             16/B3740000
      in flight             3 records, 1.7 KiB
      oldest unconfirmed    0.0s old
      delivered             1234 events, the last 0.4s ago
      started               2026-01-02T03:04:05Z, version 1.2.3
    ");
    insta::assert_snapshot!(standing.line(), @"2026-01-02T03:04:05Z, connecting, on postgres for 1m 35s, 3 in flight, 1234 delivered, oldest unconfirmed 0.0s old, problem: connect to db.example:5432: Connection refused");
    let json = standing.json();
    assert_eq!((&json["server"], &json["slot"]), (&Value::Null, &Value::Null));
    assert_eq!(json["relay"]["blocked"]["on"], "postgres");
    assert_eq!(json["problems"][0], "connect to db.example:5432: Connection refused");
}

#[test]
fn the_slot_is_missing() {
    let standing = standing(None, Relay::Off);
    insta::assert_snapshot!(standing.text(), @r#"
    problem: slot "orders" does not exist

    hint: outbox-relay check looks at everything that the relay needs

    Relay
      not asked: http.listen is empty

    PostgreSQL at db.example:5432
      version               17.5, primary
      database              shop
      system identifier     7500000000000000000
      wal_level             logical
      current LSN           16/B374D848
    "#);
    insta::assert_snapshot!(standing.line(), @r#"2026-01-02T03:04:05Z, relay not asked, problem: slot "orders" does not exist"#);
}

#[test]
fn the_slot_is_lost() {
    let lost = Slot {
        active_pid: None,
        application_name: None,
        connected: None,
        wal_status: Some("lost".to_owned()),
        retained_bytes: None,
        restart: None,
        safe_wal_bytes: None,
        conflicting: Some(false),
        ..slot()
    };
    let seventeen = Slot { invalidation_reason: Some("wal_removed".to_owned()), ..lost.clone() };
    let problems = |slot| standing(Some(slot), silent()).problems().concat();
    insta::assert_snapshot!(problems(lost), @r#"slot "orders" cannot be used any more: wal_status = lost"#);
    insta::assert_snapshot!(problems(seventeen.clone()), @r#"slot "orders" cannot be used any more: invalidation_reason = wal_removed"#);
    insta::assert_snapshot!(standing(Some(seventeen), silent()).text(), @r#"
    problem: slot "orders" cannot be used any more: invalidation_reason = wal_removed

    hint: outbox-relay check looks at everything that the relay needs

    Relay at http://127.0.0.1:9464
      not running here, or http.listen differs: Connection refused

    Slot orders
      used by               nobody
      confirmed             16/B3740000
      behind the server     54.1 KiB
      oldest unconfirmed    unknown: only the relay that streams knows
      restart_lsn           none
      holds WAL             unknown
      wal_status            lost
      invalidation_reason   wal_removed

    PostgreSQL at db.example:5432
      version               17.5, primary
      database              shop
      system identifier     7500000000000000000
      wal_level             logical
      current LSN           16/B374D848
    "#);
}

#[test]
fn a_slot_that_is_not_the_relays_is_a_problem() {
    let problems = |plugin: Option<&str>, database: Option<&str>| {
        let (plugin, database) = (plugin.map(str::to_owned), database.map(str::to_owned));
        standing(Some(Slot { plugin, database, ..slot() }), silent()).problems().concat()
    };
    assert_eq!(problems(Some("pgoutput"), Some("shop")), "");
    insta::assert_snapshot!(problems(Some("pgoutput"), Some("other")), @r#"slot "orders" is not the relay's: it is for database "other""#);
    insta::assert_snapshot!(problems(Some("wal2json"), Some("shop")), @r#"slot "orders" is not the relay's: it is of output plugin wal2json"#);
    insta::assert_snapshot!(problems(None, None), @r#"slot "orders" is not the relay's: it is a physical slot"#);
}

#[test]
fn a_standby_does_not_know_how_far_the_other_is() {
    let report = Report { state: "standby".to_owned(), in_flight_records: 0, ..report() };
    let standing = standing(Some(slot()), answered(&report));
    assert!(standing.text().contains("unknown: only the relay that streams knows"), "{}", standing.text());
    assert_eq!(standing.json()["slot"]["lag_seconds"], Value::Null);
}

#[test]
fn a_relay_of_another_slot_is_told_apart() {
    let other = Report { slot: "payments".to_owned(), ..report() };
    let standing = standing(Some(slot()), answered(&other));
    let text = standing.text();
    assert!(text.contains("another one: it follows slot \"payments\""), "{text}");
    assert_eq!(standing.json()["slot"]["lag_seconds"], Value::Null);
    assert_eq!(standing.json()["relay"]["slot"], "payments");
}

#[test]
fn what_is_no_page_of_a_relay_is_no_answer() {
    for page in ["", "<html>", "{}", "{\"state\": 1}", "[]"] {
        assert!(matches!(Relay::read("a:1".to_owned(), page), Relay::Silent { .. }), "{page}");
    }
}

#[test]
fn the_readme_shows_what_is_printed() {
    let report = Report {
        version: "0.1.0".to_owned(),
        state: "blocked".to_owned(),
        state_seconds: 83.0,
        blocked: Some(Blocked {
            on: "topic".to_owned(),
            seconds: 83.0,
            reason: "topic \"outbox.event.refund\" does not exist".to_owned(),
            ..Blocked::default()
        }),
        slot: "outbox_relay".to_owned(),
        oldest_unconfirmed_age_seconds: 84.0,
        last_delivery_seconds_ago: Some(84.0),
        ..report()
    };
    let standing = Standing { slot: "outbox_relay".to_owned(), ..standing(Some(slot()), answered(&report)) };
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&format!("```text\n{}```\n", standing.text())), "{}", standing.text());
}
