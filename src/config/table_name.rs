//! The name of a table, read as PostgreSQL reads it: `public.outbox`, `"Sales"."Outbox"`.
//!
//! Unquoted names are folded to lower case, quoted ones are taken as they are, with `""` for a quote. The folding is
//! that of ASCII letters, which is all PostgreSQL does in a database with a multi-byte encoding such as UTF-8.

use crate::outbox::TableName;

/// Reads `schema.table`, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<TableName, String> {
    let (schema, rest) = identifier(text)?;
    let Some(rest) = rest.strip_prefix('.') else {
        let wrong =
            if rest.is_empty() { "has no schema: write schema.table".to_owned() } else { unexpected(rest) };
        return Err(wrong);
    };
    let (name, rest) = identifier(rest)?;
    if rest.is_empty() { Ok(TableName { schema, name }) } else { Err(unexpected(rest)) }
}

/// The longest identifier in bytes (`NAMEDATALEN` - 1). PostgreSQL cuts longer ones with a notice; the relay would then
/// look for a table that is not there.
pub(super) const LONGEST_IDENTIFIER: usize = 63;

fn unexpected(rest: &str) -> String {
    format!(
        "has {rest:?} where nothing more is expected: write schema.table, with double quotes around unusual names"
    )
}

/// Reads one identifier from the start of `text`; gives it and what follows.
fn identifier(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_identifier(quoted)?,
        None => {
            let end =
                text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()));
            let (name, rest) = text.split_at(end.unwrap_or(text.len()));
            if name.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
                return Err(format!(
                    "has a name that starts with {:?}: put it in double quotes",
                    &name.chars().next().unwrap_or_default()
                ));
            }
            (name.to_ascii_lowercase(), rest)
        }
    };
    if name.is_empty() {
        let wrong = if rest.is_empty() || rest.starts_with('.') {
            "has an empty name".to_owned()
        } else {
            unexpected(rest)
        };
        return Err(wrong);
    }
    if name.len() > LONGEST_IDENTIFIER {
        return Err(format!(
            "has a name of {} bytes: PostgreSQL's names have at most {LONGEST_IDENTIFIER}",
            name.len()
        ));
    }
    Ok((name, rest))
}

/// Reads the rest of an identifier whose opening quote is behind us.
fn quoted_identifier(text: &str) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err("has a double quote that is not closed".to_owned());
        };
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Ok((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sql;

    fn read(text: &str) -> Result<(String, String), String> {
        parse(text).map(|table| (table.schema, table.name))
    }

    #[test]
    fn names_are_read_as_postgres_reads_them() {
        for (text, schema, table) in [
            ("public.outbox", "public", "outbox"),
            ("Public.OutBox", "public", "outbox"),
            ("\"Sales\".\"Out.Box\"", "Sales", "Out.Box"),
            ("a.\"say \"\"hi\"\"\"", "a", "say \"hi\""),
            ("_x.tab$1", "_x", "tab$1"),
            ("größe.Öl", "größe", "Öl"),
        ] {
            assert_eq!(read(text), Ok((schema.to_owned(), table.to_owned())), "{text}");
            assert_eq!(parse(&sql::table(&parse(text).unwrap())), parse(text), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "outbox",
            ".outbox",
            "public.",
            "a.b.c",
            "a b.c",
            "public.out-box",
            "1a.b",
            "\"a.b",
            "\"\".b",
            "a .b",
            "a.b ",
            "a.b;",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read(&format!("a.{}", "b".repeat(63))).is_ok());
        assert!(read(&format!("a.{}", "b".repeat(64))).unwrap_err().contains("64 bytes"));
    }
}
