//! outbox-relay sends each committed row of a PostgreSQL outbox table to Kafka, and lets PostgreSQL forget the row's
//! write-ahead log only after Kafka has confirmed it.
//!
//! ```text
//!  PostgreSQL ──▶ postgres::connection ──Bytes──▶ relay ──Record──▶ session::Outlet ──▶ kafka::Producer ──▶ brokers
//!                         ▲                 wal → outbox → ack                              │ delivery report
//!                         │                              ▲                                  ▼ (Token)
//!                         └──── status update ◀── ConfirmedLsn ◀──────────────────────── session
//! ```
//!
//! To follow an event, read in this order: [`session`] (the loop), [`relay`] (the heart: what WAL becomes, what may be
//! acknowledged), [`wal`] (the wire), [`outbox`] (row to record), [`ack`] (the position), [`kafka`].

// The tests' writers of streams name this crate from outside, and the simulation from within.
#[cfg(test)]
extern crate self as outbox_relay;

// Values that everything speaks of.
pub mod disposition;
pub mod lsn;
pub mod secret;

// The heart. It knows no sockets, clocks, runtime or logs.
pub mod ack;
pub mod feedback;
pub mod in_flight;
pub mod outbox;
pub mod pace;
pub mod relay;
pub mod server_stop;
pub mod silence;
pub mod suspects;
pub mod wal;

// The two sides.
pub mod kafka;
pub mod postgres;

// Rows that come by a query, and not in the write-ahead log.
pub mod backfill;
pub mod poll;
pub mod rows;

// What must be right before they can work.
pub mod findings;
pub mod setup;

// What ties them together, and how long.
pub mod after_publish;
pub mod republish;
pub mod session;
pub mod supervisor;

// What people meet.
pub mod cli;
pub mod config;
pub mod http;
pub mod metrics;
pub mod report;
pub mod status;
pub mod systemd;

mod clock;
mod reminder;
