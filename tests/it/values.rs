//! What PostgreSQL prints is what Kafka stores: types, NULL, sizes, encodings.

use std::collections::HashMap;

use crate::fixture::Outbox;
use crate::kafka::Message;
use crate::servers::client;

/// The messages of "order" by their id.
fn by_id(outbox: &Outbox) -> HashMap<String, Message> {
    outbox.messages("order").into_iter().map(|message| (message.id(), message)).collect()
}

/// Replaces the outbox by one in which key, event type and payload have the types given.
async fn retype(outbox: &Outbox, key: &str, event_type: &str, payload: &str) {
    outbox
        .sql(&format!(
            "DROP TABLE outbox;
             CREATE TABLE outbox (id text PRIMARY KEY, aggregate_type text DEFAULT 'order',
                                  aggregate_id {key}, event_type {event_type}, payload {payload});
             ALTER PUBLICATION outbox_relay ADD TABLE outbox"
        ))
        .await;
}

/// Types as they are found in outboxes, each with values that a careless printer would change.
const TYPES: &[(&str, &[&str])] = &[
    ("json", &[r#"{"b": 1,   "a" :[1,2 ],"a":"\u00e9"}"#, "\"text\"", " [ ] ", "1.50e+10", "null"]),
    ("jsonb", &[r#"{"b": 1,   "a" :[1,2 ],"a":"\u00e9"}"#, "\"text\"", " [ ] ", "1.50e+10", "null"]),
    (
        "text",
        &["", " padded ", "two\nlines\tand a tab", r#"quotes ' " and \ "#, "Grüße, 馬 🐎 e\u{301}", "NULL"],
    ),
    ("varchar(20)", &["", "short", "žluťoučký kůň"]),
    ("char(6)", &["abc", "", "ünï"]),
    ("name", &["a_name"]),
    ("uuid", &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
    ("bool", &["true", "false"]),
    ("int2", &["-32768"]),
    ("int4", &["2147483647"]),
    ("int8", &["-9223372036854775808"]),
    ("numeric", &["1.10", "0.000", "NaN", "123456789012345678901234567890.123456789", "1e30"]),
    ("numeric(10,3)", &["1.1"]),
    ("float4", &["0.1", "1e10", "Infinity", "16777217"]),
    ("float8", &["0.1", "0.30000000000000004", "-Infinity", "1e-300"]),
    ("timestamptz", &["2026-11-22 05:59:01.123456+05:30", "infinity", "0044-03-15 12:00:00+00 BC"]),
    ("timestamp", &["2026-11-22 05:59:01.5", "-infinity"]),
    ("date", &["2026-11-22", "infinity"]),
    ("time", &["24:00:00"]),
    ("timetz", &["05:59:01+05:30"]),
    ("interval", &["1 year -2 mons 3 days 04:05:06.7", "-1 day +02:03"]),
    ("inet", &["192.168.0.1/24", "::1"]),
    ("text[]", &[r#"{a,"b c",NULL,"NULL",""}"#, "{}"]),
    ("int4range", &["[1,5]", "empty"]),
    ("point", &["(0.1,2)"]),
    ("bit(3)", &["101"]),
    ("mood", &["so so"]),
    ("amount", &["1.10"]),
    ("pair", &["(1,\"a, b\")"]),
];

#[tokio::test]
async fn every_type_goes_out_as_postgres_prints_it_whatever_the_database_is_set_to() {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "CREATE TYPE mood AS ENUM ('sad', 'so so');
             CREATE DOMAIN amount AS numeric(10,2);
             CREATE TYPE pair AS (n int, t text);",
        )
        .await;
    // What the sessions of the database print with, unless they say otherwise.
    for setting in [
        "bytea_output = escape",
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = iso_8601",
        "TimeZone = 'Asia/Kolkata'",
        "extra_float_digits = -3",
    ] {
        outbox.sql(&format!("ALTER DATABASE {} SET {setting}", outbox.database.name)).await;
    }
    let mut names = vec!["public.outbox".to_owned()];
    for (number, (type_, _)) in TYPES.iter().enumerate() {
        names.push(format!("public.outbox_{number}"));
        outbox
            .sql(&format!(
                "CREATE TABLE outbox_{number} (id text PRIMARY KEY, aggregate_type text DEFAULT 'order',
                     aggregate_id {type_}, event_type {type_}, payload {type_});
                 ALTER PUBLICATION outbox_relay ADD TABLE outbox_{number}"
            ))
            .await;
    }
    let relay = outbox.relay(&[&format!("outbox.tables={}", names.join(","))]);
    relay.ready().await;

    // A session as the relay's should be, which prints with `format`: it takes the type's own output function, while a
    // cast to text trims char(n) and spells booleans out.
    let printer = client(&outbox.database.info()).await;
    printer
        .batch_execute(
            "SET bytea_output = hex; SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC;
             SET extra_float_digits = 3",
        )
        .await
        .unwrap();
    let mut printed = HashMap::new();
    for (number, (type_, values)) in TYPES.iter().enumerate() {
        for (index, value) in values.iter().enumerate() {
            let value = value.replace('\'', "''");
            let id = format!("{type_} {index}");
            let sql = format!(
                "INSERT INTO outbox_{number} (id, aggregate_id, event_type, payload)
                 VALUES ('{id}', '{value}'::{type_}, '{value}'::{type_}, '{value}'::{type_})
                 RETURNING format('%s', payload)"
            );
            let row = printer.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            printed.insert(id, row.get::<_, String>(0));
        }
    }
    outbox.all_confirmed().await;
    let messages = by_id(&outbox);
    assert_eq!(messages.len(), printed.len());
    for (id, printed) in printed {
        let message = &messages[&id];
        assert_eq!(message.value.as_deref(), Some(printed.as_bytes()), "payload {id}, expected {printed:?}");
        assert_eq!(message.key.as_deref(), Some(printed.as_bytes()), "key {id}");
        assert_eq!(message.header("event_type"), Some(printed), "header {id}");
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn bytea_goes_out_as_its_raw_bytes_also_under_a_domain() {
    let outbox = Outbox::create().await;
    outbox
        .sql("CREATE DOMAIN blob AS bytea; CREATE DOMAIN big_blob AS blob CHECK (length(value) < 1e6)")
        .await;
    retype(&outbox, "bytea", "big_blob", "blob").await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    let all: Vec<u8> = (0..=255).collect();
    let sql = "INSERT INTO outbox (id, aggregate_id, event_type, payload)
               VALUES ($1, $2::bytea, $2::bytea, $2::bytea)";
    for (id, bytes) in [("all", all.as_slice()), ("none", &[]), ("looks like hex", b"\\x00")] {
        outbox.database.client.execute(sql, &[&id, &bytes]).await.unwrap();
    }
    outbox.all_confirmed().await;
    let messages = by_id(&outbox);
    for (id, bytes) in [("all", all.as_slice()), ("none", &[]), ("looks like hex", b"\\x00")] {
        let message = &messages[id];
        let header = &message.headers.iter().find(|(name, _)| name == "event_type").unwrap().1;
        assert_eq!(message.value.as_deref(), Some(bytes), "payload {id}");
        assert_eq!(message.key.as_deref(), Some(bytes), "key {id}");
        assert_eq!(header.as_deref(), Some(bytes), "header {id}");
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn null_and_the_empty_string_stay_apart() {
    let outbox = Outbox::create().await;
    retype(&outbox, "text", "text", "text").await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox
        .sql("INSERT INTO outbox VALUES ('null', 'order', NULL, NULL, NULL), ('empty', 'order', '', '', '')")
        .await;
    outbox.all_confirmed().await;
    let messages = by_id(&outbox);
    for (id, expected) in [("null", None), ("empty", Some(Vec::new()))] {
        let message = &messages[id];
        assert_eq!(message.value, expected, "value of {id}");
        assert_eq!(message.key, expected, "key of {id}");
        assert!(message.headers.contains(&("event_type".to_owned(), expected)), "{:?}", message.headers);
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_payload_of_a_megabyte_goes_through_whole() {
    let outbox = Outbox::create().await;
    retype(&outbox, "text", "text", "text").await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    // librdkafka's message.max.bytes is 1,000,000; key, headers and the record's own fields need a little of it.
    let large = "0123456789abcde\u{e9}".repeat(999_000 / 17);
    let sql = "INSERT INTO outbox VALUES ($1, 'order', 'k', 'Large', $2)";
    for id in ["first", "second"] {
        outbox.database.client.execute(sql, &[&id, &large]).await.unwrap();
    }
    outbox.all_confirmed().await;
    let messages = by_id(&outbox);
    for id in ["first", "second"] {
        assert!(messages[id].value.as_deref() == Some(large.as_bytes()), "{id} is not what was written");
    }
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn databases_in_other_encodings_give_utf8() {
    for (encoding, text) in [("EUC_KR", "한국어 주문"), ("LATIN1", "Grüße, señor, £5")] {
        let options = format!("ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        let outbox = Outbox::create_in(&options).await;
        assert_eq!(outbox.text("SELECT getdatabaseencoding()").await, encoding);
        // Names are converted as well.
        retype(&outbox, "varchar(40)", "text", "json").await;
        outbox.sql(&format!("ALTER TABLE outbox ADD \"{text}\" text")).await;
        outbox.sql(&format!("ALTER PUBLICATION outbox_relay RENAME TO \"{text}\"")).await;
        let publication = format!("postgres.publication={text}");
        let relay = outbox.relay(&[&format!("outbox.headers.extra={{{text}}}"), &publication]);
        relay.ready().await;
        let json = format!("{{\"text\" : \"{text}\"}}");
        outbox
            .sql(&format!("INSERT INTO outbox VALUES ('{text}', 'order', '{text}', '', '{json}', '{text}')"))
            .await;
        outbox.all_confirmed().await;
        let messages = by_id(&outbox);
        let message = &messages[text];
        assert_eq!(message.value.as_deref(), Some(json.as_bytes()));
        assert_eq!(message.key_text(), text);
        assert_eq!(message.header("extra").as_deref(), Some(text));
        relay.stop().await;
        outbox.database.drop().await;
    }
}
