//! Whatever comes from outside the stream, beginning with good input and damaging it: a server's messages, connection
//! strings and password files, configuration files. Nothing panics, and no password is shown.
#![cfg(test)]

#[path = "fuzz/corpus.rs"]
mod corpus;
#[path = "properties/damage.rs"]
mod damage;
#[path = "fuzz/outside.rs"]
mod outside;

use damage::{damage, damaged};
use outside::seeds;
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn fuzz_bodies_run_over_their_seeds() {
    corpus::over("connection", outside::connection, &seeds::connections());
    corpus::over("conninfo", outside::conninfo, &seeds::conninfos());
    corpus::over("config", outside::config, &seeds::configs());
}

proptest! {
    // Each case is several sessions, or several files read.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn damaged_connections_end_with_an_error(seed in prop::sample::select(seeds::connections()), damage in vec(damage(), 0..6)) {
        outside::connection(&damaged(seed.into(), &damage));
    }

    #[test]
    fn damaged_connection_strings_show_no_password(seed in prop::sample::select(seeds::conninfos()), damage in vec(damage(), 0..6)) {
        outside::conninfo(&damaged(seed.into(), &damage));
    }

    #[test]
    fn damaged_configurations_are_told_without_secrets(seed in prop::sample::select(seeds::configs()), damage in vec(damage(), 0..6)) {
        outside::config(&damaged(seed.into(), &damage));
    }
}
