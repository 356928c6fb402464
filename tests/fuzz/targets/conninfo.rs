//! A connection string and a password file.
#![no_main]

#[path = "../outside.rs"]
mod outside;

libfuzzer_sys::fuzz_target!(|data: &[u8]| outside::conninfo(data));
