//! What `outbox.source = "poll"` needs: no replication, but rights on the tables, and a status in their rows.

use super::after_publish::{UNSENT_ROWS, after_publish};
use super::{Finding, Wanted, outbox, server};
use crate::config::{Action, AfterPublish};
use crate::postgres::survey::Survey;

/// Findings about logical decoding alone: a query sees such columns and tables.
const OF_THE_LOG: [&str; 6] = [
    "column_generated",
    "table_unlogged",
    "wal_level",
    "after_publish_feeds_itself",
    "after_publish_partition_key",
    UNSENT_ROWS,
];

/// What to do with published rows takes other rights for each action.
const RIGHTS: &str = "after_publish_rights";

/// A pattern is resolved when the relay starts.
const LATER: &str = "nothing to do if there will be some: start the relay again when they are there. Else correct outbox.tables";

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
        findings.extend(outbox::meant(meant, wanted).map(|finding| match finding.id {
            "tables_none" => Finding { fix: LATER.to_owned(), ..finding },
            _ => finding,
        }));
        for outbox in &meant.found {
            findings.extend(outbox::table(outbox, None, &survey.server, wanted));
        }
    }
    findings.extend(status(survey, wanted));
    findings.retain(|finding| !OF_THE_LOG.contains(&finding.id));
    findings.sort_by_key(|finding| finding.level);
    findings
}

/// Rows are chosen by their status as "mark" does it, also by who deletes them then.
fn status(survey: &Survey, wanted: &Wanted<'_>) -> Vec<Finding> {
    let own = wanted.after_publish;
    let deletes = own.action == Action::Delete;
    let published_at_column = own.published_at_column.clone().filter(|_| !deletes);
    let chosen = AfterPublish { action: Action::Mark, published_at_column, ..own.clone() };
    let mut findings = after_publish(survey, &Wanted { after_publish: &chosen, ..*wanted });
    if deletes {
        findings.retain(|finding| finding.id != RIGHTS);
        findings.extend(after_publish(survey, wanted).into_iter().filter(|finding| finding.id == RIGHTS));
    }
    findings
}
