//! The replication slot: is it there, is it ours, and does it still have what has not been sent.

use super::{Finding, Wanted};
use crate::lsn::Lsn;
use crate::outbox::TableName;
use crate::postgres::control::Slot;
use crate::postgres::publication::Publication;
use crate::postgres::sql::{self, identifier, literal};
use crate::postgres::survey::{Outbox, Survey};

/// The one finding that a relay waits out as a standby.
pub const SLOT_IN_USE: &str = "slot_in_use";

pub(super) fn slot(survey: &Survey, wanted: &Wanted<'_>, known: Option<Lsn>) -> Vec<Finding> {
    let name = wanted.slot;
    match (&survey.slot, known) {
        (Some(slot), _) => existing(name, slot, survey, wanted),
        (None, Some(confirmed)) => vec![gone(name, confirmed)],
        (None, None) => missing(name, survey, wanted),
    }
}

fn existing(name: &str, slot: &Slot, survey: &Survey, wanted: &Wanted<'_>) -> Vec<Finding> {
    let other = |what, found: Option<&str>, expected: &str| {
        vec![Finding::stop(
            "slot_of_another",
            format!(
                "slot \"{name}\": {what} is {}, expected {expected}",
                found.unwrap_or("none (a physical slot)")
            ),
            "name another slot in postgres.slot, or drop this one if nobody needs it",
        )]
    };
    if slot.plugin.as_deref() != Some("pgoutput") {
        return other("plugin", slot.plugin.as_deref(), "pgoutput");
    }
    if slot.database.as_deref() != Some(wanted.database) {
        return other("database", slot.database.as_deref(), wanted.database);
    }
    if slot.wal_status.as_deref() == Some("lost") {
        return vec![lost(name, slot)];
    }
    if slot.synced {
        return vec![Finding::wait(
            "server_in_recovery",
            format!(
                "slot \"{name}\" is a copy that this standby keeps of its primary's: nobody can use it before a promotion"
            ),
            "name all hosts in postgres.url and add target_session_attrs=primary, or promote the standby",
        )];
    }
    let mut findings = Vec::new();
    if slot.wal_status.as_deref() == Some("unreserved") {
        findings.push(Finding::warn(
            "slot_almost_lost",
            format!(
                "slot \"{name}\" is about to be lost (wal_status = unreserved): the next checkpoint may remove WAL that it needs"
            ),
            "let the relay catch up now, and raise max_slot_wal_keep_size: ALTER SYSTEM SET max_slot_wal_keep_size = \
             '…'; then SELECT pg_reload_conf()",
        ));
    }
    if let Some(pid) = slot.active_pid {
        findings.push(Finding::wait(
            SLOT_IN_USE,
            format!("slot \"{name}\" is in use by process {pid} of the server"),
            "nothing to do if that is the relay (outbox-relay status tells how it is): another instance waits as its \
             standby. Who it is: SELECT * FROM pg_stat_replication",
        ));
    }
    findings.extend(survey.publication.iter().flat_map(|seen| perhaps_newer(name, seen, survey, wanted)));
    findings
}

/// Whether somebody may have made or changed the publication while nobody was looking.
fn perhaps_newer(
    slot: &str,
    publication: &Publication,
    survey: &Survey,
    wanted: &Wanted<'_>,
) -> Vec<Finding> {
    let name = wanted.publication;
    let mut findings = Vec::new();
    if publication.perhaps_newer {
        findings.push(Finding::warn(
            "publication_perhaps_newer",
            format!(
                "the server's books do not show that publication \"{name}\" is older than slot \"{slot}\": if it was made \
                 after the slot, the relay stops at rows that were written before that; if it was altered, rows that it left \
                 out before are not sent"
            ),
            "nothing to do if it was made first, as outbox-relay setup does: other slots of the server hide the order for a \
             time. If it was made or altered later: send the rows written before that again from the table; if the relay \
             stops at them, also drop the slot, and let the relay make it anew",
        ));
    }
    let newer = |outbox: &&Outbox| {
        let listed = publication.of(outbox).and_then(|published| published.listed);
        listed.is_some_and(|listed| listed.perhaps_newer && !listed.from_the_first)
    };
    for outbox in survey.outboxes().filter(newer) {
        let table = &outbox.table.name;
        findings.push(Finding::warn(
            "publication_perhaps_newer",
            format!(
                "the server's books do not show that publication \"{name}\" held table \"{table}\" before the position of slot \
                 \"{slot}\": rows that were committed while it did not hold the table are not sent"
            ),
            "nothing to do if no rows were written then; other slots of the server hide the order for a time. If there are \
             such rows: send them again from the table",
        ));
    }
    findings
}

fn lost(name: &str, slot: &Slot) -> Finding {
    let confirmed = slot.confirmed_flush.unwrap_or(Lsn::ZERO);
    let (why, remedy) = match slot.invalidation_reason.as_deref() {
        None | Some("wal_removed") => {
            (format!("the WAL after {confirmed} was removed"), "raise max_slot_wal_keep_size")
        }
        Some("idle_timeout") => (
            format!("nobody used it for too long, and it stands at {confirmed}"),
            "raise idle_replication_slot_timeout",
        ),
        Some("wal_level_insufficient") => (
            format!("wal_level was not logical for a time, and it stands at {confirmed}"),
            "keep wal_level = logical, also on the primary",
        ),
        Some(reason) => {
            (format!("{reason}, and it stands at {confirmed}"), "on a standby, turn hot_standby_feedback on")
        }
    };
    Finding::stop(
        "slot_lost",
        format!("slot \"{name}\" is lost (wal_status = lost): {why}"),
        format!(
            "what was committed after that position and not sent is lost to this slot. Send those rows again from the \
             table, then SELECT pg_drop_replication_slot({}) and start the relay, and {remedy}",
            literal(name)
        ),
    )
}

fn gone(name: &str, confirmed: Lsn) -> Finding {
    Finding::stop(
        "slot_gone",
        format!(
            "slot \"{name}\" is gone: somebody has dropped it. It was confirmed up to {confirmed} when it was seen last"
        ),
        "what was committed after that position and not sent will not come again by itself. Start the relay: it makes the \
         slot anew, from then on; and send those rows again from the table",
    )
}

fn missing(name: &str, survey: &Survey, wanted: &Wanted<'_>) -> Vec<Finding> {
    if !wanted.create_slot {
        return vec![Finding::stop(
            "slot_missing",
            format!("replication slot \"{name}\" does not exist, and postgres.create_slot is false"),
            format!(
                "outbox-relay setup, or SELECT pg_create_logical_replication_slot({}, 'pgoutput')",
                literal(name)
            ),
        )];
    }
    let mut findings = Vec::new();
    let server = &survey.server;
    let (needed, why) = if wanted.backfill { (2, " (the backfill needs two)") } else { (1, "") };
    if server.slots.saturating_add(needed) > server.max_slots {
        findings.push(Finding::wait(
            "no_free_slot",
            format!(
                "no replication slot is free for \"{name}\"{why}: max_replication_slots = {}, and there are {}",
                server.max_slots, server.slots
            ),
            "drop one that nobody uses (SELECT slot_name, active FROM pg_replication_slots), or raise \
             max_replication_slots and restart PostgreSQL",
        ));
    }
    if wanted.backfill {
        let unreadable = survey.outboxes().filter(|outbox| !outbox.readable);
        findings.extend(unreadable.map(|outbox| not_readable(&outbox.table.name, &survey.role.name)));
        return findings;
    }
    for outbox in survey.outboxes().filter(|outbox| outbox.has_rows) {
        let table = &outbox.table.name;
        findings.push(Finding::warn(
            "rows_before_slot",
            format!(
                "table \"{table}\" has rows, and slot \"{name}\" does not exist yet: rows that were committed before it is made are not sent"
            ),
            "if they shall be sent: postgres.backfill = true sends them before it makes the slot, and outbox-relay setup \
             --backfill does so once",
        ));
    }
    findings
}

/// Rows that are in the table already can be had by a query only.
fn not_readable(table: &TableName, role: &str) -> Finding {
    Finding::stop(
        "table_not_readable",
        format!("role \"{role}\" may not read table \"{table}\", whose rows postgres.backfill is to send"),
        format!(
            "GRANT SELECT ON {} TO {}; or run outbox-relay setup --backfill --as URL as a role that may",
            sql::table(table),
            identifier(role)
        ),
    )
}
