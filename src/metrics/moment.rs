//! The metrics that describe one moment: what the relay is doing, how far it has come, what the slot holds.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Instant, SystemTime};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Label, label};
use crate::lsn::Lsn;
use crate::status::{On, Snapshot, State};

type Float = Gauge<f64, AtomicU64>;

/// The gauges of `snapshot`, for one scrape. A limit that the slot does not have is left out.
pub(super) fn registry(prefix: &str, snapshot: &Snapshot, now: Instant, wall: SystemTime) -> Registry {
    let progress = &snapshot.progress;
    let slot = snapshot.slot.as_ref().map(|seen| &seen.slot);
    let mut registry = Registry::with_prefix(prefix);
    let mut whole = |name, help, value| registry.register(name, help, integer(value));
    whole(
        "in_flight_records",
        "Records handed to Kafka and not confirmed",
        count(progress.in_flight_records),
    );
    whole("in_flight_bytes", "Memory that they take", count(progress.in_flight_bytes));
    let retained = slot.and_then(|slot| slot.retained_bytes).unwrap_or(0).max(0);
    whole("slot_retained_wal_bytes", "WAL that the replication slot holds", retained);
    if let Some(safe) = slot.and_then(|slot| slot.safe_wal_bytes) {
        let help = "WAL that may still be written before the server drops what the slot needs";
        whole("slot_safe_wal_bytes", help, safe);
    }
    let (rows, done) = progress.backfill.as_ref().map_or((0, 0), |backfill| (backfill.rows, backfill.done));
    let number = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
    whole("backfill_rows", "Rows that the backfill has to send", number(rows));
    whole("backfill_rows_done", "Those of them that Kafka has", number(done));
    let mut fraction = |name, help, value| registry.register(name, help, float(value));
    fraction("received_lsn", "End of the WAL received, as a number", position(progress.received));
    fraction("confirmed_lsn", "End of the WAL confirmed, as a number", position(progress.confirmed));
    fraction(
        "oldest_unconfirmed_age_seconds",
        "Age of the oldest event that was read and not confirmed",
        snapshot.oldest_unconfirmed_age(wall).as_secs_f64(),
    );
    registry.register(
        "blocked_seconds",
        "How long the relay has been kept from moving",
        blocked(snapshot, now),
    );
    registry.register("state", "What the relay is doing", state(snapshot));
    registry
}

fn blocked(snapshot: &Snapshot, now: Instant) -> Family<Label, Float> {
    let family = Family::<Label, Float>::default();
    for on in On::ALL {
        let blocked = snapshot.blocked.as_ref().filter(|blocked| blocked.on == on);
        let seconds =
            blocked.map_or(0.0, |blocked| now.saturating_duration_since(blocked.since).as_secs_f64());
        family.get_or_create(&label("on", on.as_str())).set(seconds);
    }
    family
}

fn state(snapshot: &Snapshot) -> Family<Label, Gauge<i64, AtomicI64>> {
    let family = Family::<Label, Gauge<i64, AtomicI64>>::default();
    for state in State::ALL {
        family.get_or_create(&label("state", state.as_str())).set(i64::from(state == snapshot.state));
    }
    family
}

pub(super) fn integer(value: i64) -> Gauge<i64, AtomicI64> {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

pub(super) fn float(value: f64) -> Float {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A position as a gauge has it; exact up to 8 PiB of WAL.
fn position(lsn: Lsn) -> f64 {
    lsn.as_u64() as f64
}
