//! What a table, and a role's rights on it, allow `[after_publish]` to do: asked before a session streams, for `check`, and for
//! `setup`.

use tokio_postgres::Row;

use super::control::{Catalog, wrong};
use super::error::Error;
use super::sql::{self, identifier, literal};
use super::survey::{Outbox, Survey};
use crate::config::{Action, AfterPublish};
use crate::outbox::{Columns, Spec, TableName};

/// What was seen of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaning {
    /// The table.
    pub table: TableName,
    /// Whether it has all rights that the action needs.
    pub allowed: bool,
    /// Whether policies of the table decide which rows the role sees.
    pub row_security: bool,
    /// Columns by which the table, or one of its partitions, is partitioned.
    pub partition_key: Vec<String>,
    /// Whether it is partitioned by ranges of one column of type timestamptz.
    pub by_time: bool,
    /// Whether the functions of `sql/optional/partitions.sql` are there, of the table's owner and with his rights.
    pub functions: bool,
    /// Whether an index serves the choice of rows.
    pub indexed: bool,
    /// Whether there are rows that were never sent, and would be taken for published. Asked only while there is no slot.
    pub unsent: bool,
}

/// How long a question about rows may take. Where there are that many, there are some.
const LIMIT: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'";

/// The function that makes partitions of `table`, which the relay does not call, as SQL writes it.
#[must_use]
pub fn adding(TableName { schema, name }: &TableName) -> String {
    format!("{}.{}", identifier(schema), identifier(&format!("add_partitions_of_{name}")))
}

/// The function that detaches partitions of `table`, as SQL writes it.
#[must_use]
pub fn detaching(TableName { schema, name }: &TableName) -> String {
    format!("{}.{}", identifier(schema), identifier(&format!("detach_partition_of_{name}")))
}

/// The function that drops a detached partition of `table`.
#[must_use]
pub fn dropping(TableName { schema, name }: &TableName) -> String {
    format!("{}.{}", identifier(schema), identifier(&format!("drop_partition_of_{name}")))
}

impl Catalog {
    /// Looks at `outbox` for `role`, or for whoever asks; nothing if it is not there any more.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn cleaning(
        &self,
        outbox: &Outbox,
        after: &AfterPublish,
        columns: &Columns,
        role: Option<&str>,
    ) -> Result<Option<Cleaning>, Error> {
        const ACTION: &str = "look at what may be done with published rows";
        let (detach, drop) = (
            format!("{}(interval)", detaching(&outbox.table.name)),
            format!("{}(oid)", dropping(&outbox.table.name)),
        );
        // The columns that rows are chosen by: an index that has one in its condition, or begins with it.
        let (status, age) = (&after.status_column, columns.age());
        let marked: Vec<&str> =
            std::iter::once(status.as_str()).chain(after.published_at_column.as_deref()).collect();
        let sql = "SELECT has_table_privilege(r.name, c.oid, 'SELECT'), has_table_privilege(r.name, c.oid, 'DELETE'), \
                  has_any_column_privilege(r.name, c.oid, 'UPDATE'), \
                  (SELECT coalesce(bool_and(has_column_privilege(r.name, c.oid, a.attnum, 'UPDATE')), false) FROM pg_attribute a \
                    WHERE a.attrelid = c.oid AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped), \
                  c.relrowsecurity AND (c.relforcerowsecurity OR NOT pg_has_role(r.name, c.relowner, 'MEMBER')) \
                      AND NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = r.name), \
                  ARRAY(SELECT DISTINCT a.attname::text FROM pg_partition_tree(c.oid) t \
                          JOIN pg_partitioned_table p ON p.partrelid = t.relid \
                          JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[]) ORDER BY 1), \
                  coalesce((SELECT p.partstrat = 'r' AND p.partnatts = 1 AND a.atttypid = 'timestamptz'::regtype \
                              FROM pg_partitioned_table p \
                              JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] \
                             WHERE p.partrelid = c.oid), false), \
                  (SELECT count(*) = 2 AND coalesce(bool_and(f.prosecdef AND f.proowner = c.relowner), false) FROM pg_proc f \
                    WHERE f.oid IN (to_regprocedure($3)::oid, to_regprocedure($4)::oid)), \
                  (SELECT count(*) = 2 AND coalesce(bool_and(has_function_privilege(r.name, f.oid, 'EXECUTE')), false) FROM pg_proc f \
                    WHERE f.oid IN (to_regprocedure($3)::oid, to_regprocedure($4)::oid)), \
                  EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $5 \
                            JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid \
                                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum \
                           WHERE i.indrelid = c.oid AND i.indisvalid), \
                  EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $6 \
                           WHERE i.indrelid = c.oid AND i.indisvalid AND i.indkey[0] = a.attnum) \
             FROM pg_class c, (SELECT coalesce($7::text::name, current_user) AS name) r WHERE c.oid = $1";
        let id = outbox.table.id.0;
        let rows = self.query(ACTION, sql, &[&id, &marked, &detach, &drop, status, &age, &role]).await?;
        rows.first().map(|row| cleaning(row, outbox, after)).transpose().map_err(wrong(ACTION))
    }

    /// What is to be known of all tables before a session begins. Rows are looked for only while there is no slot: of those that
    /// a slot's maker has left behind nobody knows.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn cleanings(
        &self,
        survey: &Survey,
        after: &AfterPublish,
        spec: &Spec,
        role: Option<&str>,
    ) -> Result<Vec<Cleaning>, Error> {
        let mut found = Vec::new();
        if after.action == Action::Keep {
            return Ok(found);
        }
        for outbox in survey.outboxes() {
            let columns = &spec.of(&outbox.table.name).columns;
            if let Some(mut cleaning) = self.cleaning(outbox, after, columns, role).await? {
                cleaning.unsent = survey.slot.is_none() && self.has_unsent(outbox, after).await?;
                found.push(cleaning);
            }
        }
        Ok(found)
    }

    /// Whether there is a row that would be taken for published. Where rows may not be read, whether the table takes room.
    async fn has_unsent(&self, outbox: &Outbox, after: &AfterPublish) -> Result<bool, Error> {
        const ACTION: &str = "look for rows that were never sent";
        if !outbox.readable || !outbox.has_rows {
            return Ok(outbox.has_rows);
        }
        let condition = match after.action {
            Action::Mark if outbox.columns.iter().any(|column| column.name == after.status_column) => {
                format!(" WHERE {} = {}", identifier(&after.status_column), literal(&after.pending_value))
            }
            _ => String::new(),
        };
        let sql = format!("SELECT FROM {}{condition} LIMIT 1", sql::table(&outbox.table.name));
        self.execute(ACTION, LIMIT).await?;
        let found = match self.query(ACTION, &sql, &[]).await {
            Ok(rows) => !rows.is_empty(),
            Err(Error::Server { .. }) => true,
            Err(error) => return Err(error),
        };
        self.execute(ACTION, "ROLLBACK").await?;
        Ok(found)
    }
}

fn cleaning(row: &Row, outbox: &Outbox, after: &AfterPublish) -> Result<Cleaning, tokio_postgres::Error> {
    let [select, delete, lock, mark]: [bool; 4] =
        [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
    let functions: bool = row.try_get(7)?;
    let execute: bool = row.try_get(8)?;
    Ok(Cleaning {
        table: outbox.table.name.clone(),
        allowed: match after.action {
            Action::Keep => true,
            Action::Delete => select && delete && lock,
            Action::Mark => select && mark,
            Action::DropPartitions => execute,
        },
        row_security: row.try_get(4)?,
        partition_key: row.try_get(5)?,
        by_time: row.try_get(6)?,
        functions,
        indexed: match after.action {
            Action::Keep | Action::DropPartitions => true,
            Action::Mark => row.try_get(9)?,
            Action::Delete => after.retention.is_zero() || row.try_get(10)?,
        },
        unsent: false,
    })
}
