//! Patterns of tables, and sections of single tables.

use super::{load_all, of_file, problems, problems_of_all};
use crate::outbox::{Shape, TableName};

fn table(name: &str) -> TableName {
    let (schema, name) = name.split_once('.').unwrap();
    TableName { schema: schema.to_owned(), name: name.to_owned() }
}

fn line(Shape { columns, headers, route, .. }: &Shape) -> String {
    let header = |(name, template): &(String, _)| format!("{name}={template}");
    let headers = headers.iter().map(header).collect::<Vec<_>>().join(" ");
    let partition = route.partition.as_deref().unwrap_or_default();
    format!("{} {} | {headers} | {} {} {partition}", columns.id, columns.payload, route.topic, route.key)
}

const SHOP: &str = r#"
    [outbox]
    tables = ["public.outbox", "audit.*", "tenant_*.outbox"]
    columns.payload = "body"
    [tables."tenant_*.outbox"]
    route.topic = "{@schema}.{aggregate_type}"
    headers.tenant = "{@schema}"
    [tables."tenant_*.*"]
    route.key = "{id}"
    [tables."tenant_7.outbox"]
    columns.payload = "data"
    headers = {}
    [tables.'"audit"."Log"'.columns]
    event_type = ""
    id = "nr"
    [tables.'"audit"."Log"']
    route.partition = "shard"
"#;

#[test]
fn a_table_has_what_its_section_says_and_the_rest_from_all() {
    let config = of_file(SHOP);
    let of = |name: &str| line(config.outbox.of(&table(name)));
    insta::assert_snapshot!(of("public.outbox"), @"id body | event_type={event_type} | outbox.event.{aggregate_type} {aggregate_id}");
    insta::assert_snapshot!(of("audit.log"), @"id body | event_type={event_type} | outbox.event.{aggregate_type} {aggregate_id}");
    insta::assert_snapshot!(of("audit.Log"), @"nr body |  | outbox.event.{aggregate_type} {aggregate_id} shard");
    insta::assert_snapshot!(of("tenant_1.outbox"), @"id body | tenant={@schema} | {@schema}.{aggregate_type} {aggregate_id}");
    // One that names the table goes before patterns; of those, the first.
    insta::assert_snapshot!(of("tenant_7.outbox"), @"id data |  | outbox.event.{aggregate_type} {aggregate_id}");
    insta::assert_snapshot!(of("tenant_7.other"), @"id body | event_type={event_type} | outbox.event.{aggregate_type} {id}");
    let names = |name: &str| config.outbox.names(&table(name));
    assert!(names("audit.anything") && names("tenant_9.outbox"));
    assert!(!names("public.outbox2") && !names("tenant_9.other"));
}

#[test]
fn errors_name_the_key_that_says_it() {
    let config = of_file(SHOP);
    let shape = config.outbox.of(&table("audit.Log"));
    assert_eq!(shape.key("outbox.columns.id"), r#"tables."\"audit\".\"Log\"".columns.id"#);
    assert_eq!(shape.key("outbox.columns.payload"), "outbox.columns.payload");
    let tenant = config.outbox.of(&table("tenant_1.outbox"));
    assert_eq!(tenant.key("outbox.headers.tenant"), r#"tables."tenant_*.outbox".headers.tenant"#);
    assert_eq!(tenant.key("route.topic"), r#"tables."tenant_*.outbox".route.topic"#);
}

#[test]
fn set_takes_a_table_as_it_is_or_in_quotes() {
    let set = [
        "tables.public.outbox.route.topic=first",
        r#"tables."public.other".columns.id=nr"#,
        r#"tables."Sales"."Out.box".headers.a.b={id}"#,
        "tables.public.other.headers=",
        "outbox.tables=public.outbox,public.other,\"Sales\".\"Out.box\"",
    ];
    let config = load_all(super::LEAST, &[], &set).unwrap();
    let of = |name: &str| line(config.outbox.of(&table(name)));
    insta::assert_snapshot!(of("public.outbox"), @"id payload | event_type={event_type} | first {aggregate_id}");
    insta::assert_snapshot!(of("public.other"), @"nr payload |  | outbox.event.{aggregate_type} {aggregate_id}");
    insta::assert_snapshot!(of("Sales.Out.box"), @"id payload | a.b={id} | outbox.event.{aggregate_type} {aggregate_id}");
    // Over what the file says, key by key.
    let file =
        format!("{}[tables.\"public.outbox\"]\nroute = {{ topic = \"a\", key = \"b\" }}", super::LEAST);
    let config = load_all(&file, &[], &["tables.public.outbox.route.key=c"]).unwrap();
    let shape = config.outbox.of(&table("public.outbox"));
    assert_eq!(
        (shape.route.topic.to_string(), shape.route.key.to_string()),
        ("a".to_owned(), "c".to_owned())
    );
}

#[test]
fn all_mistakes_in_sections_are_told_at_once() {
    insta::assert_snapshot!(problems(r#"
        outbox.tables = ["public.outbox", "tenant_*.outbox"]
        [tables."public.outbox"]
        columns.idd = "x"
        topic = "x"
        slot = "x"
        route = "x"
        columns.payload = 5
        headers.id = "{id}"
        [tables."public.outbux"]
        [tables."tenant_1.other"]
        [tables.public.outbox]
        route.topic = "x"
        [tables."tenant_*.*"]
        columns.event_type = ""
        headers.kind = "{event_type}"
        [tables.'"tenant_"*."outbox"']
        route.topic = "a b"
        [tables.'tenant_*.outbox']
        [tables."tenant_2.outbox"]
        headers = 7
    "#), @r#"
    13 problems in the configuration

      tables."public.outbox".columns.idd (relay.toml, line 6): unknown key
        hint: did you mean columns.id?

      tables."public.outbox".topic (relay.toml, line 7): unknown key
        hint: did you mean route.topic?

      tables."public.outbox".slot (relay.toml, line 8): unknown key
        hint: a table has columns, headers and route of its own

      tables."public.outbox".route (relay.toml, line 9): is a section
        hint: write [tables."public.outbox".route]

      tables."tenant_2.outbox".headers (relay.toml, line 23): must be a table
        hint: write [tables."tenant_2.outbox".headers]

      tables."public.outbox".columns.payload = 5 (relay.toml, line 10): must be text, not a number
        hint: put it in double quotes

      tables."public.outbox".headers.id = "{id}" (relay.toml, line 11): is a header that the relay writes itself
        hint: choose another name

      tables."\"tenant_\"*.\"outbox\"".route.topic = "a b" (relay.toml, line 20): has ' ': topics consist of letters, digits, ".", "_" and "-"

      tables."public.outbux" (relay.toml, line 12): is none of the tables of outbox.tables
        hint: did you mean public.outbox?

      tables."tenant_1.other" (relay.toml, line 13): is none of the tables of outbox.tables
        hint: outbox.tables has public.outbox, tenant_*.outbox

      tables."public" (relay.toml, line 14): has no schema: write schema.table
        hint: put quotes around the whole name: [tables."public.…"]

      tables."tenant_*.*".headers.kind = "{event_type}" (relay.toml, line 18): needs {event_type}, but tables."tenant_*.*".columns.event_type is "": there is no such column

      tables."tenant_*.outbox" (relay.toml, line 21): is there twice, written in two ways
    "#);
    // What is wrong without the section is told once.
    insta::assert_snapshot!(problems(r#"
        outbox.columns.event_type = ""
        route.topic = "{event_type}"
        [tables."public.outbox"]
        columns.id = "x"
    "#), @r#"
    1 problem in the configuration

      route.topic = "{event_type}" (relay.toml, line 5): needs {event_type}, but outbox.columns.event_type is "": there is no such column
    "#);
    insta::assert_snapshot!(problems_of_all(super::LEAST, &[], &[
        "tables.public.outbox.columns=x",
        "tables.public.outbox.colums.id=x",
        "tables.public.outbox=x",
        "tables.outbox.route.key=x",
    ]), @r#"
    4 problems in the configuration

      tables."public.outbox".columns (--set): unknown key
        hint: a table has columns, headers and route of its own

      tables."public.outbox".colums.id (--set): unknown key
        hint: did you mean columns.id?

      tables."public.outbox" (--set): is a section
        hint: it has columns, headers and route

      tables."outbox.route".key (--set): unknown key
        hint: did you mean route.key?
    "#);
}

#[test]
fn a_message_has_no_table_to_name() {
    insta::assert_snapshot!(problems(r#"
        outbox.message_prefix = "outbox"
        route.topic = "{@schema}.x"
        outbox.headers.table = "{@table}"
        tables."public.outbox".route.key = "{@table}"
    "#), @r#"
    2 problems in the configuration

      route.topic = "{@schema}.x" (relay.toml, line 5): names the table, and messages with outbox.message_prefix have none
        hint: put it into the [tables."…"] of the tables

      outbox.headers.table = "{@table}" (relay.toml, line 6): names the table, and messages with outbox.message_prefix have none
        hint: put it into the [tables."…"] of the tables
    "#);
}
