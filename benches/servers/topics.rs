//! Topics.

use std::time::Duration;

use anyhow::Result;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

/// Topics that are made in one request.
const TOGETHER: usize = 500;

/// Makes topics.
pub(crate) async fn make_topics(
    broker: &str,
    names: &[String],
    partitions: i32,
    config: &[(&str, &str)],
) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker).create()?;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
    for names in names.chunks(TOGETHER) {
        let topics: Vec<_> = names
            .iter()
            .map(|name| {
                let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
                config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
            })
            .collect();
        for made in admin.create_topics(&topics, &options).await? {
            made.map_err(|(topic, code)| anyhow::anyhow!("make topic {topic}: {code}"))?;
        }
    }
    Ok(())
}
