//! Kafka's side of `check`: each finding staged on a real broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outbox_relay::config::{self, Properties};
use outbox_relay::findings::kafka::{Wanted, look};
use outbox_relay::findings::{Finding, Level};
use outbox_relay::outbox::Template;
use rdkafka::bindings::rd_kafka_AclOperation_t::{
    RD_KAFKA_ACL_OPERATION_DESCRIBE, RD_KAFKA_ACL_OPERATION_WRITE,
};

use crate::fixture::eventually;
use crate::kafka::{broker, create_topic};
use crate::kafka_rights::allow;
use crate::servers::variable;

/// The properties as the configuration makes them.
fn properties(servers: &str, more: &[(&str, &str)]) -> Properties {
    let mut set = BTreeMap::from([("kafka.bootstrap.servers".to_owned(), servers.to_owned())]);
    set.insert("postgres.url".to_owned(), "postgres://relay@localhost/shop".to_owned());
    set.extend(more.iter().map(|(name, value)| (format!("kafka.{name}"), (*value).to_owned())));
    let set: Vec<_> = set.into_iter().collect();
    config::load(None, [], &set).unwrap().kafka
}

/// Those of a user of the SASL listener.
fn login(user: &str, password: &str) -> Properties {
    let more = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", user),
        ("sasl.password", password),
    ];
    properties(&variable("OUTBOX_TEST_KAFKA_SASL"), &more)
}

/// What is found, and how long it took.
async fn found(
    properties: &Properties,
    template: &str,
    largest_row: Option<u64>,
) -> (Vec<Finding>, Duration) {
    let template = Template::parse(template).unwrap();
    let start = Instant::now();
    let findings = look(properties, &Wanted { templates: &[&template], topics: &[], largest_row }).await;
    (findings, start.elapsed())
}

/// Level and id of each finding.
fn ids(findings: &[Finding]) -> Vec<(Level, &str)> {
    findings.iter().map(|finding| (finding.level, finding.id)).collect()
}

/// A name that no other test and no earlier run has used.
fn topic(name: &str) -> String {
    format!("check_{}.{name}", std::process::id())
}

#[tokio::test]
async fn a_cluster_with_the_topic_has_no_findings() {
    let prefix = topic("complete");
    let topic = format!("{prefix}.order");
    create_topic(&topic, 1, &[]).await;
    let (findings, took) = found(&properties(&broker(), &[]), &topic, Some(1000)).await;
    assert_eq!(findings, []);
    assert!(took < Duration::from_secs(10), "{took:?}");
    // Found by the template as well.
    let template = format!("{prefix}.{{aggregate_type}}");
    assert_eq!(found(&properties(&broker(), &[]), &template, None).await.0, []);
}

#[tokio::test]
async fn a_topic_that_is_missing_is_named() {
    let topic = topic("missing");
    let (findings, _) = found(&properties(&broker(), &[]), &topic, None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "topic_missing")]);
    assert_eq!(findings[0].message, format!("topic \"{topic}\" does not exist"));
    let template = format!("{topic}.{{aggregate_type}}");
    let (findings, _) = found(&properties(&broker(), &[]), &template, None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "topic_missing")]);
    assert!(findings[0].fix.contains(&format!("--topic {topic}.AGGREGATE_TYPE")), "{}", findings[0].fix);
    // Looking has not made it.
    assert_eq!(found(&properties(&broker(), &[]), &topic, None).await.0.len(), 1);
}

#[tokio::test]
async fn of_the_topics_that_rows_lead_to_those_that_are_missing_are_named() {
    let (there, missing) = (topic("there"), topic("missing-too"));
    create_topic(&there, 1, &[]).await;
    let template = Template::parse("x.{aggregate_type}").unwrap();
    let topics = [missing, there.clone(), there, String::new(), "not a topic".to_owned()];
    let wanted = Wanted { templates: &[&template], topics: &topics, largest_row: None };
    let findings = look(&properties(&broker(), &[]), &wanted).await;
    assert_eq!(ids(&findings), [(Level::Wait, "topic_missing")], "{findings:#?}");
}

#[tokio::test]
async fn a_topic_for_smaller_events_is_named() {
    let topic = topic("small");
    create_topic(&topic, 1, &[("max.message.bytes", "5000")]).await;
    let (findings, _) = found(&properties(&broker(), &[]), &topic, Some(6000)).await;
    assert_eq!(ids(&findings), [(Level::Warn, "topic_message_size")]);
    assert_eq!(
        findings[0].message,
        format!("topic \"{topic}\" has max.message.bytes = 5000, and the largest row has 6000 bytes")
    );
    assert_eq!(
        found(&properties(&broker(), &[("message.max.bytes", "5000")]), &topic, Some(4000)).await.0,
        []
    );
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_with_the_reason_and_soon() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (findings, took) = found(&properties(&format!("127.0.0.1:{port}"), &[]), "t", None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "broker_unreachable")]);
    assert!(findings[0].message.contains("Connection refused"), "{}", findings[0].message);
    assert!(took < Duration::from_secs(10), "{took:?}");

    let (findings, took) = found(&properties("no-such-host.invalid:9092", &[]), "t", None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "broker_unreachable")]);
    assert!(findings[0].message.contains("Failed to resolve"), "{}", findings[0].message);
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn a_server_that_never_answers_does_not_keep_check_waiting() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = silent.local_addr().unwrap().to_string();
    let (findings, took) = found(&properties(&servers, &[]), "t", None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "broker_unreachable")], "{findings:#?}");
    assert!(took < Duration::from_secs(13), "{took:?}");
}

#[tokio::test]
async fn tls_to_a_listener_without_it_is_told() {
    let (findings, _) = found(&properties(&broker(), &[("security.protocol", "ssl")]), "t", None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "broker_unreachable")], "{findings:#?}");
    assert!(findings[0].message.contains("SSL handshake failed"), "{}", findings[0].message);
}

#[tokio::test]
async fn properties_that_make_no_client_stop() {
    let wrong =
        properties(&broker(), &[("ssl.ca.location", "/nowhere/ca.pem"), ("security.protocol", "ssl")]);
    let (findings, _) = found(&wrong, "t", None).await;
    assert_eq!(ids(&findings), [(Level::Stop, "kafka_properties")], "{findings:#?}");
    assert!(findings[0].message.contains("ssl.ca.location failed"), "{}", findings[0].message);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let (findings, took) = found(&login("writer", "hunter2"), "t", None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "kafka_login")], "{findings:#?}");
    assert!(
        findings[0].message.starts_with("Kafka refuses the login as User:writer: "),
        "{}",
        findings[0].message
    );
    assert!(!format!("{findings:?}").contains("hunter2"));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn each_missing_right_is_told_with_the_command_that_grants_it() {
    let topic = topic("rights");
    create_topic(&topic, 1, &[]).await;

    // Nothing at all: the topic is hidden, and nothing may be written anywhere.
    let (findings, _) = found(&login("nobody", "nobody"), &topic, None).await;
    assert_eq!(ids(&findings), [(Level::Wait, "topic_acl"), (Level::Wait, "cluster_acl")], "{findings:#?}");
    assert!(findings[0].message.starts_with(&format!("User:nobody may not see topic \"{topic}\"")));
    assert!(findings[1].fix.contains("--operation IdempotentWrite --cluster"));

    // Describe only.
    allow("reader", RD_KAFKA_ACL_OPERATION_DESCRIBE, &topic);
    let reader = login("reader", "reader");
    let mut last = Vec::new();
    eventually("the ACL is in force", async || {
        last = found(&reader, &topic, None).await.0;
        last.iter().any(|finding| finding.message.contains("may not write"))
    })
    .await;
    assert_eq!(ids(&last), [(Level::Wait, "topic_acl"), (Level::Wait, "cluster_acl")], "{last:#?}");
    let grant = format!(
        "kafka-acls.sh --bootstrap-server {} --command-config admin.properties --add --allow-principal User:reader \
         --operation Write --operation Describe --topic {topic}",
        variable("OUTBOX_TEST_KAFKA_SASL")
    );
    assert_eq!(last[0].fix, grant);

    // What the command grants is enough, although this user may not see the topic's settings.
    allow("writer", RD_KAFKA_ACL_OPERATION_DESCRIBE, &topic);
    allow("writer", RD_KAFKA_ACL_OPERATION_WRITE, &topic);
    let writer = login("writer", "writer");
    eventually("nothing is missing", async || found(&writer, &topic, Some(10_000_000)).await.0.len() == 1)
        .await;
    let (findings, _) = found(&writer, &topic, None).await;
    assert_eq!(findings, []);
}
