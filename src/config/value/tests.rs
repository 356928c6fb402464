//! Each kind of value: what is read, and what is said of the rest.

use super::*;

/// How a word of the environment is read, or why not.
fn word(kind: Kind, text: &str) -> String {
    shown(kind.read(&Raw::Word(text.to_owned())))
}

fn shown(result: Result<Value, Mistake>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(Mistake { what, hint: Some(hint) }) => format!("{what} ({hint})"),
        Err(Mistake { what, hint: None }) => what,
    }
}

#[test]
fn sizes_have_a_unit() {
    assert_eq!(word(Kind::Size, "16MiB"), "Size(16777216)");
    assert_eq!(word(Kind::Size, "1.5 GiB"), "Size(1610612736)");
    assert_eq!(word(Kind::Size, "512KiB"), "Size(524288)");
    let wrong = "is not a size (sizes are written like \"16MiB\": a number with KiB, MiB or GiB)";
    for text in ["", "16", "16MB", "16M", "16mib", "MiB", "-1MiB", "1e3MiB", "0x10MiB", "1MiB 2MiB", "1,5MiB"]
    {
        assert_eq!(word(Kind::Size, text), wrong, "{text:?}");
    }
    assert_eq!(word(Kind::Size, "0MiB"), "must be more than nothing");
}

#[test]
fn times_have_units() {
    assert_eq!(word(Kind::Duration, "20s"), "Duration(20s)");
    assert_eq!(word(Kind::Duration, "1h 30m"), "Duration(5400s)");
    assert_eq!(word(Kind::Duration, "1h30m"), "Duration(5400s)");
    assert_eq!(word(Kind::Duration, "0s"), "Duration(0ns)");
    assert_eq!(word(Kind::Duration, "7d"), "Duration(604800s)");
    assert_eq!(word(Kind::Duration, "50ms"), "Duration(50ms)");
    let wrong = "is not a time (times are written like \"20s\" or \"1h 30m\": numbers with ms, s, m, h or d)";
    for text in ["", "20", "1M", "2 weeks", "1y", "5us", "-5s", "s", "forever", "99999999999999999999s"] {
        assert_eq!(word(Kind::Duration, text), wrong, "{text:?}");
    }
}

#[test]
fn words_are_read_as_the_key_wants_them_but_the_files_types_count() {
    assert_eq!(word(Kind::Bool, "true"), "Bool(true)");
    assert_eq!(word(Kind::Bool, "yes"), "must be true or false");
    assert_eq!(word(Kind::Integer, "-1"), "Integer(-1)");
    assert_eq!(word(Kind::Integer, "1.5"), "must be a whole number");
    assert_eq!(word(Kind::Text, "5"), "Text(\"5\")");
    let text = |text: &str| Raw::Text(text.to_owned());
    assert_eq!(shown(Kind::Bool.read(&text("true"))), "must be true or false, not text (remove the quotes)");
    assert_eq!(shown(Kind::Integer.read(&text("5"))), "must be a number, not text (remove the quotes)");
    assert_eq!(
        shown(Kind::Text.read(&Raw::Number("5".to_owned()))),
        "must be text, not a number (put it in double quotes)"
    );
    assert_eq!(shown(Kind::Text.read(&Raw::Table)), "must be text, not a table");
    assert_eq!(shown(Kind::List.read(&text("a"))), "must be a list (put it in brackets: [\"…\"])");
    assert_eq!(
        shown(Kind::List.read(&Raw::List(vec![Raw::Bool(true)]))),
        "each item must be text, not a boolean (put it in double quotes)"
    );
}

#[test]
fn lists_are_parted_by_commas_outside_of_quotes() {
    assert_eq!(word(Kind::List, ""), "List([])");
    assert_eq!(word(Kind::List, "a, b,,c "), "List([\"a\", \"b\", \"c\"])");
    assert_eq!(word(Kind::List, "a.\"x,y\",b"), "List([\"a.\\\"x,y\\\"\", \"b\"])");
}

#[test]
fn tables_are_known_by_schema_and_name_and_are_all_different() {
    assert!(word(Kind::Tables, "public.outbox,sales.\"Out,box\"").starts_with("Tables("));
    assert_eq!(word(Kind::Tables, "outbox"), "\"outbox\" has no schema: write schema.table");
    assert_eq!(word(Kind::Tables, "a.b, A.B"), "a.b is there twice");
    assert_eq!(word(Kind::Tables, ""), "must name at least one table");
}

#[test]
fn slots_have_the_names_that_postgres_allows() {
    assert_eq!(word(Kind::Slot, "outbox_relay2"), "Text(\"outbox_relay2\")");
    assert_eq!(
        word(Kind::Slot, "Outbox-Relay"),
        "is not the name of a slot: lower-case letters, digits and underscores, at most 63 (\"outbox_relay\" would do)"
    );
    assert_eq!(word(Kind::Slot, ""), "must not be empty");
    assert!(word(Kind::Slot, &"a".repeat(64)).starts_with("is not the name of a slot"));
    assert_eq!(word(Kind::Slot, &"a".repeat(63)), format!("Text({:?})", "a".repeat(63)));
    assert_eq!(word(Kind::Identifier, &"ä".repeat(32)), "has 64 bytes: PostgreSQL's names have at most 63");
}

#[test]
fn addresses_are_a_host_and_a_port() {
    for text in ["", "127.0.0.1:9464", "[::1]:9464", "localhost:9464", "relay-0.svc:80"] {
        assert_eq!(word(Kind::Address, text), format!("Text({text:?})"));
    }
    assert_eq!(
        word(Kind::Address, ":9464"),
        "is not an address to listen on (0.0.0.0:9464 listens on every IPv4 address, [::]:9464 on every address)"
    );
    for text in [
        "9464",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:99999",
        "http://localhost:9464",
        "::1:9464",
    ] {
        let wrong =
            "is not an address to listen on (addresses are written host:port, such as 127.0.0.1:9464)";
        assert_eq!(word(Kind::Address, text), wrong, "{text:?}");
    }
}

#[test]
fn a_topic_can_be_one() {
    for text in ["outbox.event.{aggregate_type}", "{a}{b}", "orders", "{a}.", "a_b-c.d"] {
        assert!(word(Kind::Topic, text).starts_with("Template("), "{text:?}");
    }
    assert_eq!(
        word(Kind::Topic, "outbox.event."),
        "has no placeholder and ends as if one had been lost (placeholders are written {aggregate_type}, without \"$\", \
         which a shell or compose file would replace by nothing)"
    );
    assert!(word(Kind::Topic, "orders-").starts_with("has no placeholder"));
    assert!(word(Kind::Topic, "orders_").starts_with("has no placeholder"));
    assert_eq!(
        word(Kind::Topic, "a b"),
        "has ' ': topics consist of letters, digits, \".\", \"_\" and \"-\""
    );
    assert!(word(Kind::Topic, "a.{{b}}").starts_with("has '{'"));
    assert!(word(Kind::Topic, "${a}").starts_with("\"${\" at character 1"));
    assert_eq!(word(Kind::Topic, ""), "must not be empty");
    assert!(word(Kind::Topic, &"a".repeat(250)).starts_with("is not the name of a topic"));
    assert!(word(Kind::Topic, "..").starts_with("has no placeholder"));
    assert!(word(Kind::Template, "{a").contains("is not closed"));
}

#[test]
fn properties_may_be_numbers_and_booleans() {
    let read = |raw| shown(Kind::Properties.read(&raw));
    assert_eq!(read(Raw::Number("5".to_owned())), "Text(\"5\")");
    assert_eq!(read(Raw::Bool(true)), "Text(\"true\")");
    assert_eq!(
        read(Raw::List(Vec::new())),
        "must be text, a number or a boolean, not a list (put commas between the items, in one text)"
    );
}

#[test]
fn what_is_shown_of_a_value_fits_a_line() {
    let shown = |raw: Raw| raw.shown().unwrap();
    assert_eq!(shown(Raw::Word("a\nb".to_owned())), "\"a\\nb\"");
    assert_eq!(shown(Raw::List(vec![Raw::Bool(true), Raw::Number("1".to_owned())])), "[true, 1]");
    assert_eq!(shown(Raw::Text("é".repeat(200))), format!("\"{}\"…", "é".repeat(80)));
}
