//! The README against the code, in both directions: what it names exists, and what exists is named.
#![cfg(test)]

#[path = "readme/operation.rs"]
mod operation;
