//! The examples of docs/records.md and docs/tables.md, run as they stand there; and what their columns must not have.

use std::fmt::Write as _;

use crate::fixture::Outbox;
use crate::kafka::{Message, Reader, create_topic};

const PAGE: &str = include_str!("../../docs/records.md");
const TABLES: &str = include_str!("../../docs/tables.md");

/// The blocks of the section `title` of a page: of TOML, SQL, and records.
fn example(page: &str, title: &str) -> (String, Vec<String>, String) {
    let (_, rest) = page.split_once(&format!("\n## {title}\n")).unwrap();
    blocks(rest.split("\n## ").next().unwrap())
}

/// The blocks of a page: of TOML, SQL, and records.
pub(crate) fn blocks(section: &str) -> (String, Vec<String>, String) {
    let blocks = |kind: &str| -> Vec<String> {
        let begin = format!("\n```{kind}\n");
        section.split(&begin).skip(1).map(|rest| rest.split_once("\n```").unwrap().0.to_owned()).collect()
    };
    let one = |kind| <[String; 1]>::try_from(blocks(kind)).map(|[block]| block).unwrap();
    (one("toml"), blocks("sql"), one("text"))
}

/// A record as the page shows it.
pub(crate) fn shown(topic: &str, message: &Message) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut shown = format!("topic  {topic}\nkey    {}\n", message.key_text());
    for (name, value) in &message.headers {
        match value {
            _ if ["source", "position"].contains(&name.as_str()) => Ok(()),
            Some(value) => writeln!(shown, "header {name} = {}", text(value)),
            None => writeln!(shown, "header {name} is null"),
        }
        .unwrap();
    }
    shown
        + &message
            .value
            .as_deref()
            .map_or("value is null".to_owned(), |value| format!("value  {}", text(value)))
}

/// Runs the example of the section `title`. Its topics get the database's name before theirs.
async fn run(title: &str) {
    run_of(PAGE, title).await;
}

async fn run_of(page: &str, title: &str) {
    let (toml, sql, expected) = example(page, title);
    let mut topics: Vec<&str> = expected.lines().filter_map(|line| line.strip_prefix("topic  ")).collect();
    topics.dedup();
    let outbox = Outbox::create().await;
    for topic in &topics {
        create_topic(&outbox.topic(topic), 1, &[]).await;
    }
    let (application, owner) = sql.split_last().unwrap();
    for sql in owner {
        outbox.sql(sql).await;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &toml).unwrap();
    let route = toml.lines().find_map(|line| line.strip_prefix("route.topic = \"")?.strip_suffix('"'));
    let route = format!("route.topic={}", outbox.topic(route.unwrap()));
    let relay = outbox.relay_of(file.path(), &[&route]);
    relay.ready().await;
    outbox.sql(application).await;
    outbox.all_confirmed().await;
    let records = topics.iter().flat_map(|topic| {
        let messages = Reader::new(&outbox.topic(topic)).read_to_end();
        messages.iter().map(|message| shown(topic, message)).collect::<Vec<_>>()
    });
    assert_eq!(records.collect::<Vec<_>>().join("\n\n"), expected, "{title}");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn templates_change_case_and_have_defaults() {
    run("Templates").await;
}

#[tokio::test]
async fn each_kind_of_event_has_a_topic() {
    run("A topic for each kind of event").await;
}

#[tokio::test]
async fn a_json_column_becomes_headers() {
    run("Headers from a JSON column").await;
}

#[tokio::test]
async fn records_are_cloudevents() {
    run("CloudEvents").await;
}

#[tokio::test]
async fn traces_go_on() {
    run("Traces").await;
}

#[tokio::test]
async fn null_payloads_are_tombstones() {
    run("Tombstones").await;
}

#[tokio::test]
async fn messages_are_events_without_rows() {
    run("An outbox without rows").await;
}

#[tokio::test]
async fn each_tenant_has_a_schema() {
    run_of(TABLES, "A schema for each tenant").await;
}

#[tokio::test]
async fn tables_may_differ() {
    run_of(TABLES, "Tables that differ").await;
}

#[tokio::test]
async fn partitions_come_and_go() {
    run_of(TABLES, "Partitions").await;
}

#[tokio::test]
async fn an_event_whose_headers_are_no_object_is_rejected() {
    let outbox = Outbox::create().await;
    outbox.sql("ALTER TABLE outbox ADD more text").await;
    let dead = "outbox.dead-letter";
    let letters = format!("delivery.dead_letter_topic={}", outbox.topic(dead));
    create_topic(&outbox.topic(dead), 1, &[]).await;
    let relay = outbox.relay(&["outbox.columns.headers=more", "delivery.on_rejected=dead-letter", &letters]);
    relay.ready().await;
    outbox
        .sql(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, more) VALUES
                 ('order', 'none', 'x', '[]'), ('order', 'own', 'x', '{\"source\": \"me\"}'), ('order', 'good', 'x', '{\"a\": 1}')",
        )
        .await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["good"]);
    let letters = outbox.messages(dead);
    let reasons: Vec<_> = letters.iter().map(|letter| letter.header("dead-letter-reason").unwrap()).collect();
    assert_eq!(reasons, ["invalid_headers", "invalid_headers"]);
    let metric = "outbox_relay_events_rejected_total{reason=\"invalid_headers\"}";
    assert_eq!(relay.metric(metric).await, Some(2.0));
    relay.stop().await;
    outbox.database.drop().await;
}
