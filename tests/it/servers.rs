//! Where the test servers are, and a fresh database on them.

use std::sync::atomic::{AtomicU32, Ordering};

use outbox_relay::postgres::conninfo::ConnInfo;
use tokio_postgres::{Client, NoTls};

/// The value of `variable`, which `scripts/test` sets.
pub(crate) fn variable(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run scripts/test, or set it to a test server (scripts/servers says how)"
        )
    })
}

/// The superuser on the unix socket of the test server.
pub(crate) fn superuser() -> ConnInfo {
    conninfo(&variable("OUTBOX_TEST_POSTGRES"))
}

/// The superuser over TCP.
pub(crate) fn superuser_tcp() -> ConnInfo {
    conninfo(&variable("OUTBOX_TEST_POSTGRES_TCP"))
}

/// A connection string read with nothing from the environment.
pub(crate) fn conninfo(text: &str) -> ConnInfo {
    ConnInfo::parse(text, &|_| None, &|_| None).unwrap()
}

/// A client for SQL. Its connection runs until the client is dropped.
pub(crate) async fn client(info: &ConnInfo) -> Client {
    let (client, connection) = info.control_config().connect(NoTls).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    client
}

/// A database of this test alone.
pub(crate) struct Database {
    /// The superuser of its server.
    pub(crate) server: ConnInfo,
    /// Its name, which is also unique as the beginning of a slot's name.
    pub(crate) name: String,
    /// The superuser in it.
    pub(crate) client: Client,
}

impl Database {
    /// Makes one on the server whose superuser is `server`; `options` as of CREATE DATABASE.
    pub(crate) async fn create_on(server: ConnInfo, options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let admin = client(&server).await;
        admin.batch_execute(&format!("CREATE DATABASE {name} {options}")).await.unwrap();
        let info = ConnInfo { dbname: name.clone(), ..server.clone() };
        Self { client: client(&info).await, name, server }
    }

    /// Makes one on the shared server.
    pub(crate) async fn create(options: &str) -> Self {
        Self::create_on(superuser(), options).await
    }

    /// How the superuser reaches it.
    pub(crate) fn info(&self) -> ConnInfo {
        ConnInfo { dbname: self.name.clone(), ..self.server.clone() }
    }

    /// Removes it with its slots, after a test that went well; a failed one leaves them to be looked at.
    pub(crate) async fn drop(self) {
        let server = client(&self.server).await;
        let terminate =
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = $1";
        server.query(&format!("{terminate} AND active"), &[&self.name]).await.unwrap();
        let slots =
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1";
        server.query(slots, &[&self.name]).await.unwrap();
        server.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.unwrap();
    }
}
