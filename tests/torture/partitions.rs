//! `--partitions`: the outbox is partitioned, and its partitions come and go, with rows in them that nobody has read.
//!
//! A row's bucket is the time. Each bucket's partition is detached, dropped and made anew every few seconds, in one transaction, so
//! that there always is one: plain, with its columns in another order, or with partitions of its own. One is the default.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use outbox_relay::postgres::conninfo::ConnInfo;
use tokio_postgres::error::SqlState;

use crate::dice::Dice;
use crate::server::patient_client;

/// Buckets; the last one's partition is the default.
const BUCKETS: u64 = 4;

/// Partitions the outbox, which is empty and not published yet.
pub(crate) const PREPARE: &str = "
    DROP TABLE outbox;
    CREATE TABLE outbox (
        id uuid, aggregate_type text, aggregate_id text, event_type text, payload jsonb,
        created_at timestamptz DEFAULT now(),
        bucket int DEFAULT extract(epoch FROM clock_timestamp())::bigint / 2 % 4
    ) PARTITION BY LIST (bucket);
    CREATE TABLE outbox_0 PARTITION OF outbox FOR VALUES IN (0);
    CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
    CREATE TABLE outbox_2 PARTITION OF outbox FOR VALUES IN (2);
    CREATE TABLE outbox_3 PARTITION OF outbox DEFAULT;";

/// Replaces one partition after the other until `stop`; counts them.
pub(crate) async fn come_and_go(
    info: ConnInfo,
    mut dice: Dice,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Result<()> {
    let mut client = patient_client(&info).await?;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(dice.between(200, 1_200))).await;
        number += 1;
        let sql = replace(dice.between(0, BUCKETS - 1), dice.between(0, 2), number);
        match client.batch_execute(&sql).await {
            Ok(()) => _ = count.fetch_add(1, Ordering::Relaxed),
            // A writer takes its time.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            Err(error) => {
                let code = error.code().map(SqlState::code);
                let going =
                    code.is_some_and(|code| code.starts_with("57P") || code == SqlState::DISK_FULL.code());
                if !(going || code.is_none() || client.is_closed()) {
                    return Err(error).context("replace a partition");
                }
                client = patient_client(&info).await?;
            }
        }
    }
    Ok(())
}

/// SQL that replaces the partition of `bucket` by one of this kind.
fn replace(bucket: u64, kind: u64, number: u32) -> String {
    let bound =
        if bucket == BUCKETS - 1 { "DEFAULT".to_owned() } else { format!("FOR VALUES IN ({bucket})") };
    let name = format!("outbox_{bucket}_{number}");
    let made = match kind {
        0 => format!("CREATE TABLE {name} PARTITION OF outbox {bound};"),
        1 => format!(
            "CREATE TABLE {name} (bucket int, payload jsonb, aggregate_id text, id uuid, dropped int, event_type text,
                 created_at timestamptz, aggregate_type text);
             ALTER TABLE {name} DROP COLUMN dropped;
             ALTER TABLE outbox ATTACH PARTITION {name} {bound};"
        ),
        _ => format!(
            "CREATE TABLE {name} PARTITION OF outbox {bound} PARTITION BY HASH (id);
             CREATE TABLE {name}_a PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE {name}_b PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        ),
    };
    format!(
        "DO $$
         DECLARE
             old regclass;
         BEGIN
             SET LOCAL lock_timeout = '3s';
             -- Names are no use: the answer to the last COMMIT may have been lost.
             LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
             SELECT c.oid INTO STRICT old FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
              WHERE i.inhparent = 'outbox'::regclass AND pg_get_expr(c.relpartbound, c.oid) = '{bound}';
             EXECUTE format('ALTER TABLE outbox DETACH PARTITION %s', old);
             EXECUTE format('DROP TABLE %s', old);
             {made}
         END
         $$"
    )
}
