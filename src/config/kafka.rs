//! The `[kafka]` section: librdkafka's own properties, those the relay fixes, and those it gives a default.
//!
//! This is the one place where the relay's own properties are merged with the user's. What the guarantees rest on
//! cannot be changed; a name or value that librdkafka itself refuses is reported by asking librdkafka.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::property_names::{NAMES, SYNONYMS};
use super::value::Mistake;

/// What librdkafka is given, complete: the relay's fixed properties, its defaults, and the user's.
///
/// Synonyms are brought to one name (`bootstrap.servers`, `acks`, `linger.ms`, …), so [`Properties::get`] finds a value
/// however it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Adds the fixed and the default properties to the `given` ones, whose names are [`one_name`]s.
    pub(super) fn merge(given: impl IntoIterator<Item = (String, String)>) -> Self {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let fixed = FIXED.iter().filter_map(|fixed| Some((fixed.name, fixed.handed_over?)));
        Self(DEFAULTS.iter().copied().map(own).chain(given).chain(fixed.map(own)).collect())
    }

    /// The value of the property `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(one_name(name)).map(String::as_str)
    }

    /// Names and values, passwords among them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Hides secrets.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if is_secret(name) { "(hidden)" } else { value });
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

/// What the relay sets where the user does not.
const DEFAULTS: &[(&str, &str)] = &[
    // What brokers see in their logs and quotas; "rdkafka" would not tell them whose connection it is.
    ("client.id", "outbox-relay"),
    // librdkafka's 10 s would add that much to every outage; one relay that knocks once a second troubles no broker.
    ("reconnect.backoff.max.ms", "1000"),
    // Nagle's algorithm would hold a batch back until the broker has answered the one before it.
    ("socket.nagle.disable", "true"),
];

/// A property that the relay's promises rest on.
struct Fixed {
    name: &'static str,
    /// What the relay sets, where librdkafka's default would be wrong.
    handed_over: Option<&'static str>,
    /// The ways to write the value in force; with any of them the property may be given.
    same: &'static [&'static str],
    why: &'static str,
}

#[rustfmt::skip] // A table.
const FIXED: &[Fixed] = &[
    Fixed { name: "acks", handed_over: Some("all"), same: &["all", "-1"],
        why: "with less than \"all\" an event that Kafka confirmed can be lost with a broker" },
    Fixed { name: "enable.idempotence", handed_over: Some("true"), same: &["true"],
        why: "without it a retry can store an event twice or out of order" },
    Fixed { name: "enable.gapless.guarantee", handed_over: Some("true"), same: &["true"],
        why: "without it later events of a key can be stored although an earlier one failed" },
    Fixed { name: "message.timeout.ms", handed_over: Some("0"), same: &["0"],
        why: "the relay waits for Kafka without limit; an event must not expire" },
    Fixed { name: "partitioner", handed_over: Some("murmur2_random"), same: &["murmur2_random"],
        why: "keys must lie in the partitions in which the Java client would put them; route.partition chooses otherwise" },
    Fixed { name: "allow.auto.create.topics", handed_over: Some("false"), same: &["false"],
        why: "asking for a topic must not create it; [topics] says what happens to a missing one" },
    Fixed { name: "delivery.report.only.error", handed_over: None, same: &["false"],
        why: "PostgreSQL is told of an event only when Kafka has confirmed it, so every confirmation is needed" },
    Fixed { name: "retries", handed_over: None, same: &["2147483647"],
        why: "an event must not be given up because Kafka was away for long" },
    Fixed { name: "queuing.strategy", handed_over: None, same: &["fifo"],
        why: "events of a key would change their order" },
    Fixed { name: "queue.buffering.backpressure.threshold", handed_over: None, same: &["1"],
        why: "librdkafka demands it of an idempotent producer" },
    Fixed { name: "transactional.id", handed_over: None, same: &[],
        why: "the relay chooses it from delivery.guarantee and delivery.transactional_id" },
    Fixed { name: "plugin.library.paths", handed_over: None, same: &[],
        why: "foreign code inside the producer could break every promise" },
];

/// The properties that cannot be changed: name, value (nothing where none may be given), reason.
pub fn fixed_properties() -> impl Iterator<Item = (&'static str, Option<&'static str>, &'static str)> {
    FIXED.iter().map(|fixed| (fixed.name, fixed.same.first().copied(), fixed.why))
}

/// The name under which a property is kept and spoken of; several have synonyms.
pub(super) fn one_name(name: &str) -> &str {
    SYNONYMS.iter().find(|(synonym, _)| *synonym == name).map_or(name, |(_, one)| one)
}

/// Whether the relay sets the property itself, whatever the user gives.
pub(super) fn is_fixed(name: &str) -> bool {
    FIXED.iter().any(|fixed| fixed.name == one_name(name) && fixed.handed_over.is_some())
}

/// Whether the value of the property must not be shown.
pub(super) fn is_secret(name: &str) -> bool {
    ["password", "secret", "passphrase", ".pem", "oauthbearer.config", "jaas"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether librdkafka has a property of this name.
pub(super) fn is_known(name: &str) -> bool {
    NAMES.split_whitespace().any(|known| known == name)
}

/// Why a property cannot be given.
pub(super) enum Refusal {
    /// librdkafka has no property of this name.
    Unknown,
    /// The value cannot be used.
    Value(Mistake),
}

/// Looks whether the user may set the property `name` to `value`.
pub(super) fn check(name: &str, value: &str) -> Result<(), Refusal> {
    if let Some(fixed) = FIXED.iter().find(|fixed| fixed.name == one_name(name)) {
        if fixed.same.iter().any(|same| same.eq_ignore_ascii_case(value)) {
            return Ok(());
        }
        let what = match fixed.same.first() {
            Some(same) => format!("is fixed to \"{same}\": {}", fixed.why),
            None => format!("cannot be set: {}", fixed.why),
        };
        return Err(Refusal::Value(Mistake { what, hint: Some("remove it".to_owned()) }));
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config() {
        Ok(_) => librdkafka_at_start(name, value),
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => Err(Refusal::Unknown),
        // librdkafka's sentence quotes the value.
        Err(_) if is_secret(name) => Err(Refusal::Value(Mistake::new("is refused by librdkafka"))),
        Err(KafkaError::ClientConfig(_, sentence, ..)) => {
            Err(Refusal::Value(Mistake::new(format!("is refused by librdkafka: {sentence}"))))
        }
        Err(error) => Err(Refusal::Value(Mistake::new(format!("is refused by librdkafka: {error}")))),
    }
}

/// What librdkafka would refuse only when the producer is made, when it is too late to tell it with the rest.
fn librdkafka_at_start(name: &str, value: &str) -> Result<(), Refusal> {
    /// librdkafka's `RD_KAFKA_IDEMP_MAX_INFLIGHT`.
    const IDEMPOTENT_REQUESTS: u32 = 5;
    let in_flight = one_name(name) == "max.in.flight.requests.per.connection";
    if in_flight && value.parse::<u32>().is_ok_and(|count| count > IDEMPOTENT_REQUESTS) {
        let what = format!(
            "must be at most {IDEMPOTENT_REQUESTS}: Kafka keeps no more batches to recognise a repeated one"
        );
        return Err(Refusal::Value(Mistake::new(what)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        match check(name, value) {
            Ok(()) => "fine".to_owned(),
            Err(Refusal::Unknown) => "unknown".to_owned(),
            Err(Refusal::Value(mistake)) => mistake.what,
        }
    }

    /// Trap 4.18 of docs/traps.md: what is only accepted can still be lost.
    #[test]
    fn every_fixed_property_refuses_another_value_and_takes_its_own_by_every_name() {
        for fixed in FIXED {
            let names = SYNONYMS.iter().filter(|(_, one)| *one == fixed.name).map(|(synonym, _)| *synonym);
            for name in names.chain([fixed.name]) {
                assert!(refusal(name, "1234").ends_with(fixed.why), "{name}");
                for same in fixed.same {
                    assert_eq!(refusal(name, same), "fine", "{name} = {same}");
                }
            }
        }
        assert_eq!(refusal("enable.idempotence", "True"), "fine");
        assert_eq!(
            refusal("request.required.acks", "1"),
            "is fixed to \"all\": with less than \"all\" an event that Kafka confirmed can be lost with a broker"
        );
    }

    #[test]
    fn librdkafka_accepts_what_the_relay_sets() {
        let mut config = ClientConfig::new();
        for (name, value) in Properties::merge([]).iter() {
            config.set(name, value);
        }
        let native = config.create_native_config().unwrap();
        assert_eq!(native.get("enable.idempotence").unwrap(), "true");
    }

    #[test]
    fn the_fixed_ones_are_merged_last_and_the_defaults_first() {
        let merged = Properties::merge([
            ("client.id".to_owned(), "shop".to_owned()),
            ("linger.ms".to_owned(), "1".to_owned()),
        ]);
        insta::assert_debug_snapshot!(merged, @r#"
        {
            "acks": "all",
            "allow.auto.create.topics": "false",
            "client.id": "shop",
            "enable.gapless.guarantee": "true",
            "enable.idempotence": "true",
            "linger.ms": "1",
            "message.timeout.ms": "0",
            "partitioner": "murmur2_random",
            "reconnect.backoff.max.ms": "1000",
            "socket.nagle.disable": "true",
        }
        "#);
        assert_eq!(merged.get("queue.buffering.max.ms"), Some("1"));
    }

    #[test]
    fn librdkafka_is_asked_about_the_rest() {
        assert_eq!(refusal("security.protocol", "sasl_ssl"), "fine");
        assert_eq!(refusal("sasl.password", ""), "fine");
        assert_eq!(refusal("bootstrap.server", "x"), "unknown");
        insta::assert_snapshot!(refusal("compression.type", "brotli"), @r#"is refused by librdkafka: Invalid value "brotli" for configuration property "compression.codec""#);
        insta::assert_snapshot!(refusal("linger.ms", "fast"), @r#"is refused by librdkafka: Invalid value for configuration property "queue.buffering.max.ms""#);
        insta::assert_snapshot!(refusal("sasl.jaas.config", "password=x"), @"is refused by librdkafka");
        insta::assert_snapshot!(refusal("sasl.password", "a\0b"), @"is refused by librdkafka");
        insta::assert_snapshot!(refusal("max.in.flight", "6"), @"must be at most 5: Kafka keeps no more batches to recognise a repeated one");
    }

    #[test]
    fn passwords_are_not_printed() {
        let merged = Properties::merge([
            ("sasl.password".to_owned(), "hunter2".to_owned()),
            ("ssl.key.pem".to_owned(), "hunter2".to_owned()),
            ("sasl.oauthbearer.client.secret".to_owned(), "hunter2".to_owned()),
        ]);
        assert!(!format!("{merged:?}").contains("hunter2"));
        assert_eq!(merged.get("sasl.password"), Some("hunter2"));
    }
}
