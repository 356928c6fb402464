//! Services: connections that commit one row after the other, when it is time and not when the server is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::case::{EVENT_TYPE, KEYS};
use crate::producer::now;
use crate::world::World;

/// So many share the work. With fsync a connection commits some hundred times a second; together their commits are flushed
/// in groups.
const CONNECTIONS: u64 = 16;

/// Bytes of a payload.
const BYTES: u64 = 240;

/// Writing, until they are done or told to stop.
pub(crate) struct Writers {
    tasks: JoinSet<Result<()>>,
    stop: Arc<AtomicBool>,
    /// For each row, when the answer to its COMMIT came; 0: it has not.
    answered: Arc<Vec<AtomicU64>>,
    committed: Arc<AtomicU64>,
}

impl Writers {
    /// `rate` rows a second, each a transaction, `rows` at most.
    pub(crate) async fn start(world: &World, rate: u64, rows: u64) -> Result<Self> {
        let mut writers = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            answered: Arc::new((0..rows).map(|_| AtomicU64::new(0)).collect()),
            committed: Arc::default(),
        };
        // What is left of the payload behind n, sent, and their names.
        let sql = format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('order', ($1::bigint % {KEYS})::text, '{EVENT_TYPE}',
                     jsonb_build_object('n', $1::bigint, 'sent', $2::bigint, 'note', repeat('x', {BYTES} - 60)))"
        );
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = world.client().await?;
            let statement = client.prepare(&sql).await?;
            clients.push((client, statement));
        }
        let start = Instant::now();
        for (connection, (client, statement)) in (0_u64..).zip(clients) {
            let (stop, answered) = (Arc::clone(&writers.stop), Arc::clone(&writers.answered));
            let committed = Arc::clone(&writers.committed);
            writers.tasks.spawn(async move {
                let mut n = connection;
                while let Some(answered) = usize::try_from(n).ok().and_then(|index| answered.get(index))
                    && !stop.load(Ordering::Relaxed)
                {
                    sleep_until(start + Duration::from_nanos(n * 1_000_000_000 / rate)).await;
                    let (row, sent) = (i64::try_from(n)?, i64::try_from(now())?);
                    client.execute(&statement, &[&row, &sent]).await?;
                    answered.store(now(), Ordering::Relaxed);
                    committed.fetch_add(1, Ordering::Relaxed);
                    n += CONNECTIONS;
                }
                Ok(())
            });
        }
        Ok(writers)
    }

    /// When the answer to the COMMIT of row `n` came; 0: it has not.
    pub(crate) fn answered(&self, n: u64) -> u64 {
        let answered = usize::try_from(n).ok().and_then(|n| self.answered.get(n));
        answered.map_or(0, |answered| answered.load(Ordering::Relaxed))
    }

    /// Rows committed so far.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until all rows are committed.
    pub(crate) async fn end(&mut self) -> Result<()> {
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Tells them to stop; how many rows were committed.
    pub(crate) async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.end().await?;
        Ok(self.committed())
    }
}
