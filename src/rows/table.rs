//! A table whose rows are read by a query: what is asked for, and a row of the answer as the stream has it.

use tokio_postgres::SimpleQueryRow;

use super::stream::{Row, RowStream};
use crate::outbox::{Spec, TableName};
use crate::postgres::sql::{self, identifier};
use crate::postgres::survey::{Column, Outbox};
use crate::wal::PgTimestamp;
use crate::wal::pgoutput::{self, Relation, RelationId};

/// A table, and how its rows are read.
#[derive(Debug, Clone)]
pub struct RowTable {
    relation: Relation,
    name: TableName,
    /// Where the id is among the columns.
    id_index: usize,
    id: Column,
    /// The column by which rows are ordered before their id.
    time: Option<Column>,
    /// An expression: what stands for the commit time.
    committed: String,
}

/// What identifies a version of a row beside its id.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// `xmin`: the transaction that wrote it.
    pub xmin: String,
    /// Its table (the partition that holds it) and its place there.
    place: (String, String),
}

/// A row that was read.
#[derive(Debug)]
pub struct Read<'a> {
    /// Its columns.
    values: Vec<Option<&'a str>>,
    committed: PgTimestamp,
    now: PgTimestamp,
    /// Its id; `None` if it is NULL.
    pub id: Option<&'a str>,
    /// Its version.
    pub version: Version,
}

/// Object ids of types (src/include/catalog/pg_type.dat).
const INT8: u32 = 20;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

impl RowTable {
    /// How the rows of `outbox` are read, whose columns are as `spec` names them; `None` if it has no column for the id.
    #[must_use]
    pub fn new(outbox: &Outbox, spec: &Spec) -> Option<Self> {
        let shape = spec.of(&outbox.table.name);
        let column = |name: &str| outbox.columns.iter().find(|column| column.name == name);
        let mapped = shape.mapped_columns();
        let columns: Vec<_> = mapped.iter().filter_map(|(name, _)| column(name)).collect();
        let id_index = columns.iter().position(|column| column.name == shape.columns.id)?;
        let time = column(shape.columns.age()).cloned();
        let id = column(&shape.columns.id)?.clone();
        Some(Self {
            relation: Relation {
                id: outbox.table.id,
                schema: outbox.table.name.schema.clone(),
                name: outbox.table.name.name.clone(),
                replica_identity: b'n',
                columns: columns.into_iter().map(described).collect(),
            },
            name: outbox.table.name.clone(),
            id_index,
            id,
            committed: committed(time.as_ref()),
            time,
        })
    }

    /// Its object id.
    #[must_use]
    pub const fn id(&self) -> RelationId {
        self.relation.id
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &TableName {
        &self.name
    }

    /// The column with the id.
    #[must_use]
    pub const fn id_column(&self) -> &Column {
        &self.id
    }

    /// Describes it to the session; before its first row.
    pub fn describe(&self, stream: &mut RowStream) {
        stream.describe(&self.relation);
    }

    /// The rows that meet `condition`, an expression of SQL, in the order of time and id; `limit` of them at most.
    #[must_use]
    pub fn query(&self, condition: &str, limit: Option<usize>) -> String {
        let mut columns: Vec<_> =
            self.relation.columns.iter().map(|column| identifier(&column.name)).collect();
        columns.push(format!("(extract(epoch FROM {}) * 1000000)::int8", self.committed));
        columns.push("(extract(epoch FROM clock_timestamp()) * 1000000)::int8".to_owned());
        columns.extend(["tableoid::text", "ctid::text", "xmin::text"].map(str::to_owned));
        let order = self.time.iter().chain([&self.id]).map(|column| identifier(&column.name));
        let order = order.collect::<Vec<_>>().join(", ");
        let limit = limit.map(|limit| format!(" LIMIT {limit}"));
        format!(
            "SELECT {} FROM {} WHERE {condition} ORDER BY {order}{}",
            columns.join(", "),
            sql::table(&self.name),
            limit.unwrap_or_default(),
        )
    }

    /// A row of the answer to [`RowTable::query`]; `None` if it is of another.
    #[must_use]
    pub fn read<'a>(&self, row: &'a SimpleQueryRow) -> Option<Read<'a>> {
        let columns = self.relation.columns.len();
        let values: Vec<_> = (0..columns).map(|index| row.get(index)).collect();
        let mut rest = (columns..row.len()).map(|index| row.get(index));
        let mut micros = || Some(PgTimestamp::from_unix_micros(rest.next()??.parse().ok()?));
        let (committed, now) = (micros()?, micros()?);
        let mut text = || Some(rest.next()??.to_owned());
        let (table, place, xmin) = (text()?, text()?, text()?);
        let id = row.get(self.id_index);
        Some(Read { values, committed, now, id, version: Version { xmin, place: (table, place) } })
    }
}

impl Read<'_> {
    /// The length of its columns together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.iter().flatten().map(|value| value.len()).sum()
    }

    /// Its name in `stream`.
    #[must_use]
    pub fn name(&self, stream: &RowStream) -> u64 {
        stream.name(&self.version)
    }

    /// Sends it as a row of `table` under its `name`; gives its number.
    pub fn send(&self, table: &RowTable, name: u64, stream: &mut RowStream) -> u64 {
        let Self { values, committed, now, .. } = self;
        stream.row(&Row { table: table.id(), name, committed: *committed, now: *now, values })
    }
}

/// A column, with the base type of its domain: what a replication stream would tell in a message of its own.
fn described(column: &Column) -> pgoutput::Column {
    pgoutput::Column { key: false, name: column.name.clone(), type_id: column.base_type, type_modifier: -1 }
}

/// When a row was written, as far as it says so itself, and the present time where it does not: as `timestamptz`, after 1970
/// and not ahead, so that a broker takes it.
fn committed(time: Option<&Column>) -> String {
    const NOW: &str = "clock_timestamp()";
    let Some(column) = time else {
        return NOW.to_owned();
    };
    let name = identifier(&column.name);
    let (time, is_finite) = match column.base_type {
        TIMESTAMPTZ => (name.clone(), format!("isfinite({name})")),
        // A record whose timestamp is to be that of the column has it from the column itself, with its zone.
        TIMESTAMP => (format!("{name} AT TIME ZONE 'UTC'"), format!("isfinite({name})")),
        // Beyond the year 10000 to_timestamp() may fail.
        INT8 => (format!("to_timestamp({name} / 1000.0)"), format!("{name} < 253402300800000")),
        _ => return NOW.to_owned(),
    };
    format!(
        "CASE WHEN {is_finite} THEN CASE WHEN {time} > 'epoch' AND {time} < {NOW} THEN {time} ELSE {NOW} END ELSE {NOW} END"
    )
}
