//! What `outbox.source = "poll"` needs: no replication, but rights on the tables, and a status in their rows.

use super::{Finding, Wanted, outbox, server};
use crate::postgres::survey::Survey;

/// Findings about logical decoding alone: a query sees such columns and tables.
const OF_THE_LOG: [&str; 3] = ["column_generated", "table_unlogged", "wal_level"];

/// What `survey` shows to be wrong for a poller, the gravest first.
#[must_use]
pub fn polled(wanted: &Wanted<'_>, survey: &Survey) -> Vec<Finding> {
    let mut findings = server::server(&survey.server, &survey.role, wanted.application_name);
    findings.retain(|finding| finding.id == "server_version" || finding.id == "role_limit");
    if survey.server.in_recovery {
        findings.push(Finding::wait(
            "server_in_recovery",
            "the server is a standby: rows cannot be marked or deleted there",
            "name all hosts in postgres.url and add target_session_attrs=primary, or promote the standby",
        ));
    }
    for meant in &survey.tables {
        findings.extend(outbox::meant(meant, wanted));
        for outbox in &meant.found {
            findings.extend(outbox::table(outbox, None, &survey.server, wanted));
        }
    }
    findings.retain(|finding| !OF_THE_LOG.contains(&finding.id));
    findings.sort_by_key(|finding| finding.level);
    findings
}
