//! The faults, done to a relay, its servers and the ways between them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::Client;

use crate::dice::Dice;
use crate::machine::{Clock, Names};
use crate::proxy::{Learns, Proxy, Way};
use crate::relays::{Relay, Relays};
use crate::schedule::{Fault, Moment, Step};
use crate::server::{patient_client, signal};
use crate::servers::Servers;

/// Everything that can fail.
pub(crate) struct World {
    pub(crate) servers: Servers,
    pub(crate) postgres: Proxy,
    pub(crate) kafka: Proxy,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) relays: Relays,
    /// The relay that streams, or tries to.
    pub(crate) active: Relay,
    /// Those of the other shards.
    pub(crate) others: Vec<Relay>,
    pub(crate) dice: Dice,
    pub(crate) count: Count,
    /// What is worth a line in the log of faults.
    pub(crate) notes: Vec<String>,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// SIGKILLs of relays.
    pub(crate) kills: u32,
    /// Those among them with events in flight.
    pub(crate) kills_in_flight: u32,
    /// How long PostgreSQL's fast shutdowns took.
    pub(crate) fast_shutdowns: Vec<Duration>,
}

/// A fast shutdown that takes longer is held up by the relay; the server itself needs a moment for its checkpoint.
const FAST: Duration = Duration::from_secs(5);

/// How long to wait for events in flight: with Kafka away and PostgreSQL in recovery there may be none.
const IN_FLIGHT: Duration = Duration::from_millis(1_500);

/// More than it takes until a relay knows that it is the second one.
const STANDBY: Duration = Duration::from_secs(60);

impl World {
    /// Does what `step` says; when the fault is over, so that recovery may begin.
    pub(crate) async fn inflict(&mut self, step: Step) -> Result<Instant> {
        self.active.still_runs()?;
        for (index, other) in (1..).zip(&mut self.others) {
            other.still_runs()?;
            if self.dice.once_in(2) {
                self.count.kills += 1;
                other.kill().await?;
                *other = self.relays.start_shard(index)?;
            }
        }
        match step.fault {
            Fault::RelayKilled => self.kill_at(step.moment).await?,
            Fault::RelayStopped => {
                self.active.stop().await?;
                self.active = self.relays.start()?;
            }
            Fault::RelayFrozen | Fault::RelayFrozenLong => {
                self.active.signal("STOP")?;
                tokio::time::sleep(step.lasts).await;
                self.active.signal("CONT")?;
            }
            Fault::ActiveKilled | Fault::ActiveStopped | Fault::ActiveFrozen => {
                self.take_over(step.fault).await?
            }
            Fault::ClockForward | Fault::ClockBack => self.set_clock(step).await?,
            Fault::NoDescriptors => self.no_descriptors(step).await?,
            Fault::NoNames => self.no_names(step).await?,
            Fault::PostgresCut => self.postgres.cut(Learns::Both),
            Fault::PostgresAbandoned => self.postgres.cut(Learns::ClientOnly),
            Fault::PostgresFrozen => self.way_of_postgres(Way::Frozen, step).await?,
            Fault::PostgresSlow => self.way_of_postgres(Way::Slow, step).await?,
            Fault::PostgresDeaf => {
                self.way_of_postgres(Way::Deaf, step).await?;
                self.postgres.cut(Learns::Both);
            }
            Fault::PostgresHalf => {
                let bytes = self.some_bytes();
                self.postgres.cut_after(bytes);
            }
            Fault::KafkaCut => self.kafka.cut(Learns::Both),
            Fault::KafkaFrozen => self.way_of_kafka(Way::Frozen, step).await?,
            Fault::KafkaSlow => self.way_of_kafka(Way::Slow, step).await?,
            Fault::KafkaDeaf => {
                self.way_of_kafka(Way::Deaf, step).await?;
                self.kafka.cut(Learns::Both);
            }
            Fault::KafkaHalf => {
                let bytes = self.some_bytes();
                self.kafka.cut_after(bytes);
            }
            Fault::WalsenderEnded | Fault::WalsenderFrozen | Fault::BackendKilled => {
                self.walsender(step).await?
            }
            Fault::SlotDropped => self.drop_slot().await?,
            Fault::PostmasterFrozen => {
                self.servers.postgres.signal("STOP")?;
                self.postgres.cut(Learns::Both);
                let lasted = self.last(step).await;
                self.servers.postgres.signal("CONT")?;
                lasted?;
            }
            Fault::PostgresFast => {
                let took = self.servers.postgres.end("INT").await?;
                if took > FAST {
                    bail!("PostgreSQL's fast shutdown took {took:?}");
                }
                self.count.fast_shutdowns.push(took);
                self.restart_postgres(step).await?;
            }
            Fault::PostgresImmediate => {
                self.servers.postgres.end("QUIT").await?;
                self.restart_postgres(step).await?;
            }
            Fault::PostgresFull => self.postgres_full(step).await?,
            Fault::BrokerFull => self.broker_full(step).await?,
            Fault::PostgresFrozenLong | Fault::BrokerFrozenLong => self.frozen(step).await?,
            Fault::BrokerFrozen => {
                self.servers.kafka.signal("STOP")?;
                let lasted = self.last(step).await;
                self.servers.kafka.signal("CONT")?;
                lasted?;
            }
            Fault::BrokerKilled => {
                self.servers.kafka.end("KILL").await?;
                self.last(step).await?;
                self.servers.kafka.start_again()?;
                self.await_broker()?;
            }
        }
        Ok(Instant::now())
    }

    /// SIGKILL of the relay, and another one at once.
    async fn kill_at(&mut self, moment: Moment) -> Result<()> {
        match moment {
            Moment::After(pause) => tokio::time::sleep(pause).await,
            Moment::InFlight => self.await_in_flight().await,
            Moment::Unanswered => {
                let way = if self.dice.once_in(2) { Way::Frozen } else { Way::Deaf };
                self.kafka.set(way);
                self.await_in_flight().await;
            }
        }
        self.kill().await?;
        self.kafka.set(Way::Open);
        Ok(())
    }

    async fn await_in_flight(&self) {
        let start = Instant::now();
        while self.active.in_flight().await == 0 && start.elapsed() < IN_FLIGHT {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.count.kills += 1;
        self.count.kills_in_flight += u32::from(self.active.in_flight().await > 0);
        self.active.kill().await?;
        self.active = self.relays.start()?;
        Ok(())
    }

    /// A second relay waits as a standby, and the active one goes.
    async fn take_over(&mut self, how: Fault) -> Result<()> {
        let standby = self.one_waits().await?;
        if how == Fault::ActiveKilled {
            self.await_in_flight().await;
            self.count.kills += 1;
            self.count.kills_in_flight += u32::from(self.active.in_flight().await > 0);
        }
        let mut old = std::mem::replace(&mut self.active, standby);
        match how {
            Fault::ActiveKilled => old.kill().await?,
            Fault::ActiveStopped => old.stop().await?,
            _ => {
                old.signal("STOP")?;
                // Until PostgreSQL has noticed.
                self.active.is("streaming").await?;
                old.signal("CONT")?;
                // What it still had in hand it may send now; then it is of no more use.
                old.is("standby").await?;
                old.stop().await?;
            }
        }
        Ok(())
    }

    /// Starts another relay, and waits until one of the two waits for the other. Which one, if the other had only just been
    /// started, is up to them.
    async fn one_waits(&mut self) -> Result<Relay> {
        let mut other = self.relays.start()?;
        let start = Instant::now();
        while !other.says("standby").await? {
            if self.active.says("standby").await? {
                std::mem::swap(&mut self.active, &mut other);
            } else if start.elapsed() > STANDBY {
                bail!("two relays run, and neither says \"standby\" within {STANDBY:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(other)
    }

    async fn way_of_postgres(&mut self, way: Way, step: Step) -> Result<()> {
        self.postgres.set(way);
        let lasted = self.last(step).await;
        self.postgres.set(Way::Open);
        lasted
    }

    async fn way_of_kafka(&mut self, way: Way, step: Step) -> Result<()> {
        self.kafka.set(way);
        let lasted = self.last(step).await;
        self.kafka.set(Way::Open);
        lasted
    }

    /// The time that a fault lasts; the relay may be killed in the middle of it.
    pub(crate) async fn last(&mut self, step: Step) -> Result<()> {
        tokio::time::sleep(step.lasts / 2).await;
        if step.with_kill {
            self.kill().await?;
        }
        tokio::time::sleep(step.lasts / 2).await;
        Ok(())
    }

    async fn restart_postgres(&mut self, step: Step) -> Result<()> {
        self.last(step).await?;
        self.servers.postgres.start_again()?;
        // Recovery is PostgreSQL's own affair.
        patient_client(&self.servers.superuser).await.map(drop)
    }

    /// Somebody drops the slot while no relay runs; the next one makes a backfill, and is killed in the middle of it.
    async fn drop_slot(&mut self) -> Result<()> {
        self.active.stop().await?;
        let client = patient_client(&self.servers.superuser).await?;
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'outbox_relay'";
        client.query(sql, &[]).await?;
        self.active = self.relays.start()?;
        for _ in 0..self.dice.between(0, 3) {
            let pause = self.dice.between(50, 2_500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.kill().await?;
        }
        Ok(())
    }

    /// Something happens to the process that sends to the relay.
    async fn walsender(&mut self, step: Step) -> Result<()> {
        let client = patient_client(&self.servers.superuser).await?;
        let Some(pid) = walsender(&client).await? else {
            // There is none at this moment: then it is the connections' turn.
            self.postgres.cut(Learns::Both);
            return Ok(());
        };
        match step.fault {
            Fault::WalsenderFrozen => {
                signal(pid, "STOP")?;
                let lasted = self.last(step).await;
                // It is gone if PostgreSQL itself went down.
                let _ = signal(pid, "CONT");
                lasted?;
            }
            Fault::BackendKilled => {
                signal(pid, "KILL")?;
                // The postmaster ends everybody else before it recovers.
                while !client.is_closed() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                patient_client(&self.servers.superuser).await?;
            }
            _ => {
                client.execute("SELECT pg_terminate_backend($1)", &[&i32::try_from(pid)?]).await?;
            }
        }
        Ok(())
    }

    fn some_bytes(&mut self) -> i64 {
        i64::try_from(self.dice.between(1, 3_000)).unwrap_or(0)
    }
}

async fn walsender(client: &Client) -> Result<Option<u32>> {
    // Of several shards, the first's.
    let sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name ~ '^outbox_relay(_[0-9]+_0)?$'";
    // A backfill may not have made it yet.
    let pid: Option<i32> = client.query_opt(sql, &[]).await?.and_then(|row| row.get(0));
    Ok(pid.map(u32::try_from).transpose()?)
}
