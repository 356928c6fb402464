//! The order service: business rows and outbox rows, written together.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls, Transaction};

use crate::show;

/// Where the events of the two aggregate types go, by the relay's default route.
pub(crate) const TOPICS: [&str; 2] = ["outbox.event.order", "outbox.event.payment"];

/// What an administrator runs once per database; the very files, so that the demo proves them.
const SETUP: [(&str, &str); 4] = [
    ("01_table.sql", include_str!("../../sql/01_table.sql")),
    ("02_role.sql", include_str!("../../sql/02_role.sql")),
    ("03_publication.sql", include_str!("../../sql/03_publication.sql")),
    ("04_slot.sql", include_str!("../../sql/04_slot.sql")),
];

/// One row of the outbox, as the service wrote it.
#[derive(Clone, Copy)]
struct Event {
    aggregate_type: &'static str,
    aggregate_id: &'static str,
    event_type: &'static str,
    payload: &'static str,
}

/// One outbox row whose COMMIT has returned.
pub(crate) struct Committed {
    pub(crate) id: String,
    pub(crate) aggregate_type: &'static str,
    pub(crate) aggregate_id: &'static str,
    pub(crate) event_type: &'static str,
    /// As PostgreSQL prints it, which is what must arrive.
    pub(crate) payload: String,
    /// When COMMIT returned.
    pub(crate) at: Instant,
}

impl Committed {
    pub(crate) fn topic(&self) -> String {
        format!("outbox.event.{}", self.aggregate_type)
    }
}

impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {} ({})", self.event_type, self.aggregate_type, self.aggregate_id, self.id)
    }
}

/// A connection to the shop's database.
pub(crate) struct Shop {
    client: Client,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
    pub(crate) server_version: String,
    /// The URL for the relay: same server, its own role.
    pub(crate) relay_url: String,
    own_url: String,
}

impl Shop {
    /// Makes the database `shop` on the server that `url` names, with the tables of the service and the outbox.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let mut config: Config = url.parse().context("read the URL of PostgreSQL")?;
        let (client, _connection) = connect(&config).await?;
        client.batch_execute("CREATE DATABASE shop").await?;

        let (client, connection) = connect(config.dbname("shop")).await?;
        client
            .batch_execute(
                "CREATE TABLE orders (id text PRIMARY KEY, customer text NOT NULL, status text NOT NULL);
                 CREATE TABLE payments (id text PRIMARY KEY, order_id text NOT NULL REFERENCES orders, amount numeric);",
            )
            .await?;
        for (name, sql) in SETUP {
            // One batch each: several statements in one batch are one transaction, in which no slot can be made
            // once something was written.
            client.batch_execute(sql).await.with_context(|| format!("run sql/{name}"))?;
        }
        let row = client.query_one("SELECT current_setting('server_version')", &[]).await?;
        Ok(Self {
            client,
            connection,
            server_version: row.try_get(0)?,
            relay_url: url_as(&config, "outbox_relay")?,
            own_url: url_as(&config, "postgres")?,
        })
    }

    /// A short day of business. Prints each transaction, returns what was committed, in commit order.
    pub(crate) async fn trade(&mut self) -> Result<Vec<Committed>> {
        let mut committed = Vec::new();
        for (outcome, business, events) in day() {
            let transaction = self.client.transaction().await?;
            transaction.batch_execute(business).await?;
            let mut written = Vec::new();
            for event in events {
                written.push((*event, insert(&transaction, event).await?));
            }
            if outcome == Outcome::Commit {
                transaction.commit().await?;
                let at = Instant::now();
                committed.extend(written.into_iter().map(|(event, (id, payload))| Committed {
                    id,
                    payload,
                    at,
                    aggregate_type: event.aggregate_type,
                    aggregate_id: event.aggregate_id,
                    event_type: event.event_type,
                }));
            } else {
                transaction.rollback().await?;
            }
            print_transaction(outcome, events);
        }
        Ok(committed)
    }

    /// Resolves when the connection to PostgreSQL is gone, with the reason.
    pub(crate) async fn disconnected(&mut self) -> anyhow::Error {
        match (&mut self.connection).await {
            Ok(Err(error)) => anyhow!(error).context("the connection to PostgreSQL ended"),
            _ => anyhow!("the connection to PostgreSQL ended"),
        }
    }

    pub(crate) fn psql_line(&self) -> String {
        let insert = r#"INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
         VALUES ('order', '1001', 'OrderReturned', '{"reason": "too small"}')"#;
        format!("psql '{}' \\\n      -c \"{}\"", self.own_url, insert.replace('"', "\\\""))
    }
}

async fn connect(config: &Config) -> Result<(Client, JoinHandle<Result<(), tokio_postgres::Error>>)> {
    let (client, connection) = config.connect(NoTls).await.context("connect to PostgreSQL")?;
    Ok((client, tokio::spawn(connection)))
}

/// A libpq URL for the shop's database over the unix socket, as `user`.
fn url_as(config: &Config, user: &str) -> Result<String> {
    let [Host::Unix(directory)] = config.get_hosts() else {
        return Err(anyhow!("expected a URL with one unix socket, as scripts/servers prints it"));
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    Ok(format!("postgres:///shop?host={}&port={port}&user={user}", directory.display()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Commit,
    Rollback,
}

/// The transactions: how each ends, its business statement, its events.
fn day() -> [(Outcome, &'static str, &'static [Event]); 6] {
    const fn order(aggregate_id: &'static str, event_type: &'static str, payload: &'static str) -> Event {
        Event { aggregate_type: "order", aggregate_id, event_type, payload }
    }
    [
        (
            Outcome::Commit,
            "INSERT INTO orders VALUES ('1001', 'Ada', 'placed')",
            &[
                const { order("1001", "OrderPlaced", r#"{"customer": "Ada", "total": 42.50, "items": ["lamp"]}"#) },
            ],
        ),
        (
            Outcome::Commit,
            "UPDATE orders SET status = 'paid' WHERE id = '1001'; INSERT INTO payments VALUES ('p-1', '1001', 42.50)",
            // Two events of one transaction, with different topics.
            &[
                Event {
                    aggregate_type: "payment",
                    aggregate_id: "p-1",
                    event_type: "PaymentReceived",
                    payload: r#"{"order": "1001", "amount": 42.50}"#,
                },
                const { order("1001", "OrderPaid", r#"{"payment": "p-1"}"#) },
            ],
        ),
        (
            Outcome::Rollback,
            "INSERT INTO orders VALUES ('1002', 'Bob', 'placed')",
            &[const { order("1002", "OrderPlaced", r#"{"customer": "Bob", "total": 99999.00}"#) }],
        ),
        (
            Outcome::Commit,
            "INSERT INTO orders VALUES ('1003', 'Zoë', 'placed')",
            &[const { order("1003", "OrderPlaced", r#"{"customer": "Zoë", "total": 7.00, "items": []}"#) }],
        ),
        (
            Outcome::Commit,
            "UPDATE orders SET status = 'shipped' WHERE id = '1001'",
            &[const { order("1001", "OrderShipped", r#"{"carrier": "bicycle"}"#) }],
        ),
        (
            Outcome::Commit,
            "UPDATE orders SET status = 'cancelled' WHERE id = '1003'",
            &[const { order("1003", "OrderCancelled", r#"{"reason": null}"#) }],
        ),
    ]
}

/// Writes one outbox row, as any service would. Returns its id and its payload as PostgreSQL prints them.
async fn insert(transaction: &Transaction<'_>, event: &Event) -> Result<(String, String)> {
    let row = transaction
        .query_one(
            "INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
             VALUES ($1, $2, $3, ($4::text)::jsonb) RETURNING id::text, payload::text",
            &[&event.aggregate_type, &event.aggregate_id, &event.event_type, &event.payload],
        )
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn print_transaction(outcome: Outcome, events: &[Event]) {
    let events: Vec<String> = events
        .iter()
        .map(|event| format!("{} of {} {}", event.event_type, event.aggregate_type, event.aggregate_id))
        .collect();
    let events = events.join(" + ");
    match outcome {
        Outcome::Commit => println!("  {}    {events}", show::good("COMMIT")),
        Outcome::Rollback => println!("  {}  {events}   (must not appear)", show::bad("ROLLBACK")),
    }
}
