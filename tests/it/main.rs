//! Tests against real servers, in one binary. `scripts/test` starts the servers and runs them.

mod postgres_connection;
mod servers;
