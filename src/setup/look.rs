//! What is there: questions to the catalog, answered as plain values. Any role may ask them.

use crate::postgres::control::{Catalog, wrong};
use crate::postgres::error::Error;

/// The server, and who asks.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) database: String,
    pub(super) user: String,
    /// `server_version_num`: 170004.
    pub(super) version: i32,
    /// Whether it is a hot standby, where nothing can be made.
    pub(super) standby: bool,
}

/// A role, and what it may do here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    pub(super) login: bool,
    /// By its own attribute, as a superuser, or as a managed service grants it.
    pub(super) replication: bool,
    pub(super) connect: bool,
    /// Whether there is a managed service's role that stands for REPLICATION.
    pub(super) managed: bool,
}

pub(super) async fn session(catalog: &Catalog) -> Result<Session, Error> {
    const ACTION: &str = "look at the server";
    let sql = "SELECT current_database()::text, current_user::text, current_setting('server_version_num')::int, \
                      pg_is_in_recovery()";
    let rows = catalog.query(ACTION, sql, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::Closed { action: ACTION.into() })?;
    let session = || {
        Ok(Session {
            database: row.try_get(0)?,
            user: row.try_get(1)?,
            version: row.try_get(2)?,
            standby: row.try_get(3)?,
        })
    };
    session().map_err(wrong(ACTION))
}

pub(super) async fn role(catalog: &Catalog, name: &str) -> Result<Option<Role>, Error> {
    const ACTION: &str = "look at the role";
    let sql = "SELECT r.rolcanlogin, \
                      r.rolreplication OR r.rolsuper OR coalesce(pg_has_role(r.oid, m.oid, 'MEMBER'), false), \
                      has_database_privilege(r.oid, current_database(), 'CONNECT'), \
                      m.oid IS NOT NULL \
                 FROM pg_roles r LEFT JOIN pg_roles m ON m.rolname = 'rds_replication' \
                WHERE r.rolname = $1::text::name";
    let rows = catalog.query(ACTION, sql, &[&name]).await?;
    let role = rows.first().map(|row| {
        Ok(Role {
            login: row.try_get(0)?,
            replication: row.try_get(1)?,
            connect: row.try_get(2)?,
            managed: row.try_get(3)?,
        })
    });
    role.transpose().map_err(wrong(ACTION))
}

/// Whether the role has a password; nothing if the one who asks may not see that.
pub(super) async fn password(catalog: &Catalog, role: &str) -> Result<Option<bool>, Error> {
    const ACTION: &str = "look whether the role has a password";
    let sql = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    let allowed = catalog.query(ACTION, sql, &[]).await?;
    let allowed: bool = allowed.first().map_or(Ok(false), |row| row.try_get(0)).map_err(wrong(ACTION))?;
    if !allowed {
        return Ok(None);
    }
    let sql = "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = $1::text::name";
    let rows = catalog.query(ACTION, sql, &[&role]).await?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(wrong(ACTION))
}
