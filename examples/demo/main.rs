//! The main job, to look at: an order service commits, the relay relays, a consumer shows what arrived in Kafka.
//!
//! `scripts/demo` prepares everything and runs this with the URL of a PostgreSQL of its own. Kafka is librdkafka's mock
//! cluster inside this process, or the broker that `DEMO_KAFKA` names. The relay is the real binary, run as its own
//! least-privileged role, and nothing here is part of it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what the demo prints is what it is for")]

mod kafka;
mod relay;
mod shop;
mod show;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::kafka::{Arrival, Broker};
use crate::relay::Relay;
use crate::shop::{Committed, Shop};

/// How long everything that was committed may take to arrive. Milliseconds are normal; this is for slow machines.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);
/// How long to go on listening for what should *not* arrive, once all that should has.
const GRACE: Duration = Duration::from_millis(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\n{} {error:#}", show::bad("error:"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, once) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [url] => (*url, false),
        [url, "--once"] => (*url, true),
        _ => bail!("usage: demo POSTGRES_URL [--once]; scripts/demo makes a PostgreSQL and calls this"),
    };
    // Before anything is started, so that an early signal is not the default one, which would skip all clean-up.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    // Dropping the demo half way is fine: the relay is killed with its handle, everything else lives in this process.
    tokio::select! {
        result = demo(url, once) => result.map(|()| ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
    }
}

/// Starts everything, and quotes the relay's log if it then goes wrong.
async fn demo(url: &str, once: bool) -> Result<()> {
    let mut shop = Shop::open(url).await.context("prepare PostgreSQL")?;
    let broker = Broker::start(&shop::TOPICS).await.context("prepare Kafka")?;
    let mut arrivals = broker.watch(&shop::TOPICS).await.context("listen to Kafka")?;
    let mut relay = Relay::start(&shop.relay_url, &broker.bootstrap_servers)?;

    let result = perform(&mut shop, &broker, &mut arrivals, &mut relay, once).await;
    if let Err(error) = result {
        let log = relay.kill_and_quote().await;
        bail!("{error:#}\n\nthe last lines of the relay's log:\n{log}");
    }
    Ok(())
}

async fn perform(
    shop: &mut Shop,
    broker: &Broker,
    arrivals: &mut mpsc::Receiver<Arrival>,
    relay: &mut Relay,
    once: bool,
) -> Result<()> {
    let ready_after = relay.ready().await?;
    println!("{}", show::heading("outbox-relay demo"));
    println!("  PostgreSQL  {}, private to this demo", shop.server_version);
    println!("  Kafka       {broker}");
    println!(
        "  relay       outbox-relay run, as role outbox_relay, ready after {} ms",
        ready_after.as_millis()
    );

    println!("\n{}", show::heading("What the order service did, one transaction a line"));
    let committed = shop.trade().await.context("write orders")?;

    println!("\n{}", show::heading("What arrived in Kafka"));
    println!(
        "  Milliseconds: from COMMIT returning to the service until the consumer had the record. This process is"
    );
    println!("  both, so one monotonic clock tells both times.\n");
    let arrived = tokio::select! {
        result = collect(arrivals, &committed) => result?,
        error = relay.ended() => return Err(error),
        error = shop.disconnected() => return Err(error),
    };
    println!("\n{}", verify(&committed, &arrived)?);
    if once {
        return relay.stop().await;
    }

    println!("\n{}", show::heading("Now you"));
    println!("  Write, in another terminal:\n\n    {}\n", shop.psql_line());
    println!("  Tail:\n\n    {}\n", broker.kcat_line(&shop::TOPICS));
    println!(
        "  What arrives is shown here, until Ctrl-C. Milliseconds are now from PostgreSQL's commit time, which the"
    );
    println!("  record carries, until the consumer had it, by the system clock.\n");
    tokio::select! {
        () = tail(arrivals) => bail!("the consumer ended"),
        error = relay.ended() => Err(error),
        error = shop.disconnected() => Err(error),
    }
}

/// Shows what arrives, until every committed event is there or the deadline has passed.
async fn collect(arrivals: &mut mpsc::Receiver<Arrival>, committed: &[Committed]) -> Result<Vec<Arrival>> {
    let deadline = Instant::now() + ARRIVAL_DEADLINE;
    let mut arrived: Vec<Arrival> = Vec::new();
    loop {
        let missing = committed.iter().any(|event| !arrived.iter().any(|a| a.id() == event.id));
        let patience = if missing { deadline.saturating_duration_since(Instant::now()) } else { GRACE };
        match timeout(patience, arrivals.recv()).await {
            Ok(Some(arrival)) => {
                let event = committed.iter().find(|event| event.id == arrival.id());
                // A fast relay may be ahead of the answer to COMMIT: then it took no time.
                let took = event.map(|event| arrival.at.saturating_duration_since(event.at));
                println!("{}", show::arrival(&arrival, took));
                arrived.push(arrival);
            }
            Ok(None) => bail!("the consumer ended"),
            // `verify` says what is missing.
            Err(_) => return Ok(arrived),
        }
    }
}

async fn tail(arrivals: &mut mpsc::Receiver<Arrival>) {
    while let Some(arrival) = arrivals.recv().await {
        println!("{}", show::arrival(&arrival, arrival.since_commit_time()));
    }
}

/// Exactly the committed events, each once, each as it was written, those of one key in commit order.
fn verify(committed: &[Committed], arrived: &[Arrival]) -> Result<String> {
    let mut wrong = Vec::new();
    for event in committed {
        let copies: Vec<&Arrival> = arrived.iter().filter(|arrival| arrival.id() == event.id).collect();
        match copies.as_slice() {
            [] => wrong.push(format!("{event} did not arrive")),
            [arrival] => {
                for (what, got, expected) in [
                    ("topic", arrival.topic.as_bytes(), event.topic().as_bytes()),
                    ("key", arrival.key.as_bytes(), event.aggregate_id.as_bytes()),
                    ("payload", arrival.payload.as_bytes(), event.payload.as_bytes()),
                    (
                        "header event_type",
                        arrival.header("event_type").as_bytes(),
                        event.event_type.as_bytes(),
                    ),
                ] {
                    if got != expected {
                        wrong.push(format!("{event} arrived with another {what}"));
                    }
                }
            }
            _ => wrong.push(format!("{event} arrived {} times", copies.len())),
        }
    }
    for arrival in arrived.iter().filter(|arrival| !committed.iter().any(|event| event.id == arrival.id())) {
        wrong.push(format!("event {} arrived and was never committed", arrival.id()));
    }
    for event in committed {
        let of_key = |topic: &str, key: &str| event.topic() == topic && event.aggregate_id == key;
        let sent = committed.iter().filter(|e| of_key(&e.topic(), e.aggregate_id)).map(|e| e.id.as_str());
        let got = arrived.iter().filter(|a| of_key(&a.topic, &a.key)).map(Arrival::id);
        if wrong.is_empty() && !sent.eq(got) {
            wrong.push(format!("the events of key {} are out of order", event.aggregate_id));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(show::good(&format!(
        "All {} committed events arrived: once each, byte for byte, in commit order per key. \
         The rolled back one did not.",
        committed.len()
    )))
}
