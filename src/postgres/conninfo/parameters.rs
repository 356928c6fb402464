//! Which parameters libpq knows, which of them work here, and where a value comes from.

use std::time::Duration;

use super::ConnInfoError;
use super::syntax::Parameters;

/// The values that count: from the string, else from the environment. Every name and every choice is known to be
/// supported.
pub(super) struct Resolved {
    values: Vec<(&'static str, String)>,
}

/// What the relay makes of a parameter that libpq knows.
#[derive(Clone, Copy)]
enum Support {
    /// Any value; its user checks it.
    Free,
    /// One of the first list; those of the second exist in libpq.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// Not at all, yet.
    No,
}

use Support::{Choice, Free, No};

/// libpq's parameters (18) with the environment variable that stands in for each. Variables of parameters that do not
/// work yet are left alone, except where ignoring them would weaken what the user asked for.
const KNOWN: &[(&str, &str, Support)] = &[
    ("host", "PGHOST", Free),
    ("hostaddr", "PGHOSTADDR", No),
    ("port", "PGPORT", Free),
    ("dbname", "PGDATABASE", Free),
    ("user", "PGUSER", Free),
    ("password", "PGPASSWORD", Free),
    ("passfile", "PGPASSFILE", Free),
    ("require_auth", "PGREQUIREAUTH", No),
    ("channel_binding", "PGCHANNELBINDING", Choice(&["disable", "prefer"], &["require"])),
    ("connect_timeout", "PGCONNECT_TIMEOUT", Free),
    ("client_encoding", "", No),
    ("options", "PGOPTIONS", Free),
    ("application_name", "PGAPPNAME", Free),
    ("fallback_application_name", "", Free),
    ("keepalives", "", Free),
    ("keepalives_idle", "", Free),
    ("keepalives_interval", "", Free),
    ("keepalives_count", "", Free),
    ("tcp_user_timeout", "", Free),
    ("replication", "", No),
    ("gssencmode", "PGGSSENCMODE", Choice(&["disable", "prefer"], &["require"])),
    (
        "sslmode",
        "PGSSLMODE",
        Choice(&["disable", "allow", "prefer"], &["require", "verify-ca", "verify-full"]),
    ),
    ("sslnegotiation", "", No),
    ("sslcompression", "", No),
    ("sslcert", "", No),
    ("sslkey", "", No),
    ("sslkeylogfile", "", No),
    ("sslpassword", "", No),
    ("sslcertmode", "", No),
    ("sslrootcert", "", No),
    ("sslcrl", "", No),
    ("sslcrldir", "", No),
    ("sslsni", "", No),
    ("requiressl", "", No),
    ("requirepeer", "PGREQUIREPEER", No),
    ("ssl_min_protocol_version", "", No),
    ("ssl_max_protocol_version", "", No),
    ("min_protocol_version", "", No),
    ("max_protocol_version", "", No),
    ("krbsrvname", "", No),
    ("gsslib", "", No),
    ("gssdelegation", "", No),
    ("scram_client_key", "", No),
    ("scram_server_key", "", No),
    ("oauth_issuer", "", No),
    ("oauth_client_id", "", No),
    ("oauth_client_secret", "", No),
    ("oauth_scope", "", No),
    ("servicefile", "", No),
    ("service", "PGSERVICE", No),
    (
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        Choice(&["any", "read-write", "primary"], &["read-only", "standby", "prefer-standby"]),
    ),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", Choice(&["disable"], &["random"])),
];

/// How alike two names must be to be taken for a slip of the fingers.
const SIMILAR: f64 = 0.8;

impl Resolved {
    pub(super) fn new(
        given: Parameters,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConnInfoError> {
        for (index, (name, _)) in given.iter().enumerate() {
            if !KNOWN.iter().any(|(known, ..)| known == name) {
                return Err(unknown(name, index + 1, &given));
            }
        }
        let mut values = Vec::new();
        for &(name, variable, support) in KNOWN {
            let from_string =
                given.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.clone());
            let (value, origin) = match from_string {
                Some(value) => (value, name.to_owned()),
                None if variable.is_empty() => continue,
                None => match environment(variable) {
                    Some(value) => (value, format!("{name} (from {variable})")),
                    None => continue,
                },
            };
            // As in libpq, an empty value stands for the default, and hides the environment's.
            if !value.is_empty() {
                check(&origin, &value, support)?;
                values.push((name, value));
            }
        }
        Ok(Self { values })
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<u32>, ConnInfoError> {
        let parse = |text: String| text.trim().parse();
        self.get(name).map(parse).transpose().map_err(|_| ConnInfoError::Invalid {
            parameter: name.to_owned(),
            problem: "expected a whole number, not negative".to_owned(),
        })
    }

    /// A time in `unit`s; `default` where none is given, and none for 0, with which libpq leaves it to the operating system.
    pub(super) fn time(
        &self,
        name: &str,
        unit: Duration,
        default: Duration,
    ) -> Result<Option<Duration>, ConnInfoError> {
        Ok(match self.integer(name)? {
            None => Some(default),
            Some(0) => None,
            Some(number) => unit.checked_mul(number),
        })
    }
}

fn check(origin: &str, value: &str, support: Support) -> Result<(), ConnInfoError> {
    match support {
        Free => Ok(()),
        Choice(now, _) if now.contains(&value) => Ok(()),
        Choice(_, later) if later.contains(&value) => {
            Err(ConnInfoError::NotSupported(format!("{origin}={value}")))
        }
        Choice(now, later) => Err(ConnInfoError::Invalid {
            parameter: origin.to_owned(),
            problem: format!("expected one of {}", [now, later].concat().join(", ")),
        }),
        No if origin == "client_encoding" || origin == "replication" => Err(ConnInfoError::Invalid {
            parameter: origin.to_owned(),
            problem: "the relay sets it itself: leave it out".to_owned(),
        }),
        No => Err(ConnInfoError::NotSupported(origin.to_owned())),
    }
}

/// The name is shown if it looks like a known one, or if there is no password that it could be a piece of: after
/// `password=two words=x` it is.
fn unknown(name: &str, number: usize, given: &Parameters) -> ConnInfoError {
    let nearest = KNOWN
        .iter()
        .map(|(known, ..)| (strsim::jaro_winkler(known, name), *known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known);
    let showable = nearest.is_some() || !given.iter().any(|(name, _)| name == "password");
    let name = if showable { name.to_owned() } else { format!("(item {number})") };
    ConnInfoError::Unknown { name, nearest }
}
