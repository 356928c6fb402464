//! Which fault comes when: a schedule made of a seed. Pure.
//!
//! Faults are drawn like cards: each kind comes once before any comes again, and between two of them the relay is killed
//! a few times.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    RelayKilled,
    RelayStopped,
    RelayFrozen,
    ActiveKilled,
    ActiveStopped,
    ActiveFrozen,
    PostgresCut,
    PostgresAbandoned,
    PostgresFrozen,
    PostgresSlow,
    PostgresHalf,
    PostgresDeaf,
    KafkaCut,
    KafkaFrozen,
    KafkaSlow,
    KafkaHalf,
    KafkaDeaf,
    WalsenderEnded,
    WalsenderFrozen,
    PostmasterFrozen,
    BackendKilled,
    PostgresFast,
    PostgresImmediate,
    BrokerFrozen,
    BrokerKilled,
}

impl Fault {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 25] = [
        Self::RelayKilled,
        Self::RelayStopped,
        Self::RelayFrozen,
        Self::ActiveKilled,
        Self::ActiveStopped,
        Self::ActiveFrozen,
        Self::PostgresCut,
        Self::PostgresAbandoned,
        Self::PostgresFrozen,
        Self::PostgresSlow,
        Self::PostgresHalf,
        Self::PostgresDeaf,
        Self::KafkaCut,
        Self::KafkaFrozen,
        Self::KafkaSlow,
        Self::KafkaHalf,
        Self::KafkaDeaf,
        Self::WalsenderEnded,
        Self::WalsenderFrozen,
        Self::PostmasterFrozen,
        Self::BackendKilled,
        Self::PostgresFast,
        Self::PostgresImmediate,
        Self::BrokerFrozen,
        Self::BrokerKilled,
    ];

    /// What it is, for a person.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RelayKilled => "relay: SIGKILL",
            Self::RelayStopped => "relay: SIGTERM, started again",
            Self::RelayFrozen => "relay: SIGSTOP, SIGCONT",
            Self::ActiveKilled => "two relays: SIGKILL of the active one",
            Self::ActiveStopped => "two relays: SIGTERM of the active one",
            Self::ActiveFrozen => "two relays: SIGSTOP of the active one",
            Self::PostgresCut => "PostgreSQL connections: cut",
            Self::PostgresAbandoned => "PostgreSQL connections: cut, unnoticed by the server",
            Self::PostgresFrozen => "PostgreSQL connections: frozen",
            Self::PostgresSlow => "PostgreSQL connections: slow",
            Self::PostgresHalf => "PostgreSQL connections: cut inside an answer",
            Self::PostgresDeaf => "PostgreSQL connections: answers lost, then cut",
            Self::KafkaCut => "Kafka connections: cut",
            Self::KafkaFrozen => "Kafka connections: frozen",
            Self::KafkaSlow => "Kafka connections: slow",
            Self::KafkaHalf => "Kafka connections: cut inside an answer",
            Self::KafkaDeaf => "Kafka connections: answers lost, then cut",
            Self::WalsenderEnded => "walsender: pg_terminate_backend",
            Self::WalsenderFrozen => "walsender: SIGSTOP, SIGCONT",
            Self::PostmasterFrozen => "postmaster: SIGSTOP, SIGCONT, connections cut",
            Self::BackendKilled => "walsender: SIGKILL, so that PostgreSQL recovers",
            Self::PostgresFast => "PostgreSQL: fast shutdown, started again",
            Self::PostgresImmediate => "PostgreSQL: immediate shutdown, started again",
            Self::BrokerFrozen => "Kafka: SIGSTOP, SIGCONT",
            Self::BrokerKilled => "Kafka: SIGKILL, started again",
        }
    }

    /// How long it lasts at most, in milliseconds; 0 for what is over in a moment. `wal_sender_timeout` is 4 s.
    const fn longest(self) -> u64 {
        match self {
            Self::RelayFrozen | Self::WalsenderFrozen | Self::PostgresFrozen => 7_000,
            Self::BrokerFrozen | Self::KafkaFrozen | Self::KafkaDeaf | Self::PostgresDeaf => 4_000,
            Self::PostgresSlow | Self::KafkaSlow | Self::PostmasterFrozen => 4_000,
            Self::PostgresFast | Self::PostgresImmediate | Self::BrokerKilled => 2_000,
            _ => 0,
        }
    }
}

/// When the relay is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After so long, whatever it is doing: also while it starts.
    After(Duration),
    /// As soon as it says that events are in flight.
    InFlight,
    /// While Kafka's answers are held back, so that events are in flight for certain.
    Unanswered,
}

/// One fault of the schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    /// How long it lasts.
    pub(crate) lasts: Duration,
    pub(crate) moment: Moment,
    /// The relay is killed while the fault lasts: two at a time.
    pub(crate) with_kill: bool,
    /// The next fault does not wait until this one is got over.
    pub(crate) in_haste: bool,
    /// A time without faults comes first, in which no event may come twice.
    pub(crate) after_calm: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.as_str())?;
        match self.moment {
            _ if self.fault != Fault::RelayKilled => {}
            Moment::After(pause) => write!(f, ", after {pause:?}")?,
            Moment::InFlight => f.write_str(", when it says that events are in flight")?,
            Moment::Unanswered => f.write_str(", when Kafka's answers have been held back")?,
        }
        if !self.lasts.is_zero() {
            write!(f, ", for {:?}", self.lasts)?;
        }
        if self.with_kill {
            f.write_str("; in the middle of it SIGKILL of the relay")?;
        }
        if self.in_haste {
            f.write_str("; the next does not wait")?;
        }
        Ok(())
    }
}

/// The faults to come.
pub(crate) struct Schedule {
    dice: Dice,
    only: String,
    cards: Vec<Fault>,
}

impl Schedule {
    /// Never ends. Only faults whose name contains `only`; with "", all.
    pub(crate) fn new(dice: Dice, only: &str) -> Self {
        Self { dice, only: only.to_owned(), cards: Vec::new() }
    }

    /// The next fault.
    pub(crate) fn step(&mut self) -> Step {
        if self.cards.is_empty() {
            self.deal();
        }
        let fault = self.cards.pop().unwrap_or(Fault::RelayKilled);
        let longest = fault.longest();
        let lasts = if longest == 0 { 0 } else { self.dice.between(200, longest) };
        let moment = match self.dice.between(0, 3) {
            0 => Moment::After(Duration::from_millis(self.dice.between(0, 1_200))),
            1 => Moment::InFlight,
            _ => Moment::Unanswered,
        };
        Step {
            fault,
            lasts: Duration::from_millis(lasts),
            moment,
            with_kill: longest > 0 && fault != Fault::RelayFrozen && self.dice.once_in(4),
            in_haste: self.dice.once_in(8),
            after_calm: self.dice.once_in(12),
        }
    }

    fn deal(&mut self) {
        let mut others: Vec<_> =
            Fault::ALL.into_iter().filter(|fault| *fault != Fault::RelayKilled).collect();
        self.dice.shuffle(&mut others);
        for fault in others {
            self.cards.push(fault);
            for _ in 0..self.dice.between(2, 6) {
                self.cards.push(Fault::RelayKilled);
            }
        }
        self.cards.retain(|fault| fault.as_str().contains(&self.only));
    }
}
