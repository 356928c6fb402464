//! What holds for every input, tried on random ones.
//!
//! Each property runs 4,000 cases, or as many as `PROPTEST_CASES` says. A failing case is shrunk and printed with its
//! seed, and the seed is kept in `tests/regressions/`, from where it is tried first ever after.
#![cfg(test)]

#[path = "properties/ack.rs"]
mod ack;
#[path = "properties/bytes.rs"]
mod bytes;
#[path = "properties/damage.rs"]
mod damage;
#[path = "fuzz/mod.rs"]
mod fuzz;
#[path = "properties/logical.rs"]
mod logical;
#[path = "properties/lsn.rs"]
mod lsn;
#[path = "properties/messages.rs"]
mod messages;
#[path = "properties/relay.rs"]
mod relay;
#[path = "properties/script.rs"]
mod script;
#[path = "properties/sequence.rs"]
mod sequence;
#[path = "properties/session.rs"]
mod session;
mod wire;

use proptest::test_runner::{Config, FileFailurePersistence};

/// A few seconds' worth.
const CASES: u32 = 4_000;

/// proptest's configuration, with `regressions` as the file for seeds of failing cases.
fn config(regressions: &'static str) -> Config {
    let default = Config::default();
    let chosen = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        cases: if chosen { default.cases } else { CASES },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..default
    }
}
