//! The extremes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::kafka::Counter;
use crate::relay::Relay;
use crate::server::await_leader;
use crate::topics::make_topics;
use crate::world::World;
use crate::{Line, Size};

/// Their names.
pub(crate) const ALL: [&str; 7] =
    ["transaction", "backfill", "payload", "topics", "away", "kills", "keepalives"];

/// Resident memory may be that many MiB, and twice the largest event.
const MEMORY: u64 = 48;

/// What the next start may send again after a SIGKILL.
const AGAIN: u64 = 500;

const TOPIC: &str = "outbox.event.order";
const PARTITIONS: i32 = 6;

/// Does one of [`ALL`].
pub(crate) async fn run(name: &str, size: Size) -> Result<Line> {
    let mut world = World::start(&[]).await?;
    let done = match name {
        "transaction" => transaction(&world, size).await,
        "backfill" => backfill(&world, size).await,
        "payload" => payload(&world).await,
        "topics" => topics(&world, size).await,
        "away" => away(&mut world, size).await,
        "kills" => kills(&world, size).await,
        "keepalives" => keepalives(&world, size).await,
        _ => bail!("{name}: unknown"),
    };
    done.with_context(|| name.to_owned())
}

fn memory(what: String, relay: &Relay, event: u64, note: String) -> Result<Line> {
    Ok(Line { what, found: relay.peak()?, target: MEMORY + 2 * event, unit: "MiB", note })
}

/// `rows` events in one statement, hence one transaction.
async fn insert(world: &World, rows: u32, aggregate_type: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
         SELECT {aggregate_type}, (n % 1000)::text, 'Placed', jsonb_build_object('order', n, 'note', repeat('x', 200))
           FROM generate_series(1, {rows}) n"
    );
    Ok(world.client().await?.batch_execute(&sql).await?)
}

async fn transaction(world: &World, size: Size) -> Result<Line> {
    let rows = size.of(10_000_000);
    make_topics(&world.broker, &[TOPIC.to_owned()], PARTITIONS, &[("retention.bytes", "100000000")]).await?;
    insert(world, rows, "'order'").await?;
    let mut relay = Relay::start(world, &[])?;
    let took = relay.delivers(rows.into()).await?;
    let note = format!("{:.0} s", took.as_secs_f64());
    memory(format!("one transaction of {rows} rows"), &relay, 0, note)
}

async fn backfill(world: &World, size: Size) -> Result<Line> {
    let rows = size.of(10_000_000);
    make_topics(&world.broker, &[TOPIC.to_owned()], PARTITIONS, &[("retention.bytes", "100000000")]).await?;
    let client = world.client().await?;
    client.batch_execute("SELECT pg_drop_replication_slot('outbox_relay')").await?;
    client.batch_execute("GRANT SELECT ON outbox TO outbox_relay").await?;
    insert(world, rows, "'order'").await?;
    let mut relay = Relay::start(world, &["postgres.backfill=true"])?;
    let took = relay.delivers(rows.into()).await?;
    relay.streams().await?;
    insert(world, 1, "'order'").await?;
    relay.delivers(u64::from(rows) + 1).await?;
    let note = format!("{:.0} s; then the stream", took.as_secs_f64());
    memory(format!("a backfill of {rows} rows"), &relay, 0, note)
}

async fn payload(world: &World) -> Result<Line> {
    const MIB: u64 = 50;
    let limit = "67108864";
    make_topics(&world.broker, &[TOPIC.to_owned()], PARTITIONS, &[("max.message.bytes", limit)]).await?;
    let sql = format!(
        "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
         SELECT 'order', n::text, 'Placed', to_jsonb(repeat('x', {MIB} << 20)) FROM generate_series(1, 3) n"
    );
    world.client().await?.batch_execute(&sql).await?;
    let mut relay = Relay::start(world, &[&format!("kafka.message.max.bytes={limit}")])?;
    let took = relay.delivers(3).await?;
    let note = format!("three of them in {:.1} s", took.as_secs_f64());
    memory(format!("a payload of {MIB} MiB"), &relay, MIB, note)
}

async fn topics(world: &World, size: Size) -> Result<Line> {
    let count = size.of(10_000);
    let names: Vec<_> = (0..count).map(|number| format!("outbox.event.t{number}")).collect();
    make_topics(&world.broker, &names, 1, &[]).await?;
    let rows = 5 * count;
    insert(world, rows, &format!("'t' || n % {count}")).await?;
    let mut relay = Relay::start(world, &[])?;
    let took = relay.delivers(rows.into()).await?;
    let note = format!("{rows} events in {:.0} s", took.as_secs_f64());
    memory(format!("{count} topics"), &relay, 0, note)
}

async fn away(world: &mut World, size: Size) -> Result<Line> {
    const RATE: u32 = 5_000;
    let length = size.time(Duration::from_secs(600));
    make_topics(&world.broker, &[TOPIC.to_owned()], PARTITIONS, &[("retention.bytes", "100000000")]).await?;
    let mut relay = Relay::start(world, &[])?;
    relay.streams().await?;
    let load = Load::start(world, RATE, 10).await?;
    while relay.sum("outbox_relay_events_delivered_total").await < u64::from(RATE) {
        relay.still_runs()?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.kafka.end("KILL").await?;
    tokio::time::sleep(length).await;
    world.kafka.start_again()?;
    tokio::task::block_in_place(|| await_leader(&world.broker, &[TOPIC.to_owned()]))?;
    let (leads, before) = (Instant::now(), relay.sum("outbox_relay_events_delivered_total").await);
    relay.delivers(before + 1).await?;
    let flows = leads.elapsed();
    let rows = load.stop().await?;
    relay.delivers(rows).await?;
    let ends = relay.sum("outbox_relay_sessions_total").await;
    ensure!(ends == 0, "{ends} sessions ended meanwhile");
    let note = format!(
        "events flow {:.1} s after Kafka is back; all {rows} there after {:.0} s; no session ended",
        flows.as_secs_f64(),
        leads.elapsed().as_secs_f64()
    );
    memory(format!("Kafka away for {length:?} at {RATE} rows/s"), &relay, 0, note)
}

async fn kills(world: &World, size: Size) -> Result<Line> {
    const RATE: u32 = 2_000;
    let kills = size.of(40).max(3);
    make_topics(&world.broker, &[TOPIC.to_owned()], PARTITIONS, &[]).await?;
    let counter = Counter::start(&world.broker, TOPIC, PARTITIONS)?;
    let mut relay = Relay::start(world, &[])?;
    let load = Load::start(world, RATE, 1).await?;
    let mut again = Vec::new();
    for kill in 0..kills {
        relay.streams().await?;
        // A different moment of each second, and long enough to have caught up.
        tokio::time::sleep(Duration::from_millis(1_500 + u64::from(kill * 137 % 500))).await;
        let before = counter.again();
        relay.kill().await?;
        relay = Relay::start(world, &[])?;
        relay.streams().await?;
        let (seen, rows) = (counter.seen(), load.rows());
        // When what was committed by now has come, all that comes twice has come too.
        while counter.seen() < rows.max(seen) {
            relay.still_runs()?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        again.push(counter.again() - before);
    }
    let took = load.start.elapsed();
    let rows = load.stop().await?;
    again.sort_unstable();
    let median = again.get(again.len() / 2).copied().unwrap_or(0);
    let worst = again.last().copied().unwrap_or(0);
    Ok(Line {
        what: format!("sent again after a SIGKILL, the worst of {kills}"),
        found: worst,
        target: AGAIN,
        unit: "events",
        note: format!(
            "median {median}, at {:.0} transactions/s",
            f64::from(u32::try_from(rows)?) / took.as_secs_f64()
        ),
    })
}

async fn keepalives(world: &World, size: Size) -> Result<Line> {
    let length = size.time(Duration::from_secs(3_600));
    make_topics(&world.broker, &[TOPIC.to_owned()], PARTITIONS, &[]).await?;
    let client = world.client().await?;
    // What is not for the relay is what the server tells it of by keepalives.
    client.batch_execute("CREATE TABLE other (n int)").await?;
    let mut relay = Relay::start(world, &[])?;
    relay.streams().await?;
    insert(world, 1_000, "'order'").await?;
    relay.delivers(1_000).await?;
    world.kafka.signal("STOP")?;
    insert(world, 1_000, "'order'").await?;
    let start = Instant::now();
    let before = relay.peak()?;
    let mut writes = 0_u32;
    let mut each = tokio::time::interval(Duration::from_millis(5));
    each.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while start.elapsed() < length {
        each.tick().await;
        client.execute("INSERT INTO other VALUES (1)", &[]).await?;
        writes += 1;
        relay.still_runs()?;
    }
    let ends = relay.sum("outbox_relay_sessions_total").await;
    ensure!(ends == 0, "{ends} sessions ended meanwhile");
    world.kafka.signal("CONT")?;
    let back = relay.delivers(2_000).await?;
    let note = format!(
        "{before} MiB at its start; {writes} transactions of other tables; no session ended; back after {:.1} s",
        back.as_secs_f64()
    );
    memory(format!("Kafka frozen for {length:?}, keepalives"), &relay, 0, note)
}

/// Clients that commit at a steady rate.
struct Load {
    tasks: JoinSet<Result<()>>,
    stop: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
    start: Instant,
}

impl Load {
    /// `rate` rows a second from eight connections, `rows` in each transaction.
    async fn start(world: &World, rate: u32, rows: u32) -> Result<Self> {
        const CONNECTIONS: u32 = 8;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let client = world.client().await?;
            let sql = format!(
                "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
                 SELECT 'order', {connection} || '-' || n, 'Placed', jsonb_build_object('order', n, 'note', repeat('x', 200))
                   FROM generate_series(1, {rows}) n"
            );
            let statement = client.prepare(&sql).await?;
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            tasks.spawn(async move {
                let mut each = tokio::time::interval(Duration::from_secs(1) * rows * CONNECTIONS / rate);
                while !stop.load(Ordering::Relaxed) {
                    each.tick().await;
                    client.execute(&statement, &[]).await?;
                    written.fetch_add(rows.into(), Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Ok(Self { tasks, stop, rows: written, start: Instant::now() })
    }

    /// Rows committed so far.
    fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Stops; all rows that were committed.
    async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.rows())
    }
}
