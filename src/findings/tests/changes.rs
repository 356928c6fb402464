//! What changes behind the relay's back, and values that cannot be sent.

use super::*;

#[test]
fn a_value_that_has_no_utf8() {
    let server = crate::postgres::error::ServerError {
        severity: "ERROR".to_owned(),
        code: "22P05".to_owned(),
        message: "character with byte sequence 0xc9 0xa1 in encoding \"EUC_KR\" has no equivalent in encoding \"UTF8\"".to_owned(),
        where_: Some("slot \"outbox_relay\", output plugin \"pgoutput\", in the change callback, associated LSN 0/171B988".to_owned()),
        ..Default::default()
    };
    let action = "stream from slot \"outbox_relay\"".into();
    let error = crate::postgres::error::Error::Server { action, error: Box::new(server) };
    insta::assert_snapshot!(of_login(&error, &info()), @r#"
    stream from slot "outbox_relay": ERROR 22P05: character with byte sequence 0xc9 0xa1 in encoding "EUC_KR" has no equivalent in encoding "UTF8"

    hint: that row, at 0/171B988, cannot be sent in UTF-8, and its transaction must be passed over; all before it is in Kafka. As a role with REPLICATION, in the database: SELECT set_config('client_encoding', getdatabaseencoding(), false); SELECT pg_replication_slot_advance('outbox_relay', (SELECT max(lsn) FROM pg_logical_slot_peek_binary_changes('outbox_relay', NULL, NULL, 'proto_version', '1', 'publication_names', (SELECT string_agg(quote_ident(pubname), ',') FROM pg_publication)) WHERE xid::text IN (SELECT xid::text FROM pg_logical_slot_peek_binary_changes('outbox_relay', NULL, NULL, 'proto_version', '1', 'publication_names', (SELECT string_agg(quote_ident(pubname), ',') FROM pg_publication)) WHERE lsn = '0/171B988'))); then write the events of that transaction again, with characters that Unicode has
    "#);
}

/// What is found if this is done to a publication between two looks at it.
fn changed(change: impl FnOnce(&mut Publication)) -> String {
    let survey = healthy();
    let before = survey.publication.unwrap();
    let mut now = before.clone();
    change(&mut now);
    let outbox = &survey.tables[0].found[0];
    let found = publication_changed(&before, &now, &[outbox], "outbox_relay");
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n---\n\n")
}

#[test]
fn a_publication_that_changed_between_two_looks() {
    let put_in = |id| Some(Listed { id, from_the_first: false, perhaps_newer: true });
    assert_eq!(changed(|_| {}), "");
    insta::assert_snapshot!(changed(|now| now.version = 741), @r#"
    publication "outbox_relay" was altered, and is as it was before: rows that were committed while it did not publish INSERTs are not in the stream

    hint: look for them in the table, and send them again. Then, or if it all was one transaction, start the relay: it goes on where it is
    "#);
    insta::assert_snapshot!(changed(|now| now.tables[0].listed = put_in(16_400)), @r#"
    table "public.outbox" was taken out of publication "outbox_relay" and put back: rows that were committed in between are not in the stream

    hint: look for them in the table, and send them again. Then, or if it all was one transaction, start the relay: it goes on where it is
    "#);
    insta::assert_snapshot!(
        changed(|now| {
            now.tables[0].table.id = RelationId(16_401);
            now.tables[0].listed = put_in(16_402);
        }),
        @r#"
    table "public.outbox" was made again, and later put into publication "outbox_relay": rows that were committed before that are not in the stream

    hint: look for them in the table, and send them again. Then, or if it all was one transaction, start the relay: it goes on where it is
    "#
    );
    // What shows what it was for.
    assert_eq!(changed(|now| (now.version, now.further) = (741, vec!["UPDATE"])), "");
    assert_eq!(changed(|now| (now.version, now.owner) = (741, 11)), "");
    // Perhaps what it was for, perhaps not in one transaction.
    let filtered = |now: &mut Publication| {
        now.tables[0].listed = put_in(16_400);
        now.tables[0].row_filter = Some("(id > 0)".to_owned());
    };
    insta::assert_snapshot!(changed(filtered), @r#"
    table "public.outbox" was taken out of publication "outbox_relay" and put back with another row filter or list of columns: rows that it left out in between are not in the stream

    hint: nothing to do if it was one command (ALTER PUBLICATION … SET TABLE) or one transaction; else look for such rows in the table, and send them again
    "#);
    // Made again with all that the stream tells of, or with a table that was in it from its first row.
    assert_eq!(changed(|now| (now.id, now.tables[0].listed) = (16_410, put_in(16_411))), "");
    let with_it = |now: &mut Publication| {
        now.tables[0].table.id = RelationId(16_401);
        now.tables[0].listed = Some(Listed { id: 16_402, from_the_first: true, perhaps_newer: true });
    };
    assert_eq!(changed(with_it), "");
}

#[test]
fn a_table_that_was_put_into_the_publication_while_nobody_was_looking() {
    let put_in = |from_the_first| {
        move |survey: &mut Survey| {
            published(survey).tables[0].listed = Some(Listed { id: 1, from_the_first, perhaps_newer: true });
        }
    };
    assert_eq!(shown(put_in(true)), "");
    insta::assert_snapshot!(shown(put_in(false)), @r#"
    warn publication_perhaps_newer: the server's books do not show that publication "outbox_relay" held table "public.outbox" before the position of slot "outbox_relay": rows that were committed while it did not hold the table are not sent

    hint: nothing to do if no rows were written then; other slots of the server hide the order for a time. If there are such rows: send them again from the table
    "#);
}

#[test]
fn a_table_that_was_dropped() {
    let survey = healthy();
    let mut publication = survey.publication.unwrap();
    publication.tables.clear();
    let outbox = &survey.tables[0].found[0];
    let found = super::publication(
        Some(&publication),
        &[outbox],
        &[outbox.table.id],
        &Wanted::new(&config(&[]), &info()),
    );
    insta::assert_snapshot!(Findings(found), @r#"table "public.outbox" was dropped"#);
    insta::assert_snapshot!(partition_root(&table("public", "events"), &table("public", "outbox")), @r#"
    rows of "public.outbox" may be among those that come under the name of "public.events", of which it is a part

    hint: name "public.events" in outbox.tables, or ALTER PUBLICATION … SET (publish_via_partition_root = false); rows that were written before come as they were published then
    "#);
}
