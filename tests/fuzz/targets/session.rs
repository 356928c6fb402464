//! The `CopyData` bodies of a session, to a relay.
#![no_main]

#[path = "../mod.rs"]
mod fuzz;
#[path = "../../wire/mod.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::session(data));
