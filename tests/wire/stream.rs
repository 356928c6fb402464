//! Whole transactions as a server sends them: `Begin`, descriptions of tables where they are due, rows, `Commit`.

use std::collections::HashMap;

use bytes::Bytes;
use outbox_relay::lsn::Lsn;
use outbox_relay::wal::pgoutput::{Begin, Column, Commit, Relation, RelationId};
use outbox_relay::wal::{Envelope, Keepalive, PgTimestamp};

use super::{Message, Row, envelope, xlog_data};

/// Length of a commit record: what lies between a transaction's commit LSN and its end LSN.
pub(crate) const COMMIT_RECORD: u64 = 0x30;

/// A description of a table; columns are a name and the object id of a type.
pub(crate) fn table(id: u32, schema: &str, name: &str, columns: &[(&str, u32)]) -> Relation {
    let column = |&(name, type_id): &(&str, u32)| Column {
        key: false,
        name: name.to_owned(),
        type_id,
        type_modifier: -1,
    };
    Relation {
        id: RelationId(id),
        schema: schema.to_owned(),
        name: name.to_owned(),
        replica_identity: b'd',
        columns: columns.iter().map(column).collect(),
    }
}

/// A committed transaction, to be built change by change.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) commit_lsn: Lsn,
    pub(crate) commit_time: PgTimestamp,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    /// The table as it is when the change is sent.
    table: Option<Relation>,
    message: Message,
}

impl Transaction {
    /// An empty transaction whose commit record starts at `commit_lsn`.
    pub(crate) fn new(commit_lsn: Lsn, commit_time: PgTimestamp) -> Self {
        Self { commit_lsn, commit_time, changes: Vec::new() }
    }

    /// Where its commit record ends.
    pub(crate) fn end_lsn(&self) -> Lsn {
        Lsn::new(self.commit_lsn.as_u64() + COMMIT_RECORD)
    }

    /// A row is inserted into `table`.
    pub(crate) fn insert(&mut self, table: &Relation, row: Row) {
        self.change(table, Message::Insert(table.id, row));
    }

    /// `message` concerns `table`, which must be described before it.
    pub(crate) fn change(&mut self, table: &Relation, message: Message) {
        self.changes.push(Change { table: Some(table.clone()), message });
    }

    /// `message` concerns no table.
    pub(crate) fn message(&mut self, message: Message) {
        self.changes.push(Change { table: None, message });
    }
}

/// A server's side of one session: it remembers which tables it has described, and how.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    described: HashMap<RelationId, Relation>,
}

impl Sender {
    /// The messages of `transaction`, in the order in which a server sends them.
    pub(crate) fn messages(&mut self, transaction: &Transaction) -> Vec<Message> {
        let &Transaction { commit_lsn, commit_time, .. } = transaction;
        let mut messages = vec![Message::Begin(Begin { commit_lsn, commit_time, xid: 1 })];
        for Change { table, message } in &transaction.changes {
            if let Some(table) = table
                && self.described.get(&table.id) != Some(table)
            {
                self.described.insert(table.id, table.clone());
                messages.push(Message::Relation(table.clone()));
            }
            messages.push(message.clone());
        }
        messages.push(Message::Commit(Commit { commit_lsn, end_lsn: transaction.end_lsn(), commit_time }));
        messages
    }

    /// The `CopyData` bodies of `transaction`, sent as soon as it was committed.
    pub(crate) fn bodies(&mut self, transaction: &Transaction) -> Vec<Bytes> {
        let messages = self.messages(transaction);
        let body = |message| xlog_data(transaction.commit_lsn, transaction.commit_time, message);
        messages.iter().map(body).collect()
    }
}

/// The body of a keepalive.
pub(crate) fn keepalive(wal_end: Lsn, reply_requested: bool) -> Bytes {
    envelope(&Envelope::Keepalive(Keepalive { wal_end, sent: PgTimestamp::from_micros(0), reply_requested }))
}
