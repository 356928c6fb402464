//! Rows of an outbox that somebody has chosen, read as text in their order.

use bytes::Bytes;

use super::control::{Catalog, wrong};
use super::error::Error;
use super::sql::{self, identifier};
use crate::outbox::TableName;

/// A row: its columns as the types' output functions print them, as replication has them; `None` for NULL.
pub type Texts = Vec<Option<Bytes>>;

/// Rows that are fetched together.
const TOGETHER: u32 = 1_000;

/// Sets a session so that types print as they do in a replication stream (`startup.rs`), whatever is set for the role. To count
/// and to sort takes its time.
pub const SESSION: &str = "SET bytea_output = 'hex'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; \
    SET extra_float_digits = 3; SET timezone = 'UTC'; SET statement_timeout = 0";

impl Catalog {
    /// How many rows of `table` meet `condition`, an expression of SQL.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn count(&self, table: &TableName, condition: &str) -> Result<u64, Error> {
        const ACTION: &str = "count the chosen rows";
        self.execute(ACTION, SESSION).await?;
        let sql = format!("SELECT count(*) FROM {} WHERE {condition}", sql::table(table));
        let rows = self.texts(ACTION, &sql).await?;
        let count = rows.first().and_then(|row| row.first()?.clone());
        Ok(count.and_then(|count| std::str::from_utf8(&count).ok()?.parse().ok()).unwrap_or(0))
    }

    /// How many rows of `table` meet `condition`; `most` if there are more.
    ///
    /// # Errors
    /// If the server refuses, or takes too long.
    pub async fn count_pending(&self, table: &TableName, condition: &str, most: u64) -> Result<u64, Error> {
        let name = sql::table(table);
        let sql =
            format!("SELECT count(*)::int8 FROM (SELECT FROM {name} WHERE {condition} LIMIT {most}) rows");
        const ACTION: &str = "count the pending rows";
        let rows = self.query(ACTION, &sql, &[]).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(wrong(ACTION))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Chooses the rows of `table` that meet `condition`, ordered by the columns `order`: [`Catalog::chosen`] gives their
    /// `columns`. The server keeps them aside, so that no transaction stays open.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn choose(
        &self,
        table: &TableName,
        columns: &[String],
        condition: &str,
        order: &[String],
    ) -> Result<(), Error> {
        const ACTION: &str = "choose rows";
        let list =
            |names: &[String]| names.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "{SESSION}; BEGIN READ ONLY; \
             DECLARE chosen NO SCROLL CURSOR WITH HOLD FOR SELECT {} FROM {} WHERE {condition} ORDER BY {}; COMMIT",
            list(columns),
            sql::table(table),
            list(order)
        );
        self.execute(ACTION, &sql).await
    }

    /// The next of the rows that were chosen; none at their end.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn chosen(&self) -> Result<Vec<Texts>, Error> {
        self.texts("read the chosen rows", &format!("FETCH {TOGETHER} FROM chosen")).await
    }

    /// Forgets the rows that were chosen.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn forget_chosen(&self) -> Result<(), Error> {
        self.execute("forget the chosen rows", "CLOSE chosen").await
    }

    /// The time of the server's clock, in microseconds since 1970.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn clock(&self) -> Result<i64, Error> {
        const ACTION: &str = "ask the server for the time";
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
        let rows = self.query(ACTION, sql, &[]).await?;
        rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(wrong(ACTION))
    }
}
