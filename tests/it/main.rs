//! Tests against real servers, in one binary. `scripts/test` starts the servers and runs them.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helper functions as well"
)]

mod after_publish;
mod after_publish_page;
mod backfill;
mod check;
mod check_kafka;
mod dead_letter;
mod drop_partitions;
mod fixture;
mod http;
mod kafka;
mod kafka_rights;
mod life;
mod lost;
mod main_job;
mod messages;
mod own_server;
mod partitions;
mod poll;
mod postgres_connection;
mod postgres_login;
mod proxy;
mod readme;
mod records;
mod refusals;
mod rejected;
mod republish;
mod routing;
mod servers;
mod setup;
mod setup_waits;
mod shards;
mod status;
mod stream;
mod tables;
mod tenants;
mod topics;
mod traps;
mod values;
mod waiting;
mod writers;
