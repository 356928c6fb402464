//! What happens behind the relay's back and shows, if at all, in the stream alone: publications that change, characters that
//! cannot be sent, tables that go away. Nothing may be passed over in silence.

use crate::fixture::Outbox;
use crate::servers::client;

/// The error at the log's end, and its hint.
fn last_words(log: &str) -> (&str, &str) {
    let error = log.find("error: ").unwrap_or_else(|| panic!("no error: {log}"));
    log[error..].split_once("\n\nhint: ").unwrap_or_else(|| panic!("no hint: {log}"))
}

/// Whether the server is of this release or a later one.
async fn since(outbox: &Outbox, major: u32) -> bool {
    let sql = format!("SELECT current_setting('server_version_num')::int >= {major}0000");
    outbox.text(&sql).await == "true"
}

const CREATE: &str = "CREATE PUBLICATION outbox_relay FOR TABLE outbox WITH (publish = 'insert')";

/// A relay streams, an event is written between two changes, and the relay ends, saying this and hinting at that. Started
/// again, it goes on.
async fn an_event_in_between(first: &str, second: &str, error: &str, hint: &str) {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    outbox.sql(first).await;
    outbox.insert("in between").await;
    outbox.sql(second).await;
    outbox.insert("after").await;
    let log = relay.refuses().await;
    let (said, hinted) = last_words(&log);
    assert!(said.contains(error) && hinted.contains(hint), "{first}: {log}");

    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("later").await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["after", "before", "later"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_publication_that_left_rows_out_for_a_moment_stops_the_relay() {
    tokio::join!(
        an_event_in_between(
            "ALTER PUBLICATION outbox_relay DROP TABLE outbox",
            "ALTER PUBLICATION outbox_relay ADD TABLE outbox",
            "table \"public.outbox\" was taken out of publication \"outbox_relay\" and put back",
            "send them again",
        ),
        an_event_in_between(
            "ALTER PUBLICATION outbox_relay SET (publish = 'update')",
            "ALTER PUBLICATION outbox_relay SET (publish = 'insert')",
            "publication \"outbox_relay\" was altered",
            "send them again",
        ),
        an_event_in_between(
            "DROP TABLE outbox;
             CREATE TABLE outbox (id int GENERATED ALWAYS AS IDENTITY, aggregate_type text, aggregate_id text,
                                  event_type text, payload jsonb)",
            "ALTER PUBLICATION outbox_relay ADD TABLE outbox",
            "table \"public.outbox\" was made again",
            "send them again",
        ),
    );
}

#[tokio::test]
async fn a_publication_that_is_altered_for_a_reason_is_no_reason_to_stop() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("1").await;
    for (key, change) in [
        ("2", "CREATE TABLE elsewhere (n int); ALTER PUBLICATION outbox_relay ADD TABLE elsewhere"),
        ("3", "ALTER PUBLICATION outbox_relay SET (publish = 'insert, delete')"),
        ("4", "ALTER PUBLICATION outbox_relay DROP TABLE elsewhere"),
        ("5", "ALTER PUBLICATION outbox_relay SET (publish = 'insert')"),
    ] {
        outbox.sql(change).await;
        outbox.looked_again().await;
        outbox.insert(key).await;
        outbox.all_confirmed().await;
    }
    assert_eq!(outbox.keys(), ["1", "2", "3", "4", "5"]);
    relay.stop().await;
    outbox.database.drop().await;
}

/// A publication that is made again with an event in between: the relay ends at it, however often it is started.
async fn made_again(outbox: Outbox, while_streaming: bool) {
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    let relay = if while_streaming {
        Some(relay)
    } else {
        relay.stop().await;
        None
    };
    let confirmed = outbox.confirmed_flush().await;
    outbox.sql("DROP PUBLICATION outbox_relay").await;
    outbox.insert("in between").await;
    let unsent = outbox.insert_lsn().await;
    outbox.sql(CREATE).await;
    outbox.insert("after").await;
    let mut first = relay;
    for _ in 0..2 {
        let relay = first.take().unwrap_or_else(|| outbox.relay(&[]));
        let log = relay.refuses().await;
        let (said, hinted) = last_words(&log);
        assert!(said.contains("publication") && hinted.contains("drop the slot"), "{log}");
    }
    let now = outbox.confirmed_flush().await;
    assert!((confirmed..unsent).contains(&now), "{confirmed} {now} {unsent}");
    assert_eq!(outbox.keys(), ["before"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_publication_that_is_made_again_stops_the_relay_at_the_rows_in_between() {
    let quiet = Outbox::create().await;
    // PostgreSQL 18 says it as a warning, which a session may be set not to get.
    quiet.sql(&format!("ALTER DATABASE {} SET client_min_messages = error", quiet.database.name)).await;
    tokio::join!(
        made_again(Outbox::create().await, true),
        made_again(Outbox::create().await, false),
        made_again(quiet, false),
    );
}

#[tokio::test]
async fn a_table_put_back_into_the_publication_before_the_start_is_warned_of() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    relay.stop().await;
    outbox.sql("ALTER PUBLICATION outbox_relay DROP TABLE outbox").await;
    outbox.insert("in between").await;
    outbox.sql("ALTER PUBLICATION outbox_relay ADD TABLE outbox").await;
    let relay = outbox.relay(&[]);
    relay.log_says("WARN").await;
    relay.log_says("rows that were committed while it did not hold the table are not sent").await;
    relay.ready().await;
    outbox.all_confirmed().await;
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_row_filter_that_comes_while_streaming_is_warned_of_and_a_hidden_column_stops_the_relay() {
    let outbox = Outbox::create().await;
    if !since(&outbox, 15).await {
        return outbox.database.drop().await;
    }
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.sql("ALTER PUBLICATION outbox_relay SET TABLE outbox WHERE (aggregate_id <> 'filtered')").await;
    relay.log_says("sends only those rows of \"public.outbox\" that match").await;
    outbox.insert("filtered").await;
    outbox.all_confirmed().await;

    outbox
        .sql("ALTER PUBLICATION outbox_relay SET TABLE outbox (id, aggregate_type, aggregate_id, event_type)")
        .await;
    outbox.insert("hidden").await;
    let log = relay.refuses().await;
    let (said, hinted) = last_words(&log);
    assert!(said.contains("table \"public.outbox\" has no column \"payload\""), "{log}");
    assert!(hinted.contains("publication"), "{log}");
    let log = outbox.relay(&[]).refuses().await;
    let (said, _) = last_words(&log);
    assert!(said.contains("publication \"outbox_relay\" leaves out column \"payload\""), "{log}");
    assert_eq!(outbox.keys(), ["before"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_dropped_table_stops_the_relay_with_what_became_of_it() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("last").await;
    outbox.sql("DROP TABLE outbox").await;
    let log = relay.refuses().await;
    let (said, hinted) = last_words(&log);
    assert!(
        said.contains("table \"public.outbox\" was dropped") && hinted.contains("in one transaction"),
        "{log}"
    );
    assert_eq!(outbox.keys(), ["last"]);
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_timestamp_column_that_becomes_text_stops_the_relay() {
    let outbox = Outbox::create().await;
    let setting = "outbox.columns.timestamp=created_at";
    let relay = outbox.relay(&[setting]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox.all_confirmed().await;
    outbox.sql("ALTER TABLE outbox ALTER created_at TYPE text").await;
    outbox.insert("after").await;
    let log = relay.refuses().await;
    let (said, hinted) = last_words(&log);
    assert!(
        said.contains("column \"created_at\" of table \"public.outbox\" cannot be outbox.columns.timestamp"),
        "{log}"
    );
    assert!(hinted.contains("outbox.columns"), "{log}");
    let relay = outbox.relay(&[]);
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["after", "before"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_partition_that_comes_under_the_name_of_its_table_is_not_passed_over() {
    let outbox = Outbox::create().await;
    outbox
        .sql(
            "DROP PUBLICATION outbox_relay;
             DROP TABLE outbox;
             CREATE TABLE outbox (id uuid DEFAULT gen_random_uuid(), aggregate_type text, aggregate_id text,
                                  event_type text, payload jsonb, day int DEFAULT 1) PARTITION BY LIST (day);
             CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES IN (1);
             CREATE PUBLICATION outbox_relay FOR TABLE outbox WITH (publish = 'insert')",
        )
        .await;
    let relay = outbox.relay(&["outbox.tables=public.outbox_1"]);
    relay.ready().await;
    outbox.insert("1").await;
    outbox.all_confirmed().await;
    let confirmed = outbox.confirmed_flush().await;
    outbox.sql("ALTER PUBLICATION outbox_relay SET (publish_via_partition_root = true)").await;
    outbox.insert("2").await;
    let log = relay.refuses().await;
    let (said, hinted) = last_words(&log);
    assert!(said.contains("\"public.outbox_1\"") && hinted.contains("publish_via_partition_root"), "{log}");
    assert!(outbox.confirmed_flush().await >= confirmed);
    let relay = outbox.relay(&[]);
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1", "2"]);
    relay.stop().await;
    outbox.database.drop().await;
}

/// A value that the server cannot send in UTF-8: the relay ends, what came before it is confirmed, and the way past the row is
/// the one that the hint tells.
async fn cannot_be_converted(encoding: &str, bytes: &str, code: &str) {
    let options = format!("ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    let outbox = Outbox::create_in(&options).await;
    outbox.sql("ALTER TABLE outbox ALTER payload TYPE text").await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("before").await;
    outbox
        .sql(&format!(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ('order', 'odd', 'x', convert_from('{bytes}', '{encoding}'))"
        ))
        .await;
    let odd = outbox.insert_lsn().await;
    outbox.insert("after").await;
    let mut relay = Some(relay);
    let mut hint = String::new();
    for restart in [false, true] {
        let relay = if restart { outbox.relay(&[]) } else { relay.take().unwrap() };
        let log = relay.refuses().await;
        let (said, hinted) = last_words(&log);
        assert!(said.contains(code) && said.contains("UTF8"), "{log}");
        hint = hinted.to_owned();
    }
    assert!(outbox.confirmed_flush().await < odd);
    assert_eq!(outbox.keys(), ["before"]);

    // What the hint says to do, done.
    let (start, end) = (hint.find("SELECT set_config").unwrap(), hint.find("; then write").unwrap());
    client(&outbox.database.info()).await.batch_execute(&hint[start..end]).await.unwrap();
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["after", "before"]);
    relay.stop().await;
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_character_that_has_no_utf8_stops_the_relay_with_the_way_past_it() {
    tokio::join!(
        cannot_be_converted("EUC_KR", "\\xc9a1", "22P05"),
        // There is no conversion; the server checks.
        cannot_be_converted("SQL_ASCII", "\\xff", "22021"),
    );
}

#[tokio::test]
async fn a_stop_confirms_what_was_sent_before_so_that_restarts_do_not_send_it_again() {
    let outbox = Outbox::create().await;
    let relay = outbox.relay(&[]);
    relay.ready().await;
    outbox.insert("first").await;
    outbox.all_confirmed().await;
    relay.stop().await;
    for key in 1..=200 {
        outbox.insert(&format!("{key:03}")).await;
    }
    outbox.sql("ALTER TABLE outbox RENAME COLUMN payload TO body").await;
    outbox
        .sql("INSERT INTO outbox (aggregate_type, aggregate_id, event_type) VALUES ('order', 'last', 'x')")
        .await;
    // The table as it is now is found wanting at once, so the catalog must not show it.
    outbox.sql("ALTER TABLE outbox ADD payload text").await;
    for _ in 0..3 {
        let log = outbox.relay(&[]).refuses().await;
        assert!(last_words(&log).0.contains("has no column \"payload\""), "{log}");
    }
    assert_eq!(outbox.keys().len(), 201);
    outbox.database.drop().await;
}
