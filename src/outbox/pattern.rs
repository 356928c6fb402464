//! `tenant_*.outbox`: one table by its name, or all whose names fit.

use std::fmt;

use super::spec::TableName;

/// An entry of `outbox.tables`, or the name of a section `[tables."…"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    /// What the schema's name must be.
    pub schema: NamePattern,
    /// What the table's name must be.
    pub name: NamePattern,
}

/// A name in which `*` stands for any letters, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    first: String,
    /// The texts behind each `*`.
    behind: Vec<String>,
}

impl TablePattern {
    /// The one table that is meant; `None` if there may be several.
    #[must_use]
    pub fn exact(&self) -> Option<TableName> {
        let (schema, name) = self.schema.exact().zip(self.name.exact())?;
        Some(TableName { schema: schema.to_owned(), name: name.to_owned() })
    }

    /// Whether `table` is meant. Schemas of the system and of temporary tables are meant by no pattern.
    #[must_use]
    pub fn matches(&self, table: &TableName) -> bool {
        // Names that begin with "pg_" are reserved for them (PostgreSQL documentation, "The System Catalog Schema").
        let of_system = || table.schema.starts_with("pg_") || table.schema == "information_schema";
        self.schema.matches(&table.schema)
            && self.name.matches(&table.name)
            && (self.schema.exact().is_some() || !of_system())
    }

    /// Whether there can be a table that both mean.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.schema.meets(&other.schema) && self.name.meets(&other.name)
    }
}

impl From<TableName> for TablePattern {
    fn from(TableName { schema, name }: TableName) -> Self {
        Self { schema: NamePattern::new(vec![schema]), name: NamePattern::new(vec![name]) }
    }
}

impl NamePattern {
    /// `texts`, with a `*` between each two.
    #[must_use]
    pub fn new(texts: Vec<String>) -> Self {
        let mut texts = texts.into_iter();
        Self { first: texts.next().unwrap_or_default(), behind: texts.collect() }
    }

    /// The texts between which there is a `*`.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.first).chain(&self.behind).map(String::as_str)
    }

    /// The one name that is meant; `None` if there may be several.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        self.behind.is_empty().then_some(&self.first)
    }

    fn matches(&self, name: &str) -> bool {
        let Some((last, between)) = self.behind.split_last() else {
            return self.first == name;
        };
        let Some(mut rest) = name.strip_prefix(self.first.as_str()) else {
            return false;
        };
        for text in between {
            // The first place is the best one: it leaves most for what follows.
            match rest.split_once(text.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }

    /// Whether there can be a name that both mean.
    fn meets(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.letters(), other.letters());
        // Row by row: whether the letters so far of ours and the first so many of theirs can be the same text.
        let mut meet = vec![true];
        for letter in &theirs {
            meet.push(letter.is_none() && meet.last() == Some(&true));
        }
        for our in &ours {
            let mut next = vec![our.is_none() && meet.first() == Some(&true)];
            for (their, pair) in theirs.iter().zip(meet.windows(2)) {
                let &[before_both, before_ours] = pair else { continue };
                let before_theirs = next.last() == Some(&true);
                let stars = our.is_none() || their.is_none();
                next.push(if stars { before_ours || before_theirs } else { before_both && our == their });
            }
            meet = next;
        }
        meet.last() == Some(&true)
    }

    /// Its letters; nothing for a `*`.
    fn letters(&self) -> Vec<Option<char>> {
        let behind = self.behind.iter().flat_map(|text| std::iter::once(None).chain(text.chars().map(Some)));
        self.first.chars().map(Some).chain(behind).collect()
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NamePattern {
        NamePattern::new(text.split('*').map(str::to_owned).collect())
    }

    fn pattern(text: &str) -> TablePattern {
        let (schema, table) = text.split_once('.').unwrap();
        TablePattern { schema: name(schema), name: name(table) }
    }

    fn table(text: &str) -> TableName {
        let (schema, name) = text.split_once('.').unwrap();
        TableName { schema: schema.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_star_stands_for_any_letters() {
        for (text, fits, fits_not) in [
            ("a.b", vec!["a.b"], vec!["a.bb", "aa.b", "b.a"]),
            ("*.outbox", vec!["a.outbox", "tenant_1.outbox"], vec!["a.outbox2", "a.my_outbox"]),
            ("t_*.outbox", vec!["t_.outbox", "t_1.outbox"], vec!["t.outbox", "xt_1.outbox"]),
            ("a.*_out*x", vec!["a._outx", "a.b_out_outx"], vec!["a.outx", "a.b_out", "a._outxy"]),
            ("a.ab*ba", vec!["a.abba", "a.ab-ba"], vec!["a.aba"]),
            ("a.*ab*ab*", vec!["a.abab", "a.xabxabx"], vec!["a.ab", "a.aba"]),
            ("Größe.*", vec!["Größe.Öl", "Größe."], vec!["größe.x"]),
        ] {
            for name in fits {
                assert!(pattern(text).matches(&table(name)), "{text} {name}");
            }
            for name in fits_not {
                assert!(!pattern(text).matches(&table(name)), "{text} {name}");
            }
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn tables_of_the_system_are_meant_only_by_name() {
        for schema in ["pg_catalog", "pg_toast", "pg_temp_3", "information_schema"] {
            let table = table(&format!("{schema}.outbox"));
            assert!(!pattern("*.outbox").matches(&table) && !pattern("p*.outbox").matches(&table));
            assert!(pattern(&format!("{schema}.outbox")).matches(&table));
        }
    }

    #[test]
    fn two_patterns_meet_if_one_name_can_fit_both() {
        let meet = |one: &str, other: &str| {
            assert_eq!(name(one).meets(&name(other)), name(other).meets(&name(one)), "{one} {other}");
            name(one).meets(&name(other))
        };
        for (one, other) in [("a", "a"), ("", "*"), ("a*", "*b"), ("a*c", "ab*"), ("*x*", "*y*"), ("**", "a")]
        {
            assert!(meet(one, other), "{one} {other}");
        }
        for (one, other) in
            [("a", "b"), ("a*", "b*"), ("*a", "*b"), ("ab", "a"), ("a*bc", "*c*d"), ("", "*a")]
        {
            assert!(!meet(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_has_no_star_is_one_table() {
        assert_eq!(pattern("a.b").exact(), Some(table("a.b")));
        assert_eq!(TablePattern::from(table("a.b")), pattern("a.b"));
        assert_eq!((pattern("a*.b").exact(), pattern("a.*").exact()), (None, None));
    }
}
