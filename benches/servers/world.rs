//! A PostgreSQL with an outbox, and a Kafka.

use anyhow::{Context as _, Result};
use outbox_relay::postgres::conninfo::ConnInfo;
use tokio_postgres::Client;

use crate::server::{Server, client, exported, scripts_servers};

/// Both, running. Stopped and removed when dropped.
pub(crate) struct World {
    pub(crate) kafka: Server,
    /// `host:port` of the broker.
    pub(crate) broker: String,
    pub(crate) superuser: ConnInfo,
    /// The relay's connection string.
    pub(crate) url: String,
    /// What `scripts/servers` printed.
    printed: String,
    directory: tempfile::TempDir,
}

impl World {
    /// Starts them with further `options` of `scripts/servers`, and makes the outbox as `sql/` has it.
    pub(crate) async fn start(options: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let own = std::process::id().to_string();
        let settings = ["fsync=on", "wal_sender_timeout=60s", "max_wal_size=4GB"];
        let mut arguments = vec!["start", "--while", &own];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        arguments.extend(options);
        let printed = scripts_servers(&arguments, directory.path())?;
        let url = exported(&printed, "OUTBOX_TEST_POSTGRES")?;
        let world = Self {
            kafka: Server::of("kafka", directory.path())?,
            broker: exported(&printed, "OUTBOX_TEST_KAFKA")?,
            superuser: ConnInfo::parse(&url, &|_| None, &|_| None)?,
            url: url.replace("user=postgres", "user=outbox_relay"),
            printed,
            directory,
        };
        let client = world.client().await?;
        for sql in [
            include_str!("../../sql/01_table.sql"),
            include_str!("../../sql/02_role.sql"),
            include_str!("../../sql/03_publication.sql"),
            // A statement that makes a slot may not have written anything before.
            include_str!("../../sql/04_slot.sql"),
        ] {
            client.batch_execute(sql).await.context("prepare the database")?;
        }
        Ok(world)
    }

    /// A line that `scripts/servers` printed.
    pub(crate) fn exported(&self, name: &str) -> Result<String> {
        exported(&self.printed, name)
    }

    /// A connection as superuser.
    pub(crate) async fn client(&self) -> Result<Client> {
        client(&self.superuser).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.kafka.signal("CONT");
        let _ = scripts_servers(&["stop"], self.directory.path());
    }
}
