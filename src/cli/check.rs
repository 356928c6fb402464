//! `check`: everything that keeps the relay from working, or will, looked at once and told at once.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::json;

use super::Output;
use crate::config::{Config, Postgres};
use crate::findings::{self, Finding, Level, kafka};
use crate::outbox::{Shape, Template};
use crate::postgres::connection::Connection;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control};
use crate::postgres::error::Error;
use crate::postgres::survey::Outbox;

/// Looks at PostgreSQL and Kafka; changes nothing. The findings come the gravest first.
pub async fn look(config: &Config, info: &ConnInfo) -> Vec<Finding> {
    let mut ahead = Ahead::default();
    let seen = postgres(config, info, &mut ahead).await;
    if ahead.templates.is_empty() || config.outbox.message_prefix.is_some() {
        ahead.expect(&config.outbox.shape);
    }
    let mut found = match seen {
        Ok(found) => found,
        Err(error) => vec![findings::of_login(&error, info)],
    };
    let topics: Vec<_> = ahead.topics.into_iter().collect();
    let templates: Vec<_> = ahead.templates.iter().collect();
    let wanted = kafka::Wanted { templates: &templates, topics: &topics, largest_row: ahead.largest_payload };
    let mut on_kafka = kafka::look(&config.kafka, &wanted).await;
    // With topics.create the relay makes them.
    on_kafka.retain(|finding| config.topics.is_none() || finding.id != kafka::TOPIC_MISSING);
    found.extend(on_kafka);
    found.sort_by_key(|finding| finding.level);
    found
}

/// What will be sent, as far as the rows tell that are in the tables now.
#[derive(Default)]
struct Ahead {
    /// `route.topic` of the tables that there are.
    templates: Vec<Template>,
    topics: BTreeSet<String>,
    largest_payload: Option<u64>,
}

async fn postgres(config: &Config, info: &ConnInfo, ahead: &mut Ahead) -> Result<Vec<Finding>, Error> {
    let (control, server) = Control::connect(info).await?;
    let catalog = control.catalog();
    let Postgres { publication, slot, .. } = &config.postgres;
    let polls = config.polling.is_some();
    let survey = catalog.survey_for(&config.outbox, &config.after_publish, publication, slot).await?;
    let survey = catalog.with_shards(survey, &config.shard_parts()).await?;
    let wanted = findings::Wanted::new(config, info);
    let mut found =
        if polls { findings::polled(&wanted, &survey) } else { findings::postgres(&wanted, &survey, None) };
    // Only the server knows whether it would let us replicate: on managed services the right comes in other ways than
    // the role's attribute.
    if !polls && let Err(error) = Connection::connect(&server).await {
        found.push(findings::of_replication(&error, info));
    }
    for outbox in survey.outboxes() {
        let shape = config.outbox.of(&outbox.table.name);
        ahead.expect(shape);
        if let Err(error) = look_ahead(&catalog, outbox, shape, ahead).await {
            found.push(findings::of_login(&error, info));
        }
    }
    Ok(found)
}

async fn look_ahead(
    catalog: &Catalog,
    outbox: &Outbox,
    shape: &Shape,
    ahead: &mut Ahead,
) -> Result<(), Error> {
    let topic = &shape.route.topic;
    let own = |placeholder: &str| match placeholder {
        "@schema" => Some(outbox.table.name.schema.clone()),
        "@table" => Some(outbox.table.name.name.clone()),
        _ => None,
    };
    if topic.columns().next().is_none() {
        ahead.topics.extend(topic.fill(own));
    }
    if !outbox.readable {
        return Ok(());
    }
    let placeholders: Vec<&str> = topic.columns().collect();
    let columns: Vec<_> = placeholders.iter().map(|name| shape.columns.behind(name).0.to_owned()).collect();
    let rows = catalog.rows(outbox, &columns, &shape.columns.payload).await?;
    for values in &rows.values {
        let value = |name: &str| {
            let index = placeholders.iter().position(|placeholder| *placeholder == name)?;
            values.get(index)?.clone()
        };
        ahead.topics.extend(topic.fill(|name| own(name).or_else(|| value(name))));
    }
    ahead.largest_payload = ahead.largest_payload.max(rows.largest_payload);
    Ok(())
}

impl Ahead {
    fn expect(&mut self, shape: &Shape) {
        if !self.templates.contains(&shape.route.topic) {
            self.templates.push(shape.route.topic.clone());
        }
    }
}

/// Writes findings as asked for, and gives the exit status: 0 if nothing but warnings was found, else 1.
///
/// # Errors
/// If `out` cannot be written to. A reader that has seen enough, such as `head`, is none.
pub fn print(findings: &[Finding], output: &Output, out: &mut impl Write) -> io::Result<u8> {
    let page = if output.json { json(findings) } else { text(findings) };
    super::print(out, &page)?;
    Ok(u8::from(!is_ok(findings)))
}

fn is_ok(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.level == Level::Warn)
}

/// For people: each finding with its hint, then what they amount to.
fn text(findings: &[Finding]) -> String {
    let one = |Finding { id, level, message, fix }: &Finding| {
        format!("{}: {message} [{id}]\n\nhint: {fix}\n\n", level.as_str())
    };
    let all: String = findings.iter().map(one).collect();
    format!("{all}{}\n", verdict(findings))
}

fn verdict(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let warnings = match count(Level::Warn) {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        many => format!(", {many} warnings"),
    };
    match (count(Level::Stop), count(Level::Wait)) {
        (0, 0) => format!("ok: nothing keeps the relay from working{warnings}"),
        (0, waits) => format!("not now: {waits} to wait for{warnings}"),
        (stops, 0) => format!("no: {stops} to mend{warnings}"),
        (stops, waits) => format!("no: {stops} to mend, {waits} to wait for{warnings}"),
    }
}

/// For programs: `{"ok": …, "findings": […]}`.
fn json(findings: &[Finding]) -> String {
    let each: Vec<_> = findings.iter().map(Finding::json).collect();
    format!("{:#}\n", json!({ "ok": is_ok(findings), "findings": each }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_ends_with_what_it_amounts_to() {
        let stop = Finding::stop("wal_level", "wal_level = replica, expected logical", "ALTER SYSTEM …");
        let wait = Finding::wait("topic_missing", "topic \"a\" does not exist", "create it");
        let warn = Finding::warn("role_limit", "statement_timeout=1s is set", "nothing to do");
        insta::assert_snapshot!(text(&[stop.clone(), wait.clone(), warn.clone()]), @r#"
        stop: wal_level = replica, expected logical [wal_level]

        hint: ALTER SYSTEM …

        wait: topic "a" does not exist [topic_missing]

        hint: create it

        warn: statement_timeout=1s is set [role_limit]

        hint: nothing to do

        no: 1 to mend, 1 to wait for, 1 warning
        "#);
        insta::assert_snapshot!(text(&[wait, warn.clone(), warn.clone()]), @r#"
        wait: topic "a" does not exist [topic_missing]

        hint: create it

        warn: statement_timeout=1s is set [role_limit]

        hint: nothing to do

        warn: statement_timeout=1s is set [role_limit]

        hint: nothing to do

        not now: 1 to wait for, 2 warnings
        "#);
        insta::assert_snapshot!(text(std::slice::from_ref(&stop)), @"
        stop: wal_level = replica, expected logical [wal_level]

        hint: ALTER SYSTEM …

        no: 1 to mend
        ");
        insta::assert_snapshot!(text(&[warn]), @"
        warn: statement_timeout=1s is set [role_limit]

        hint: nothing to do

        ok: nothing keeps the relay from working, 1 warning
        ");
        insta::assert_snapshot!(text(&[]), @"ok: nothing keeps the relay from working");
    }

    #[test]
    fn json_has_every_part() {
        let stop = Finding::stop("wal_level", "wal_level = \"replica\"", "ALTER SYSTEM …");
        let parsed: serde_json::Value = serde_json::from_str(&json(&[stop])).unwrap();
        assert_eq!(
            parsed,
            json!({ "ok": false, "findings": [
                { "id": "wal_level", "level": "stop", "message": "wal_level = \"replica\"", "fix": "ALTER SYSTEM …" }
            ] })
        );
    }
}
