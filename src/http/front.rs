//! The page `/`: where the relay stands, for a person at three in the morning, with a browser or with curl.

use super::Page;
use crate::report::Report;

/// The overview as plain text.
pub(super) fn text(report: &Report) -> String {
    let mut text = format!("outbox-relay {}\n\n", report.version);
    text.push_str(report.lines().text());
    text.push_str(&format!("\nslot {}, publication {}\n\n", report.slot, report.publication));
    if let Some(slot) = &report.slot_health {
        text.push_str(slot.lines().text());
        text.push('\n');
    }
    for page in Page::ALL {
        text.push_str(&format!("{:<9} {}\n", page.path(), page.about()));
    }
    text
}

/// The same with links, which loads itself again every five seconds.
pub(super) fn html(report: &Report) -> String {
    let mut body = escaped(&text(report));
    for page in Page::ALL {
        let path = page.path();
        let line = format!("\n{path:<9} ");
        let link =
            format!("\n<a href=\"{path}\">{path}</a>{} ", " ".repeat(9_usize.saturating_sub(path.len())));
        body = body.replacen(&line, &link, 1);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta http-equiv=\"refresh\" content=\"5\">\n\
         <title>outbox-relay: {}</title>\n<pre>\n{body}</pre>\n</html>\n",
        escaped(&report.state)
    )
}

/// Text that HTML shows as it is. Reasons come from servers.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Blocked, SlotHealth};

    fn report() -> Report {
        Report {
            version: "1.2.3".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            state: "blocked".to_owned(),
            state_seconds: 83.0,
            blocked: Some(Blocked {
                on: "topic".to_owned(),
                seconds: 83.0,
                reason: "topic \"<b>\" does not exist".to_owned(),
                ..Blocked::default()
            }),
            slot: "outbox_relay".to_owned(),
            publication: "outbox_relay".to_owned(),
            received_lsn: "0/2".to_owned(),
            confirmed_lsn: "0/1".to_owned(),
            slot_health: Some(SlotHealth {
                wal_status: Some("reserved".to_owned()),
                ..SlotHealth::default()
            }),
            ..Report::default()
        }
    }

    #[test]
    fn text_says_what_is_wrong_first() {
        insta::assert_snapshot!(text(&report()), @r#"
        outbox-relay 1.2.3

          state                 blocked, for 1m 23s
          blocked on            topic, for 1m 23s
          reason                topic "<b>" does not exist
          received              0/2
          confirmed             0/1
          in flight             0 records, 0 B
          oldest unconfirmed    none
          delivered             0 events
          started               2026-01-02T03:04:05Z, version 1.2.3

        slot outbox_relay, publication outbox_relay

          behind the server     unknown
          holds WAL             unknown
          WAL until it is lost  no limit
          wal_status            reserved
          seen                  0.0s ago

        /         an overview for people
        /live     200 while the session task turns
        /ready    200 while events can move, and on a hot standby; else 503 and the reason
        /active   200 on the instance that holds the replication stream; else 503
        /metrics  Prometheus
        /status   an overview for programs, as JSON
        "#);
    }

    #[test]
    fn html_has_links_and_shows_reasons_as_they_are() {
        insta::assert_snapshot!(html(&report()), @r#"
        <!doctype html>
        <html lang="en">
        <meta charset="utf-8">
        <meta http-equiv="refresh" content="5">
        <title>outbox-relay: blocked</title>
        <pre>
        outbox-relay 1.2.3

          state                 blocked, for 1m 23s
          blocked on            topic, for 1m 23s
          reason                topic "&lt;b&gt;" does not exist
          received              0/2
          confirmed             0/1
          in flight             0 records, 0 B
          oldest unconfirmed    none
          delivered             0 events
          started               2026-01-02T03:04:05Z, version 1.2.3

        slot outbox_relay, publication outbox_relay

          behind the server     unknown
          holds WAL             unknown
          WAL until it is lost  no limit
          wal_status            reserved
          seen                  0.0s ago

        <a href="/">/</a>         an overview for people
        <a href="/live">/live</a>     200 while the session task turns
        <a href="/ready">/ready</a>    200 while events can move, and on a hot standby; else 503 and the reason
        <a href="/active">/active</a>   200 on the instance that holds the replication stream; else 503
        <a href="/metrics">/metrics</a>  Prometheus
        <a href="/status">/status</a>   an overview for programs, as JSON
        </pre>
        </html>
        "#);
    }
}
