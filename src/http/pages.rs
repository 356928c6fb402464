//! What each address answers.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::Metrics;
use crate::status::{Snapshot, State, Status};

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// What the relay is doing.
    pub status: Arc<Status>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
}

impl Pages {
    /// The addresses.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/live", get(live))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn live(Shared(pages): Shared<Pages>) -> (StatusCode, &'static str) {
    if pages.status.is_live(Instant::now()) {
        (StatusCode::OK, "live\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the session task does not turn\n")
    }
}

async fn ready(Shared(pages): Shared<Pages>) -> (StatusCode, String) {
    readiness(&pages.status.snapshot(), Instant::now())
}

async fn metrics(Shared(pages): Shared<Pages>) -> impl IntoResponse {
    let page = pages.metrics.page(&pages.status.snapshot(), Instant::now());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page)
}

/// Ready while events can move, and while another instance moves them.
fn readiness(snapshot: &Snapshot, now: Instant) -> (StatusCode, String) {
    match (&snapshot.blocked, snapshot.state) {
        (Some(blocked), _) => {
            let seconds = now.saturating_duration_since(blocked.since).as_secs();
            let body = format!("blocked on {} for {seconds} s: {}\n", blocked.on.as_str(), blocked.reason);
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
        (None, state @ (State::Streaming | State::Standby)) => {
            (StatusCode::OK, format!("{}\n", state.as_str()))
        }
        (None, state) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", state.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Blocked, On};
    use std::time::Duration;

    #[test]
    fn readiness_names_the_reason() {
        let now = Instant::now();
        let blocked = Blocked { on: On::Kafka, since: now, reason: "no broker answers".to_owned() };
        let page = |state, blocked| readiness(&Snapshot { state, blocked }, now + Duration::from_secs(7));
        assert_eq!(page(State::Streaming, None), (StatusCode::OK, "streaming\n".to_owned()));
        assert_eq!(page(State::Standby, None), (StatusCode::OK, "standby\n".to_owned()));
        assert_eq!(
            page(State::Connecting, None),
            (StatusCode::SERVICE_UNAVAILABLE, "connecting\n".to_owned())
        );
        assert_eq!(
            page(State::Blocked, Some(blocked)),
            (StatusCode::SERVICE_UNAVAILABLE, "blocked on kafka for 7 s: no broker answers\n".to_owned())
        );
    }
}
