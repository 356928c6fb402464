//! The examples of docs/after-publish.md, run as they stand there.

use crate::after_publish::all_ended;
use crate::drop_partitions::partitioned;
use crate::fixture::{Outbox, eventually};

const PAGE: &str = include_str!("../../docs/after-publish.md");

/// Runs the example of the section `title` with this table: the owner's SQL, then, while a relay streams or between two, the
/// application's. In the end the query's rows are those of the page.
async fn run(title: &str, outbox: Outbox) {
    let (_, rest) = PAGE.split_once(&format!("\n## {title}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let blocks = |kind: &str| -> Vec<&str> {
        let begin = format!("\n```{kind}\n");
        section.split(&begin).skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect()
    };
    let (toml, sql, text) = (blocks("toml"), blocks("sql"), blocks("text"));
    let ([toml], [owner, application], [text]) = (&toml[..], &sql[..], &text[..]) else { panic!("{title}") };
    let (query, expected) = text.split_once('\n').unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    outbox.sql(owner.split_once("CREATE TABLE").map_or(*owner, |_| "")).await;
    let relay = outbox.relay_of(file.path(), &[]);
    relay.ready().await;
    relay.stop().await;
    if owner.contains("CREATE TABLE") {
        outbox.sql(owner).await;
    }
    outbox.sql(application).await;
    all_ended(&outbox).await;
    let relay = outbox.relay_of(file.path(), &[]);
    let found = async || {
        let rows = outbox.database.client.simple_query(query).await.unwrap();
        let rows = rows.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let value = |value: Option<&str>| match value {
            Some("t") => "true".to_owned(),
            Some("f") => "false".to_owned(),
            value => value.unwrap_or("NULL").to_owned(),
        };
        let lines: Vec<_> = rows
            .map(|row| (0..row.len()).map(|i| value(row.get(i))).collect::<Vec<_>>().join(" | "))
            .collect();
        if lines.is_empty() { "(0 rows)".to_owned() } else { lines.join("\n") }
    };
    eventually(&format!("{title}: {expected}"), async || found().await == expected).await;
    outbox.all_confirmed().await;
    assert_eq!(found().await, expected);
    assert_eq!(outbox.messages("order").len(), 2, "{title}");
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn rows_are_deleted() {
    run("Delete", Outbox::create().await).await;
}

#[tokio::test]
async fn rows_are_deleted_later() {
    run("Delete later", Outbox::create().await).await;
}

#[tokio::test]
async fn rows_are_marked() {
    run("Mark", Outbox::create().await).await;
}

#[tokio::test]
async fn partitions_are_dropped() {
    run("Drop partitions", partitioned().await).await;
}
