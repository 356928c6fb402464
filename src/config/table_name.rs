//! The name of a table, read as PostgreSQL reads it: `public.outbox`, `"Sales"."Outbox"`; or of several: `tenant_*.outbox`.
//!
//! Unquoted names are folded to lower case, quoted ones are taken as they are, with `""` for a quote. The folding is
//! that of ASCII letters, which is all PostgreSQL does in a database with a multi-byte encoding such as UTF-8. As in psql, a
//! `*` outside quotes stands for any letters, and quotes may enclose a part of a name that has one.

use crate::outbox::{NamePattern, TablePattern};

/// Reads `schema.table`, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<TablePattern, String> {
    let (table, rest) = prefix(text)?;
    if rest.is_empty() { Ok(table) } else { Err(unexpected(rest)) }
}

/// Reads `schema.table` from the start of `text`; gives it and what follows.
pub(super) fn prefix(text: &str) -> Result<(TablePattern, &str), String> {
    let (schema, rest) = identifier(text)?;
    let Some(rest) = rest.strip_prefix('.') else {
        let wrong =
            if rest.is_empty() { "has no schema: write schema.table".to_owned() } else { unexpected(rest) };
        return Err(wrong);
    };
    let (name, rest) = identifier(rest)?;
    Ok((TablePattern { schema, name }, rest))
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
fn identifier(text: &str) -> Result<(NamePattern, &str), String> {
    let mut texts = vec![String::new()];
    let mut rest = text;
    let mut behind_first = text;
    loop {
        let (part, after) = part(rest, rest.len() == text.len())?;
        match (part, texts.last_mut()) {
            (Part::Star, _) => texts.push(String::new()),
            (Part::Text(part), Some(last)) => last.push_str(&part),
            (Part::Text(_), None) => {}
            (Part::End, _) => break,
        }
        if rest.len() == text.len() {
            behind_first = after;
        }
        rest = after;
    }
    // Only around a star do quotes enclose a part.
    if texts.len() == 1 && behind_first.len() != rest.len() {
        return Err(unexpected(behind_first));
    }
    let bytes: usize = texts.iter().map(String::len).sum();
    if bytes == 0 && texts.len() == 1 {
        let wrong = if rest.is_empty() || rest.starts_with('.') {
            "has an empty name".to_owned()
        } else {
            unexpected(rest)
        };
        return Err(wrong);
    }
    if bytes > LONGEST_IDENTIFIER {
        return Err(format!(
            "has a name of {bytes} bytes: PostgreSQL's names have at most {LONGEST_IDENTIFIER}"
        ));
    }
    Ok((NamePattern::new(texts), rest))
}

/// What an identifier is made of.
enum Part {
    Text(String),
    Star,
    End,
}

fn part(text: &str, is_first: bool) -> Result<(Part, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, rest) = quoted_identifier(quoted)?;
        return Ok((Part::Text(name), rest));
    }
    if let Some(rest) = text.strip_prefix('*') {
        return Ok((Part::Star, rest));
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()));
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    if is_first && name.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
        return Err(format!(
            "has a name that starts with {:?}: put it in double quotes",
            &name.chars().next().unwrap_or_default()
        ));
    }
    let part = if name.is_empty() { Part::End } else { Part::Text(name.to_ascii_lowercase()) };
    Ok((part, rest))
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
    use crate::outbox::TableName;
    use crate::postgres::sql;

    fn read(text: &str) -> Result<(String, String), String> {
        let table = parse(text)?.exact().expect("one table");
        Ok((table.schema, table.name))
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
            assert_eq!(parse(&sql::tables(&parse(text).unwrap())), parse(text), "{text}");
        }
    }

    #[test]
    fn a_star_outside_quotes_stands_for_any_letters() {
        for (text, meant, another) in [
            ("Tenant_*.outbox", "tenant_1.outbox", "Tenant_1.outbox"),
            ("\"Tenant-\"*.*", "Tenant-7.x", "tenant-7.x"),
            ("a.\"*\"", "a.*", "a.b"),
            ("a.*_1", "a.x_1", "a.x_2"),
            ("a.\"x\"*\"\"\"\"", "a.xy\"", "a.xy"),
        ] {
            let pattern = parse(text).unwrap();
            let table = |text: &str| {
                let (schema, name) = text.split_once('.').unwrap();
                TableName { schema: schema.to_owned(), name: name.to_owned() }
            };
            assert!(pattern.matches(&table(meant)) && !pattern.matches(&table(another)), "{text}");
            assert_eq!(parse(&sql::tables(&pattern)), Ok(pattern), "{text}");
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
            "\"a\"b.c",
            "a.b\"c\"",
            "*",
            "1*.b",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read(&format!("a.{}", "b".repeat(63))).is_ok());
        assert!(read(&format!("a.{}", "b".repeat(64))).unwrap_err().contains("64 bytes"));
    }
}
