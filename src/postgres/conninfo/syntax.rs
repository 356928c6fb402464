//! The two notations of a libpq connection string, taken apart into parameters. What a parameter means is not decided
//! here. Source: PostgreSQL documentation, "Connection Strings"; libpq's `conninfo_parse` and `conninfo_uri_parse`.
//!
//! No error of this module quotes the string: any piece of a malformed one may be a piece of the password.

use percent_encoding::percent_decode_str;

use super::ConnInfoError;

/// Name and value, in the order of the string. A name that comes twice counts as it came last.
pub(super) type Parameters = Vec<(String, String)>;

/// Takes a connection string apart, whichever notation it has.
pub(super) fn parameters(text: &str) -> Result<Parameters, ConnInfoError> {
    if text.contains('\0') {
        return Err(ConnInfoError::Syntax("it contains a NUL character".to_owned()));
    }
    let url = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(rest) => from_url(rest),
        None => from_words(text),
    }
}

/// `[user[:password]@][host[:port],…][/dbname][?name=value&…]`, without the scheme.
///
/// Stricter than libpq in one point: an `@` that ends no user part is refused. It nearly always belongs to a password
/// whose special characters were not percent-encoded, and the pieces would show up as host or database names.
fn from_url(rest: &str) -> Result<Parameters, ConnInfoError> {
    let (rest, query) = split_at_char(rest, '?');
    let (authority, database) = split_at_char(rest, '/');
    let in_tail = [database, query].into_iter().flatten().any(|part| part.contains('@'));
    if in_tail || authority.matches('@').count() > 1 {
        return Err(ConnInfoError::Syntax(
            "an \"@\" in an unexpected place: in a user name, a password or a value, / ? : @ and % are written \
             percent-encoded (@ as %40)"
                .to_owned(),
        ));
    }

    let mut found = Parameters::new();
    let hosts = match authority.split_once('@') {
        Some((credentials, hosts)) => {
            let (user, password) = split_at_char(credentials, ':');
            push_decoded(&mut found, "user", user, "the user name")?;
            push_decoded(&mut found, "password", password.unwrap_or(""), "the password")?;
            hosts
        }
        None => authority,
    };
    push_hosts(&mut found, hosts)?;
    push_decoded(&mut found, "dbname", database.unwrap_or(""), "the database name")?;

    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        let number = index + 1;
        let Some((name, value)) = pair.split_once('=') else {
            return Err(ConnInfoError::Syntax(format!("parameter {number} after the \"?\" has no \"=\"")));
        };
        let name = decoded(name, "the name of a parameter")?;
        let value = decoded(value, "the value of a parameter")?;
        // The one alias libpq has for JDBC's sake.
        if name == "ssl" && value == "true" {
            found.push(("sslmode".to_owned(), "require".to_owned()));
        } else {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// `h1:5432,[::1]:5433,%2Fsocket%2Fdir` becomes the lists `host` and `port`, as libpq has them.
fn push_hosts(found: &mut Parameters, text: &str) -> Result<(), ConnInfoError> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for (index, item) in text.split(',').enumerate() {
        let (host, port) = if let Some(bracketed) = item.strip_prefix('[') {
            let Some((address, after)) = bracketed.split_once(']') else {
                return Err(ConnInfoError::Syntax(format!("host {} has a \"[\" without \"]\"", index + 1)));
            };
            match after.strip_prefix(':') {
                Some(port) => (address, port),
                None if after.is_empty() => (address, ""),
                None => {
                    return Err(ConnInfoError::Syntax(format!(
                        "host {} goes on after its \"]\" with something other than \":port\"",
                        index + 1
                    )));
                }
            }
        } else {
            item.split_once(':').unwrap_or((item, ""))
        };
        hosts.push(decoded(host, "a host name")?);
        ports.push(decoded(port, "a port")?);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        found.push(("host".to_owned(), hosts.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        found.push(("port".to_owned(), ports.join(",")));
    }
    Ok(())
}

fn split_at_char(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn push_decoded(found: &mut Parameters, name: &str, text: &str, what: &str) -> Result<(), ConnInfoError> {
    let value = decoded(text, what)?;
    if !value.is_empty() {
        found.push((name.to_owned(), value));
    }
    Ok(())
}

fn decoded(text: &str, what: &str) -> Result<String, ConnInfoError> {
    // The crate leaves a "%" that starts no code as it is; libpq refuses it, and so do we.
    let mut after_percent = text.split('%').skip(1);
    let whole =
        after_percent.all(|code| code.len() >= 2 && code.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    if !whole {
        return Err(ConnInfoError::Syntax(format!(
            "{what} has a \"%\" without two hexadecimal digits behind it (a \"%\" itself is written %25)"
        )));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(value) if !value.contains('\0') => Ok(value.into_owned()),
        Ok(_) => Err(ConnInfoError::Syntax(format!("{what} contains %00"))),
        Err(_) => Err(ConnInfoError::Syntax(format!("{what} is not UTF-8 after percent-decoding"))),
    }
}

/// `name = value name='it''s not doubled but \' escaped'`.
fn from_words(text: &str) -> Result<Parameters, ConnInfoError> {
    let mut found = Parameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let number = found.len() + 1;
        let end = rest.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let Some(after) = after.trim_start().strip_prefix('=') else {
            return Err(ConnInfoError::Syntax(format!(
                "item {number} has no \"=\" (expected a URL, postgres://…, or name=value pairs; a value with spaces \
                 stands in single quotes)"
            )));
        };
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => unescape(quoted, |c| c == '\''),
            None => unescape(after, |c| c.is_ascii_whitespace()),
        };
        rest = match after {
            Some(after) => after.trim_start(),
            None if rest_is_quoted(rest, end) => {
                return Err(ConnInfoError::Syntax(format!("the quoted value of item {number} has no end")));
            }
            None => "",
        };
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

fn rest_is_quoted(item: &str, name_length: usize) -> bool {
    let value = item.get(name_length..).unwrap_or("").trim_start().trim_start_matches('=').trim_start();
    value.starts_with('\'')
}

/// The value up to the first unescaped `ends`, and what follows that character; `None` if it never came.
fn unescape(text: &str, ends: impl Fn(char) -> bool) -> (String, Option<&str>) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            value.extend(characters.next().map(|(_, escaped)| escaped));
        } else if ends(character) {
            return (value, text.get(at + character.len_utf8()..));
        } else {
            value.push(character);
        }
    }
    (value, None)
}
