//! The call that hands a record to librdkafka, through its C interface (`native`).
//!
//! The `rdkafka` crate names the topic in each call: librdkafka then looks it up in a list of all topics, under the lock
//! that its own threads take. It also makes two more copies of each header's name. Here a topic is looked up once, and a record's
//! bytes are copied once, into the message (docs/performance.md has what that is worth).

#![expect(unsafe_code, reason = "the only way to topic handles, which the rdkafka crate does not offer")]

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{IsError as _, RDKafkaErrorCode};

use super::native::Owned;
use crate::outbox::{Header, Record, Token, Topic};

/// `RD_KAFKA_PARTITION_UA`: the partition goes by the key.
const UNASSIGNED: i32 = -1;

/// librdkafka's handles of the topics that were produced to. To be dropped before the client that they are of.
#[derive(Default)]
pub(super) struct Topics {
    handles: HashMap<Topic, Owned<c::rd_kafka_topic_t>>,
}

// SAFETY: librdkafka's topic handles may be used from any thread; nothing is done with them through a shared reference.
unsafe impl Send for Topics {}
// SAFETY: as above.
unsafe impl Sync for Topics {}

impl Topics {
    /// Puts `record` into the queue of `client`, which must be the same in each call. Its bytes are copied.
    ///
    /// # Errors
    /// librdkafka's code, if it does not take the record.
    pub(super) fn produce<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        record: &Record,
    ) -> Result<(), RDKafkaErrorCode> {
        let topic = self.handle(client, &record.topic)?;
        let headers = headers(&record.headers)?;
        let (value, value_size) = parts(record.value.as_deref());
        let (key, key_size) = parts(record.key.as_deref());
        let Token(token) = record.token;
        // SAFETY: the arguments are pairs of a type and what this type asks for, up to the one that ends them. `topic` is of
        // this client, and lives in `self`; value and key are copied (MSG_F_COPY) before the call returns; the headers are
        // the message's from then on if it is taken, and else still ours.
        let code = unsafe {
            c::rd_kafka_producev(
                client.native_ptr(),
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                topic,
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                record.partition.unwrap_or(UNASSIGNED),
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                c::RD_KAFKA_MSG_F_COPY,
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                value,
                value_size,
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
                key,
                key_size,
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
                token as *mut c_void,
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp.0,
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                headers.get(),
                c::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            )
        };
        if code.is_error() {
            return Err(code.into());
        }
        headers.give_away();
        Ok(())
    }

    fn handle<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        topic: &Topic,
    ) -> Result<*mut c::rd_kafka_topic_t, RDKafkaErrorCode> {
        if let Some(handle) = self.handles.get(topic) {
            return Ok(handle.get());
        }
        let name = CString::new(topic.as_str()).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the client is borrowed, `name` is a C string that is copied, and without a configuration of its own the
        // topic has the client's.
        let handle = unsafe {
            let handle = c::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), std::ptr::null_mut());
            Owned::new(handle, c::rd_kafka_topic_destroy).map_err(|_| c::rd_kafka_last_error())?
        };
        let pointer = handle.get();
        self.handles.insert(topic.clone(), handle);
        Ok(pointer)
    }
}

fn headers(headers: &[Header]) -> Result<Owned<c::rd_kafka_headers_t>, RDKafkaErrorCode> {
    // SAFETY: names and values are copied, by the lengths that go with them.
    unsafe {
        let list = Owned::new(c::rd_kafka_headers_new(headers.len()), c::rd_kafka_headers_destroy)?;
        for header in headers {
            let (value, size) = parts(header.value.as_deref());
            let (name, name_size) = (header.name.as_ptr().cast::<c_char>(), header.name.len());
            let code =
                c::rd_kafka_header_add(list.get(), name, name_size.cast_signed(), value, size.cast_signed());
            if code.is_error() {
                return Err(code.into());
            }
        }
        Ok(list)
    }
}

/// As librdkafka takes bytes; NULL for none.
fn parts(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}
