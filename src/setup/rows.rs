//! How many rows are in the tables already: nobody will send them. Counted up to a bound, and not for long.

use std::fmt;

use crate::outbox::TableName;
use crate::postgres::control::{Catalog, wrong};
use crate::postgres::error::Error;
use crate::postgres::sql;

/// Rows that will not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The tables that have any, as SQL writes them.
    pub tables: Vec<String>,
    /// How many, in all of them; nothing if they could not be counted: the role may not read them, or it takes too long.
    pub count: Option<u64>,
    /// Whether that is all, or there are more.
    pub exact: bool,
}

/// More than these are not counted: a sequential scan of them takes about a second.
const MOST: u32 = 1_000_000;

/// Dead rows and a busy disk can make it long nevertheless.
const PATIENCE: &str = "5s";

/// Counts the rows of `tables`, all of which exist.
pub(super) async fn count(catalog: &Catalog, tables: &[TableName]) -> Result<Rows, Error> {
    const ACTION: &str = "count the rows that are in the tables";
    catalog.execute(ACTION, &format!("SET statement_timeout = '{PATIENCE}'")).await?;
    let mut rows = Rows { tables: Vec::new(), count: Some(0), exact: true };
    for table in tables.iter().map(sql::table) {
        let sql = format!("SELECT count(*) FROM (SELECT FROM {table} LIMIT {MOST} + 1) AS rows");
        let found = match catalog.query(ACTION, &sql, &[]).await {
            Ok(found) => found,
            // insufficient_privilege, query_canceled
            Err(error) if error.server().is_some_and(|error| ["42501", "57014"].contains(&&*error.code)) => {
                // How large it is, partitions included, everybody may know.
                let sql = "SELECT coalesce(sum(pg_relation_size(relid)), 0) > 0 FROM pg_partition_tree($1::text::regclass)";
                let size = catalog.query(ACTION, sql, &[&table]).await?;
                if size.first().map_or(Ok(false), |row| row.try_get(0)).map_err(wrong(ACTION))? {
                    rows.tables.push(table);
                    rows.count = None;
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let count: i64 = found.first().map_or(Ok(0), |row| row.try_get(0)).map_err(wrong(ACTION))?;
        let count = u64::try_from(count).unwrap_or(0);
        if count > 0 {
            rows.tables.push(table);
        }
        rows.exact &= count <= u64::from(MOST);
        rows.count = rows.count.map(|sum| sum.saturating_add(count.min(u64::from(MOST))));
    }
    catalog.execute(ACTION, "SET statement_timeout = 0").await?;
    Ok(rows)
}

/// One sentence, if there are any.
impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.join(", ");
        match self.count {
            Some(1) => write!(f, "1 row is in {tables} already and will not be sent")?,
            Some(count) => {
                let more = if self.exact { "" } else { "more than " };
                let count = thousands(count);
                write!(f, "{more}{count} rows are in {tables} already and will not be sent")?;
            }
            None => write!(f, "rows that could not be counted are in {tables} already and will not be sent")?,
        }
        f.write_str(": the slot keeps what is committed after it was made")
    }
}

/// `1,000,000`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_told_in_a_sentence() {
        let rows = |count, exact| {
            Rows { tables: vec!["public.outbox".to_owned()], count: Some(count), exact }.to_string()
        };
        let unknown = Rows { tables: vec!["public.outbox".to_owned()], count: None, exact: true };
        insta::assert_snapshot!(unknown, @"rows that could not be counted are in public.outbox already and will not be sent: the slot keeps what is committed after it was made");
        insta::assert_snapshot!(rows(1, true), @"1 row is in public.outbox already and will not be sent: the slot keeps what is committed after it was made");
        insta::assert_snapshot!(rows(12_345, true), @"12,345 rows are in public.outbox already and will not be sent: the slot keeps what is committed after it was made");
        insta::assert_snapshot!(rows(1_000_000, false), @"more than 1,000,000 rows are in public.outbox already and will not be sent: the slot keeps what is committed after it was made");
    }
}
