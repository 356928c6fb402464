//! A table's columns matched with the configuration: names become positions, once per `Relation` message.

use std::sync::Arc;

use bytes::Bytes;

use super::function::Function;
use super::spec::{Shape, TableName};
use super::template::{Piece, Template};
use super::zone::Zone;
use crate::wal::pgoutput::{Column, Relation, RelationId};

/// How to read the rows of one table, until its next `Relation` message.
#[derive(Debug, Clone)]
pub struct Mapping {
    pub(super) table: TableName,
    pub(super) id: Field,
    pub(super) payload: Field,
    pub(super) timestamp: Option<(Field, TimestampType)>,
    pub(super) partition: Option<Field>,
    pub(super) topic: Source,
    pub(super) key: Source,
    pub(super) headers: Vec<(Arc<str>, Source)>,
    /// A JSON object with further headers.
    pub(super) unpacked: Option<Field>,
}

/// A column: its position in a row, its name for messages, whether its text must be decoded, and what is made of it.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) index: usize,
    pub(super) name: Arc<str>,
    pub(super) bytea: bool,
    pub(super) functions: Vec<Function>,
}

/// What a template became.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Text without a placeholder.
    Fixed(Bytes),
    /// One column and nothing else: its bytes go through untouched, and NULL stays NULL.
    Column(Field),
    /// Text and columns.
    Composed(Vec<Part>),
}

/// A part of a composed template.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Literal(Bytes),
    Column(Field),
}

impl Part {
    /// Its text, if it is one.
    fn literal(&self) -> Option<&Bytes> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Column(_) => None,
        }
    }

    /// Its column, if it is one.
    pub(super) fn field(&self) -> Option<&Field> {
        match self {
            Self::Literal(_) => None,
            Self::Column(field) => Some(field),
        }
    }
}

/// The types that a timestamp column may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimestampType {
    /// `timestamptz` or `timestamp`; the latter is a time of this zone.
    Text(Zone),
    /// `bigint`: milliseconds since 1970.
    EpochMillis,
}

/// A table that does not fit the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A configured column is not there (or not published).
    #[error("table \"{table}\" has no column \"{column}\", which {key} names; it has {}", listed(columns))]
    MissingColumn {
        /// The table.
        table: TableName,
        /// The configuration's key.
        key: String,
        /// The missing column.
        column: String,
        /// The columns that are there.
        columns: Vec<String>,
    },
    /// The timestamp column has a type without a point in time.
    #[error(
        "column \"{column}\" of table \"{table}\" cannot be {key}: its type (oid {type_id}) is not \
         timestamptz, timestamp or bigint"
    )]
    TimestampType {
        /// The table.
        table: TableName,
        /// The configuration's key.
        key: String,
        /// The column.
        column: String,
        /// Its type.
        type_id: u32,
    },
}

fn listed(columns: &[String]) -> String {
    if columns.is_empty() { "none".to_owned() } else { columns.join(", ") }
}

// Object ids of built-in types never change (src/include/catalog/pg_type.dat).
const BYTEA: u32 = 17;
pub(super) const INT8: u32 = 20;
pub(super) const TEXT: u32 = 25;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

/// The object id of a built-in type by its name, for the base types of domains. Only types that are treated specially.
pub(super) fn built_in_type(name: &str) -> Option<u32> {
    match name {
        "bytea" => Some(BYTEA),
        "int8" => Some(INT8),
        "timestamp" => Some(TIMESTAMP),
        "timestamptz" => Some(TIMESTAMPTZ),
        _ => None,
    }
}

/// How to read a timestamp column of this type.
fn timestamp_type(
    shape: &Shape,
    table: &TableName,
    column: &str,
    type_id: u32,
) -> Result<TimestampType, MappingError> {
    match type_id {
        TIMESTAMPTZ | TIMESTAMP => Ok(TimestampType::Text(shape.columns.timestamp_zone.clone())),
        INT8 => Ok(TimestampType::EpochMillis),
        _ => Err(MappingError::TimestampType {
            table: table.clone(),
            key: shape.key("outbox.columns.timestamp"),
            column: column.to_owned(),
            type_id,
        }),
    }
}

/// What `{@schema}` and `{@table}` stand for, which is known before any row; nothing for a column.
fn own_name(table: &TableName, placeholder: &str, functions: &[Function]) -> Option<Bytes> {
    let name = match placeholder {
        "@schema" => &table.schema,
        "@table" => &table.name,
        _ => return None,
    };
    let name = Some(Bytes::copy_from_slice(name.as_bytes()));
    functions.iter().fold(name, |name, function| function.apply(name))
}

impl Mapping {
    /// The first column of the key.
    pub(super) fn key_field(&self) -> Option<&Field> {
        match &self.key {
            Source::Fixed(_) => None,
            Source::Column(field) => Some(field),
            Source::Composed(parts) => parts.iter().find_map(Part::field),
        }
    }

    /// Whether a column of this base type can be the timestamp column.
    ///
    /// # Errors
    /// [`MappingError::TimestampType`].
    pub fn check_timestamp(
        shape: &Shape,
        table: &TableName,
        column: &str,
        base_type: u32,
    ) -> Result<(), MappingError> {
        timestamp_type(shape, table, column, base_type).map(drop)
    }

    /// The same for rows that are not replicated: their `columns` are those of [`Shape::mapped_columns`], each with its base type.
    ///
    /// # Errors
    /// If one that `shape` needs is missing or cannot serve.
    pub fn of_columns(
        shape: &Shape,
        table: TableName,
        columns: impl IntoIterator<Item = (String, u32)>,
    ) -> Result<Self, MappingError> {
        let column = |(name, type_id)| Column { key: false, name, type_id, type_modifier: -1 };
        let relation = Relation {
            id: RelationId(0),
            schema: String::new(),
            name: String::new(),
            replica_identity: b'n',
            columns: columns.into_iter().map(column).collect(),
        };
        Self::new(shape, table, &relation, |type_id| type_id)
    }

    /// Matches `relation` with `shape`. `base_type` gives a domain's base type, and any other type itself.
    ///
    /// # Errors
    /// If a column that `shape` needs is missing or cannot serve.
    pub(super) fn new(
        shape: &Shape,
        table: TableName,
        relation: &Relation,
        base_type: impl Fn(u32) -> u32,
    ) -> Result<Self, MappingError> {
        let columns = &shape.columns;
        let field = |key: &str, name: &str| {
            let found = relation.columns.iter().enumerate().find(|(_, column)| column.name == name);
            let (index, column) = found.ok_or_else(|| MappingError::MissingColumn {
                table: table.clone(),
                key: shape.key(key),
                column: name.to_owned(),
                columns: relation.columns.iter().map(|column| column.name.clone()).collect(),
            })?;
            let type_id = base_type(column.type_id);
            Ok((Field { index, name: name.into(), bytea: type_id == BYTEA, functions: Vec::new() }, type_id))
        };
        let source = |key: &str, template: &Template| {
            let part = |piece: &Piece| {
                Ok(match piece {
                    Piece::Literal(text) => Part::Literal(Bytes::copy_from_slice(text.as_bytes())),
                    Piece::Placeholder(name, functions) => match own_name(&table, name, functions) {
                        Some(text) => Part::Literal(text),
                        None => {
                            let (field, _) = field(key, columns.behind(name).0)?;
                            Part::Column(Field { functions: functions.clone(), ..field })
                        }
                    },
                })
            };
            let parts = template.pieces().iter().map(part).collect::<Result<Vec<_>, MappingError>>()?;
            Ok(match parts.as_slice() {
                [Part::Column(field)] => Source::Column(field.clone()),
                parts if parts.iter().all(|part| part.field().is_none()) => {
                    Source::Fixed(parts.iter().filter_map(Part::literal).flatten().copied().collect())
                }
                _ => Source::Composed(parts),
            })
        };
        let timestamp = columns.timestamp.as_deref().map(|name| {
            let (field, type_id) = field("outbox.columns.timestamp", name)?;
            Ok((field, timestamp_type(shape, &table, name, type_id)?))
        });
        let partition = shape.route.partition.as_deref().map(|name| field("route.partition", name));
        let unpacked = columns.headers.as_deref().map(|name| field("outbox.columns.headers", name));
        let headers = shape.headers.iter().map(|(name, template)| {
            let source = source(&format!("outbox.headers.{name}"), template)?;
            Ok((Arc::from(name.as_str()), source))
        });
        Ok(Self {
            id: field("outbox.columns.id", &columns.id)?.0,
            payload: field("outbox.columns.payload", &columns.payload)?.0,
            timestamp: timestamp.transpose()?,
            partition: partition.transpose()?.map(|(field, _)| field),
            topic: source("route.topic", &shape.route.topic)?,
            key: source("route.key", &shape.route.key)?,
            headers: headers.collect::<Result<_, MappingError>>()?,
            unpacked: unpacked.transpose()?.map(|(field, _)| field),
            table,
        })
    }
}
