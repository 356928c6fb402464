//! Programs that do the whole job, from the slot to the topic: the relay, and its peer.

use anyhow::Result;

use crate::debezium::{self, Tuned};
use crate::subject::Subject;
use crate::{Bench, drain::Over};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// As it comes: what it does best it finds by itself.
    Relay,
    Debezium(Tuned),
}

impl Program {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Debezium(_) => "Debezium",
        }
    }

    /// Starts it: it reads `slot`, and sends everything to `topic`.
    pub(crate) fn start(self, bench: &Bench, over: Over, slot: &str, topic: &str) -> Result<Subject> {
        match self {
            Self::Relay => {
                let url = if over == Over::Tcp { &bench.tcp_url } else { &bench.world.url };
                let settings = [format!("postgres.slot={slot}"), format!("route.topic={topic}")];
                Subject::relay(bench, url, &settings)
            }
            Self::Debezium(tuned) => debezium::start(bench, slot, topic, tuned),
        }
    }
}
