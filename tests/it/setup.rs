//! The command `setup` on real servers: what it makes, what it leaves alone, and what it says.

use std::process::{Command, Stdio};

use outbox_relay::postgres::conninfo::Address;
use outbox_relay::postgres::sql::identifier;
use serde_json::{Value, json};

use crate::fixture::{Outbox, eventually};
use crate::kafka::create_topic;
use crate::servers::{Database, client, superuser, variable};

/// A database without anything, and the names for `setup`: a role and a slot of its own.
pub(crate) struct Site {
    pub(crate) database: Database,
    pub(crate) role: String,
}

/// What `setup` has printed, with `[db]` for the database's name and `[host]` for where it is.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Site {
    async fn create() -> Self {
        Self::on(Database::create("").await)
    }

    pub(crate) fn on(database: Database) -> Self {
        let role = format!("{}_relay", database.name);
        Self { database, role }
    }

    /// The connection string of `user`.
    pub(crate) fn url(&self, user: &str) -> String {
        let Address::Unix(directory) = &self.database.server.hosts[0].address else {
            panic!("OUTBOX_TEST_POSTGRES is no unix socket")
        };
        let user = user.replace('\\', "\\\\").replace('\'', "\\'");
        let port = self.database.server.hosts[0].port;
        format!("host={} port={port} user='{user}' dbname={}", directory.display(), self.database.name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox-relay"));
        command.env_clear().env("OUTBOX_RELAY_POSTGRES__URL", self.url(&self.role)).arg("setup");
        command.args(["--set", &format!("postgres.slot={}", self.database.name)]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `setup` as the superuser.
    pub(crate) fn setup(&self, arguments: &[&str]) -> Ran {
        self.setup_as("postgres", arguments)
    }

    fn setup_as(&self, user: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        self.ran(command.env("OUTBOX_RELAY_SETUP_URL", self.url(user)).output().unwrap())
    }

    pub(crate) fn ran(&self, output: std::process::Output) -> Ran {
        let clean = |text: Vec<u8>| {
            let text = String::from_utf8(text).unwrap();
            let text = text.replace(&self.database.server.hosts[0].to_string(), "[host]");
            text.replace(&self.database.name, "[db]")
        };
        // Whether the slot has to wait depends on what other tests write at the moment.
        let err = clean(output.stderr);
        let err = err.split_inclusive('\n').filter(|line| !line.starts_with("making the slot waits"));
        Ran { code: output.status.code(), out: clean(output.stdout), err: err.collect() }
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.database.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A query's first column as text, a line a row.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let rows =
            self.database.client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows: Vec<_> =
            rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect();
        rows.join("\n")
    }

    async fn version(&self) -> i32 {
        self.text("SELECT current_setting('server_version_num')").await.parse().unwrap()
    }

    /// Removes the database, and `roles` beside its own.
    pub(crate) async fn remove(self, roles: &[&str]) {
        let server = client(&self.database.server).await;
        let role = self.role.clone();
        self.database.drop().await;
        for role in roles.iter().copied().chain([role.as_str()]) {
            server.batch_execute(&format!("DROP ROLE IF EXISTS {}", identifier(role))).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_relay_streams_with_what_a_superuser_made_and_a_second_run_changes_nothing() {
    let site = Site::create().await;
    let first = site.setup(&[]);
    insta::assert_snapshot!(first.out, @r#"
    database "[db]" on [host], as "postgres"

      created  table public.outbox
      created  role [db]_relay
      created  publication outbox_relay
      created  slot [db]

    left to do: table public.outbox belongs to postgres. The service that writes to it, if it is another role, needs: GRANT INSERT ON public.outbox TO …

    left to do: role [db]_relay has no password. If pg_hba.conf asks for one: \password [db]_relay  in psql
    "#);
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""));
    let attributes = format!(
        "SELECT concat_ws(' ', rolcanlogin, rolreplication, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls) \
         FROM pg_roles WHERE rolname = '{}'",
        site.role
    );
    assert_eq!(site.text(&attributes).await, "t t f f f f");
    if site.version().await >= 170_000 {
        let failover = format!(
            "SELECT failover::text FROM pg_replication_slots WHERE slot_name = '{}'",
            site.database.name
        );
        assert_eq!(site.text(&failover).await, "true");
    }

    let catalog = "SELECT concat_ws(' ', xmin, oid) FROM pg_class WHERE relname = 'outbox' UNION ALL \
                   SELECT concat_ws(' ', xmin, oid) FROM pg_publication UNION ALL \
                   SELECT concat_ws(' ', xmin, oid) FROM pg_authid WHERE rolname = current_database() || '_relay' UNION ALL \
                   SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = current_database()";
    let before = site.text(catalog).await;
    let second = site.setup(&[]);
    insta::assert_snapshot!(second.out, @r#"
    database "[db]" on [host], as "postgres"

      exists   table public.outbox, left as it is
      exists   role [db]_relay, left as it is
      exists   publication outbox_relay, left as it is
      exists   slot [db], left as it is

    left to do: role [db]_relay has no password. If pg_hba.conf asks for one: \password [db]_relay  in psql
    "#);
    assert_eq!((second.code, second.err.as_str()), (Some(0), ""));
    assert_eq!(site.text(catalog).await, before);

    let url = format!("postgres.url={}", site.url(&site.role));
    let outbox = Outbox { database: site.database };
    create_topic(&outbox.topic("order"), 1, &[]).await;
    outbox.insert("1").await;
    let relay = outbox.relay(&[&url]);
    relay.ready().await;
    outbox.all_confirmed().await;
    assert_eq!(outbox.keys(), ["1"]);
    relay.stop().await;
    Site::on(outbox.database).remove(&[]).await;
}

#[tokio::test]
async fn the_owner_can_do_it_where_the_server_lets_them_make_the_role() {
    let site = Site::create().await;
    let owner = format!("{}_owner", site.database.name);
    site.sql(&format!(
        "CREATE ROLE {owner} LOGIN CREATEROLE REPLICATION; ALTER DATABASE {} OWNER TO {owner};
         GRANT CREATE ON SCHEMA public TO {owner}",
        site.database.name
    ))
    .await;
    let ran = site.setup_as(&owner, &[]);
    if site.version().await >= 160_000 {
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        // Whether an older role has a password, an owner may not know; of a new one it is certain.
        assert!(ran.out.contains("left to do: role [db]_relay has no password"), "{}", ran.out);
        assert!(!site.setup_as(&owner, &[]).out.contains("left to do"));
    } else {
        // Until 15 only superusers make a role with REPLICATION. Everything else is there.
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("such a role is made by a superuser alone"), "{}", ran.err);
        assert_eq!(ran.out.matches("created").count(), 3, "{}", ran.out);
        assert_eq!(site.setup(&[]).code, Some(0));
    }
    site.remove(&[&owner]).await;
}

#[tokio::test]
async fn printed_sql_makes_the_same_as_setup_whatever_the_names() {
    let (made, printed) = (Site::create().await, Site::create().await);
    let role = format!("{} 'R' $$ \"100%\"", made.database.name);
    let names = [
        "outbox.tables=\"Sales\".\"Out\"\"box $$\",public.user",
        "outbox.columns.id=Event's Id",
        "outbox.columns.event_type=",
        "outbox.columns.payload=order",
        "outbox.columns.timestamp=at",
        "route.topic=t.{aggregate_type}.{Région}",
        "route.partition=shard",
        "postgres.publication=Pub's $$",
    ];
    let mut arguments: Vec<&str> = names.iter().flat_map(|name| ["--set", name]).collect();
    let url = format!("postgres.url={}", made.url(&role));
    for site in [&made, &printed] {
        site.sql("CREATE SCHEMA \"Sales\"").await;
    }
    arguments.extend(["--set", &url]);
    let ran = made.setup(&arguments);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert_eq!(ran.out.matches("created").count(), 5, "{}", ran.out);
    let again = made.setup(&arguments);
    assert_eq!((again.code, again.out.matches("exists").count()), (Some(0), 5), "{}", again.out);

    arguments.push("--print");
    let print = printed.command(&arguments).stdout(Stdio::piped()).output().unwrap();
    assert!(print.status.success());
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&script, &print.stdout).unwrap();
    let mut psql = Command::new(variable("OUTBOX_TEST_PSQL"));
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &printed.url("postgres"), "-f"]).arg(script.path());
    let psql = psql.output().unwrap();
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));

    let catalog = "SELECT concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull) \
                     FROM pg_attribute JOIN pg_class c ON c.oid = attrelid AND relkind = 'r' AND attnum > 0 \
                    WHERE relnamespace IN ('public'::regnamespace, '\"Sales\"'::regnamespace) \
                    UNION ALL SELECT concat_ws(' ', pubname, schemaname, tablename) FROM pg_publication_tables \
                    UNION ALL SELECT concat_ws(' ', pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot) FROM pg_publication \
                    UNION ALL SELECT concat_ws(' ', plugin, slot_type) FROM pg_replication_slots \
                               WHERE slot_name = current_database()
                    ORDER BY 1";
    let found = made.text(catalog).await;
    assert_eq!(found, printed.text(catalog).await);
    insta::assert_snapshot!(found, @r#"
    "Sales"."Out""box $$" Event's Id uuid t
    "Sales"."Out""box $$" Région text f
    "Sales"."Out""box $$" aggregate_id text t
    "Sales"."Out""box $$" aggregate_type text t
    "Sales"."Out""box $$" at timestamp with time zone t
    "Sales"."Out""box $$" created_at timestamp with time zone t
    "Sales"."Out""box $$" order jsonb f
    "Sales"."Out""box $$" shard integer t
    "user" Event's Id uuid t
    "user" Région text f
    "user" aggregate_id text t
    "user" aggregate_type text t
    "user" at timestamp with time zone t
    "user" created_at timestamp with time zone t
    "user" order jsonb f
    "user" shard integer t
    Pub's $$ Sales Out"box $$
    Pub's $$ public user
    pgoutput logical
    t f f f t
    "#);
    let connect = "SELECT has_database_privilege(oid, current_database(), 'CONNECT')::text FROM pg_roles \
                   WHERE rolname = current_database() || ' ''R'' $$ \"100%\"'";
    assert_eq!(made.text(connect).await, "true");
    printed.remove(&[]).await;
    made.remove(&[&role]).await;
}

/// Trap 4.23 of docs/traps.md.
#[tokio::test]
async fn rows_that_are_there_already_are_told_and_a_large_table_is_not_counted_to_its_end() {
    let site = Site::create().await;
    site.sql(
        "CREATE TABLE outbox (id int, aggregate_type text, aggregate_id text, event_type text, payload text);
         INSERT INTO outbox SELECT generate_series(1, 1234)",
    )
    .await;
    let reader = site.url(&site.role);
    site.sql(&format!(
        "CREATE ROLE {} LOGIN REPLICATION; CREATE PUBLICATION outbox_relay FOR TABLE outbox",
        site.role
    ))
    .await;

    // The relay's own role may make the slot alone, and count nothing.
    let mut own = site.command(&[]);
    let own = site.ran(own.env("OUTBOX_RELAY_POSTGRES__URL", &reader).output().unwrap());
    assert_eq!((own.code, own.err.as_str()), (Some(0), ""));
    insta::assert_snapshot!(own.out, @r#"
    database "[db]" on [host], as "[db]_relay"

      exists   table public.outbox, left as it is
      exists   role [db]_relay, left as it is
      exists   publication outbox_relay, left as it is
      created  slot [db]
    "#);
    // The slot has been there before: nothing to tell.
    assert_eq!(site.setup(&["--json"]).json()["rows_not_sent"], Value::Null);

    let drop_slot = "SELECT pg_drop_replication_slot(current_database()::text)";
    site.sql(drop_slot).await;
    let counted = site.setup(&["--json"]).json();
    assert_eq!((&counted["rows_not_sent"], &counted["rows_not_sent_exact"]), (&json!(1234), &json!(true)));

    site.sql(drop_slot).await;
    site.sql("INSERT INTO outbox SELECT generate_series(1, 1000000)").await;
    let many = site.setup(&[]);
    let sentence = "more than 1,000,000 rows are in public.outbox already and will not be sent";
    assert!(many.out.contains(sentence), "{}", many.out);
    site.remove(&[]).await;
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

#[tokio::test]
async fn missing_privileges_are_all_told_at_once_with_who_has_them() {
    let site = Site::create().await;
    let plain = format!("{}_plain", site.database.name);
    site.sql(&format!("CREATE ROLE {plain} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")).await;
    let ran = site.setup_as(&plain, &[]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.out.matches("missing").count(), 4, "{}", ran.out);
    for part in [
        "error: table public.outbox was not made: ERROR 42501: permission denied for schema public",
        "hint: role [db]_plain needs CREATE on schema public",
        "error: role [db]_relay was not made: ERROR 42501: ",
    ] {
        assert!(ran.err.contains(part), "{part}\n{}", ran.err);
    }

    // The table is somebody else's.
    site.sql(include_str!("../../sql/01_table.sql")).await;
    let json = site.setup_as(&plain, &["--json"]).json();
    let problems = json["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{json:#}");
    assert!(
        problems[1]["fix"].as_str().unwrap().contains("must own the tables and needs CREATE on database")
    );

    // Not even the connection.
    let own = site.command(&[]).output().unwrap();
    let own = site.ran(own);
    assert_eq!(own.code, Some(1));
    insta::assert_snapshot!(own.err, @r#"
    error: connect to [host]: FATAL 28000: role "[db]_relay" does not exist

    hint: setup logs in as "[db]_relay"; name another role with --as URL or OUTBOX_RELAY_SETUP_URL
    "#);
    let mut own = site.command(&["--json"]);
    let own = site.ran(own.output().unwrap()).json();
    assert!(own["problems"][0]["fix"].as_str().unwrap().contains("--as URL"), "{own:#}");
    site.remove(&[&plain]).await;
}

#[tokio::test]
async fn a_schema_that_is_missing_is_told() {
    let site = Site::create().await;
    let ran = site.setup(&["--set", "outbox.tables=shop.outbox"]);
    assert_eq!((ran.code, ran.out.matches("missing").count()), (Some(1), 3), "{}", ran.out);
    insta::assert_snapshot!(ran.err, @r#"

    error: table shop.outbox was not made: ERROR 3F000: schema "shop" does not exist

    hint: make the schema first (CREATE SCHEMA), or correct outbox.tables
    "#);
    site.remove(&[]).await;
}

#[tokio::test]
async fn what_exists_and_does_not_fit_is_never_altered() {
    let site = Site::create().await;
    site.sql(&format!(
        "CREATE TABLE outbox (id int, payload text, region text) PARTITION BY LIST (region);
         CREATE ROLE {} NOLOGIN; REVOKE CONNECT ON DATABASE {1} FROM PUBLIC;
         CREATE PUBLICATION outbox_relay FOR TABLE outbox WITH (publish = 'delete');
         SELECT pg_create_physical_replication_slot('{1}')",
        site.role, site.database.name
    ))
    .await;
    let ran = site.setup(&[]);
    assert_eq!(ran.code, Some(1));
    // Who may make such a role depends on the version; the unit tests have both.
    let said = (ran.out + &ran.err).replace(" or a role with CREATEROLE and REPLICATION\n", "\n");
    insta::assert_snapshot!(said, @r#"
    database "[db]" on [host], as "postgres"

      exists   table public.outbox, left as it is
      exists   role [db]_relay, left as it is
      created  grant CONNECT ON DATABASE [db] TO [db]_relay
      exists   publication outbox_relay, left as it is
      exists   slot [db], left as it is

    left to do: role [db]_relay has no password. If pg_hba.conf asks for one: \password [db]_relay  in psql

    error: role [db]_relay has no LOGIN and no REPLICATION, and an existing role is never altered

    hint: ALTER ROLE [db]_relay LOGIN REPLICATION, as a superuser

    error: table "public.outbox" has no column "aggregate_type", which outbox.columns.aggregate_type names; it has id, payload, region

    hint: name one of its columns in outbox.columns.aggregate_type, or: ALTER TABLE public.outbox ADD COLUMN aggregate_type …

    error: table "public.outbox" has no column "aggregate_id", which outbox.columns.aggregate_id names; it has id, payload, region

    hint: name one of its columns in outbox.columns.aggregate_id, or: ALTER TABLE public.outbox ADD COLUMN aggregate_id …

    error: table "public.outbox" has no column "event_type", which outbox.columns.event_type names; it has id, payload, region

    hint: name one of its columns in outbox.columns.event_type, or: ALTER TABLE public.outbox ADD COLUMN event_type …

    error: publication "outbox_relay" does not publish INSERTs

    hint: ALTER PUBLICATION outbox_relay SET (publish = 'insert')

    error: publication "outbox_relay" sends the rows of "public.outbox" under the names of its partitions

    hint: ALTER PUBLICATION outbox_relay SET (publish_via_partition_root = true)

    error: slot "[db]": plugin is none (a physical slot), expected pgoutput

    hint: name another slot in postgres.slot, or drop this one if nobody needs it
    "#);
    // CONNECT was missing and could be granted: that is no alteration of what exists.
    let roles = format!(
        "SELECT concat_ws(' ', rolcanlogin, rolreplication) FROM pg_roles WHERE rolname = '{}'",
        site.role
    );
    assert_eq!(site.text(&roles).await, "f f");
    assert_eq!(site.text("SELECT concat_ws(' ', pubinsert, pubviaroot) FROM pg_publication").await, "f f");
    site.sql("SELECT pg_drop_replication_slot(current_database()::text)").await;
    site.remove(&[]).await;
}

#[tokio::test]
async fn a_slot_older_than_its_publication_is_told() {
    let site = Site::create().await;
    site.sql("SELECT pg_create_logical_replication_slot(current_database()::text, 'pgoutput')").await;
    let ran = site.setup(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("slot \"[db]\" is older than publication \"outbox_relay\", which was made now"),
        "{}",
        ran.err
    );
    site.remove(&[]).await;
}

#[tokio::test]
async fn nobody_is_told_to_drop_the_slot_of_another_database() {
    let (site, other) = (Site::create().await, Site::create().await);
    let sql = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", site.database.name);
    other.sql(&sql).await;
    let ran = site.setup(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("expected [db]") && !ran.err.contains("pg_drop_replication_slot"),
        "{}",
        ran.err
    );
    other.remove(&[]).await;
    site.remove(&[]).await;
}

#[tokio::test]
async fn identifiers_are_quoted_as_the_server_would_quote_them() {
    let server = client(&superuser()).await;
    let sql = "SELECT word, quote_ident(word) FROM pg_get_keywords() UNION ALL \
               SELECT word, quote_ident(word) FROM unnest('{a,A,1,_,a$,\"a b\",é}'::text[]) AS word";
    for row in server.query(sql, &[]).await.unwrap() {
        let (word, quoted): (String, String) = (row.get(0), row.get(1));
        // A key word of another version is quoted as well; that is never wrong.
        assert!([quoted, format!("\"{word}\"")].contains(&identifier(&word)), "{word}");
    }
}

/// A server's query that makes a slot fails at its end if it reads meanwhile that tables were made or dropped.
#[tokio::test]
async fn a_slot_is_made_while_tables_are_made_and_dropped() {
    let outbox = Outbox::create().await;
    let somebody = client(&outbox.database.info()).await;
    let tables = tokio::spawn(async move {
        loop {
            let made = "BEGIN; CREATE TABLE passing (a int, b text); ALTER TABLE passing ADD c int; COMMIT; DROP TABLE passing";
            somebody.batch_execute(made).await.unwrap();
        }
    });
    let sql = include_str!("../../sql/04_slot.sql").replace("outbox_relay", outbox.slot());
    for _ in 0..20 {
        outbox.sql(&sql).await;
        outbox.sql(&format!("SELECT pg_drop_replication_slot('{}')", outbox.slot())).await;
    }
    tables.abort();
    let _ = tables.await;
    outbox.database.drop().await;
}

const POLL: [&str; 3] = ["--set", "outbox.source=poll", "--set"];

/// With `action`, a relay sends a row, by the rights that setup has given it and no others.
async fn a_poller_sends(site: Site, action: &str) {
    assert_eq!(site.text("SELECT count(*)::text FROM pg_publication").await, "0");
    let slot = "SELECT count(*)::text FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!(site.text(slot).await, "0");
    let role = format!(
        "SELECT concat_ws(' ', rolcanlogin, rolreplication) FROM pg_roles WHERE rolname = '{}'",
        site.role
    );
    assert_eq!(site.text(&role).await, "t f");
    let url = format!("postgres.url={}", site.url(&site.role));
    let outbox = Outbox { database: site.database };
    create_topic(&outbox.topic("order"), 1, &[]).await;
    outbox.insert("1").await;
    let relay = outbox.relay(&[&url, "outbox.source=poll", action, "poll.interval=50ms"]);
    let left = "SELECT count(*) FROM outbox WHERE status = 'PENDING'";
    eventually("the row is done with", async || outbox.text(left).await == "0").await;
    assert_eq!(outbox.keys(), ["1"]);
    let log = relay.stop().await;
    assert!(!log.contains("WARN"), "{log}");
    Site::on(outbox.database).remove(&[]).await;
}

#[tokio::test]
async fn a_poller_gets_a_table_with_a_status_and_rights_and_no_slot() {
    let site = Site::create().await;
    let [name, poll, set] = POLL;
    let mark = [name, poll, set, "after_publish.action=mark"];
    let first = site.setup(&mark);
    insta::assert_snapshot!(first.out, @r#"
    database "[db]" on [host], as "postgres"

      created  table public.outbox
      created  role [db]_relay
      created  rights of [db]_relay on public.outbox

    left to do: table public.outbox belongs to postgres. The service that writes to it, if it is another role, needs: GRANT INSERT ON public.outbox TO …

    left to do: role [db]_relay has no password. If pg_hba.conf asks for one: \password [db]_relay  in psql
    "#);
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""));
    let second = site.setup(&mark);
    insta::assert_snapshot!(second.out, @r#"
    database "[db]" on [host], as "postgres"

      exists   table public.outbox, left as it is
      exists   role [db]_relay, left as it is

    left to do: role [db]_relay has no password. If pg_hba.conf asks for one: \password [db]_relay  in psql
    "#);
    assert_eq!((second.code, second.err.as_str()), (Some(0), ""));
    a_poller_sends(site, "after_publish.action=mark").await;
}

#[tokio::test]
async fn the_sql_for_a_poller_does_the_same() {
    let site = Site::create().await;
    let [name, poll, set] = POLL;
    let printed = site.setup(&[name, poll, set, "after_publish.action=delete", "--print"]);
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    site.sql(&printed.out.replace("[db]", &site.database.name)).await;
    a_poller_sends(site, "after_publish.action=delete").await;
}
