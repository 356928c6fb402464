//! Names for what is another number on every server: positions, transaction ids, object ids, times of commits.
//!
//! With them, two servers that send the same have the same text. Positions, transactions and times are numbered by their
//! value, so that their order shows; object ids in the order in which they come.

use std::collections::BTreeSet;

use outbox_relay::lsn::Lsn;
use outbox_relay::wal::PgTimestamp;

use crate::wire::Message;

/// The numbers of one stream.
#[derive(Debug, Default)]
pub(crate) struct Names {
    lsns: BTreeSet<u64>,
    xids: BTreeSet<u32>,
    times: BTreeSet<i64>,
    ids: Vec<u32>,
}

/// The first object id that is not PostgreSQL's own (`FirstNormalObjectId`).
const FIRST_OBJECT_ID: u32 = 16_384;

impl Names {
    /// Names for `messages`, which are all that will be told.
    pub(crate) fn new<'a>(messages: impl Iterator<Item = &'a Message>) -> Self {
        let mut names = Self::default();
        for message in messages {
            names.add(message);
        }
        names
    }

    fn add(&mut self, message: &Message) {
        match message {
            Message::Begin(begin) => {
                self.lsns.insert(begin.commit_lsn.as_u64());
                self.times.insert(begin.commit_time.as_micros());
                self.xids.insert(begin.xid);
            }
            Message::Commit(commit) => {
                self.lsns.extend([commit.commit_lsn.as_u64(), commit.end_lsn.as_u64()]);
                self.times.insert(commit.commit_time.as_micros());
            }
            Message::Relation(relation) => {
                self.add_id(relation.id.0);
                relation.columns.iter().for_each(|column| self.add_id(column.type_id));
            }
            Message::Type(described) => self.add_id(described.id),
            Message::Logical(logical) => drop(self.lsns.insert(logical.lsn.as_u64())),
            // Positions of another server, and tables that were described before.
            Message::Origin(_)
            | Message::Insert(..)
            | Message::Update(..)
            | Message::Delete(..)
            | Message::Truncate(_) => {}
        }
    }

    fn add_id(&mut self, id: u32) {
        if id >= FIRST_OBJECT_ID && !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }

    pub(crate) fn lsn(&self, lsn: Lsn) -> String {
        let number = self.lsns.iter().position(|known| *known == lsn.as_u64());
        number.map_or_else(|| lsn.to_string(), |number| format!("lsn{}", number + 1))
    }

    pub(crate) fn xid(&self, xid: u32) -> String {
        let number = self.xids.iter().position(|known| *known == xid);
        number.map_or_else(|| xid.to_string(), |number| format!("xid{}", number + 1))
    }

    pub(crate) fn time(&self, time: PgTimestamp) -> String {
        let number = self.times.iter().position(|known| *known == time.as_micros());
        number.map_or_else(|| time.unix_millis().0.to_string(), |number| format!("time{}", number + 1))
    }

    /// Of a table or a type.
    pub(crate) fn id(&self, id: u32) -> String {
        let number = self.ids.iter().position(|known| *known == id);
        number.map_or_else(|| id.to_string(), |number| format!("oid{}", number + 1))
    }

    /// The text of the header `position`.
    pub(crate) fn position(&self, text: &str) -> String {
        let mut parts = text.split('-');
        let (timeline, lsn, row) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let lsn = Lsn::new(u64::from_str_radix(lsn, 16).unwrap());
        format!("{timeline}-{}-{row}", self.lsn(lsn))
    }
}
