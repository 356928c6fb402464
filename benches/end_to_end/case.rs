//! The rows and the records: the same for everybody who is measured.

use anyhow::Result;

use crate::world::World;

/// Every topic has so many, and every run a topic of its own.
pub(crate) const PARTITIONS: i32 = 3;

/// So many aggregates, hence keys, in turn.
pub(crate) const KEYS: u64 = 1_000;

/// Names the kind of event, in the row and in the header.
pub(crate) const EVENT_TYPE: &str = "Placed";

/// A backlog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// Names its slot.
    pub(crate) name: &'static str,
    pub(crate) rows: u64,
    pub(crate) transactions: u64,
    /// Bytes of the payload, as text.
    pub(crate) payload: u64,
    /// Topics, to which the rows go in turn.
    pub(crate) topics: u64,
}

impl Case {
    pub(crate) fn title(&self) -> String {
        let Self { rows, transactions, payload, .. } = self;
        let transactions = if *transactions == 1 {
            "one transaction".to_owned()
        } else {
            format!("{} transactions", thousands(*transactions))
        };
        format!("{} rows of {payload} bytes, {transactions}", thousands(*rows))
    }

    pub(crate) const fn is_small(&self) -> bool {
        self.payload < 1_024
    }

    /// Commits the rows, and leaves the server with nothing to do: what it does in the background would hit somebody.
    pub(crate) async fn fill(&self, world: &World) -> Result<()> {
        let client = world.client().await?;
        // Nobody loses anything if the server crashes now.
        client.batch_execute("TRUNCATE outbox; SET synchronous_commit = off").await?;
        let Self { rows, transactions, payload, topics, .. } = self;
        let each = rows / transactions;
        // `{"n": 1, "note": "…"}`. Digits that repeat nowhere near: what is large is not compressed, but stored beside the
        // table (TOAST).
        let sql = format!(
            "DO $$
             DECLARE
                 hex text := (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i);
             BEGIN
                 FOR transaction IN 0..{transactions} - 1 LOOP
                     INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
                     SELECT 't' || n % {topics}, (n % {KEYS})::text, '{EVENT_TYPE}',
                            jsonb_build_object('n', n, 'note', substr(hex, 1 + (n % {KEYS})::int,
                                                                      {payload} - 19 - length(n::text)))
                       FROM generate_series(transaction::bigint * {each}, (transaction + 1)::bigint * {each} - 1) n;
                     COMMIT;
                 END LOOP;
             END
             $$"
        );
        client.batch_execute(&sql).await?;
        client.batch_execute("VACUUM (ANALYZE) outbox").await?;
        Ok(client.batch_execute("CHECKPOINT").await?)
    }
}

/// 1,000,000
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
