//! The faults of the machine: what the relay and its servers need is taken away for a while, and given back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::faults::World;
use crate::plan::{TOPICS, topic};
use crate::proxy::Learns;
use crate::schedule::{Fault, Step};
use crate::server::{await_leader, client, patient_client};

/// A clock is stepped by a minute to a day.
const CLOCK_STEP: (u64, u64) = (60, 24 * 60 * 60);

/// No new file descriptor has a lower number: those of standard input, output and errors are taken.
const NO_DESCRIPTORS: &str = "3";

/// The part of the time that a relay may compute which has nothing to do. One that tries again without a pause needs all
/// of it.
const IDLE: f64 = 0.3;

/// How long a broker may go on when its disk is full.
const FULL: Duration = Duration::from_secs(20);

/// How often what a server gives back on a full disk is taken as well.
const REFILL: Duration = Duration::from_millis(50);

/// How long it takes at most until the relay answers, and until a step of its clock can be seen in that.
const CLOCK_SEEN: Duration = Duration::from_secs(10);

impl World {
    /// Neither PostgreSQL's name nor Kafka's can be resolved, and every connection must be made again.
    pub(crate) async fn no_names(&mut self, step: Step) -> Result<()> {
        self.names.take()?;
        self.postgres.cut(Learns::Both);
        self.kafka.cut(Learns::Both);
        let lasted = self.last(step).await;
        self.names.give()?;
        lasted
    }

    /// The relay's clock is set, and stays so until the next time: what it takes to get over it must not wait for that.
    pub(crate) async fn set_clock(&mut self, step: Step) -> Result<()> {
        let seconds = i64::try_from(self.dice.between(CLOCK_STEP.0, CLOCK_STEP.1))?;
        let by = if step.fault == Fault::ClockForward { seconds } else { -seconds };
        let before = self.visit().await?;
        let cut = self.dice.once_in(2);
        if cut {
            // Now both clients wait for the moment of their next attempt.
            self.postgres.cut(Learns::Both);
            self.kafka.cut(Learns::Both);
            let pause = self.dice.between(0, 300);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let ahead = self.clock.set_by(by)?;
        let with = if cut { ", with all connections cut" } else { "" };
        self.notes.push(format!("the relay's clock goes by {by:+} s and is {ahead:+} s ahead{with}"));
        // The date of HTTP answers follows when time has gone on, and stands still when it has gone back.
        let set = Instant::now();
        loop {
            let seen = self.visit().await?;
            if if by > 0 { seen >= ahead - 3 } else { seen <= before - 2 } {
                return Ok(());
            }
            if set.elapsed() > CLOCK_SEEN {
                bail!(
                    "the relay does not go by the torture's clock: it was to be {ahead:+} s ahead, not {seen:+}"
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How far ahead the relay says that its clock is.
    async fn visit(&self) -> Result<i64> {
        let start = Instant::now();
        loop {
            match self.active.ahead().await {
                Some(ahead) => return Ok(ahead),
                None if start.elapsed() > CLOCK_SEEN => bail!("the relay's HTTP does not answer"),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The relay can open nothing any more, neither connections nor files, and its connections end.
    pub(crate) async fn no_descriptors(&mut self, step: Step) -> Result<()> {
        // One that has just been started would have to end: it cannot even begin.
        self.visit().await?;
        let limit = self.active.descriptors().context("the relay has no limits")?;
        self.active.limit_descriptors(NO_DESCRIPTORS)?;
        self.postgres.cut(Learns::Both);
        self.kafka.cut(Learns::Both);
        let (from, before) = (Instant::now(), self.active.computed());
        // A visitor whom it cannot let in.
        let answered = self.active.ahead().await.is_some();
        tokio::time::sleep(step.lasts).await;
        let computed = self.active.computed().zip(before).map(|(after, before)| after - before);
        let lasted = from.elapsed();
        self.active.limit_descriptors(&limit)?;
        self.active.still_runs()?;
        let part = computed.context("the relay is gone")?.as_secs_f64() / lasted.as_secs_f64();
        self.notes.push(format!("meanwhile the relay computed {:.0} % of the time", part * 100.0));
        if answered {
            bail!("the relay still could open a connection: its limit of file descriptors did not hold");
        }
        if part > IDLE {
            bail!("a relay that can open nothing computed {:.0} % of the time", part * 100.0);
        }
        Ok(())
    }

    /// PostgreSQL's disk is full. Half of the time its log of changes is made to grow as well, which stops the server;
    /// else it may only refuse some statements.
    pub(crate) async fn postgres_full(&mut self, step: Step) -> Result<()> {
        let log_grows = self.dice.once_in(2);
        let start = Instant::now();
        let mut kill = step.with_kill;
        while start.elapsed() < step.lasts {
            self.servers.postgres_disk.as_ref().context("PostgreSQL has no disk of its own")?.fill()?;
            if log_grows && let Ok(client) = client(&self.servers.superuser).await {
                // It fails at last.
                let _ = client.batch_execute("SELECT pg_switch_wal()").await;
            }
            if kill && start.elapsed() > step.lasts / 2 {
                kill = false;
                self.kill().await?;
            }
            tokio::time::sleep(REFILL).await;
        }
        if let Some(disk) = &self.servers.postgres_disk {
            disk.empty()?;
        }
        let freed = Instant::now();
        while client(&self.servers.superuser).await.is_err() {
            // A server that cannot recover from its crash ends.
            if !self.servers.postgres.is_up() {
                self.notes.push("PostgreSQL had ended, and is started again".to_owned());
                self.servers.postgres.start_again()?;
                patient_client(&self.servers.superuser).await?;
            }
            tokio::time::sleep(REFILL).await;
            if freed.elapsed() > 3 * FULL {
                bail!("PostgreSQL is not up {:?} after its disk had room again", freed.elapsed());
            }
        }
        Ok(())
    }

    /// Kafka's disk is full. A broker ends by itself when it cannot write.
    pub(crate) async fn broker_full(&mut self, step: Step) -> Result<()> {
        let start = Instant::now();
        while self.servers.kafka.is_up() && start.elapsed() < FULL {
            self.servers.kafka_disk.as_ref().context("Kafka has no disk of its own")?.fill()?;
            tokio::time::sleep(REFILL).await;
        }
        if self.servers.kafka.is_up() {
            self.notes.push(format!("the broker went on for {FULL:?}, and is killed"));
            self.servers.kafka.end("KILL").await?;
        } else {
            self.notes.push(format!("the broker ended after {:.1?}", start.elapsed()));
        }
        self.last(step).await?;
        if let Some(disk) = &self.servers.kafka_disk {
            disk.empty()?;
        }
        self.servers.kafka.start_again()?;
        self.await_broker()
    }

    /// The server stands still, and all of its processes with it.
    pub(crate) async fn frozen(&mut self, step: Step) -> Result<()> {
        let postgres = step.fault == Fault::PostgresFrozenLong;
        let server = if postgres { &self.servers.postgres } else { &self.servers.kafka };
        let frozen = server.freeze()?;
        let lasted = self.last(step).await;
        drop(frozen);
        lasted?;
        if postgres { Ok(()) } else { self.await_broker() }
    }

    /// How long the broker takes to lead its partitions again is its own affair.
    pub(crate) fn await_broker(&mut self) -> Result<()> {
        let start = Instant::now();
        let topics = TOPICS.map(|(name, _)| topic(name));
        tokio::task::block_in_place(|| await_leader(&self.servers.kafka_address, &topics))?;
        self.notes.push(format!("the broker leads all partitions after {:.1?}", start.elapsed()));
        Ok(())
    }
}
