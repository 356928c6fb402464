//! Where the relay stands, as a value, and what it looks like: text, a line, JSON.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::postgres::control::{Server, Slot};
use crate::report::{Lines, Report, UNKNOWN, duration, rfc3339, size};

/// What was seen on both sides.
pub(super) struct Standing {
    /// When.
    pub(super) at: SystemTime,
    /// The configured slot.
    pub(super) slot: String,
    /// PostgreSQL, or why it cannot be seen.
    pub(super) postgres: Result<Postgres, String>,
    /// The relay.
    pub(super) relay: Relay,
}

/// What PostgreSQL says.
pub(super) struct Postgres {
    /// Where it is.
    pub(super) host: String,
    /// The database.
    pub(super) database: String,
    /// The server.
    pub(super) server: Server,
    /// The slot; `None` if there is none.
    pub(super) slot: Option<Slot>,
    /// With `outbox.source = "poll"`, which has no slot: each table with its pending rows, as far as they were counted.
    pub(super) pending: Option<Vec<(String, u64)>>,
}

/// More pending rows are not counted.
pub(super) const MOST_PENDING: u64 = 100_000;

/// What the relay says.
pub(super) enum Relay {
    /// `http.listen` is empty: it cannot be asked.
    Off,
    /// It does not answer.
    Silent {
        /// Where it was looked for.
        address: String,
        /// Why not.
        reason: String,
    },
    /// It answered.
    Answered {
        /// Where.
        address: String,
        /// The page, whole.
        page: Value,
        /// The page, as far as this version knows it.
        report: Box<Report>,
    },
}

impl Relay {
    /// Reads the page `/status` that `address` answered with.
    pub(super) fn read(address: String, page: &str) -> Self {
        let report = serde_json::from_str::<Report>(page).ok().filter(|report| !report.state.is_empty());
        match (report, serde_json::from_str(page)) {
            (Some(report), Ok(page)) => Self::Answered { address, page, report: Box::new(report) },
            _ => Self::Silent { address, reason: "no page of outbox-relay".to_owned() },
        }
    }
}

/// What the slot is, if not one of the relay's kind.
fn of_another(slot: &Slot, database: &str) -> Option<String> {
    match (slot.plugin.as_deref(), slot.database.as_deref()) {
        (Some("pgoutput"), Some(of)) if of == database => None,
        (Some("pgoutput"), of) => Some(format!("for database \"{}\"", of.unwrap_or_default())),
        (Some(plugin), _) => Some(format!("of output plugin {plugin}")),
        (None, _) => Some("a physical slot".to_owned()),
    }
}

impl Standing {
    /// What somebody has to look after: the reason for exit status 1.
    pub(super) fn problems(&self) -> Vec<String> {
        let name = &self.slot;
        match &self.postgres {
            Err(error) => vec![error.clone()],
            Ok(Postgres { pending: Some(_), .. }) => Vec::new(),
            Ok(Postgres { slot: None, .. }) => vec![format!("slot \"{name}\" does not exist")],
            Ok(Postgres { slot: Some(slot), database, .. }) => {
                let lost =
                    lost(slot).map(|reason| format!("slot \"{name}\" cannot be used any more: {reason}"));
                let others = of_another(slot, database)
                    .map(|what| format!("slot \"{name}\" is not the relay's: it is {what}"));
                lost.into_iter().chain(others).collect()
            }
        }
    }

    /// `{"server", "slot", "relay"}`, and the problems.
    pub(super) fn json(&self) -> Value {
        let postgres = self.postgres.as_ref().ok();
        json!({
            "server": postgres.map(server_json),
            "pending": postgres.and_then(|postgres| postgres.pending.as_ref()).map(|pending| {
                pending.iter().map(|(table, rows)| (table.clone(), json!(rows))).collect::<Map<_, _>>()
            }),
            "slot": postgres.and_then(|postgres| postgres.slot.as_ref()).map(|slot| self.slot_json(slot)),
            "relay": match &self.relay {
                Relay::Answered { page, .. } => page,
                Relay::Off | Relay::Silent { .. } => &Value::Null,
            },
            "problems": self.problems(),
        })
    }

    /// Several lines for a person, what matters most first: a screen may be too small for all.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for problem in self.problems() {
            text.push_str(&format!(
                "problem: {problem}\n\nhint: outbox-relay check looks at everything that the relay needs\n\n"
            ));
        }
        match &self.relay {
            Relay::Off => text.push_str("Relay\n  not asked: http.listen is empty\n"),
            Relay::Silent { address, reason } => text.push_str(&format!(
                "Relay at http://{address}\n  not running here, or http.listen differs: {reason}\n"
            )),
            Relay::Answered { address, report, .. } => {
                text.push_str(&format!("Relay at http://{address}\n"));
                if !self.is_ours(report) {
                    text.push_str(&format!("  another one: it follows slot \"{}\"\n", report.slot));
                }
                text.push_str(report.lines().text());
            }
        }
        if let Ok(postgres) = &self.postgres {
            if let Some(pending) = &postgres.pending {
                text.push_str(&format!("\nPending rows\n{}", pending_lines(pending).text()));
            }
            if let Some(slot) = postgres.slot.as_ref().filter(|_| postgres.pending.is_none()) {
                text.push_str(&format!("\nSlot {}\n{}", self.slot, self.slot_lines(slot).text()));
            }
            text.push_str(&format!("\nPostgreSQL at {}\n{}", postgres.host, server_lines(postgres).text()));
        }
        text
    }

    /// One line, for a log.
    pub(super) fn line(&self) -> String {
        let mut parts = vec![rfc3339(self.at)];
        match &self.relay {
            Relay::Answered { report, .. } => {
                parts.push(report.state.clone());
                if let Some(blocked) = &report.blocked {
                    parts.push(format!("on {} for {}", blocked.on, duration(blocked.seconds)));
                }
                parts.push(format!("{} in flight", report.in_flight_records));
                parts.push(format!("{} delivered", report.events_delivered));
                parts.push(format!("oldest unconfirmed {}", report.oldest_unconfirmed()));
            }
            Relay::Off => parts.push("relay not asked".to_owned()),
            Relay::Silent { .. } => parts.push("relay does not answer".to_owned()),
        }
        if let Ok(Postgres { pending: Some(pending), .. }) = &self.postgres {
            let rows: u64 = pending.iter().map(|(_, rows)| rows).sum();
            parts.push(format!("{rows} pending"));
        } else if let Ok(Postgres { slot: Some(slot), .. }) = &self.postgres {
            parts.push(format!("{} behind", size(slot.lag_bytes)));
            parts.push(format!("holds {}", size(slot.retained_bytes)));
            parts.push(slot.wal_status.as_deref().unwrap_or(UNKNOWN).to_owned());
        }
        parts.extend(self.problems().into_iter().map(|problem| format!("problem: {problem}")));
        let line = parts.join(", ");
        line.replace(char::is_control, " ") + "\n"
    }

    /// How old the oldest event is that was read and not confirmed, in seconds: only the relay that streams knows.
    fn lag_seconds(&self) -> Option<f64> {
        match &self.relay {
            Relay::Answered { report, .. } if self.is_ours(report) && report.state != "standby" => {
                Some(report.oldest_unconfirmed_age_seconds)
            }
            _ => None,
        }
    }

    fn is_ours(&self, report: &Report) -> bool {
        report.slot == self.slot
    }

    fn slot_json(&self, slot: &Slot) -> Value {
        json!({
            "name": self.slot,
            "plugin": slot.plugin,
            "database": slot.database,
            "active_pid": slot.active_pid,
            "application_name": slot.application_name,
            "active_seconds": slot.connected.map(|time| time.as_secs_f64()),
            "inactive_seconds": slot.inactive.map(|time| time.as_secs_f64()),
            "confirmed_flush_lsn": slot.confirmed_flush.map(|lsn| lsn.to_string()),
            "restart_lsn": slot.restart.map(|lsn| lsn.to_string()),
            "lag_bytes": slot.lag_bytes,
            "lag_seconds": self.lag_seconds(),
            "retained_wal_bytes": slot.retained_bytes,
            "safe_wal_bytes": slot.safe_wal_bytes,
            "wal_status": slot.wal_status,
            "conflicting": slot.conflicting,
            "invalidation_reason": slot.invalidation_reason,
        })
    }

    fn slot_lines(&self, slot: &Slot) -> Lines {
        let mut lines = Lines::default();
        lines.add("used by", &user(slot));
        let position =
            |lsn: Option<crate::lsn::Lsn>| lsn.map_or_else(|| "none".to_owned(), |lsn| lsn.to_string());
        lines.add("confirmed", &position(slot.confirmed_flush));
        lines.add("behind the server", &size(slot.lag_bytes));
        let oldest = match (&self.relay, self.lag_seconds()) {
            (Relay::Answered { report, .. }, Some(_)) => report.oldest_unconfirmed(),
            _ => "unknown: only the relay that streams knows".to_owned(),
        };
        lines.add("oldest unconfirmed", &oldest);
        lines.add("restart_lsn", &position(slot.restart));
        lines.add("holds WAL", &size(slot.retained_bytes));
        if lost(slot).is_none() {
            lines.add_safe_wal(slot.safe_wal_bytes);
        }
        lines.add("wal_status", slot.wal_status.as_deref().unwrap_or(UNKNOWN));
        if slot.conflicting == Some(true) {
            lines.add("conflicting", "true");
        }
        if let Some(reason) = &slot.invalidation_reason {
            lines.add("invalidation_reason", reason);
        }
        lines
    }
}

fn pending_lines(pending: &[(String, u64)]) -> Lines {
    let mut lines = Lines::default();
    for (table, rows) in pending {
        let more = if *rows >= MOST_PENDING { " or more" } else { "" };
        lines.add(table, &format!("{rows}{more}"));
    }
    lines
}

/// Why the slot can never be used again, if so.
fn lost(slot: &Slot) -> Option<String> {
    let reason = slot.invalidation_reason.as_ref().map(|reason| format!("invalidation_reason = {reason}"));
    let lost = (slot.wal_status.as_deref() == Some("lost")).then(|| "wal_status = lost".to_owned());
    let conflicting = (slot.conflicting == Some(true)).then(|| "conflicting = true".to_owned());
    reason.or(lost).or(conflicting)
}

fn user(slot: &Slot) -> String {
    let time = |time: Option<std::time::Duration>| {
        time.map_or_else(String::new, |time| format!(", for {}", duration(time.as_secs_f64())))
    };
    match (slot.active_pid, &slot.application_name) {
        (Some(pid), Some(name)) => format!("pid {pid} ({name}){}", time(slot.connected)),
        (Some(pid), None) => format!("pid {pid}{}", time(slot.connected)),
        (None, _) => format!("nobody{}", time(slot.inactive)),
    }
}

fn server_json(Postgres { host, database, server, .. }: &Postgres) -> Value {
    json!({
        "host": host,
        "database": database,
        "version": server.version,
        "system_identifier": server.system_identifier,
        "in_recovery": server.in_recovery,
        "wal_level": server.wal_level,
        "current_lsn": server.current.map(|lsn| lsn.to_string()),
    })
}

fn server_lines(Postgres { database, server, .. }: &Postgres) -> Lines {
    let mut lines = Lines::default();
    let role = if server.in_recovery { "standby" } else { "primary" };
    lines.add("version", &format!("{}, {role}", server.version));
    lines.add("database", database);
    lines.add("system identifier", server.system_identifier.as_deref().unwrap_or("not allowed to ask"));
    lines.add("wal_level", &server.wal_level);
    lines.add("current LSN", &server.current.map_or_else(|| UNKNOWN.to_owned(), |lsn| lsn.to_string()));
    lines
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
