//! The session in a simulated world: the real loop, between a PostgreSQL and a Kafka that are not there, in virtual time.
//!
//! A seed makes a world: what is written, and what goes wrong. Time stands still unless everybody waits, so thousands of
//! worlds take seconds, and a seed gives the same world again, byte for byte. The oracle is that of the torture test.
//! `OUTBOX_SIMULATE_SEED=N cargo test --lib simulation` tries one seed and prints what happened; `OUTBOX_SIMULATE_WORLDS=N`
//! tries so many, from `OUTBOX_SIMULATE_FROM` on.

mod cases;
mod client;
#[path = "../../tests/torture/dice.rs"]
#[expect(dead_code, reason = "the torture test throws more kinds of dice")]
mod dice;
mod faults;
mod kafka;
#[path = "../../tests/torture/oracle.rs"]
#[expect(dead_code, reason = "the torture test prints more of a verdict")]
mod oracle;
mod plan;
mod postgres;
mod relay_process;
mod walsender;
#[path = "../../tests/wire/mod.rs"]
mod wire;
mod witness;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::status::{On, Status};
use dice::Dice;
use faults::Signal;
use kafka::Kafka;
use plan::Plan;
use postgres::Postgres;
use relay_process::{Ended, Watch, Watched};
use witness::Witness;

/// A simulated world.
#[derive(Clone)]
struct World {
    plan: Arc<Plan>,
    witness: Arc<Witness>,
    postgres: Arc<Postgres>,
    kafka: Arc<Kafka>,
}

/// What came of a world.
struct Outcome {
    /// Promises that were broken.
    wrong: Vec<String>,
    trace: Vec<String>,
    events: usize,
    duplicates: usize,
    sessions: u32,
    polls: u64,
    /// The most wake-ups in a second of it.
    busiest: u32,
    /// How long it took until everything had arrived when all was well again.
    settled: Duration,
    /// How long it existed, by its own clock.
    lived: Duration,
}

/// When all is well again, everything must have arrived after so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Somebody sees that reading has stopped at an event, and has it passed over.
const OPERATOR: Duration = Duration::from_secs(3);

impl Dice {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.bits() % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// Lets the world of `seed` exist.
fn simulate(seed: u64, traced: bool) -> Outcome {
    let plan = Plan::new(seed);
    live(plan, traced)
}

/// Lets the world of a plan exist.
fn live(plan: Plan, traced: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let plan = Arc::new(plan);
        let witness = Arc::new(Witness::new(traced));
        let postgres = Arc::new(Postgres::new(Arc::clone(&plan), Arc::clone(&witness)));
        let kafka = Arc::new(Kafka::new(Arc::clone(&plan), Arc::clone(&witness)));
        World { plan, witness, postgres, kafka }.exist().await
    })
}

impl World {
    async fn exist(self) -> Outcome {
        tokio::spawn(Arc::clone(&self.kafka).run());
        let (signal, mut signals) = mpsc::unbounded_channel();
        let faults = tokio::spawn(faults::go_wrong(self.clone(), signal));
        let mut passed_over = Vec::new();
        let mut watch = Watch::default();
        while self.process(&mut signals, &faults, &mut passed_over, &mut watch).await {
            let pause = self.kafka.cluster().dice.between(1, 3_000);
            sleep(Duration::from_millis(pause)).await;
        }
        let (verdict, wrong) = self.witness.verdict(&self.plan, &passed_over);
        Outcome {
            wrong,
            trace: self.witness.trace(),
            events: verdict.delivered,
            duplicates: verdict.duplicates.len(),
            sessions: self.kafka.cluster().session,
            polls: watch.polls,
            busiest: watch.busiest,
            settled: watch.settled,
            lived: self.witness.elapsed(),
        }
    }

    /// One process of the relay; true if there must be another one.
    async fn process(
        &self,
        signals: &mut mpsc::UnboundedReceiver<Signal>,
        faults: &tokio::task::JoinHandle<()>,
        passed_over: &mut Vec<String>,
        watch: &mut Watch,
    ) -> bool {
        // Signals for a process that was there no more.
        while signals.try_recv().is_ok() {}
        let config = relay_process::configuration(&self.plan, passed_over);
        let status = Status::new(crate::clock::now(), SystemTime::UNIX_EPOCH);
        let (stop, stopped) = watch::channel(false);
        let mut process = Watched::new(relay_process::live(self.clone(), config, &status, stopped), watch);
        let mut told_to_stop: Option<Instant> = None;
        let mut done = false;
        let again = loop {
            tokio::select! {
                biased;
                ended = &mut process => {
                    match ended {
                        Ended::Spun => self.witness.wrong("the session wakes without end"),
                        Ended::Itself(Err(error)) => self.witness.wrong(&format!("the relay has ended: {error}")),
                        Ended::Itself(Ok(())) if told_to_stop.is_none() => {
                            self.witness.wrong("the relay has ended by itself");
                        }
                        Ended::Itself(Ok(())) => self.witness.note(|| "relay: stopped".to_owned()),
                    }
                    break !done;
                }
                Some(signal) = signals.recv() => match signal {
                    Signal::Term => {
                        told_to_stop.get_or_insert(process.paused_until());
                        stop.send_replace(true);
                    }
                    Signal::Kill => break true,
                    Signal::Pause(length) => {
                        process.pause(length);
                        told_to_stop = told_to_stop.map(|at| at.max(process.paused_until()));
                    }
                },
                () = sleep(Duration::from_millis(250)) => {}
            }
            if let Some(at) = told_to_stop {
                if at.elapsed() > self.plan.drain_timeout + Duration::from_secs(5) {
                    self.witness.wrong("the relay does not stop");
                    break !done;
                }
                continue;
            }
            let well = faults.is_finished();
            let blocked = status.snapshot().blocked.filter(|blocked| blocked.on == On::Event);
            let blocked = blocked.is_some_and(|blocked| crate::clock::since(blocked.since) >= OPERATOR);
            if blocked && passed_over.is_empty() {
                *passed_over = self.plan.hopeless();
                self.witness.note(|| format!("-- the operator has {passed_over:?} passed over"));
            } else if well && self.postgres.server().confirmed >= self.plan.end() {
                done = true;
                process.watch.settled = self.witness.elapsed().saturating_sub(self.plan.length);
            } else if self.witness.elapsed() > self.plan.length + PATIENCE {
                self.witness.wrong(&format!("not everything has arrived: {:?}", status.snapshot().blocked));
                break false;
            } else {
                continue;
            }
            told_to_stop = Some(process.paused_until());
            stop.send_replace(true);
        };
        again && !self.witness.is_alarmed()
    }
}
