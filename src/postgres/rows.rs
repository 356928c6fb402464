//! What the rows that are in an outbox now tell of what will be sent. Only where the role may read the table, which the
//! relay needs not.

use super::control::{Catalog, wrong};
use super::error::Error;
use super::sql::{self, identifier};
use super::survey::Outbox;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The different values of the columns that were asked for, as text; 200 at most.
    pub values: Vec<Vec<Option<String>>>,
    /// Bytes of the largest payload; `None` if there is none.
    pub largest_payload: Option<u64>,
}

/// Different values that are looked at.
const MOST_VALUES: u32 = 200;

/// Looking must not take long, nor hold up others.
const LIMIT: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'";

/// Object id of `bytea`, whose text is not what is sent (src/include/catalog/pg_type.dat).
const BYTEA: u32 = 17;

impl Catalog {
    /// Reads `outbox`: different values of `columns`, and the size of the largest `payload`. Nothing if a look would take
    /// too long.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn rows(&self, outbox: &Outbox, columns: &[String], payload: &str) -> Result<Rows, Error> {
        const ACTION: &str = "look at the outbox table's rows";
        let table = sql::table(&outbox.table.name);
        let bytea = outbox.columns.iter().any(|column| column.name == payload && column.base_type == BYTEA);
        let payload = format!("{}{}", identifier(payload), if bytea { "" } else { "::text" });
        let texts: Vec<_> = columns.iter().map(|column| format!("{}::text", identifier(column))).collect();
        let values =
            format!("SELECT DISTINCT ARRAY[{}]::text[] FROM {table} LIMIT {MOST_VALUES}", texts.join(", "));
        let largest = format!("SELECT max(octet_length({payload}))::int8 FROM {table}");

        let mut seen = Rows::default();
        if let Some(rows) = self.within_limits(&values).await? {
            seen.values =
                rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(wrong(ACTION))?;
        }
        if let Some(row) = self.within_limits(&largest).await?.and_then(|rows| rows.into_iter().next()) {
            let bytes: Option<i64> = row.try_get(0).map_err(wrong(ACTION))?;
            seen.largest_payload = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        }
        Ok(seen)
    }

    /// The rows of a query; nothing if the server refuses it.
    async fn within_limits(&self, sql: &str) -> Result<Option<Vec<tokio_postgres::Row>>, Error> {
        const ACTION: &str = "look at the outbox table's rows";
        self.execute(ACTION, LIMIT).await?;
        let rows = match self.query(ACTION, sql, &[]).await {
            Ok(rows) => Some(rows),
            Err(Error::Server { error, .. }) => {
                tracing::debug!("{ACTION}: {error}");
                None
            }
            Err(error) => return Err(error),
        };
        self.execute(ACTION, "ROLLBACK").await?;
        Ok(rows)
    }
}
