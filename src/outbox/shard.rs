//! Which events are whose, where several relays share an outbox: an event belongs to the shard that its key hashes to.
//!
//! PostgreSQL divides rows itself, by the row filters of publications ([`Shard::filter`]). Logical messages know no filter: every
//! relay gets them all, and takes its own by the same hash.

use super::template::{Piece, Template};

/// One of the shards of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// How many there are: two or more.
    pub count: u32,
    /// Which one it is, from 0.
    pub index: u32,
}

/// How PostgreSQL hashes a key, by the type of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// `text` and `varchar`.
    Text,
    /// `uuid`.
    Uuid,
    /// `smallint`, `integer` and `bigint`, which hash equal numbers alike.
    Integer,
}

impl KeyType {
    /// Of a column, by its type as `format_type` prints it. `None`: a filter cannot hash it.
    #[must_use]
    pub fn of(type_name: &str) -> Option<Self> {
        match type_name {
            "text" => Some(Self::Text),
            "uuid" => Some(Self::Uuid),
            "smallint" | "integer" | "bigint" => Some(Self::Integer),
            name if name.starts_with("character varying") => Some(Self::Text),
            _ => None,
        }
    }
}

/// The row filter of a publication that sends nothing.
pub const NOTHING: &str = "false";

impl Shard {
    /// All shards of a layout.
    pub fn all(count: u32) -> impl Iterator<Item = Self> {
        (0..count).map(move |index| Self { count, index })
    }

    /// The shard's own slot or publication, of those that are called `name`: `outbox_relay_4_1`.
    #[must_use]
    pub fn name(self, name: &str) -> String {
        format!("{name}_{}_{}", self.count, self.index)
    }

    /// The row filter for a table whose key is the `column`, quoted, of a type that `format_type` prints as `type_name`. It is
    /// written as PostgreSQL prints it. A NULL key belongs to the first shard. `None` if such a column cannot be hashed: filters
    /// allow only built-in functions of built-in types.
    #[must_use]
    pub fn filter(self, column: &str, type_name: &str) -> Option<String> {
        let hash = match (KeyType::of(type_name)?, type_name) {
            (KeyType::Text, "text") => format!("hashtext({column})"),
            (KeyType::Text, _) => format!("hashtext(({column})::text)"),
            (KeyType::Uuid, _) => format!("uuid_hash({column})"),
            (KeyType::Integer, "smallint") => format!("hashint2({column})"),
            (KeyType::Integer, "integer") => format!("hashint4({column})"),
            (KeyType::Integer, _) => format!("hashint8({column})"),
        };
        let Self { count, index } = self;
        let hash = format!("COALESCE({hash}, 0)");
        Some(match count.is_power_of_two() {
            true => format!("(({hash} & {}) = {index})", count.saturating_sub(1)),
            // The remainder has the sign of the hash.
            false => format!("(((({hash} % {count}) + {count}) % {count}) = {index})"),
        })
    }

    /// Whether an event with this key is its own, hashed as `text` is.
    #[must_use]
    pub fn has(self, key: Option<&[u8]>) -> bool {
        let hash = i64::from(key.map_or(0, hashtext));
        hash.rem_euclid(i64::from(self.count)) == i64::from(self.index)
    }
}

/// The column that alone makes the key of `template`; `None` if it is another one, or there are functions behind it.
#[must_use]
pub fn key_column(template: &Template) -> Option<&str> {
    let mut columns = template.pieces().iter().filter_map(|piece| match piece {
        Piece::Placeholder(name, functions) if !name.starts_with('@') => Some((name, functions)),
        _ => None,
    });
    match (columns.next(), columns.next()) {
        (Some((name, functions)), None) if functions.is_empty() => Some(name),
        _ => None,
    }
}

/// PostgreSQL's `hashtext`, on a little-endian machine (`hash_bytes` in src/common/hashfn.c, by Bob Jenkins).
fn hashtext(text: &[u8]) -> i32 {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let start = 0x9E37_79B9_u32.wrapping_add(len).wrapping_add(3_923_095);
    let (mut a, mut b, mut c) = (start, start, start);
    let (blocks, rest) = text.as_chunks::<12>();
    for block in blocks {
        let [x, y, z] = words(block);
        (a, b, c) = mix(a.wrapping_add(x), b.wrapping_add(y), c.wrapping_add(z));
    }
    let mut last = [0; 12];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let [x, y, z] = words(&last);
    // The lowest byte of c is reserved for the length.
    finish(a.wrapping_add(x), b.wrapping_add(y), c.wrapping_add(z << 8)).cast_signed()
}

/// Twelve bytes as three numbers.
fn words(block: &[u8; 12]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *block;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes)
}

const fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

const fn finish(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_hashes_as_in_postgres() {
        // SELECT hashtext(…) of PostgreSQL 15 and 18; tests/it/shards.rs asks the server.
        for (text, hash) in [
            ("", -1_477_818_771),
            ("a", 1_075_015_857),
            ("order-42", 1_198_831_424),
            ("žluťoučký-1-5", 610_563_415),
            // Each part of the last block, which may be up to 11 bytes.
            ("abcdefgh", -1_960_928_205),
            ("abcdefghi", -92_131_489),
            ("abcdefghijk", -1_483_803_693),
            ("abcdefghijklmnopqrstuvw", -1_149_376_136),
            ("0123456789ab", -1_437_215_093),
            ("0123456789abc", -1_125_236_995),
            (&"x".repeat(1_000), -1_157_355_676),
        ] {
            assert_eq!(hashtext(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn every_key_is_in_one_shard_of_a_layout() {
        for count in 2..=9 {
            for key in [None, Some(&b""[..]), Some(b"a"), Some(b"order-42"), Some(b"x")] {
                assert_eq!(Shard::all(count).filter(|shard| shard.has(key)).count(), 1, "{count} {key:?}");
            }
            assert!(Shard { count, index: 0 }.has(None));
        }
        // As `&` and `%` have it: -1477818771 is 5 modulo 8, and 0 modulo 3.
        assert!(Shard { count: 8, index: 5 }.has(Some(b"")) && Shard { count: 3, index: 0 }.has(Some(b"")));
    }

    #[test]
    fn filters_are_written_as_postgres_prints_them() {
        let [first, third] = [Shard { count: 4, index: 0 }, Shard { count: 3, index: 2 }];
        let filter = |shard: Shard, column: &str, of: &str| shard.filter(column, of).unwrap();
        assert_eq!(filter(first, "a", "text"), "((COALESCE(hashtext(a), 0) & 3) = 0)");
        assert_eq!(
            filter(third, "\"G h\"", "text"),
            "((((COALESCE(hashtext(\"G h\"), 0) % 3) + 3) % 3) = 2)"
        );
        let varying = "character varying(10)";
        assert_eq!(filter(first, "b", varying), "((COALESCE(hashtext((b)::text), 0) & 3) = 0)");
        assert_eq!(filter(first, "c", "uuid"), "((COALESCE(uuid_hash(c), 0) & 3) = 0)");
        assert_eq!(filter(first, "d", "bigint"), "((COALESCE(hashint8(d), 0) & 3) = 0)");
        assert_eq!(filter(first, "e", "integer"), "((COALESCE(hashint4(e), 0) & 3) = 0)");
        assert_eq!(filter(first, "f", "smallint"), "((COALESCE(hashint2(f), 0) & 3) = 0)");
        for other in ["jsonb", "my_domain", "character(3)", "numeric"] {
            assert_eq!(first.filter("g", other), None, "{other}");
        }
        assert_eq!(third.name("outbox_relay"), "outbox_relay_3_2");
    }

    #[test]
    fn a_key_is_divided_by_its_one_column() {
        let column = |text: &str| key_column(&Template::parse(text).unwrap()).map(str::to_owned);
        assert_eq!(column("{aggregate_id}").as_deref(), Some("aggregate_id"));
        assert_eq!(column("{@schema}/{tenant}").as_deref(), Some("tenant"));
        for none in ["fixed", "{a}{b}", "{a|lower}", "{a|\"none\"}", "{@table}"] {
            assert_eq!(column(none), None, "{none}");
        }
    }
}
