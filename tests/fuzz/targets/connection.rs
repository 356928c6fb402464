//! What a server says, from the log-in on.
#![no_main]

#[path = "../outside.rs"]
mod outside;

libfuzzer_sys::fuzz_target!(|data: &[u8]| outside::connection(data));
