//! outbox-relay sends each committed row of a PostgreSQL outbox table to Kafka, and lets PostgreSQL forget the row's
//! write-ahead log only after Kafka has confirmed it.

pub mod disposition;
pub mod lsn;
pub mod postgres;
pub mod secret;

pub mod ack;
pub mod feedback;
pub mod in_flight;
pub mod outbox;
pub mod relay;
pub mod server_stop;
pub mod wal;

pub mod kafka;

pub mod cli;
pub mod config;
