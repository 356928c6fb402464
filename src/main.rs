//! outbox-relay.
fn main() {}
