//! Names and values as SQL writes them: quoted where PostgreSQL's own `quote_ident` would quote, and never twice.

use crate::outbox::{NamePattern, TableName, TablePattern};

/// An identifier: as it is if PostgreSQL reads it so, else in double quotes.
#[must_use]
pub fn identifier(name: &str) -> String {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let keyword = KEYWORDS.split_whitespace().any(|keyword| keyword == name);
    if starts_well && plain && !keyword {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// A table's name: schema and table, each an [`identifier`].
#[must_use]
pub fn table(TableName { schema, name }: &TableName) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// The tables that are meant, as `outbox.tables` names them: with a `*` outside quotes for any letters.
#[must_use]
pub fn tables(TablePattern { schema, name }: &TablePattern) -> String {
    format!("{}.{}", pattern(schema), pattern(name))
}

fn pattern(names: &NamePattern) -> String {
    if let Some(name) = names.exact() {
        return identifier(name);
    }
    let text = |text: &str| if text.is_empty() { String::new() } else { identifier(text) };
    names.texts().map(text).collect::<Vec<_>>().join("*")
}

/// A pattern of LIKE for the names that are meant.
#[must_use]
pub fn like(names: &NamePattern) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    names.texts().map(escaped).collect::<Vec<_>>().join("%")
}

/// A text value, in single quotes; with a backslash in it as `E'…'`, which means the same on every server.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Every key word that means something else somewhere if it is not quoted: `pg_get_keywords()` of PostgreSQL 14 to 18,
/// without those of category U.
const KEYWORDS: &str = "\
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case cast \
    char character check coalesce collate collation column concurrently constraint create cross current_catalog \
    current_date current_role current_schema current_time current_timestamp current_user dec decimal default deferrable \
    desc distinct do else end except exists extract false fetch float for foreign freeze from full grant greatest group \
    grouping having ilike in initially inner inout int integer intersect interval into is isnull join json json_array \
    json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize json_table json_value \
    lateral leading least left like limit localtime localtimestamp merge_action national natural nchar none normalize \
    not notnull null nullif numeric offset on only or order out outer overlaps overlay placing position precision \
    primary real references returning right row select session_user setof similar smallint some substring symmetric \
    system_user table tablesample then time timestamp to trailing treat trim true union unique user using values \
    varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest \
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_where_they_must_be() {
        for plain in ["outbox_relay", "_x", "a1"] {
            assert_eq!(identifier(plain), plain);
        }
        for (name, quoted) in [
            ("Outbox", "\"Outbox\""),
            ("1a", "\"1a\""),
            ("user", "\"user\""),
            ("a-b", "\"a-b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("größe", "\"größe\""),
            ("", "\"\""),
        ] {
            assert_eq!(identifier(name), quoted);
        }
        let name = TableName { schema: "public".to_owned(), name: "Out.box".to_owned() };
        assert_eq!(table(&name), "public.\"Out.box\"");
    }

    #[test]
    fn a_pattern_is_written_as_it_is_read_and_asked_for() {
        let name = |texts: &[&str]| NamePattern::new(texts.iter().map(|text| (*text).to_owned()).collect());
        let tenants = TablePattern { schema: name(&["Tenant-", ""]), name: name(&["", "_box", ""]) };
        assert_eq!(tables(&tenants), "\"Tenant-\"*.*_box*");
        assert_eq!(like(&tenants.name), "%\\_box%");
        assert_eq!(like(&name(&["10%\\"])), "10\\%\\\\");
    }

    #[test]
    fn literals_close_only_at_their_end() {
        assert_eq!(literal("plain"), "'plain'");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
