//! The test broker's listener with users and ACLs.

#![expect(
    unsafe_code,
    reason = "the rdkafka crate does not offer CreateAcls, which only librdkafka's C interface has"
)]

use std::ffi::CString;

use rdkafka::bindings as c;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::kafka::broker;
use crate::servers::variable;

/// The settings with which a relay logs in as `user`.
pub(crate) fn settings_of(user: &str) -> Vec<String> {
    vec![
        format!("kafka.bootstrap.servers={}", variable("OUTBOX_TEST_KAFKA_SASL")),
        "kafka.security.protocol=sasl_plaintext".to_owned(),
        "kafka.sasl.mechanism=PLAIN".to_owned(),
        format!("kafka.sasl.username={user}"),
        format!("kafka.sasl.password={user}"),
    ]
}

/// Allows `user` an operation on `topic`.
pub(crate) fn allow(user: &str, operation: c::rd_kafka_AclOperation_t, topic: &str) {
    let admin: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker()).create().unwrap();
    let principal = CString::new(format!("User:{user}")).unwrap();
    let (topic, host) = (CString::new(topic).unwrap(), CString::new("*").unwrap());
    let handle = admin.client().native_ptr();
    // SAFETY: the client lives until the end; the strings are copied; each thing made is destroyed once, the queue last.
    unsafe {
        let mut acl = c::rd_kafka_AclBinding_new(
            c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
            topic.as_ptr(),
            c::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
            principal.as_ptr(),
            host.as_ptr(),
            operation,
            c::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
            std::ptr::null_mut(),
            0,
        );
        assert!(!acl.is_null());
        let queue = c::rd_kafka_queue_new(handle);
        c::rd_kafka_CreateAcls(handle, &raw mut acl, 1, std::ptr::null(), queue);
        c::rd_kafka_AclBinding_destroy(acl);
        let event = c::rd_kafka_queue_poll(queue, 30_000);
        assert!(!event.is_null(), "the broker does not answer");
        let result = c::rd_kafka_event_CreateAcls_result(event);
        let mut count = 0;
        let results = c::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
        assert_eq!(count, 1);
        let error = c::rd_kafka_acl_result_error(*results);
        assert!(error.is_null(), "the ACL was not made");
        c::rd_kafka_event_destroy(event);
        c::rd_kafka_queue_destroy(queue);
    }
}
