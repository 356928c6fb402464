//! What the stream has said of the tables whose rows it sends.
//!
//! The server describes a table before its first row and again after every change, so the latest description is the
//! right one for the rows that follow. A table is an outbox if its name is configured, or if its object id is that of a
//! configured table when the session began: a renamed table goes on being relayed.

use std::collections::{HashMap, HashSet};

use super::mapping::{Mapping, MappingError, built_in_type};
use super::spec::{Spec, TableName};
use crate::wal::pgoutput::{Relation, RelationId, Type};

/// The relation cache of one session.
#[derive(Debug)]
pub struct Relations {
    spec: Spec,
    outboxes: HashSet<RelationId>,
    tables: HashMap<RelationId, Table>,
    base_types: HashMap<u32, u32>,
}

#[derive(Debug)]
enum Table {
    Outbox(Box<Mapping>),
    Elsewhere,
    Unknown(TableName),
}

/// A row whose table is not known to be an outbox, nor known not to be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No `Relation` message came before the row.
    #[error("a row of relation {} came before its description", .0.0)]
    Undescribed(RelationId),
    /// The table is in the publication, but not in `outbox.tables`.
    #[error("table \"{table}\" is in the publication, but outbox.tables does not name it")]
    Unknown {
        /// Its object id.
        id: RelationId,
        /// Its name.
        table: TableName,
    },
}

impl Relations {
    /// An empty cache. `outboxes` are the object ids that the configured tables have in the catalog now.
    #[must_use]
    pub fn new(spec: Spec, outboxes: impl IntoIterator<Item = RelationId>) -> Self {
        let outboxes = outboxes.into_iter().collect();
        Self { spec, outboxes, tables: HashMap::new(), base_types: HashMap::new() }
    }

    /// Takes in a `Type` message: for a domain, it names the base type.
    pub fn type_(&mut self, described: &Type) {
        let base = if described.schema.is_empty() { built_in_type(&described.name) } else { None };
        match base {
            Some(base) => self.base_types.insert(described.id, base),
            None => self.base_types.remove(&described.id),
        };
    }

    /// Takes in a `Relation` message.
    ///
    /// # Errors
    /// If the table is an outbox and does not fit the configuration (any more).
    pub fn relation(&mut self, relation: Relation) -> Result<(), MappingError> {
        let id = relation.id;
        // Whatever comes of it, the old description is not true any more.
        let before = self.tables.remove(&id);
        let name = TableName { schema: relation.schema.clone(), name: relation.name.clone() };
        let table = if self.outboxes.contains(&id) || self.spec.names(&name) {
            self.outboxes.insert(id);
            let base_type = |type_id| self.base_types.get(&type_id).copied().unwrap_or(type_id);
            Table::Outbox(Box::new(Mapping::new(self.spec.of(&name), name.clone(), &relation, base_type)?))
        } else if matches!(before, Some(Table::Elsewhere)) {
            Table::Elsewhere
        } else {
            Table::Unknown(name)
        };
        self.tables.insert(id, table);
        Ok(())
    }

    /// The mapping for a row of table `id`; `None` if the table is known not to be an outbox.
    ///
    /// # Errors
    /// If nothing is known of the table: its row may neither be sent nor passed over.
    pub fn mapping(&self, id: RelationId) -> Result<Option<&Mapping>, TableError> {
        match self.tables.get(&id) {
            Some(Table::Outbox(mapping)) => Ok(Some(mapping)),
            Some(Table::Elsewhere) => Ok(None),
            Some(Table::Unknown(table)) => Err(TableError::Unknown { id, table: table.clone() }),
            None => Err(TableError::Undescribed(id)),
        }
    }

    /// Table `id` was looked up in the catalog and is not an outbox, nor a partition of one.
    pub fn elsewhere(&mut self, id: RelationId) {
        self.tables.insert(id, Table::Elsewhere);
    }

    /// Whether table `id` is an outbox; for changes that are only counted.
    #[must_use]
    pub fn is_outbox(&self, id: RelationId) -> bool {
        matches!(self.tables.get(&id), Some(Table::Outbox(_)))
    }
}
