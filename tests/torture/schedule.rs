//! Which fault comes when: a schedule made of a seed. Pure.
//!
//! Faults are drawn like cards: each kind comes once before any comes again, and between two of them the relay is killed
//! a few times. The freezes that outlast every time-out take over a minute each: one of them comes with each deal, and
//! only in runs that are long enough.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    RelayKilled,
    RelayStopped,
    RelayFrozen,
    RelayFrozenLong,
    ActiveKilled,
    ActiveStopped,
    ActiveFrozen,
    ClockForward,
    ClockBack,
    NoDescriptors,
    NoNames,
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
    SlotDropped,
    PostgresFast,
    PostgresImmediate,
    PostgresFrozenLong,
    PostgresFull,
    BrokerFrozen,
    BrokerFrozenLong,
    BrokerKilled,
    BrokerFull,
}

/// Freezes that are longer than every time-out of the relay, of PostgreSQL and of Kafka's client, which is 60 s.
const LONG: [Fault; 3] = [Fault::RelayFrozenLong, Fault::PostgresFrozenLong, Fault::BrokerFrozenLong];

/// A run that is shorter has no time for them.
const LONG_RUN: Duration = Duration::from_secs(300);

impl Fault {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 35] = [
        Self::RelayKilled,
        Self::RelayStopped,
        Self::RelayFrozen,
        Self::RelayFrozenLong,
        Self::ActiveKilled,
        Self::ActiveStopped,
        Self::ActiveFrozen,
        Self::ClockForward,
        Self::ClockBack,
        Self::NoDescriptors,
        Self::NoNames,
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
        Self::SlotDropped,
        Self::PostgresFast,
        Self::PostgresImmediate,
        Self::PostgresFrozenLong,
        Self::PostgresFull,
        Self::BrokerFrozen,
        Self::BrokerFrozenLong,
        Self::BrokerKilled,
        Self::BrokerFull,
    ];

    /// What it is, for a person.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RelayKilled => "relay: SIGKILL",
            Self::RelayStopped => "relay: SIGTERM, started again",
            Self::RelayFrozen => "relay: SIGSTOP, SIGCONT",
            Self::RelayFrozenLong => "relay: SIGSTOP for over a minute, SIGCONT",
            Self::ActiveKilled => "two relays: SIGKILL of the active one",
            Self::ActiveStopped => "two relays: SIGTERM of the active one",
            Self::ActiveFrozen => "two relays: SIGSTOP of the active one",
            Self::ClockForward => "relay: its clock is set forward",
            Self::ClockBack => "relay: its clock is set back",
            Self::NoDescriptors => "relay: no file descriptors left, connections cut",
            Self::NoNames => "DNS: names cannot be resolved, connections cut",
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
            Self::SlotDropped => "slot: dropped, and made by a backfill that is killed",
            Self::PostgresFast => "PostgreSQL: fast shutdown, started again",
            Self::PostgresImmediate => "PostgreSQL: immediate shutdown, started again",
            Self::PostgresFrozenLong => "PostgreSQL: SIGSTOP for over a minute, SIGCONT",
            Self::PostgresFull => "PostgreSQL: disk full",
            Self::BrokerFrozen => "Kafka: SIGSTOP, SIGCONT",
            Self::BrokerFrozenLong => "Kafka: SIGSTOP for over a minute, SIGCONT",
            Self::BrokerKilled => "Kafka: SIGKILL, started again",
            Self::BrokerFull => "Kafka: disk full, started again",
        }
    }

    /// How long it lasts at least and at most, in milliseconds; 0 for what is over in a moment. `wal_sender_timeout` is
    /// 4 s.
    const fn range(self) -> (u64, u64) {
        match self {
            Self::RelayFrozen | Self::WalsenderFrozen | Self::PostgresFrozen => (200, 7_000),
            Self::BrokerFrozen | Self::KafkaFrozen | Self::KafkaDeaf | Self::PostgresDeaf => (200, 4_000),
            Self::PostgresSlow | Self::KafkaSlow | Self::PostmasterFrozen => (200, 4_000),
            Self::PostgresFast | Self::PostgresImmediate | Self::BrokerKilled => (200, 2_000),
            Self::NoNames => (200, 8_000),
            Self::NoDescriptors => (1_000, 6_000),
            Self::PostgresFull | Self::BrokerFull => (1_000, 6_000),
            Self::RelayFrozenLong | Self::PostgresFrozenLong | Self::BrokerFrozenLong => (62_000, 70_000),
            _ => (0, 0),
        }
    }

    /// Whether it would end with the relay that it was done to, or another relay would end it.
    const fn is_the_process(self) -> bool {
        matches!(self, Self::RelayFrozen | Self::RelayFrozenLong | Self::NoDescriptors)
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
    kinds: Vec<Fault>,
    cards: Vec<Fault>,
    /// Freezes of over a minute that are still to come, before each comes again.
    long: Vec<Fault>,
}

impl Schedule {
    /// Never ends; `length` says what there is time for. Only faults whose name contains `only`, with "" all, and never
    /// those of `missing`.
    pub(crate) fn new(dice: Dice, only: &str, length: Duration, missing: &[Fault]) -> Self {
        let wanted = |fault: &Fault| {
            let too_long = LONG.contains(fault) && length < LONG_RUN && only.is_empty();
            fault.as_str().contains(only) && !missing.contains(fault) && !too_long
        };
        let kinds = Fault::ALL.into_iter().filter(wanted).collect();
        Self { dice, kinds, cards: Vec::new(), long: Vec::new() }
    }

    /// The next fault.
    pub(crate) fn step(&mut self) -> Step {
        if self.cards.is_empty() {
            self.deal();
        }
        let fault = self.cards.pop().unwrap_or(Fault::RelayKilled);
        let (shortest, longest) = fault.range();
        let lasts = self.dice.between(shortest, longest);
        let moment = match self.dice.between(0, 3) {
            0 => Moment::After(Duration::from_millis(self.dice.between(0, 1_200))),
            1 => Moment::InFlight,
            _ => Moment::Unanswered,
        };
        Step {
            fault,
            lasts: Duration::from_millis(lasts),
            moment,
            with_kill: longest > 0 && !fault.is_the_process() && self.dice.once_in(4),
            in_haste: self.dice.once_in(8),
            after_calm: self.dice.once_in(12),
        }
    }

    fn deal(&mut self) {
        let kills = self.kinds.contains(&Fault::RelayKilled);
        let short = self.kinds.iter().filter(|kind| **kind != Fault::RelayKilled && !LONG.contains(kind));
        let mut others: Vec<_> = short.copied().collect();
        if self.long.is_empty() {
            self.long.extend(self.kinds.iter().filter(|kind| LONG.contains(kind)));
            self.dice.shuffle(&mut self.long);
        }
        others.extend(self.long.pop());
        self.dice.shuffle(&mut others);
        for fault in others {
            self.cards.push(fault);
            for _ in 0..if kills { self.dice.between(3, 9) } else { 0 } {
                self.cards.push(Fault::RelayKilled);
            }
        }
    }
}
