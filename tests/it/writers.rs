//! Services that write to an outbox, all at once: commits, rollbacks, savepoints, short and long transactions.
//!
//! The order of commits is known for each key: an event of a key takes the key's next number from a table whose row it
//! keeps locked until the end of its transaction.

use std::sync::Arc;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Transaction};

use crate::fixture::Outbox;
use crate::servers::client;

/// How much to write.
pub(crate) struct Plan {
    pub(crate) writers: usize,
    /// At least so many committed events, all writers together.
    pub(crate) events: usize,
}

impl Plan {
    /// Events of the longest transaction.
    pub(crate) const LONGEST_TRANSACTION: usize = 200;
}

/// An event that was committed.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) id: String,
    pub(crate) key: String,
    /// 1 for the first committed event of its key, and so on.
    pub(crate) number_of_key: i64,
    /// As PostgreSQL prints it.
    pub(crate) payload: Option<Vec<u8>>,
    /// The server's position when the commit had returned.
    pub(crate) committed_before: i64,
}

/// The writers, at work.
pub(crate) struct Writers {
    tasks: Vec<JoinHandle<()>>,
    committed: Arc<Mutex<Vec<Committed>>>,
}

const KEYS: u32 = 40;

impl Writers {
    /// Starts them.
    pub(crate) async fn start(outbox: &Outbox, plan: Plan) -> Self {
        outbox
            .sql(&format!(
                "CREATE TABLE numbers (key text PRIMARY KEY, last bigint NOT NULL);
                 INSERT INTO numbers SELECT 'order-' || n, 0 FROM generate_series(1, {KEYS}) n"
            ))
            .await;
        let committed = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for writer in 0..plan.writers {
            let client = client(&outbox.database.info()).await;
            let committed = Arc::clone(&committed);
            tasks.push(tokio::spawn(async move {
                // A fixed seed: a failure comes again as far as the interleaving allows.
                let mut seed = [7; 32];
                seed[0] = u8::try_from(writer).unwrap();
                let mut writer = Writer { client, random: TestRng::from_seed(RngAlgorithm::ChaCha, &seed) };
                while committed.lock().await.len() < plan.events {
                    let events = writer.transaction().await;
                    committed.lock().await.extend(events);
                }
            }));
        }
        Self { tasks, committed }
    }

    /// What has been committed so far.
    pub(crate) fn so_far(&self) -> Arc<Mutex<Vec<Committed>>> {
        Arc::clone(&self.committed)
    }

    /// Waits until all is written; everything that was committed.
    pub(crate) async fn finish(self) -> Vec<Committed> {
        for task in self.tasks {
            task.await.unwrap();
        }
        self.committed.lock().await.clone()
    }
}

struct Writer {
    client: Client,
    random: TestRng,
}

impl Writer {
    /// One transaction; its events, if it was committed.
    async fn transaction(&mut self) -> Vec<Committed> {
        let events = match self.random.next_u32() % 20 {
            0 => Plan::LONGEST_TRANSACTION,
            1..=4 => 20,
            _ => 1,
        };
        // Ascending, so that two long transactions cannot wait for each other's keys.
        let mut keys: Vec<u32> = (0..events).map(|_| 1 + self.random.next_u32() % KEYS).collect();
        keys.sort_unstable();
        let mut transaction = self.client.transaction().await.unwrap();
        let mut written = Vec::new();
        for key in keys {
            // Every seventh event is written, and taken back by its savepoint.
            if self.random.next_u32().is_multiple_of(7) {
                let savepoint = transaction.transaction().await.unwrap();
                insert(&savepoint, key, &mut self.random).await;
                savepoint.rollback().await.unwrap();
            }
            let savepoint = transaction.transaction().await.unwrap();
            written.push(insert(&savepoint, key, &mut self.random).await);
            savepoint.commit().await.unwrap();
        }
        if self.random.next_u32().is_multiple_of(10) {
            transaction.rollback().await.unwrap();
            return Vec::new();
        }
        transaction.commit().await.unwrap();
        let position = self.client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8", &[]).await;
        let committed_before: i64 = position.unwrap().get(0);
        written.into_iter().map(|event| Committed { committed_before, ..event }).collect()
    }
}

async fn insert(transaction: &Transaction<'_>, key: u32, random: &mut TestRng) -> Committed {
    let key = format!("order-{key}");
    let pad = "žluťoučký 馬 🐎 ".repeat(usize::try_from(random.next_u32() % 20).unwrap());
    let payload = match random.next_u32() % 10 {
        0 => None,
        _ => Some(format!("{{\"pad\": \"{pad}\", \"n\":{}}}", random.next_u32())),
    };
    let number = "UPDATE numbers SET last = last + 1 WHERE key = $1 RETURNING last";
    let number_of_key = transaction.query_one(number, &[&key]).await.unwrap().get(0);
    let sql = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
               VALUES ('order', $1, 'Changed', $2::text::jsonb) RETURNING id::text, payload::text";
    let row = transaction.query_one(sql, &[&key, &payload]).await.unwrap();
    let payload = row.get::<_, Option<String>>(1).map(String::into_bytes);
    Committed { id: row.get(0), key, number_of_key, payload, committed_before: 0 }
}
