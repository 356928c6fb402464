//! Several relays that share an outbox, each with a part of the keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use outbox_relay::postgres::conninfo::Address;
use tokio_postgres::error::SqlState;

use crate::fixture::{Outbox, Relay, eventually};
use crate::kafka::Message;
use crate::servers::client;

/// The settings of shard `index`.
fn shard(count: u32, index: u32) -> [String; 2] {
    [format!("shard.count={count}"), format!("shard.index={index}")]
}

/// The relays of a layout.
fn relays(outbox: &Outbox, count: u32, more: &[&str]) -> Vec<Relay> {
    let relay = |index| {
        let shard = shard(count, index);
        let settings: Vec<_> = shard.iter().map(String::as_str).chain(more.iter().copied()).collect();
        outbox.relay(&settings)
    };
    (0..count).map(relay).collect()
}

/// Runs the program as an administrator; what it prints.
async fn setup(outbox: &Outbox, arguments: &[&str], settings: &[&str]) -> (bool, String) {
    let host = &outbox.database.server.hosts[0];
    let Address::Unix(directory) = &host.address else { panic!("no unix socket") };
    let user = outbox.text("SELECT current_user").await;
    let (directory, port, name) = (directory.display(), host.port, &outbox.database.name);
    let administrator = format!("host={directory} port={port} user={user} dbname={name}");
    let arguments = [&["setup"], arguments].concat();
    let mut command = outbox.program(&arguments, settings);
    let output = command.env("OUTBOX_RELAY_SETUP_URL", administrator).output().await.unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.success(), text)
}

/// An outbox of its own for each test; `None` where the server has no row filters.
async fn outbox() -> Option<Outbox> {
    let outbox = Outbox::create().await;
    outbox.sql("DROP PUBLICATION outbox_relay; ALTER TABLE outbox ALTER aggregate_id DROP NOT NULL").await;
    if outbox.text("SELECT current_setting('server_version_num')::int >= 150000").await == "true" {
        return Some(outbox);
    }
    let (made, said) = setup(&outbox, &["--shards", "2"], &[]).await;
    assert!(!made && said.contains("older than PostgreSQL 15"), "{said}");
    outbox.database.drop().await;
    None
}

/// Waits until every slot of the database has confirmed everything committed so far.
async fn all_confirmed(outbox: &Outbox) {
    let end = outbox.text("pg_logical_emit_message(true, 'test', 'end')").await;
    confirmed(outbox, &end, "").await;
}

/// Waits until every slot whose name contains `part` has confirmed `lsn`.
async fn confirmed(outbox: &Outbox, lsn: &str, part: &str) {
    let sql = format!(
        "SELECT bool_and(confirmed_flush_lsn >= '{lsn}') FROM pg_replication_slots
         WHERE database = current_database() AND slot_name LIKE '%{part}%'"
    );
    eventually("all slots have confirmed it", async || outbox.text(&sql).await == "true").await;
}

/// The messages of each key in the order in which consumers get them.
fn by_key(outbox: &Outbox) -> BTreeMap<Option<String>, Vec<Message>> {
    let mut messages = outbox.messages("order");
    messages.sort_by_key(|message| (message.partition, message.offset));
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in messages {
        let key = message.key.as_ref().map(|_| message.key_text());
        by_key.entry(key).or_default().push(message);
    }
    by_key
}

#[tokio::test]
async fn each_key_is_sent_by_one_relay_rows_and_messages_alike_and_keeps_its_order() {
    let Some(outbox) = outbox().await else { return };
    for count in [2, 3] {
        let (made, said) = setup(&outbox, &["--shards", &count.to_string()], &[]).await;
        assert!(made, "{said}");
        let slot = format!("created  slot {}_{count}_{}", outbox.slot(), count - 1);
        assert!(
            said.contains(&slot) && said.contains(&format!("created  publication outbox_relay_{count}_0")),
            "{said}"
        );
        let running = relays(&outbox, count, &["outbox.message_prefix=outbox"]);
        for relay in &running {
            relay.ready().await;
        }
        for round in 0..3 {
            outbox
                .sql(&format!(
                    "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
                         SELECT 'order', {count} || ' žluť ' || n, 'row', to_jsonb({round} * 2) FROM generate_series(1, 100) n;
                     SELECT count(pg_logical_emit_message(true, 'outbox', json_build_object('id', gen_random_uuid(),
                                'aggregate_type', 'order', 'aggregate_id', {count} || ' žluť ' || n, 'event_type', 'message',
                                'payload', {round} * 2 + 1)::text)) FROM generate_series(1, 100) n;
                     INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload) VALUES ('order', NULL, '{count}', '{round}')"
                ))
                .await;
        }
        all_confirmed(&outbox).await;
        let mut seen = [0, 0, 0];
        for (key, messages) in by_key(&outbox) {
            let Some(key) = key.filter(|key| key.starts_with(&count.to_string())) else { continue };
            let values: Vec<_> = messages
                .iter()
                .map(|message| String::from_utf8(message.value.clone().unwrap()).unwrap())
                .collect();
            assert_eq!(values, ["0", "1", "2", "3", "4", "5"], "{key}");
            let sources: Vec<_> = messages.iter().map(|message| message.header("source").unwrap()).collect();
            let sql = format!("SELECT ((hashtext('{key}') % {count}) + {count}) % {count}");
            let index: usize = outbox.text(&sql).await.parse().unwrap();
            assert!(
                sources.iter().all(|source| source.ends_with(&format!("{}_{count}_{index}", outbox.slot()))),
                "{sources:?}"
            );
            seen[index] += 1;
        }
        assert_eq!(seen.iter().sum::<u32>(), 100);
        assert_eq!(
            seen.iter().filter(|number| **number > 10).count(),
            usize::try_from(count).unwrap(),
            "{seen:?}"
        );
        let nobody = by_key(&outbox).remove(&None).unwrap();
        let nobody = nobody.iter().filter(|message| message.header("event_type") == Some(count.to_string()));
        let sources: Vec<_> = nobody.map(|message| message.header("source").unwrap()).collect();
        assert_eq!(sources.len(), 3);
        assert!(sources.iter().all(|source| source.ends_with("_0")), "{sources:?}");
        for relay in running {
            let log = relay.stop().await;
            // Slots of other tests may hide which came first.
            let mut warnings = log.lines().filter(|line| line.contains("WARN"));
            assert!(warnings.all(|line| line.contains("the server's books")), "{log}");
        }
        outbox
            .sql(&format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database();
                 {}",
                (0..count).map(|index| format!("DROP PUBLICATION outbox_relay_{count}_{index};")).collect::<String>()
            ))
            .await;
    }
    outbox.database.drop().await;
}

#[tokio::test]
async fn a_shard_removes_only_the_rows_that_it_has_sent() {
    for action in ["delete", "mark"] {
        let Some(outbox) = outbox().await else { return };
        if action == "mark" {
            outbox
                .sql("ALTER TABLE outbox ADD status text DEFAULT 'PENDING', ADD published_at timestamptz")
                .await;
        }
        let action = format!("after_publish.action={action}");
        let (made, said) = setup(&outbox, &["--shards", "2"], &[&action]).await;
        assert!(made && said.contains("created  rights of"), "{said}");
        let insert = "INSERT INTO outbox (aggregate_type, aggregate_id, event_type)
                      SELECT 'order', nullif(n, 0)::text, 'Placed' FROM generate_series(0, 99) n";
        outbox.sql(insert).await;
        let left = match action.ends_with("mark") {
            true => "SELECT count(*) FROM outbox WHERE status = 'PENDING'",
            false => "SELECT count(*) FROM outbox",
        };
        let of = |index: u32| {
            format!(
                "{left} {} coalesce(hashtext(aggregate_id), 0) & 1 = {index}",
                if left.contains("WHERE") { "AND" } else { "WHERE" }
            )
        };
        let others = outbox.text(&of(1)).await;
        let start = |index| {
            let [count, index] = shard(2, index);
            outbox.relay(&[&count, &index, &action])
        };
        let first = start(0);
        eventually("the first shard's rows are done with", async || outbox.text(&of(0)).await == "0").await;
        // Once more, with rows of its own that show that it has looked again.
        outbox.sql(insert).await;
        eventually("the first shard's rows are done with", async || outbox.text(&of(0)).await == "0").await;
        let twice = 2 * others.parse::<u32>().unwrap();
        assert_eq!(outbox.text(&of(1)).await, twice.to_string());
        assert_eq!(outbox.messages("order").len(), 200 - usize::try_from(twice).unwrap());
        let second = start(1);
        eventually("all rows are done with", async || outbox.text(left).await == "0").await;
        assert_eq!(outbox.messages("order").len(), 200);
        for relay in [first, second] {
            relay.stop().await;
        }
        outbox.database.drop().await;
    }
}

#[tokio::test]
async fn check_finds_no_fault_with_what_setup_has_made_and_names_a_wrong_filter() {
    let Some(outbox) = outbox().await else { return };
    for (table, of) in [
        ("texts", "text"),
        ("varying", "varchar(40)"),
        ("uuids", "uuid"),
        ("small", "smallint"),
        ("numbers", "int"),
        ("large", "bigint"),
    ] {
        outbox
            .sql(&format!("CREATE TABLE {table} (LIKE outbox INCLUDING ALL); ALTER TABLE {table} DROP aggregate_id; ALTER TABLE {table} ADD aggregate_id {of}"))
            .await;
    }
    outbox
        .sql(
            "CREATE SCHEMA tenant_1; CREATE TABLE tenant_1.outbox (LIKE public.outbox INCLUDING ALL);
             CREATE TABLE tenant_1.\"Other\" (LIKE public.outbox INCLUDING ALL);
             ALTER TABLE tenant_1.\"Other\" RENAME aggregate_id TO \"The Key\"",
        )
        .await;
    let settings = |tables: &str, count: u32| {
        let own = "tables.tenant_1.\"Other\".columns.aggregate_id=The Key";
        let tables = format!("outbox.tables={tables}");
        let [count, index] = shard(count, 1);
        let publication = format!("postgres.publication=p{}", tables.len());
        let slot = format!("postgres.slot={}_{}", outbox.slot(), tables.len());
        let own = if tables.contains("Other") { vec![own.to_owned()] } else { vec![] };
        [vec![tables, count, index, publication, slot], own].concat()
    };
    for (tables, count) in [
        ("public.texts,public.varying", 4),
        ("public.uuids", 3),
        ("public.small,public.numbers,public.large", 5),
        ("tenant_*.outbox,tenant_1.\"Other\"", 2),
    ] {
        let settings = settings(tables, count);
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let (made, said) = setup(&outbox, &["--shards", &count.to_string()], &settings).await;
        assert!(made, "{tables}: {said}");
        let found = check(&outbox, &settings).await;
        assert_eq!(found, Vec::<String>::new(), "{tables}");
    }
    let layout = settings("public.uuids", 3);
    let layout: Vec<_> = layout.iter().map(String::as_str).collect();
    let publication = layout[3].rsplit('=').next().unwrap();
    outbox
        .sql(&format!(
            "ALTER PUBLICATION {publication}_3_2 SET TABLE uuids WHERE ((uuid_hash(aggregate_id) & 1) = 0)"
        ))
        .await;
    assert_eq!(check(&outbox, &layout).await, ["stop shard_filter"]);
    outbox.sql(&format!("DROP PUBLICATION {publication}_3_2")).await;
    assert_eq!(check(&outbox, &layout).await, ["stop shard_filter"]);
    let texts = settings("public.texts,public.uuids", 2);
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    assert!(check(&outbox, &texts).await.contains(&"stop shard_keys_differ".to_owned()));
    outbox.database.drop().await;
}

/// Levels and ids of what `check` finds, without what it says about topics.
async fn check(outbox: &Outbox, settings: &[&str]) -> Vec<String> {
    let output = outbox.program(&["check", "--json"], settings).output().await.unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let found = found["findings"].as_array().unwrap().iter();
    let found = found.map(|found| (found["level"].as_str().unwrap(), found["id"].as_str().unwrap()));
    let found = found.filter(|(_, id)| !["topic_missing", "publication_perhaps_newer"].contains(id));
    found.map(|(level, id)| format!("{level} {id}")).collect()
}

/// Writers, each with keys of its own: one event after the other, numbered by key.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<u32>>,
}

const KEYS: u32 = 12;

impl Writers {
    async fn start(outbox: &Outbox) -> Self {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let mut tasks = Vec::new();
        for writer in 0..3 {
            let client = client(&outbox.database.info()).await;
            let (stop, written) = (stop.clone(), written.clone());
            tasks.push(tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    // Sometimes a transaction is open for a while.
                    let pause = if number % 7 == 0 { "SELECT pg_sleep(0.03);" } else { "" };
                    let sql = format!(
                        "BEGIN; INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
                         SELECT 'order', 'w{writer}-' || k, 'x', to_jsonb({number}) FROM generate_series(1, {KEYS}) k; {pause} COMMIT"
                    );
                    client.batch_execute(&sql).await.unwrap();
                    number += 1;
                    written.fetch_add(1, Ordering::SeqCst);
                }
                number
            }));
        }
        Self { stop, written, tasks }
    }

    /// Waits until each has written on.
    async fn go_on(&self) {
        let before = self.written.load(Ordering::SeqCst);
        eventually("writers go on", async || self.written.load(Ordering::SeqCst) > before + 60).await;
    }

    /// How many transactions each has committed.
    async fn stop(self) -> Vec<u32> {
        self.stop.store(true, Ordering::SeqCst);
        let mut numbers = Vec::new();
        for task in self.tasks {
            numbers.push(task.await.unwrap());
        }
        numbers
    }
}

/// docs/sharding.md, step by step.
async fn divided_anew(from: u32, count: u32) {
    let Some(outbox) = outbox().await else { return };
    let (made, said) = setup(&outbox, &["--shards", &from.to_string()], &[]).await;
    assert!(made, "{said}");
    let old = relays(&outbox, from, &[]);
    for relay in &old {
        relay.ready().await;
    }
    let writers = Writers::start(&outbox).await;
    writers.go_on().await;

    let arguments = ["--print", "--shards", &count.to_string(), "--from", &from.to_string()];
    let (printed, sql) = setup(&outbox, &arguments, &[]).await;
    assert!(printed, "{sql}");
    let step = |number: u32| {
        let (_, rest) = sql.split_once(&format!("\n-- {number}. ")).unwrap();
        let step = rest.split(&format!("\n-- {}. ", number + 1)).next().unwrap();
        step.split_once('\n').unwrap().1.to_owned()
    };
    outbox.sql(&step(1)).await;
    for slot in step(2).split_inclusive("\n$$;\n") {
        // While others alter tables, PostgreSQL 15 may fail: "snapshot reference is not owned by resource owner".
        let internal = |error: &tokio_postgres::Error| error.code() == Some(&SqlState::INTERNAL_ERROR);
        eventually("the slot is made", async || match outbox.database.client.batch_execute(slot).await {
            Ok(()) => true,
            Err(error) if internal(&error) => false,
            Err(error) => panic!("{slot}: {error:?}"),
        })
        .await;
    }
    writers.go_on().await;
    let three = step(3);
    let (change, _) = three.split_once("SELECT pg_current_wal_insert_lsn() AS changed_at").unwrap();
    outbox.sql(change).await;
    let changed_at = outbox.text("pg_current_wal_insert_lsn()").await;
    writers.go_on().await;
    // The old relays find that their publications send nothing, and go on until they are stopped.
    for relay in &old {
        let retired = if from == 1 { "that match false" } else { "sends no row" };
        relay.log_says(retired).await;
    }
    let done = step(4)
        .lines()
        .find_map(|line| line.strip_prefix("-- SELECT"))
        .unwrap()
        .replace("CHANGED_AT", &changed_at);
    let done = format!("SELECT bool_and(done) FROM (SELECT{}) AS slots", done.trim_end_matches(';'));
    eventually("the old slots have confirmed it", async || outbox.text(&done).await == "true").await;
    for relay in old {
        relay.stop().await;
    }
    let new = relays(&outbox, count, &[]);
    for relay in &new {
        relay.ready().await;
    }
    writers.go_on().await;
    let numbers = writers.stop().await;
    let clean: String = step(5).lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    outbox.sql(&clean).await;
    all_confirmed(&outbox).await;

    let found = by_key(&outbox);
    assert_eq!(found.len(), 3 * usize::try_from(KEYS).unwrap());
    let mut moved = 0;
    for (key, messages) in found {
        let key = key.unwrap();
        let writer: usize = key[1..2].parse().unwrap();
        let values =
            messages.iter().map(|message| std::str::from_utf8(message.value.as_ref().unwrap()).unwrap());
        let values: Vec<u32> = values.map(|value| value.parse().unwrap()).collect();
        // Nothing lost, nothing twice, nothing out of order.
        assert_eq!(values, (0..numbers[writer]).collect::<Vec<_>>(), "{key}");
        let sources: std::collections::BTreeSet<_> =
            messages.iter().map(|message| message.header("source")).collect();
        moved += u32::from(sources.len() == 2);
    }
    assert_eq!(moved, 3 * KEYS, "every key has come from an old slot and a new one");
    for relay in new {
        relay.stop().await;
    }
    outbox.database.drop().await;
}

#[tokio::test]
async fn two_shards_give_over_to_three_while_writers_go_on() {
    divided_anew(2, 3).await;
}

#[tokio::test]
async fn one_relay_gives_over_to_two_shards_while_writers_go_on() {
    divided_anew(1, 2).await;
}
