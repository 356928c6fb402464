//! Where `setup` works, as whom, and for which role: from `--as` and `postgres.url`. Pure; the environment and the
//! password file are arguments.

use std::path::Path;

use super::script::DEFAULT_ROLE;
use crate::postgres::conninfo::{ConnInfo, ConnInfoError};
use crate::secret::Secret;

/// The variable that stands in for `--as`.
const VARIABLE: &str = "OUTBOX_RELAY_SETUP_URL";

/// Where the administrator's URL comes from.
const ADMINISTRATOR: &str = "--as (or OUTBOX_RELAY_SETUP_URL)";

/// Where to work, and for whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// Server, database, and the role that does the work.
    pub server: ConnInfo,
    /// The role that the relay logs in as.
    pub role: String,
}

/// `--as` and `postgres.url` do not say where to work.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Neither is given.
    #[error(
        "setup does not know where PostgreSQL is\n\nhint: name the owner of the service's tables, or an administrator: \
         outbox-relay setup --as postgres://OWNER@HOST/DATABASE, or {VARIABLE} in the environment"
    )]
    Nowhere,
    /// They disagree.
    #[error(
        "{ADMINISTRATOR} names database \"{named}\", and postgres.url database \"{configured}\"\n\nhint: the outbox is in \
         one of them: correct the other one, or leave the database out of {ADMINISTRATOR}"
    )]
    OtherDatabase {
        /// That of `--as`.
        named: String,
        /// That of `postgres.url`.
        configured: String,
    },
    /// Both the variable and the one for a file are set.
    #[error("{VARIABLE}_FILE contradicts {VARIABLE}, which is set as well\n\nhint: set one of the two")]
    Twice,
    /// The file that the variable names.
    #[error("{VARIABLE}_FILE = {path:?}: cannot read the file: {cause}")]
    File {
        /// Its path.
        path: String,
        /// Why not.
        cause: std::io::Error,
    },
    /// A connection string that cannot be read.
    #[error("{origin}: {cause}")]
    ConnInfo {
        /// `--as` or `postgres.url`.
        origin: &'static str,
        /// What is wrong with it.
        cause: ConnInfoError,
    },
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Who does the work: `argument`, the value of `--as`; else the environment's; else nobody in particular.
///
/// # Errors
/// If the environment contradicts itself or names a file that cannot be read.
pub fn administrator(
    argument: Option<&Secret>,
    environment: Environment<'_>,
    read: &dyn Fn(&Path) -> std::io::Result<String>,
) -> Result<Option<Secret>, TargetError> {
    if let Some(argument) = argument {
        return Ok(Some(argument.clone()));
    }
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    match (set(VARIABLE), set(&format!("{VARIABLE}_FILE"))) {
        (Some(_), Some(_)) => Err(TargetError::Twice),
        (Some(url), None) => Ok(Some(Secret::new(url))),
        (None, Some(path)) => match read(Path::new(&path)) {
            Ok(url) => Ok(Some(Secret::new(url.trim_end_matches(['\r', '\n']).to_owned()))),
            Err(cause) => Err(TargetError::File { path, cause }),
        },
        (None, None) => Ok(None),
    }
}

/// The role that the relay logs in as: the user of `url`, which is postgres.url.
///
/// # Errors
/// If `url` cannot be read.
pub fn role(url: Option<&Secret>, environment: Environment<'_>) -> Result<String, TargetError> {
    let Some(url) = url else {
        return Ok(DEFAULT_ROLE.to_owned());
    };
    let read = ConnInfo::parse(url.reveal(), environment, &|_| None);
    read.map(|info| info.user).map_err(|cause| TargetError::ConnInfo { origin: "postgres.url", cause })
}

/// Where to work: as `administrator`, or as the role of `url`, which is postgres.url. The database is that of postgres.url
/// if `administrator` names none.
///
/// # Errors
/// If neither is given, they disagree, or one cannot be read.
pub fn target(
    administrator: Option<&Secret>,
    url: Option<&Secret>,
    environment: Environment<'_>,
    read_passfile: &dyn Fn(&Path) -> Option<String>,
) -> Result<Target, TargetError> {
    let read = |origin, url: &Secret, environment: Environment<'_>| {
        ConnInfo::parse(url.reveal(), environment, read_passfile)
            .map_err(|cause| TargetError::ConnInfo { origin, cause })
    };
    let configured = url.map(|url| read("postgres.url", url, environment)).transpose()?;
    let role = configured.as_ref().map_or(DEFAULT_ROLE, |info| &info.user).to_owned();
    let server = match (administrator, configured) {
        (None, None) => return Err(TargetError::Nowhere),
        (None, Some(configured)) => configured,
        (Some(administrator), None) => read(ADMINISTRATOR, administrator, environment)?,
        (Some(administrator), Some(ConnInfo { dbname, .. })) => {
            let with_database = |name: &str| {
                if name == "PGDATABASE" { Some(dbname.clone()) } else { environment(name) }
            };
            let server = read(ADMINISTRATOR, administrator, &with_database)?;
            if server.dbname != dbname {
                return Err(TargetError::OtherDatabase { named: server.dbname, configured: dbname });
            }
            server
        }
    };
    Ok(Target { server, role })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<Secret> {
        (!text.is_empty()).then(|| Secret::new(text.to_owned()))
    }

    fn of(administrator: &str, url: &str) -> String {
        match target(secret(administrator).as_ref(), secret(url).as_ref(), &|_| None, &|_| None) {
            Ok(Target { server, role }) => {
                format!("{}/{} as {} for {role}", server.hosts[0], server.dbname, server.user)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_database_is_that_of_the_relay() {
        let relay = "postgres://relay@db/shop";
        assert_eq!(of("", relay), "db:5432/shop as relay for relay");
        assert_eq!(of("postgres://owner@db", relay), "db:5432/shop as owner for relay");
        assert_eq!(of("postgres://owner@db:1/shop", relay), "db:1/shop as owner for relay");
        assert_eq!(of("postgres://owner@db/other", ""), "db:5432/other as owner for outbox_relay");
        insta::assert_snapshot!(of("postgres://owner@db/postgres", relay), @r#"
        --as (or OUTBOX_RELAY_SETUP_URL) names database "postgres", and postgres.url database "shop"

        hint: the outbox is in one of them: correct the other one, or leave the database out of --as (or OUTBOX_RELAY_SETUP_URL)
        "#);
        insta::assert_snapshot!(of("", ""), @"
        setup does not know where PostgreSQL is

        hint: name the owner of the service's tables, or an administrator: outbox-relay setup --as postgres://OWNER@HOST/DATABASE, or OUTBOX_RELAY_SETUP_URL in the environment
        ");
        insta::assert_snapshot!(of("postgres://owner@db/?sslmod=x", relay), @r#"
        --as (or OUTBOX_RELAY_SETUP_URL): connection string: unknown parameter "sslmod"

        hint: did you mean "sslmode"?
        "#);
    }

    #[test]
    fn the_administrator_comes_from_the_argument_the_environment_or_a_file() {
        let found = |argument: &str, variables: &[(&str, &str)]| {
            let environment = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let read = |path: &Path| match path.to_str() {
                Some("there") => Ok("from the file\r\n".to_owned()),
                _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
            };
            match administrator(secret(argument).as_ref(), &environment, &read) {
                Ok(found) => found.map_or("nobody".to_owned(), |found| found.reveal().to_owned()),
                Err(error) => error.to_string(),
            }
        };
        let (variable, file) = ("OUTBOX_RELAY_SETUP_URL", "OUTBOX_RELAY_SETUP_URL_FILE");
        assert_eq!(found("", &[]), "nobody");
        assert_eq!(found("argument", &[(variable, "variable")]), "argument");
        assert_eq!(found("", &[(variable, "variable"), (file, "")]), "variable");
        assert_eq!(found("", &[(file, "there")]), "from the file");
        insta::assert_snapshot!(found("", &[(file, "absent")]), @r#"OUTBOX_RELAY_SETUP_URL_FILE = "absent": cannot read the file: entity not found"#);
        insta::assert_snapshot!(found("", &[(variable, "a"), (file, "b")]), @"
        OUTBOX_RELAY_SETUP_URL_FILE contradicts OUTBOX_RELAY_SETUP_URL, which is set as well

        hint: set one of the two
        ");
    }
}
