//! The server as a whole, and the role that the relay logs in as.

use super::Finding;
use crate::postgres::sql::{identifier, literal};
use crate::postgres::survey::{Role, Settings};
use crate::postgres::synchronous;

/// The oldest release the relay works with: before it, `pgoutput` cannot be asked for what the relay needs.
const OLDEST: u32 = 14;
/// Since then a standby can decode.
const DECODES_ON_STANDBY: u32 = 16;

pub(super) fn server(server: &Settings, role: &Role, application_name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.major() < OLDEST {
        findings.push(Finding::stop(
            "server_version",
            format!("PostgreSQL is {}, expected {OLDEST} or later", server.version),
            "upgrade the server",
        ));
    }
    if server.wal_level != "logical" {
        findings.push(Finding::stop(
            "wal_level",
            format!("wal_level = {}, expected logical", server.wal_level),
            "as a superuser: ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL (a managed service has it as a \
             parameter, such as rds.logical_replication = 1)",
        ));
    }
    if synchronous::includes(&server.synchronous_standby_names, application_name) {
        findings.push(Finding::stop(
            "synchronous_standby",
            format!(
                "synchronous_standby_names = {} includes the relay (application_name \"{}\"): commits would wait for Kafka",
                literal(&server.synchronous_standby_names),
                application_name
            ),
            "name the physical standbys in synchronous_standby_names, or give the relay an application_name that is not \
             there, in postgres.url",
        ));
    }
    if server.in_recovery && server.major() < DECODES_ON_STANDBY {
        findings.push(Finding::wait(
            "server_in_recovery",
            format!(
                "the server is a standby, and PostgreSQL {} decodes on a primary only (a standby can since {DECODES_ON_STANDBY})",
                server.major()
            ),
            "name all hosts in postgres.url and add target_session_attrs=primary, or promote the standby",
        ));
    }
    if server.standbys > 0 && server.synchronized_standby_slots.as_deref() == Some("") {
        findings.push(Finding::warn(
            "standbys_may_lag",
            format!(
                "{} follow this server, and synchronized_standby_slots is empty: after a failover Kafka may have events of \
                 transactions that the new primary never got",
                counted(server.standbys, "standby", "standbys")
            ),
            "ALTER SYSTEM SET synchronized_standby_slots = 'the slot of each standby that may be promoted'; then SELECT \
             pg_reload_conf()",
        ));
    }
    for limit in &role.limits {
        let name = limit.split('=').next().unwrap_or(limit);
        findings.push(Finding::warn(
            "role_limit",
            format!("{limit} is set for role \"{}\" or its database: it does not reach the relay, whose sessions set it to 0", role.name),
            format!("nothing to do; to take it away from the role: ALTER ROLE {} RESET {name}", identifier(&role.name)),
        ));
    }
    findings
}

fn counted(number: u32, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}
