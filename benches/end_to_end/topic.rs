//! Topics: one for each run.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::case::PARTITIONS;
use crate::server::await_leader;
use crate::topics::make_topics;
use crate::world::World;

/// Makes a topic, and waits until it can be written; its name. All names are of one length.
pub(crate) async fn make(world: &World) -> Result<String> {
    Ok(Topics::make(world, 1).await?.route)
}

/// What a backlog goes to.
pub(crate) struct Topics {
    pub(crate) names: Vec<String>,
    /// `route.topic`.
    pub(crate) route: String,
}

impl Topics {
    /// Makes so many.
    pub(crate) async fn make(world: &World, count: u64) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("bench.{:04}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let topics = match count {
            1 => Self { names: vec![name.clone()], route: name },
            _ => Self {
                names: (0..count).map(|n| format!("{name}.t{n}")).collect(),
                route: format!("{name}.{{aggregate_type}}"),
            },
        };
        // What a run has written is not written to disk beside the next one.
        make_topics(&world.broker, &topics.names, PARTITIONS, &[("file.delete.delay.ms", "0")]).await?;
        await_leader(&world.broker, &topics.names)?;
        Ok(topics)
    }

    /// For who writes to none.
    pub(crate) fn none() -> Self {
        Self { names: Vec::new(), route: "nowhere".to_owned() }
    }

    pub(crate) async fn delete(&self, world: &World) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &world.broker).create()?;
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        for deleted in admin.delete_topics(&names, &AdminOptions::new()).await? {
            deleted.map_err(|(topic, code)| anyhow!("delete topic {topic}: {code}"))?;
        }
        Ok(())
    }
}

pub(crate) async fn delete(world: &World, name: &str) -> Result<()> {
    Topics { names: vec![name.to_owned()], route: String::new() }.delete(world).await
}
