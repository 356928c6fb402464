//! `after_publish` under torture: the outbox that the action needs, an account of what the relay removes, and what must be left
//! in the end.
//!
//! The account is kept by PostgreSQL: a trigger notes each row that the relay deletes or marks, in the same transaction, and an
//! event trigger the rows of the detached partitions when one is dropped. Rows that a writer deletes itself are none of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio_postgres::Client;

use crate::oracle::Id;

/// `after_publish.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Delete,
    Mark,
    DropPartitions,
}

/// How long the last rows may take to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// Events of the partitioned outbox are that old, since a partition is not dropped before it has ended for an hour.
const AGE: &str = "interval '2 hours'";

/// How long a partition is.
const PARTITION_SECONDS: u32 = 5;

/// 20 minutes; what comes later is nobody's.
const PARTITIONS: u32 = 12 * 20;

const ACCOUNT: &str = "
    CREATE TABLE cleaned (id uuid NOT NULL);
    CREATE FUNCTION note_cleaned() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
    BEGIN
        IF session_user = 'outbox_relay' THEN
            INSERT INTO cleaned VALUES (OLD.id);
        END IF;
        RETURN NULL;
    END $$;";

impl Action {
    const ALL: [Self; 3] = [Self::Delete, Self::Mark, Self::DropPartitions];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Mark => "mark",
            Self::DropPartitions => "drop-partitions",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.with_context(|| format!("--after-publish {text}: expected delete, mark or drop-partitions"))
    }

    /// What the relay is told.
    pub(crate) const fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Delete => &["outbox.message_prefix=outbox", "after_publish.action=delete"],
            Self::Mark => &["outbox.message_prefix=outbox", "after_publish.action=mark"],
            Self::DropPartitions => &[
                "outbox.message_prefix=outbox",
                "after_publish.action=drop-partitions",
                // As old as events are, and as long as a slow writer may write to a partition.
                "after_publish.retention=7225s",
            ],
        }
    }

    /// The table, and what else is to be made before the publication, which names it, and after the role.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::DropPartitions => include_str!("../../sql/optional/partitions.sql"),
            Self::Delete | Self::Mark => include_str!("../../sql/01_table.sql"),
        }
    }

    /// What the action needs of the table, and the account.
    pub(crate) fn preparation(self) -> String {
        let grown = match self {
            Self::Delete => "GRANT SELECT, DELETE, UPDATE (id) ON outbox TO outbox_relay;
                CREATE TRIGGER cleaned AFTER DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION note_cleaned();"
                .to_owned(),
            Self::Mark => "ALTER TABLE outbox ADD status text NOT NULL DEFAULT 'PENDING', ADD published_at timestamptz;
                CREATE INDEX ON outbox (created_at) WHERE status = 'PENDING';
                GRANT SELECT, UPDATE (status, published_at) ON outbox TO outbox_relay;
                CREATE TRIGGER cleaned AFTER UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION note_cleaned();"
                .to_owned(),
            Self::DropPartitions => format!(
                "DO $$
                 DECLARE name text; first timestamptz := date_trunc('minute', now() - {AGE});
                 BEGIN
                     FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'outbox'::regclass LOOP
                         EXECUTE 'DROP TABLE ' || name;
                     END LOOP;
                     FOR n IN 0..{PARTITIONS} LOOP
                         EXECUTE format('CREATE TABLE outbox_%s PARTITION OF outbox FOR VALUES FROM (%L) TO (%L)', n,
                             first + n * interval '{PARTITION_SECONDS} seconds', first + (n + 1) * interval '{PARTITION_SECONDS} seconds');
                     END LOOP;
                 END $$;
                 CREATE TABLE outbox_others PARTITION OF outbox DEFAULT;
                 ALTER TABLE outbox ALTER created_at SET DEFAULT clock_timestamp() - {AGE};
                 CREATE FUNCTION note_dropped() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
                 DECLARE name text;
                 BEGIN
                     FOR name IN SELECT objoid::regclass FROM pg_description WHERE classoid = 'pg_class'::regclass
                                    AND description LIKE 'outbox-relay: detached%' LOOP
                         EXECUTE format('INSERT INTO cleaned SELECT id FROM %s EXCEPT SELECT id FROM cleaned', name);
                     END LOOP;
                 END $$;
                 CREATE EVENT TRIGGER dropped ON ddl_command_start WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION note_dropped();"
            ),
        };
        format!("{ACCOUNT}{grown}")
    }

    /// Waits until nothing is left that the relay should have removed; how many partitions are left, or rows.
    pub(crate) async fn is_done(self, client: &Client) -> Result<()> {
        let left = match self {
            Self::Delete => "SELECT count(*) FROM outbox",
            Self::Mark => "SELECT count(*) FROM outbox WHERE status <> 'PUBLISHED' OR published_at IS NULL",
            // None that is detached, and none whose time is over for longer than it takes to be noticed.
            Self::DropPartitions => {
                "SELECT count(*) FROM pg_class c WHERE obj_description(c.oid, 'pg_class') LIKE 'outbox-relay: detached%'
                     OR relispartition AND relname LIKE 'outbox_%' AND
                        substring(pg_get_expr(relpartbound, c.oid) FROM 'TO \\(''([^'']+)')::timestamptz
                            < now() - interval '7300 seconds'"
            }
        };
        let waiting = Instant::now();
        loop {
            let count: i64 = client.query_one(left, &[]).await?.get(0);
            if count == 0 {
                return Ok(());
            }
            if waiting.elapsed() > PATIENCE {
                bail!("{count} rows or partitions stay that should be gone or marked ({})", self.as_str());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Takes what was noted since the last time.
pub(crate) async fn noted(client: &Client) -> Result<Vec<Id>> {
    let rows = client.query("DELETE FROM cleaned RETURNING id::text", &[]).await?;
    rows.iter().map(|row| Id::parse(row.get(0)).map_err(anyhow::Error::msg)).collect()
}
