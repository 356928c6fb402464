//! The password file, `~/.pgpass`. Source: PostgreSQL documentation, "The Password File"; libpq's `passwordFromFile`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Address, Host};
use crate::secret::Secret;

/// Directories of the server's default socket, as upstream and Debian build it. libpq looks a host there up as
/// `localhost`.
const DEFAULT_SOCKET_DIRS: [&str; 3] = ["/tmp", "/var/run/postgresql", "/run/postgresql"];

/// The file's content, if libpq would use it: a plain file that neither group nor others may read or write. Anything
/// else is passed over with a warning, and a file that is not there without one. This is the one function below
/// `conninfo` that touches the file system.
#[must_use]
pub fn read(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        tracing::warn!(passfile = %path.display(), "password file is not a plain file: ignored");
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            passfile = %path.display(),
            "password file can be read by group or others: ignored; permissions should be u=rw (0600) or less"
        );
        return None;
    }
    fs::read_to_string(path)
        .map_err(|error| tracing::warn!(passfile = %path.display(), %error, "cannot read the password file"))
        .ok()
}

/// The password of the first line `host:port:database:user:password` that fits.
pub(super) fn find(content: &str, host: &Host, database: &str, user: &str) -> Option<Secret> {
    let name = match &host.address {
        Address::Tcp(name) => name.clone(),
        Address::Unix(dir)
            if DEFAULT_SOCKET_DIRS.iter().any(|default| dir.as_path() == Path::new(default)) =>
        {
            "localhost".to_owned()
        }
        Address::Unix(dir) => dir.display().to_string(),
    };
    let port = host.port.to_string();
    let wanted = [name.as_str(), port.as_str(), database, user];
    content.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let password = wanted.into_iter().try_fold(line, after_field)?;
        let (password, _) = field(password);
        if password.is_empty() { None } else { Some(Secret::new(password)) }
    })
}

/// What follows the first field of `line`, if that field is `wanted` or the wildcard.
fn after_field<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let (value, rest) = field(line);
    if value == wanted { rest } else { None }
}

/// The first field with its escapes (`\:`, `\\`) undone, and what follows its colon.
fn field(line: &str) -> (String, Option<&str>) {
    let mut value = String::new();
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            ':' => return (value, line.get(at + 1..)),
            _ => value.push(character),
        }
    }
    (value, None)
}
