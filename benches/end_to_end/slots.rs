//! Slots: each run reads the same rows from a copy of one that nobody moves.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::world::World;

/// Makes a slot: rows that are committed from now on come through it.
pub(crate) async fn make(world: &World, name: &str) -> Result<()> {
    let client = world.client().await?;
    client.execute("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", &[&name]).await?;
    Ok(())
}

/// A slot `name` at the position of the slot `of`.
pub(crate) async fn copy(world: &World, of: &str, name: &str) -> Result<()> {
    let client = world.client().await?;
    client.execute("SELECT pg_copy_logical_replication_slot($1, $2)", &[&of, &name]).await?;
    Ok(())
}

/// The walsender that serves the slot.
pub(crate) async fn walsender(world: &World, name: &str) -> Result<Option<u32>> {
    let sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1";
    let pid: Option<i32> = world.client().await?.query_one(sql, &[&name]).await?.get(0);
    Ok(pid.map(u32::try_from).transpose()?)
}

/// Removes the slot, as soon as the server has noticed that its reader is gone.
pub(crate) async fn remove(world: &World, name: &str) -> Result<()> {
    let client = world.client().await?;
    for _ in 0..600 {
        match client.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await {
            Ok(_) => return Ok(()),
            Err(error) if error.code().is_some_and(|code| code.code() == "55006") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("slot \"{name}\" is still in use after 30 s")
}
