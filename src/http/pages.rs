//! What each address answers.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::front;
use crate::config::Postgres;
use crate::metrics::{Metrics, plain_text};
use crate::report::Report;
use crate::status::{Snapshot, State, Status};

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// What the relay is doing.
    pub status: Arc<Status>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// Whose outbox it relays. Its URL is not shown.
    pub postgres: Arc<Postgres>,
}

/// The addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// For a person.
    Front,
    /// For a probe that restarts the process.
    Live,
    /// For a probe that tells whether events move.
    Ready,
    /// For who looks for the instance that streams.
    Active,
    /// For Prometheus.
    Metrics,
    /// For programs.
    Status,
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Page {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Front, Self::Live, Self::Ready, Self::Active, Self::Metrics, Self::Status];

    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Front => "/",
            Self::Live => "/live",
            Self::Ready => "/ready",
            Self::Active => "/active",
            Self::Metrics => "/metrics",
            Self::Status => "/status",
        }
    }

    /// What it answers, in a line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Front => "an overview for people",
            Self::Live => "200 while the session task turns",
            Self::Ready => "200 while events can move, and on a hot standby; else 503 and the reason",
            Self::Active => "200 on the instance that holds the replication stream; else 503",
            Self::Metrics => "Prometheus",
            Self::Status => "an overview for programs, as JSON",
        }
    }
}

impl Pages {
    /// All addresses. `HEAD` is answered wherever `GET` is.
    pub(super) fn router(self) -> Router {
        let mut router = Router::new();
        for page in Page::ALL {
            let answer = move |Shared(pages): Shared<Self>, headers: HeaderMap| {
                std::future::ready(pages.answer(page, &headers))
            };
            router = router.route(page.path(), get(answer));
        }
        router.fallback(no_such_page).method_not_allowed_fallback(get_only).with_state(self)
    }

    fn answer(&self, page: Page, headers: &HeaderMap) -> Response {
        let snapshot = self.status.snapshot();
        let (now, wall) = (Instant::now(), SystemTime::now());
        let report = || Report::new(&snapshot, &self.postgres, now, wall);
        match page {
            Page::Front if accepts(headers, "text/html") => {
                text(StatusCode::OK, HTML, front::html(&report()))
            }
            Page::Front => text(StatusCode::OK, TEXT, front::text(&report())),
            Page::Live => plain(liveness(self.status.is_live(now))),
            Page::Ready => plain(readiness(&snapshot, now)),
            Page::Active => plain(activity(&snapshot)),
            Page::Metrics => {
                let page = self.metrics.page(&snapshot, now, wall);
                if accepts(headers, "application/openmetrics-text") {
                    text(StatusCode::OK, OPEN_METRICS, page)
                } else {
                    text(StatusCode::OK, PROMETHEUS, plain_text(&page))
                }
            }
            Page::Status => match serde_json::to_string_pretty(&report()) {
                Ok(json) => text(StatusCode::OK, JSON, json + "\n"),
                Err(error) => plain((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
            },
        }
    }
}

fn liveness(live: bool) -> (StatusCode, String) {
    if live {
        (StatusCode::OK, "live\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the session task does not turn\n".to_owned())
    }
}

/// Ready while events can move, and while another instance moves them.
fn readiness(snapshot: &Snapshot, now: Instant) -> (StatusCode, String) {
    match (&snapshot.blocked, snapshot.state) {
        (Some(blocked), state) if state != State::Draining => {
            let seconds = now.saturating_duration_since(blocked.since).as_secs();
            let body = format!("blocked on {} for {seconds} s: {}\n", blocked.on.as_str(), blocked.reason);
            (StatusCode::SERVICE_UNAVAILABLE, body)
        }
        (None, state @ (State::Streaming | State::Standby)) => {
            (StatusCode::OK, format!("{}\n", state.as_str()))
        }
        (_, state) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", state.as_str())),
    }
}

/// Active while this instance holds the stream, also if something keeps events from moving: no other one could help.
fn activity(snapshot: &Snapshot) -> (StatusCode, String) {
    let code = if snapshot.is_active() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", snapshot.state.as_str()))
}

async fn no_such_page() -> Response {
    let mut body = "not found. There is:\n\n".to_owned();
    for page in Page::ALL {
        body.push_str(&format!("{:<9} {}\n", page.path(), page.about()));
    }
    plain((StatusCode::NOT_FOUND, body))
}

async fn get_only() -> Response {
    plain((StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n".to_owned()))
}

/// Whether the client names `kind` among what it takes. `*/*` does not: it is said by those who know nothing of it.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(kind)))
}

fn plain((code, body): (StatusCode, String)) -> Response {
    text(code, TEXT, body)
}

/// A page of this moment, which nobody should keep.
fn text(code: StatusCode, kind: &'static str, body: String) -> Response {
    (code, [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], Body::from(body))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Blocked, On, Started};
    use std::time::Duration;

    fn snapshot(state: State, blocked: Option<On>) -> Snapshot {
        let at = Instant::now();
        let mut snapshot = Snapshot::new(Started { at, wall: SystemTime::UNIX_EPOCH });
        snapshot.state = state;
        snapshot.blocked =
            blocked.map(|on| Blocked { on, since: at, reason: "no broker answers".to_owned() });
        snapshot
    }

    #[test]
    fn readiness_names_the_reason() {
        let page = |state, blocked| {
            let snapshot = snapshot(state, blocked);
            let (code, body) = readiness(&snapshot, snapshot.started.at + Duration::from_secs(7));
            format!("{} {body}", code.as_u16())
        };
        assert_eq!(page(State::Streaming, None), "200 streaming\n");
        assert_eq!(page(State::Standby, None), "200 standby\n");
        assert_eq!(page(State::Connecting, None), "503 connecting\n");
        assert_eq!(
            page(State::Blocked, Some(On::Kafka)),
            "503 blocked on kafka for 7 s: no broker answers\n"
        );
        assert_eq!(page(State::Draining, None), "503 draining\n");
        assert_eq!(page(State::Draining, Some(On::Kafka)), "503 draining\n");
    }

    #[test]
    fn the_instance_that_holds_the_stream_is_active() {
        let page = |state| {
            let (code, body) = activity(&snapshot(state, None));
            format!("{} {body}", code.as_u16())
        };
        let pages = State::ALL.map(page).concat();
        insta::assert_snapshot!(pages, @"
        503 connecting
        503 standby
        200 streaming
        200 blocked
        503 draining
        ");
    }

    #[test]
    fn what_a_client_takes_is_read_from_its_header() {
        let header = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.parse().unwrap());
            headers
        };
        // As Prometheus 3 asks, shortened.
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.3,*/*;q=0.2";
        assert!(accepts(&header(prometheus), "application/openmetrics-text"));
        assert!(accepts(&header("text/html, */*"), "text/html"));
        assert!(!accepts(&header("*/*"), "text/html"));
        assert!(!accepts(&HeaderMap::new(), "text/html"));
    }
}
