//! What a relay says of itself: the page `/status` as JSON, and the same in words for a person.
//!
//! The relay that runs makes a [`Report`] of its [`Snapshot`]; `outbox-relay status` reads it from the page, perhaps of
//! another version. So what is not there is tolerated, and nothing here is a secret or a payload.

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::config::Postgres;
use crate::status::{Snapshot, Started};

/// Where a relay stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The program's version.
    pub version: String,
    /// When it was started, RFC 3339.
    pub started: String,
    /// `connecting`, `standby`, `streaming`, `blocked` or `draining`.
    pub state: String,
    /// Since when, RFC 3339.
    pub state_since: String,
    /// For how long.
    pub state_seconds: f64,
    /// What keeps events from moving.
    pub blocked: Option<Blocked>,
    /// The server that it streams, or streamed last, from.
    pub server: Option<String>,
    /// Its slot.
    pub slot: String,
    /// Its publication.
    pub publication: String,
    /// End of what was received.
    pub received_lsn: String,
    /// End of what Kafka has confirmed.
    pub confirmed_lsn: String,
    /// Records handed to Kafka and not confirmed.
    pub in_flight_records: u64,
    /// The memory they take.
    pub in_flight_bytes: u64,
    /// Age of the oldest event that was read and not confirmed; 0 if there is none.
    pub oldest_unconfirmed_age_seconds: f64,
    /// Events that Kafka has confirmed since the start.
    pub events_delivered: u64,
    /// How long ago it confirmed the last one; `null` if there was none.
    pub last_delivery_seconds_ago: Option<f64>,
    /// How far the backfill is, while there is one.
    pub backfill: Option<Backfill>,
    /// Rows deleted or marked, or partitions dropped, since the start (`after_publish`).
    pub cleaned: u64,
    /// Why that cannot go on at present.
    pub cleaning_error: Option<String>,
    /// The slot as the relay saw it last.
    pub slot_health: Option<SlotHealth>,
}

/// How far the backfill is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backfill {
    /// Rows to be sent.
    pub rows: u64,
    /// Those of them that Kafka has.
    pub done: u64,
    /// Rows a second since the first.
    pub rows_per_second: f64,
    /// How long the rest takes at this rate; `null` while there is none.
    pub seconds_left: Option<f64>,
    /// It in words.
    pub text: String,
}

/// What keeps events from moving.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocked {
    /// `postgres`, `kafka`, `topic` or `event`.
    pub on: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// For how long.
    pub seconds: f64,
    /// In words.
    pub reason: String,
}

/// The slot as the relay saw it last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotHealth {
    /// How long ago.
    pub seen_seconds_ago: f64,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL written since the confirmed position.
    pub lag_bytes: Option<i64>,
    /// WAL that the slot holds.
    pub retained_wal_bytes: Option<i64>,
    /// WAL that may still be written before the server drops what the slot needs; `null` without a limit.
    pub safe_wal_bytes: Option<i64>,
}

const NO_POSITION: &str = "0/0";

impl Report {
    /// What `snapshot` says of the relay of `postgres`. `now` and `wall` are the same moment on two clocks.
    #[must_use]
    pub fn new(snapshot: &Snapshot, postgres: &Postgres, now: Instant, wall: SystemTime) -> Self {
        let progress = &snapshot.progress;
        let since = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(snapshot.started.wall),
            state: snapshot.state.as_str().to_owned(),
            state_since: when(snapshot.started, snapshot.since),
            state_seconds: since(snapshot.since),
            blocked: snapshot.blocked.as_ref().map(|blocked| Blocked {
                on: blocked.on.as_str().to_owned(),
                since: when(snapshot.started, blocked.since),
                seconds: since(blocked.since),
                reason: blocked.reason.clone(),
            }),
            server: progress.server.clone(),
            slot: postgres.slot.clone(),
            publication: postgres.publication.clone(),
            received_lsn: progress.received.to_string(),
            confirmed_lsn: progress.confirmed.to_string(),
            in_flight_records: number(progress.in_flight_records),
            in_flight_bytes: number(progress.in_flight_bytes),
            oldest_unconfirmed_age_seconds: snapshot.oldest_unconfirmed_age(wall).as_secs_f64(),
            events_delivered: progress.delivered,
            last_delivery_seconds_ago: progress.last_delivery.map(since),
            backfill: progress.backfill.as_ref().map(|backfill| Backfill {
                rows: backfill.rows,
                done: backfill.done,
                rows_per_second: backfill.rate(now),
                seconds_left: backfill.time_left(now).map(|left| left.as_secs_f64()),
                text: backfill.in_words(now),
            }),
            cleaned: progress.cleaned,
            cleaning_error: progress.cleaning_error.clone(),
            slot_health: snapshot.slot.as_ref().map(|seen| SlotHealth {
                seen_seconds_ago: since(seen.at),
                wal_status: seen.slot.wal_status.clone(),
                lag_bytes: seen.slot.lag_bytes,
                retained_wal_bytes: seen.slot.retained_bytes,
                safe_wal_bytes: seen.slot.safe_wal_bytes,
            }),
        }
    }

    /// The lines about the relay itself, for a person.
    #[must_use]
    pub fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.add("state", &format!("{}, for {}", self.state, duration(self.state_seconds)));
        if let Some(blocked) = &self.blocked {
            lines.add("blocked on", &format!("{}, for {}", blocked.on, duration(blocked.seconds)));
            lines.add("reason", &blocked.reason);
        }
        if let Some(server) = &self.server {
            lines.add("server", server);
        }
        if let Some(backfill) = &self.backfill {
            lines.add("backfill", &backfill.text);
        }
        // Rows that come by a query have no position.
        if self.received_lsn != NO_POSITION {
            lines.add("received", &self.received_lsn);
            lines.add("confirmed", &self.confirmed_lsn);
        }
        let records = plural(self.in_flight_records, "record");
        lines.add("in flight", &format!("{records}, {}", bytes(signed(self.in_flight_bytes))));
        lines.add("oldest unconfirmed", &self.oldest_unconfirmed());
        let last = match self.last_delivery_seconds_ago {
            Some(seconds) => format!(", the last {} ago", duration(seconds)),
            None => String::new(),
        };
        lines.add("delivered", &format!("{}{last}", plural(self.events_delivered, "event")));
        if self.cleaned > 0 {
            lines.add("cleaned up", &self.cleaned.to_string());
        }
        if let Some(error) = &self.cleaning_error {
            lines.add("not cleaned up", error.lines().next().unwrap_or_default());
        }
        lines.add("started", &format!("{}, version {}", self.started, self.version));
        lines
    }

    /// The age of the oldest event that was read and not confirmed, in words.
    #[must_use]
    pub fn oldest_unconfirmed(&self) -> String {
        if self.in_flight_records == 0 && self.oldest_unconfirmed_age_seconds == 0.0 {
            "none".to_owned()
        } else {
            format!("{} old", duration(self.oldest_unconfirmed_age_seconds))
        }
    }
}

impl SlotHealth {
    /// The lines about the slot, for a person.
    #[must_use]
    pub fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.add("behind the server", &size(self.lag_bytes));
        lines.add("holds WAL", &size(self.retained_wal_bytes));
        if self.wal_status.as_deref() != Some("lost") {
            lines.add_safe_wal(self.safe_wal_bytes);
        }
        lines.add("wal_status", self.wal_status.as_deref().unwrap_or(UNKNOWN));
        lines.add("seen", &format!("{} ago", duration(self.seen_seconds_ago)));
        lines
    }
}

/// Names and values below each other.
#[derive(Debug, Default)]
pub struct Lines(String);

impl Lines {
    /// Adds a line. What is not meant for a terminal is left out of the value: it may come from a server.
    pub fn add(&mut self, name: &str, value: &str) {
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Writing into a string cannot fail.
        let _ = writeln!(self.0, "  {name:<20}  {value}");
    }

    /// Adds how much WAL may still be written before the server drops what the slot needs.
    pub fn add_safe_wal(&mut self, safe: Option<i64>) {
        let safe = safe.map_or_else(|| "no limit".to_owned(), bytes);
        self.add("WAL until it is lost", &safe);
    }

    /// The lines as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// What is said of a value that the server does not tell.
pub const UNKNOWN: &str = "unknown";

/// A size for a person, if it is known: `12.3 MiB`.
#[must_use]
pub fn size(size: Option<i64>) -> String {
    size.map_or_else(|| UNKNOWN.to_owned(), bytes)
}

fn bytes(bytes: i64) -> String {
    ByteSize::b(u64::try_from(bytes).unwrap_or(0)).to_string()
}

/// A time for a person: tenths of a second up to ten seconds, then whole ones.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{:.1}s", seconds.max(0.0));
    }
    let whole = Duration::try_from_secs_f64(seconds.floor()).unwrap_or_default();
    humantime::format_duration(whole).to_string()
}

fn plural(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// `at` on the wall clock, as far as that has not been set since the start.
fn when(started: Started, at: Instant) -> String {
    let after = at.saturating_duration_since(started.at);
    started.wall.checked_add(after).map_or_else(String::new, rfc3339)
}

/// To the second; nothing for a time that RFC 3339 has no year for.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let mut text = String::new();
    match write!(text, "{}", humantime::format_rfc3339_seconds(time)) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}

fn number(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backfill;
    use crate::lsn::Lsn;
    use crate::postgres::control::Slot;
    use crate::secret::Secret;
    use crate::status::{self, On, Progress, SlotSeen, State};

    fn postgres() -> Postgres {
        Postgres {
            url: Secret::new("postgres://u:hunter2@h/shop".to_owned()),
            slot: "outbox_relay".to_owned(),
            publication: "outbox_relay".to_owned(),
            create_slot: true,
            backfill: false,
        }
    }

    /// A relay that was started at 2026-01-02 03:04:05 UTC, and the moment `seconds` later.
    fn relay(seconds: u64) -> (Snapshot, Instant, SystemTime) {
        let at = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let after = Duration::from_secs(seconds);
        (Snapshot::new(Started { at, wall }), at + after, wall + after)
    }

    fn words(report: &Report) -> String {
        report.lines().text().replace(env!("CARGO_PKG_VERSION"), "VERSION")
    }

    #[test]
    fn a_relay_that_has_just_been_started() {
        let (snapshot, now, wall) = relay(2);
        insta::assert_snapshot!(words(&Report::new(&snapshot, &postgres(), now, wall)), @"
        state                 connecting, for 2.0s
        in flight             0 records, 0 B
        oldest unconfirmed    none
        delivered             0 events
        started               2026-01-02T03:04:05Z, version VERSION
        ");
    }

    #[test]
    fn a_relay_that_is_blocked() {
        let (mut snapshot, now, wall) = relay(7_500);
        snapshot.state = State::Blocked;
        snapshot.since = now - Duration::from_secs(83);
        let reason = "no broker\nanswers \u{1b}[31m".to_owned();
        snapshot.blocked =
            Some(status::Blocked { on: On::Kafka, since: now - Duration::from_secs(83), reason });
        snapshot.progress = Progress {
            server: Some("db.example:5432".to_owned()),
            received: Lsn::new(0x16_B374_D848),
            confirmed: Lsn::new(0x16_B374_0000),
            in_flight_records: 3,
            in_flight_bytes: 1_700,
            oldest_unconfirmed: Some(wall - Duration::from_secs(84)),
            delivered: 1,
            last_delivery: Some(now - Duration::from_millis(84_250)),
            backfill: Some(backfill::Progress {
                rows: 1_000,
                done: 250,
                began: now - Duration::from_secs(10),
            }),
            cleaned: 7,
            cleaning_error: Some("delete published rows: ERROR 42501: no".to_owned()),
        };
        let slot = Slot {
            lag_bytes: Some(55_368),
            retained_bytes: Some(13_000_000),
            wal_status: Some("reserved".to_owned()),
            ..Slot::default()
        };
        snapshot.slot = Some(SlotSeen { slot, at: now - Duration::from_secs(4) });
        let report = Report::new(&snapshot, &postgres(), now, wall);
        insta::assert_snapshot!(words(&report), @"
        state                 blocked, for 1m 23s
        blocked on            kafka, for 1m 23s
        reason                no broker answers  [31m
        server                db.example:5432
        backfill              250 of 1000 rows (25 %), 25 rows/s, 30s left
        received              16/B374D848
        confirmed             16/B3740000
        in flight             3 records, 1.7 KiB
        oldest unconfirmed    1m 24s old
        delivered             1 event, the last 1m 24s ago
        cleaned up            7
        not cleaned up        delete published rows: ERROR 42501: no
        started               2026-01-02T03:04:05Z, version VERSION
        ");
        insta::assert_snapshot!(report.slot_health.as_ref().unwrap().lines().text(), @"
        behind the server     54.1 KiB
        holds WAL             12.4 MiB
        WAL until it is lost  no limit
        wal_status            reserved
        seen                  4.0s ago
        ");
        let json =
            serde_json::to_string_pretty(&report).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert!(!json.contains("hunter2"));
        insta::assert_snapshot!(json, @r#"
        {
          "version": "VERSION",
          "started": "2026-01-02T03:04:05Z",
          "state": "blocked",
          "state_since": "2026-01-02T05:07:42Z",
          "state_seconds": 83.0,
          "blocked": {
            "on": "kafka",
            "since": "2026-01-02T05:07:42Z",
            "seconds": 83.0,
            "reason": "no broker\nanswers \u001b[31m"
          },
          "server": "db.example:5432",
          "slot": "outbox_relay",
          "publication": "outbox_relay",
          "received_lsn": "16/B374D848",
          "confirmed_lsn": "16/B3740000",
          "in_flight_records": 3,
          "in_flight_bytes": 1700,
          "oldest_unconfirmed_age_seconds": 84.0,
          "events_delivered": 1,
          "last_delivery_seconds_ago": 84.25,
          "backfill": {
            "rows": 1000,
            "done": 250,
            "rows_per_second": 25.0,
            "seconds_left": 30.0,
            "text": "250 of 1000 rows (25 %), 25 rows/s, 30s left"
          },
          "cleaned": 7,
          "cleaning_error": "delete published rows: ERROR 42501: no",
          "slot_health": {
            "seen_seconds_ago": 4.0,
            "wal_status": "reserved",
            "lag_bytes": 55368,
            "retained_wal_bytes": 13000000,
            "safe_wal_bytes": null
          }
        }
        "#);
    }

    #[test]
    fn a_page_of_another_version_is_read_as_far_as_it_goes() {
        let report: Report = serde_json::from_str(r#"{"state": "streaming", "new": 1}"#).unwrap();
        assert_eq!(report.state, "streaming");
        let (snapshot, now, wall) = relay(0);
        let report = Report::new(&snapshot, &postgres(), now, wall);
        let page = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&page).unwrap(), report);
    }
}
