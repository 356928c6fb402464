//! Where an event that was lost can still be found: in the write-ahead log, which a slot of nobody's keeps, or in Kafka after
//! all. That tells who has lost it.

use std::time::Duration;

use anyhow::Result;
use outbox_relay::postgres::conninfo::ConnInfo;

use crate::consumer;
use crate::oracle::{Verdict, Violation};
use crate::server::client;

/// A run that is longer would write more than its disk holds while nothing is removed from the log.
pub(crate) const LONGEST: Duration = Duration::from_secs(45);

/// The slot.
pub(crate) const WITNESS: &str = "SELECT pg_create_logical_replication_slot('witness', 'pgoutput')";

/// So many are looked for.
const TOLD: usize = 5;

/// A line for each of the first events that `verdict` calls lost.
///
/// # Errors
/// If a server is not there.
pub(crate) async fn of(verdict: &Verdict, superuser: &ConnInfo, broker: &str) -> Result<Vec<String>> {
    let lost: Vec<&Violation> = verdict.lost().take(TOLD).collect();
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let oracle = tokio::task::block_in_place(|| consumer::read_anew(broker))?;
    let client = client(superuser).await?;
    let sql = "SELECT coalesce(string_agg(format('%s of transaction %s', lsn, xid), ', '), 'nowhere')
                 FROM pg_logical_slot_peek_binary_changes('witness', NULL, NULL, 'proto_version', '1',
                          'publication_names', (SELECT string_agg(quote_ident(pubname), ',') FROM pg_publication),
                          'messages', 'true')
                WHERE position(convert_to($1, 'UTF8') IN data) > 0";
    let mut lines = Vec::new();
    for violation in lost {
        let Some(id) = violation.event else { continue };
        let kafka = if oracle.has(id) { "there" } else { "not, or not any more" };
        let log: String = client.query_one(sql, &[&id.to_string()]).await?.get(0);
        lines.push(format!("{id}: in the log {log}; in Kafka, read anew, {kafka}"));
    }
    Ok(lines)
}
