//! A connection string as it may be shown: what is, or may be, a secret is masked, and the rest is as it was written.
//!
//! Only a string that can be taken apart is shown at all. In one that cannot, any piece may be a piece of the password.

use super::syntax;

/// What stands in the place of a value that is not shown.
const MASK: &str = "***";

/// Parameters whose values are no secrets. A parameter that is missing here is masked.
const PLAIN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "passfile",
    "require_auth",
    "channel_binding",
    "connect_timeout",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "gssencmode",
    "ssl",
    "sslmode",
    "sslnegotiation",
    "sslcert",
    "sslkey",
    "sslcertmode",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
    "load_balance_hosts",
];

/// The connection string with `***` for its password; nothing if it cannot be taken apart.
#[must_use]
pub fn without_password(text: &str) -> Option<String> {
    let parameters = syntax::parameters(text).ok()?;
    // Where the "@" was forgotten, the password stands in the place of the port.
    let no_number = |port: &str| port.bytes().any(|byte| !byte.is_ascii_digit() && byte != b',');
    if parameters.iter().any(|(name, value)| name == "port" && no_number(value)) {
        return None;
    }
    let scheme = ["postgresql://", "postgres://"].into_iter().find(|scheme| text.starts_with(scheme));
    let Some(scheme) = scheme else {
        let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", word(name, value)));
        return Some(pairs.collect::<Vec<_>>().join(" "));
    };
    let rest = text.strip_prefix(scheme)?;
    // The parser has seen to it that the only "@" ends the user part: the password cannot hide behind another one.
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let rest = match rest.split_once('@') {
        Some((credentials, hosts)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{user}:{MASK}@{hosts}"),
            // An encoded colon: as likely in front of a password as within a user's name.
            None if credentials.to_ascii_lowercase().contains("%3a") => return None,
            None => format!("{credentials}@{hosts}"),
        },
        None => rest.to_owned(),
    };
    let query = query.map(|query| {
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if !PLAIN.contains(&name) => format!("{name}={MASK}"),
            _ => pair.to_owned(),
        };
        format!("?{}", query.split('&').map(pair).collect::<Vec<_>>().join("&"))
    });
    Some(format!("{scheme}{rest}{}", query.unwrap_or_default()))
}

/// A value of the `name=value` notation, in quotes if it needs them.
fn word(name: &str, value: &str) -> String {
    if !PLAIN.contains(&name) {
        MASK.to_owned()
    } else if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '\'' || c == '\\') {
        format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let shown = without_password(text).unwrap_or_else(|| "(hidden)".to_owned());
        assert!(!shown.contains("hunter2") && !shown.contains("nter"), "{shown}");
        shown
    }

    #[test]
    fn only_the_password_is_masked() {
        assert_eq!(shown("postgres://relay:hunter2@db:5432/shop"), "postgres://relay:***@db:5432/shop");
        assert_eq!(shown("postgresql://relay:hu:nter2@a,b/"), "postgresql://relay:***@a,b/");
        assert_eq!(shown("postgres://:hunter2@"), "postgres://:***@");
        assert_eq!(
            shown("postgres:///shop?user=relay&password=hunter2&host=/run/postgresql"),
            "postgres:///shop?user=relay&password=***&host=/run/postgresql"
        );
        assert_eq!(
            shown("host=db user = relay password = 'hu\\'nter2' application_name='the shop''s"),
            "(hidden)"
        );
        assert_eq!(
            shown("host=db user = relay password = 'hu\\'nter2' application_name='the \\'shop\\''"),
            "host=db user=relay password=*** application_name='the \\'shop\\''"
        );
    }

    #[test]
    fn what_has_no_password_stays_as_it_is() {
        for text in [
            "postgres://relay@db/shop?sslmode=disable&connect_timeout=5",
            "postgres:///shop",
            "host=/run/postgresql dbname=shop user=relay options='-c a=b'",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn a_password_that_breaks_the_string_or_has_another_name_is_not_shown() {
        for text in [
            "postgres://relay:hu/nter2@db/shop",
            "postgres://relay:hu@nter2@db/shop",
            "postgres://relay:hu?nter2@db/shop",
            "postgres://relay:hunter2%zz@db/shop",
            "password=my hunter2",
            "postgres://relay%3ahunter2@db/shop",
            // Found by the fuzz body `conninfo`.
            "postgres://relay:hunter2/shop",
            "postgres://db1,relay:hunter2",
            "host=db port=hunter2",
        ] {
            assert_eq!(shown(text), "(hidden)");
        }
        assert_eq!(shown("postgres://db/shop?sslpassword=hunter2"), "postgres://db/shop?sslpassword=***");
        assert_eq!(shown("postgres://db/shop?pass%77ord=hunter2"), "postgres://db/shop?pass%77ord=***");
        assert_eq!(shown("host=db sslpassword=hunter2"), "host=db sslpassword=***");
    }
}
