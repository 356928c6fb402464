//! What is not as the relay needs it on Kafka's side.
//!
//! [`look`] asks the cluster; [`judge`] is pure: what was seen goes in, findings come out, each with the command that
//! mends it and all names filled in.

use crate::config::Properties;
use crate::findings::Finding;
use crate::kafka::{Cluster, Seen, Step, Topic, TopicSeen, Trouble, survey};
use crate::outbox::Template;

/// What is known of the topics and the events.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// `route.topic` of the tables.
    pub templates: &'a [&'a Template],
    /// The topics that rows of the tables lead to, as far as they could be read. None: topics of the cluster whose names
    /// can come of a template are looked at.
    pub topics: &'a [String],
    /// Bytes of the largest row's payload, if it could be read.
    pub largest_row: Option<u64>,
}

/// Looks at the cluster with the relay's own properties, for ten seconds at most. Must be called inside a tokio runtime.
pub async fn look(properties: &Properties, wanted: &Wanted<'_>) -> Vec<Finding> {
    let seen = survey(properties.iter(), wanted.templates, wanted.topics).await;
    judge(&seen, &Client::of(properties), wanted)
}

/// The relay as the cluster meets it.
#[derive(Debug, Clone)]
pub struct Client {
    /// `bootstrap.servers`.
    pub servers: String,
    /// `User:relay`, or a word to be replaced if it is not known here.
    pub principal: String,
    /// Whether Kafka's commands need a file of properties to log in.
    pub secured: bool,
    /// `message.max.bytes`.
    pub largest_message: u64,
}

/// librdkafka's default of `message.max.bytes`.
const LARGEST_MESSAGE: u64 = 1_000_000;

impl Client {
    /// Reads what `properties` say of it.
    #[must_use]
    pub fn of(properties: &Properties) -> Self {
        let protocol = properties.get("security.protocol").unwrap_or("plaintext").to_lowercase();
        let certificate = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
        let principal = match properties.get("sasl.username") {
            Some(user) if protocol.starts_with("sasl") => format!("User:{user}"),
            _ if protocol.starts_with("sasl") => "User:THE_RELAY".to_owned(),
            _ if certificate.iter().any(|name| properties.get(name).is_some()) => {
                "User:CN=THE_RELAY".to_owned()
            }
            _ => "User:ANONYMOUS".to_owned(),
        };
        let largest = properties.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
        Self {
            servers: properties.get("bootstrap.servers").unwrap_or_default().to_owned(),
            principal,
            secured: protocol != "plaintext",
            largest_message: largest.unwrap_or(LARGEST_MESSAGE),
        }
    }

    /// `kafka-acls.sh --bootstrap-server …`.
    fn command(&self, name: &str) -> String {
        let login = if self.secured { " --command-config admin.properties" } else { "" };
        format!("{name} --bootstrap-server {}{login}", shell(&self.servers))
    }

    fn allow(&self, rest: &str) -> String {
        format!("{} --add --allow-principal {} {rest}", self.command("kafka-acls.sh"), shell(&self.principal))
    }
}

/// A word for the shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:,/=@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The id of the finding that a topic does not exist.
pub const TOPIC_MISSING: &str = "topic_missing";

/// What was seen, judged.
#[must_use]
pub fn judge(seen: &Seen, client: &Client, wanted: &Wanted<'_>) -> Vec<Finding> {
    match seen {
        Seen::Refused(reason) => vec![Finding::stop(
            "kafka_properties",
            format!("librdkafka does not accept [kafka]: {reason}"),
            "correct the properties; librdkafka's CONFIGURATION.md describes each of them",
        )],
        Seen::Away(troubles) => away(troubles, client),
        Seen::There(cluster) => there(cluster, client, wanted),
    }
}

/// One finding for each step that failed, with all that was said about it.
fn away(troubles: &[Trouble], client: &Client) -> Vec<Finding> {
    let mut steps: Vec<Step> = troubles.iter().map(|trouble| trouble.step).collect();
    steps.sort();
    steps.dedup();
    // A refused login also closes the connection; that is no other trouble.
    if steps.contains(&Step::Login) {
        steps.retain(|step| *step == Step::Login);
    }
    let findings = steps.into_iter().map(|step| {
        let reasons = troubles.iter().filter(|trouble| trouble.step == step);
        let reasons: Vec<&str> = reasons.map(|trouble| trouble.reason.as_str()).collect();
        let reasons = reasons.join("; ");
        let servers = &client.servers;
        let unreachable = format!("no Kafka broker can be reached at {servers}: {reasons}");
        match step {
            Step::Login => Finding::wait(
                "kafka_login",
                format!("Kafka refuses the login as {}: {reasons}", client.principal),
                "correct kafka.\"sasl.username\", kafka.\"sasl.password\" and kafka.\"sasl.mechanism\", or add the user \
                 to the brokers",
            ),
            Step::Tls => Finding::wait(
                "broker_unreachable",
                unreachable,
                "let kafka.\"ssl.ca.location\" name the authority that signed the broker's certificate, and \
                 kafka.\"bootstrap.servers\" the hosts in it; a listener without TLS needs another \
                 kafka.\"security.protocol\"",
            ),
            Step::Resolve => Finding::wait(
                "broker_unreachable",
                unreachable,
                "correct kafka.\"bootstrap.servers\", or make the name known to this machine; it may also come from the \
                 broker's advertised.listeners",
            ),
            Step::Connect => Finding::wait(
                "broker_unreachable",
                unreachable,
                "start the broker, or correct kafka.\"bootstrap.servers\" and kafka.\"security.protocol\" (a TLS listener \
                 closes a connection without TLS); behind the first answer, the broker's advertised.listeners must be \
                 reachable from here",
            ),
        }
    });
    findings.collect()
}

fn there(cluster: &Cluster, client: &Client, wanted: &Wanted<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let guessed = cluster.guessed;
    for template in wanted.templates.iter().filter(|template| guessed && template.has_text()) {
        if !cluster.topics.iter().any(|topic| template.matches(&topic.name)) {
            findings.push(no_topic_fits(client, template));
        }
    }
    let writable =
        |topic: &Topic| matches!(topic.state, TopicSeen::There { may_write, .. } if may_write != Some(false));
    // Of topics that only look like ours, those that others may write to are theirs.
    let some_writable = cluster.topics.iter().any(writable);
    for topic in &cluster.topics {
        match topic.state {
            TopicSeen::Missing => findings.push(missing(client, &topic.name)),
            TopicSeen::Hidden => findings.push(hidden(client, &topic.name)),
            TopicSeen::There { may_write: Some(false), .. } if !(guessed && some_writable) => {
                findings.push(not_writable(client, &topic.name));
            }
            TopicSeen::There { max_message_bytes: Some(bytes), .. } if writable(topic) => {
                findings.extend(too_small(client, wanted, &topic.name, bytes));
            }
            TopicSeen::There { .. } | TopicSeen::Unclear => {}
        }
    }
    if cluster.producer_id == Some(false) {
        findings.push(Finding::wait(
            "cluster_acl",
            format!(
                "{} gets no producer id, without which nothing can be sent: it needs IdempotentWrite on the cluster or, \
                 since Kafka 2.8, Write on any topic",
                client.principal
            ),
            client.allow("--operation IdempotentWrite --cluster"),
        ));
    }
    if let Some(row) = wanted.largest_row.filter(|row| *row > client.largest_message) {
        findings.push(Finding::warn(
            "topic_message_size",
            format!(
                "the largest row has {row} bytes, more than kafka.\"message.max.bytes\" = {}: such an event would be \
                 rejected",
                client.largest_message
            ),
            format!("set kafka.\"message.max.bytes\" to at least {}, and max.message.bytes of the topics", room(row)),
        ));
    }
    findings
}

fn no_topic_fits(client: &Client, template: &Template) -> Finding {
    let example = template.example();
    Finding::wait(
        TOPIC_MISSING,
        format!(
            "no topic fits route.topic = \"{template}\": there is none, or {} may see none (Describe)",
            client.principal
        ),
        format!(
            "with the word in capitals replaced: {}; if it exists: {}",
            create(client, &example),
            allow_writing(client, &example)
        ),
    )
}

fn missing(client: &Client, topic: &str) -> Finding {
    Finding::wait(TOPIC_MISSING, format!("topic \"{topic}\" does not exist"), create(client, topic))
}

fn create(client: &Client, topic: &str) -> String {
    format!("{} --create --topic {} --partitions 3", client.command("kafka-topics.sh"), shell(topic))
}

fn allow_writing(client: &Client, topic: &str) -> String {
    client.allow(&format!("--operation Write --operation Describe --topic {}", shell(topic)))
}

fn hidden(client: &Client, topic: &str) -> Finding {
    Finding::wait(
        "topic_acl",
        format!(
            "{} may not see topic \"{topic}\": it needs Describe and Write on it (whether the topic exists is hidden as \
             well)",
            client.principal
        ),
        allow_writing(client, topic),
    )
}

fn not_writable(client: &Client, topic: &str) -> Finding {
    Finding::wait(
        "topic_acl",
        format!("{} may not write to topic \"{topic}\": it needs Write on it", client.principal),
        allow_writing(client, topic),
    )
}

/// A topic that refuses an event which the relay's client, or the service, takes for small enough.
fn too_small(client: &Client, wanted: &Wanted<'_>, topic: &str, bytes: u64) -> Option<Finding> {
    let largest = client.largest_message;
    let (message, needed) = match wanted.largest_row {
        Some(row) if row > bytes => (
            format!("topic \"{topic}\" has max.message.bytes = {bytes}, and the largest row has {row} bytes"),
            room(row).max(largest),
        ),
        _ if largest > bytes => (
            format!(
                "topic \"{topic}\" has max.message.bytes = {bytes}, less than kafka.\"message.max.bytes\" = {largest}: \
                 the broker would refuse an event between them"
            ),
            largest,
        ),
        _ => return None,
    };
    Some(Finding::warn("topic_message_size", message, set_limit(client, topic, needed)))
}

/// The command that lets `topic` take an event of `size` bytes.
#[must_use]
pub fn raise_limit(client: &Client, topic: &str, size: u64) -> String {
    set_limit(client, topic, room(size))
}

fn set_limit(client: &Client, topic: &str, bytes: u64) -> String {
    format!(
        "{} --alter --entity-type topics --entity-name {} --add-config max.message.bytes={bytes}",
        client.command("kafka-configs.sh"),
        shell(topic)
    )
}

/// Key, headers and Kafka's own bytes come on top of a payload.
fn room(row: u64) -> u64 {
    row.saturating_add(row / 10).saturating_add(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            servers: "kafka.example:9092".to_owned(),
            principal: "User:relay".to_owned(),
            secured: false,
            largest_message: LARGEST_MESSAGE,
        }
    }

    fn told(seen: &Seen, template: &str, largest_row: Option<u64>) -> String {
        let template = Template::parse(template).unwrap();
        let wanted = Wanted { templates: &[&template], topics: &[], largest_row };
        let findings = judge(seen, &client(), &wanted);
        let told = findings
            .iter()
            .map(|finding| format!("[{} {}] {finding}\n\n", finding.level.as_str(), finding.id));
        told.collect()
    }

    fn trouble(step: Step, reason: &str) -> Trouble {
        Trouble { step, reason: reason.to_owned() }
    }

    fn cluster(state: TopicSeen) -> Cluster {
        let topic = Topic { name: "outbox.event.order".to_owned(), state };
        Cluster { topics: vec![topic], guessed: false, producer_id: Some(true) }
    }

    const WRITABLE: TopicSeen =
        TopicSeen::There { may_write: Some(true), max_message_bytes: Some(1_048_588) };
    const TEMPLATE: &str = "outbox.event.{aggregate_type}";

    #[test]
    fn a_cluster_without_a_fault_has_no_findings() {
        let seen = Seen::There(cluster(WRITABLE));
        assert_eq!(told(&seen, TEMPLATE, Some(900_000)), "");
        // What the broker does not say is no fault.
        let unknown = TopicSeen::There { may_write: None, max_message_bytes: None };
        assert_eq!(told(&Seen::There(Cluster { producer_id: None, ..cluster(unknown) }), TEMPLATE, None), "");
        assert_eq!(told(&Seen::There(cluster(TopicSeen::Unclear)), TEMPLATE, None), "");
        // Every topic fits a template without text: none of them tells anything.
        let none = Cluster { topics: Vec::new(), guessed: true, producer_id: Some(true) };
        assert_eq!(told(&Seen::There(none), "{topic}", None), "");
    }

    #[test]
    fn a_broker_that_cannot_be_reached_is_told_by_the_step_that_failed() {
        let refused = trouble(
            Step::Connect,
            "kafka.example:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused",
        );
        let unknown = trouble(
            Step::Resolve,
            "kafka2.example:9092/bootstrap: Failed to resolve 'kafka2.example:9092': Name or service not known",
        );
        insta::assert_snapshot!(told(&Seen::Away(vec![refused.clone(), unknown]), TEMPLATE, None), @r#"
        [wait broker_unreachable] no Kafka broker can be reached at kafka.example:9092: kafka2.example:9092/bootstrap: Failed to resolve 'kafka2.example:9092': Name or service not known

        hint: correct kafka."bootstrap.servers", or make the name known to this machine; it may also come from the broker's advertised.listeners

        [wait broker_unreachable] no Kafka broker can be reached at kafka.example:9092: kafka.example:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused

        hint: start the broker, or correct kafka."bootstrap.servers" and kafka."security.protocol" (a TLS listener closes a connection without TLS); behind the first answer, the broker's advertised.listeners must be reachable from here
        "#);
        let tls = trouble(
            Step::Tls,
            "ssl://kafka.example:9093/bootstrap: SSL handshake failed: certificate verify failed",
        );
        insta::assert_snapshot!(told(&Seen::Away(vec![tls]), TEMPLATE, None), @r#"
        [wait broker_unreachable] no Kafka broker can be reached at kafka.example:9092: ssl://kafka.example:9093/bootstrap: SSL handshake failed: certificate verify failed

        hint: let kafka."ssl.ca.location" name the authority that signed the broker's certificate, and kafka."bootstrap.servers" the hosts in it; a listener without TLS needs another kafka."security.protocol"
        "#);
        let login = trouble(
            Step::Login,
            "sasl_plaintext://kafka.example:9094/bootstrap: SASL authentication error: Authentication failed: Invalid username or password",
        );
        insta::assert_snapshot!(told(&Seen::Away(vec![refused, login]), TEMPLATE, None), @r#"
        [wait kafka_login] Kafka refuses the login as User:relay: sasl_plaintext://kafka.example:9094/bootstrap: SASL authentication error: Authentication failed: Invalid username or password

        hint: correct kafka."sasl.username", kafka."sasl.password" and kafka."sasl.mechanism", or add the user to the brokers
        "#);
    }

    #[test]
    fn properties_that_librdkafka_refuses_stop() {
        let seen = Seen::Refused("No provider for SASL mechanism GSSAPI".to_owned());
        insta::assert_snapshot!(told(&seen, TEMPLATE, None), @"
        [stop kafka_properties] librdkafka does not accept [kafka]: No provider for SASL mechanism GSSAPI

        hint: correct the properties; librdkafka's CONFIGURATION.md describes each of them
        ");
    }

    #[test]
    fn a_topic_that_is_missing_is_told_with_the_command_that_makes_it() {
        insta::assert_snapshot!(told(&Seen::There(cluster(TopicSeen::Missing)), TEMPLATE, None), @r#"
        [wait topic_missing] topic "outbox.event.order" does not exist

        hint: kafka-topics.sh --bootstrap-server kafka.example:9092 --create --topic outbox.event.order --partitions 3
        "#);
        let none = Cluster { topics: Vec::new(), guessed: true, producer_id: Some(true) };
        insta::assert_snapshot!(told(&Seen::There(none), TEMPLATE, None), @r#"
        [wait topic_missing] no topic fits route.topic = "outbox.event.{aggregate_type}": there is none, or User:relay may see none (Describe)

        hint: with the word in capitals replaced: kafka-topics.sh --bootstrap-server kafka.example:9092 --create --topic outbox.event.AGGREGATE_TYPE --partitions 3; if it exists: kafka-acls.sh --bootstrap-server kafka.example:9092 --add --allow-principal User:relay --operation Write --operation Describe --topic outbox.event.AGGREGATE_TYPE
        "#);
    }

    #[test]
    fn missing_acls_are_told_with_the_command_that_grants_them() {
        insta::assert_snapshot!(told(&Seen::There(cluster(TopicSeen::Hidden)), TEMPLATE, None), @r#"
        [wait topic_acl] User:relay may not see topic "outbox.event.order": it needs Describe and Write on it (whether the topic exists is hidden as well)

        hint: kafka-acls.sh --bootstrap-server kafka.example:9092 --add --allow-principal User:relay --operation Write --operation Describe --topic outbox.event.order
        "#);
        let no_write = TopicSeen::There { may_write: Some(false), max_message_bytes: None };
        let seen = Seen::There(Cluster { producer_id: Some(false), ..cluster(no_write) });
        insta::assert_snapshot!(told(&seen, TEMPLATE, None), @r#"
        [wait topic_acl] User:relay may not write to topic "outbox.event.order": it needs Write on it

        hint: kafka-acls.sh --bootstrap-server kafka.example:9092 --add --allow-principal User:relay --operation Write --operation Describe --topic outbox.event.order

        [wait cluster_acl] User:relay gets no producer id, without which nothing can be sent: it needs IdempotentWrite on the cluster or, since Kafka 2.8, Write on any topic

        hint: kafka-acls.sh --bootstrap-server kafka.example:9092 --add --allow-principal User:relay --operation IdempotentWrite --cluster
        "#);
    }

    #[test]
    fn of_topics_that_only_look_like_ours_those_of_others_are_left_alone() {
        let no_write = TopicSeen::There { may_write: Some(false), max_message_bytes: None };
        let mut guessed = Cluster { guessed: true, ..cluster(no_write) };
        assert!(told(&Seen::There(guessed.clone()), TEMPLATE, None).contains("topic_acl"));
        guessed.topics.extend(cluster(WRITABLE).topics);
        assert_eq!(told(&Seen::There(guessed), TEMPLATE, None), "");
    }

    #[test]
    fn a_topic_for_smaller_events_is_told() {
        let small = TopicSeen::There { may_write: Some(true), max_message_bytes: Some(10_000) };
        insta::assert_snapshot!(told(&Seen::There(cluster(small)), TEMPLATE, Some(20_000)), @r#"
        [warn topic_message_size] topic "outbox.event.order" has max.message.bytes = 10000, and the largest row has 20000 bytes

        hint: kafka-configs.sh --bootstrap-server kafka.example:9092 --alter --entity-type topics --entity-name outbox.event.order --add-config max.message.bytes=1000000
        "#);
        insta::assert_snapshot!(told(&Seen::There(cluster(small)), TEMPLATE, Some(5_000)), @r#"
        [warn topic_message_size] topic "outbox.event.order" has max.message.bytes = 10000, less than kafka."message.max.bytes" = 1000000: the broker would refuse an event between them

        hint: kafka-configs.sh --bootstrap-server kafka.example:9092 --alter --entity-type topics --entity-name outbox.event.order --add-config max.message.bytes=1000000
        "#);
        let large = TopicSeen::There { may_write: Some(true), max_message_bytes: Some(50_000_000) };
        insta::assert_snapshot!(told(&Seen::There(cluster(large)), TEMPLATE, Some(3_000_000)), @r#"
        [warn topic_message_size] the largest row has 3000000 bytes, more than kafka."message.max.bytes" = 1000000: such an event would be rejected

        hint: set kafka."message.max.bytes" to at least 3304096, and max.message.bytes of the topics
        "#);
    }

    #[test]
    fn commands_survive_the_shell_and_ask_for_a_login_where_one_is_needed() {
        let client = Client { principal: "User:it's me".to_owned(), secured: true, ..client() };
        insta::assert_snapshot!(allow_writing(&client, "outbox.event.order"), @r"kafka-acls.sh --bootstrap-server kafka.example:9092 --command-config admin.properties --add --allow-principal 'User:it'\''s me' --operation Write --operation Describe --topic outbox.event.order");
    }
}
