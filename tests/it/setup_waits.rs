//! The command `setup` on a server that cannot have the slot yet: its settings, or open transactions, are in the way.

use outbox_relay::postgres::conninfo::ConnInfo;

use crate::fixture::{PATIENCE, eventually};
use crate::own_server::Server;
use crate::servers::{Database, client};
use crate::setup::Site;

#[tokio::test]
async fn a_server_that_cannot_have_the_slot_yet_gets_the_rest() {
    let mut server = Server::start().await;
    let mut site = Site::on(Database::create_on(server.superuser.clone(), "").await);
    // As on Amazon RDS, where nobody has REPLICATION.
    site.sql("CREATE ROLE rds_replication").await;
    site.sql("ALTER SYSTEM SET wal_level = replica").await;
    server.restart(async || ()).await;
    let ran = site.setup(&[]);
    assert_eq!((ran.code, ran.out.matches("created").count()), (Some(1), 3), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("wal_level = replica, expected logical"), "{}", ran.err);
    assert!(ran.err.contains("ALTER SYSTEM SET wal_level = logical"), "{}", ran.err);

    reconnect(&mut site, &server.superuser).await;
    let role = format!(
        "SELECT concat_ws(' ', rolreplication, pg_has_role(oid, 'rds_replication', 'MEMBER')) FROM pg_roles \
         WHERE rolname = '{}'",
        site.role
    );
    assert_eq!(site.text(&role).await, "f t");

    site.sql("ALTER SYSTEM RESET wal_level").await;
    site.sql("ALTER SYSTEM SET max_replication_slots = 1").await;
    server.restart(async || ()).await;
    reconnect(&mut site, &server.superuser).await;
    site.sql("SELECT pg_create_physical_replication_slot('other')").await;
    let ran = site.setup(&[]);
    assert_eq!((ran.code, ran.out.matches("exists").count()), (Some(1), 3), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("no replication slot is free"), "{}", ran.err);

    site.sql("SELECT pg_drop_replication_slot('other')").await;
    setup_waits_for_an_open_transaction(&site).await;
    site.remove(&[]).await;
}

async fn reconnect(site: &mut Site, server: &ConnInfo) {
    let info = ConnInfo { dbname: site.database.name.clone(), ..server.clone() };
    site.database.client = client(&info).await;
}

/// Who keeps the slot from being made is named while `setup` waits.
async fn setup_waits_for_an_open_transaction(site: &Site) {
    let writer = client(&site.database.info()).await;
    writer.batch_execute("BEGIN; CREATE TABLE being_written (n int)").await.unwrap();
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    // Limits of the database do not cut the wait, which lasts three seconds at least.
    site.sql(&format!("ALTER DATABASE {} SET statement_timeout = '1s'", site.database.name)).await;
    let err = tempfile::NamedTempFile::new().unwrap();
    let mut command = site.command(&[]);
    command.env("OUTBOX_RELAY_SETUP_URL", site.url("postgres")).stderr(err.reopen().unwrap());
    let child = command.spawn().unwrap();
    let told = format!("making the slot waits for open transactions: pid {pid} (open for ");
    eventually("setup says what it waits for", async || {
        std::fs::read_to_string(err.path()).unwrap().contains(&told)
    })
    .await;
    writer.batch_execute("COMMIT").await.unwrap();
    let ended =
        tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(|| child.wait_with_output())).await;
    let ran = site.ran(ended.unwrap().unwrap().unwrap());
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("created  slot [db]"), "{}", ran.out);
}
