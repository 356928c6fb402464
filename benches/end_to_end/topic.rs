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
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("bench.{:04}", NUMBER.fetch_add(1, Ordering::Relaxed));
    // What a run has written is not written to disk beside the next one.
    make_topics(&world.broker, std::slice::from_ref(&name), PARTITIONS, &[("file.delete.delay.ms", "0")])
        .await?;
    await_leader(&world.broker, std::slice::from_ref(&name))?;
    Ok(name)
}

pub(crate) async fn delete(world: &World, name: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &world.broker).create()?;
    for deleted in admin.delete_topics(&[name], &AdminOptions::new()).await? {
        deleted.map_err(|(topic, code)| anyhow!("delete topic {topic}: {code}"))?;
    }
    Ok(())
}
