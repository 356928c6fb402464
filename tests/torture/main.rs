//! The torture test: writers, a relay and a consumer, while everything between them is killed, frozen, cut and slowed
//! down; and an oracle that compares every event by its identity. `scripts/torture` runs it and says how to read it.
//!
//! The schedule of faults and what is written come from the seed; when exactly each happens is up to the machine.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what this is for")]
#![expect(clippy::indexing_slicing, reason = "arrays of a fixed size, in the pure parts")]

mod autopsy;
mod cleaning;
mod consumer;
mod dice;
mod faults;
mod machine;
mod mode;
mod oracle;
mod pages;
mod partitions;
mod plan;
mod proxy;
mod relays;
mod report;
mod scarcity;
mod schedule;
mod server;
mod servers;
mod writers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use cleaning::Action;
use consumer::Consumer;
use dice::Dice;
use faults::World;
use machine::{Clock, Names};
use mode::Mode;
use oracle::{Kind, Verdict};
use proxy::Proxy;
use relays::Relays;
use report::{Interruption, Log, Report, median_and_worst};
use schedule::{Fault, Schedule};
use server::{client, patient_client};
use servers::Servers;
use writers::{Probes, Writers};

/// What `scripts/torture` passes on.
struct Options {
    length: Duration,
    seed: u64,
    postgres: String,
    only: String,
    mode: Mode,
    program: PathBuf,
    /// For LD_PRELOAD: what was made of machine.c.
    library: String,
    /// File systems can be mounted, so that disks can be full.
    disks: bool,
    /// Relays that share the outbox.
    shards: u32,
}

impl Options {
    /// What cannot be done here.
    fn missing(&self) -> &'static [Fault] {
        if self.disks { &[] } else { &[Fault::PostgresFull, Fault::BrokerFull] }
    }
}

/// An interruption is over when a probe that was committed after it can be read; other partitions may be later by this.
const SLACK: Duration = Duration::from_secs(2);

/// How long nothing is done before faults begin, and now and then between them.
const CALM: Duration = Duration::from_secs(2);

/// Nothing takes longer to get over, with a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let run = || {
        let options = options()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut signals = runtime.block_on(async { Signals::new() })?;
        runtime.block_on(async {
            tokio::select! {
                right = torture(&options) => right,
                () = signals.any() => bail!("interrupted"),
            }
        })
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
async fn torture(options: &Options) -> Result<bool> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("torture-{}", options.seed));
    std::fs::create_dir_all(&folder)?;
    let mut log = Log::new(&folder.join("faults.log"))?;
    eprintln!("seed {}; faults and the relay's log in {}", options.seed, folder.display());

    let (mut postgres, mut kafka) = (Proxy::bind().await?, Proxy::bind().await?);
    let (names, clock) = (Names::new(&folder)?, Clock::new(&folder)?);
    let advertised = format!("{}:{}", machine::KAFKA, kafka.address.port());
    let servers = Servers::start(&options.postgres, &advertised, options.disks)?;
    postgres.lead_to(servers.postgres_address.clone());
    kafka.lead_to(servers.kafka_behind.clone());
    let version = writers::prepare(&servers.superuser, options.mode, options.shards).await?;
    consumer::make_topics(&servers.kafka_address).await?;
    let witnessed = !options.mode.reads_the_table() && options.length <= autopsy::LONGEST;
    if witnessed {
        client(&servers.superuser).await?.batch_execute(autopsy::WITNESS).await?;
    }

    let start = Instant::now();
    let (tell, told) = std::sync::mpsc::channel();
    let info = servers.superuser.clone();
    let consumer = Consumer::start(&servers.kafka_address, info.clone(), options.mode, start, told)?;
    let dice = |stream| Dice::new(options.seed, stream);
    let (ports, log_of_relays) =
        ([&postgres, &kafka].map(|proxy| proxy.address.port()), folder.join("relay.log"));
    let mut relays = Relays::new(options.program.clone(), ports, options.mode, &log_of_relays, dice(0))?;
    relays.live_with(&options.library, &names, &clock);
    relays.share(options.shards);
    let active = relays.start()?;
    let others = (1..options.shards).map(|index| relays.start_shard(index)).collect::<Result<_>>()?;
    let (dice_of_world, count, notes) = (dice(1), faults::Count::default(), Vec::new());
    let mut world = World {
        servers,
        postgres,
        kafka,
        names,
        clock,
        relays,
        active,
        others,
        dice: dice_of_world,
        count,
        notes,
    };
    world.active.is("streaming").await?;
    for other in &mut world.others {
        other.is("streaming").await?;
    }
    let mut writers = Writers::start(&info, options.seed, options.mode, start, &tell);
    let written = Arc::clone(&writers.count);
    let mut probes = Probes::new(info.clone(), options.mode, dice(2), start, tell);

    let mut interruptions = Vec::new();
    let ended = tokio::select! {
        ended = go_wrong(options, &mut world, &mut probes, &consumer, &mut log, &mut interruptions, start) => ended,
        // Writers end only because of an error.
        failed = writers.failed() => failed.map(|()| Probe::Read),
    };
    let ended = match ended {
        Ok(probe) => settle(options.mode, writers, &mut world, &mut probes, &consumer).await.map(|()| probe),
        Err(error) => {
            log.say(start.elapsed(), format!("{error:#}"))?;
            let _ = tokio::time::timeout(PATIENCE, writers.finish()).await;
            Err(error)
        }
    };
    let comparisons = consumer.comparisons.load(Ordering::Relaxed);
    let oracle = tokio::task::block_in_place(|| consumer.finish())?;
    let windows: Vec<_> = interruptions.iter().map(Interruption::window).collect();
    let mut verdict = oracle.verdict(&windows);
    if ended.is_err() {
        // What did not arrive might still have done so, and the last interruption is not over.
        verdict.violations.retain(|violation| !matches!(violation.kind, Kind::Lost | Kind::Twice));
    }

    let report = Report {
        title: title(options, &version, &world.servers.kafka_version, start.elapsed()),
        kills: (world.count.kills, world.count.kills_in_flight),
        interruptions: &interruptions,
        missing: options.missing(),
        verdict: &verdict,
        totals: totals(&written, &world.count, &verdict, comparisons),
    };
    println!("{report}");
    let violations = report.violations(&log);
    if !violations.is_empty() {
        println!("\n{violations}\nall faults: {}", log.path.display());
    }
    if witnessed {
        let servers = &world.servers;
        for line in autopsy::of(&verdict, &servers.superuser, &servers.kafka_address).await? {
            println!("{line}");
        }
    }
    match ended {
        Err(failure) => {
            println!("\nfailed: {failure:#}\nSo what has not arrived is not counted as lost.");
            Ok(false)
        }
        Ok(Probe::Lost) if violations.is_empty() => {
            println!(
                "\nfailed: an event was acknowledged and not read, but nothing is lost: this test is wrong"
            );
            Ok(false)
        }
        Ok(_) if options.mode.swept().is_some() && verdict.cleaned == 0 => {
            println!("\nfailed: the relay has removed no row: this test is too short, or wrong");
            Ok(false)
        }
        Ok(_) => Ok(violations.is_empty()),
    }
}

fn title(options: &Options, postgres: &str, kafka: &str, took: Duration) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "torture of outbox-relay {}\nseed {} · {} s · PostgreSQL {postgres} · Kafka {kafka} · {cores} cores",
        env!("CARGO_PKG_VERSION"),
        options.seed,
        took.as_secs(),
    )
}

fn totals(
    written: &writers::Count,
    done: &faults::Count,
    verdict: &Verdict,
    comparisons: u64,
) -> Vec<String> {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut totals = vec![
        format!(
            "{} transactions committed ({} lost the answer to COMMIT), {} rolled back",
            load(&written.transactions),
            load(&written.looked_up),
            load(&written.rolled_back)
        ),
        format!(
            "{} events committed, {} delivered, {} records came again",
            verdict.committed,
            verdict.delivered,
            verdict.duplicates.len()
        ),
        format!("the slot was compared with Kafka {comparisons} times"),
    ];
    if load(&written.partitions) > 0 {
        totals.push(format!("{} partitions were dropped and made anew", load(&written.partitions)));
    }
    if verdict.cleaned > 0 {
        totals.push(format!("{} rows were deleted, marked or dropped by the relay", verdict.cleaned));
    }
    if let (Some(median), Some(worst)) = median_and_worst(&done.fast_shutdowns) {
        totals.push(format!("PostgreSQL's fast shutdown took {median:.2?}, at worst {worst:.2?}"));
    }
    totals
}

/// One fault after the other, until the time is over.
async fn go_wrong(
    options: &Options,
    world: &mut World,
    probes: &mut Probes,
    consumer: &Consumer,
    log: &mut Log,
    interruptions: &mut Vec<Interruption>,
    start: Instant,
) -> Result<Probe> {
    let dice = Dice::new(options.seed, 3);
    let missing = [options.missing(), options.mode.missing()].concat();
    let mut schedule = Schedule::new(dice, &options.only, options.length, &missing);
    tokio::time::sleep(CALM).await;
    // Faults that nobody waited for are over when the next one is.
    let mut open = Vec::new();
    while start.elapsed() < options.length {
        let step = schedule.step();
        if step.after_calm && open.is_empty() {
            tokio::time::sleep(SLACK + CALM).await;
        }
        let from = start.elapsed();
        log.say(from, step.to_string())?;
        let name = step.fault.as_str();
        let ended = world.inflict(step).await.with_context(|| name.to_owned());
        for note in world.notes.drain(..) {
            log.say(start.elapsed(), format!("  {note}"))?;
        }
        let ended = ended?;
        log.say(start.elapsed(), "  over".to_owned())?;
        open.push(Interruption { fault: step.fault, from, recovery: None, to: Duration::MAX });
        if step.in_haste {
            continue;
        }
        let probe = await_probe(world, probes, consumer).await.with_context(|| format!("after {name}"))?;
        for other in &mut world.others {
            other.is("streaming").await.with_context(|| format!("after {name}"))?;
        }
        let (recovery, now) = (ended.elapsed(), start.elapsed());
        log.say(now, format!("  back after {:.3} s", recovery.as_secs_f64()))?;
        let last = open.len();
        for (index, mut interruption) in open.drain(..).enumerate() {
            interruption.to = now + SLACK;
            if index + 1 == last {
                interruption.recovery = Some(recovery);
            }
            interruptions.push(interruption);
        }
        if probe == Probe::Lost {
            // Proof enough. The oracle will name it.
            log.say(now, "an event is acknowledged, and cannot be read".to_owned())?;
            interruptions.append(&mut open);
            return Ok(Probe::Lost);
        }
    }
    interruptions.append(&mut open);
    Ok(Probe::Read)
}

/// How an event fares that was committed after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Read,
    /// PostgreSQL was told to forget it, and it is not in Kafka.
    Lost,
}

/// Commits an event, and waits until it can be read.
async fn await_probe(world: &mut World, probes: &mut Probes, consumer: &Consumer) -> Result<Probe> {
    let (number, end) = probes.commit().await?;
    let mut seen = consumer.probe.clone();
    let waiting = Instant::now();
    let compared = || consumer.comparisons.load(Ordering::Relaxed);
    let mut acknowledged = None;
    loop {
        // The first of these two may have begun before; each reads all that is there, and tells of it first.
        let missed = acknowledged.is_some_and(|before| compared() >= before + 2);
        if *seen.borrow_and_update() >= number {
            return Ok(Probe::Read);
        }
        if missed {
            return Ok(Probe::Lost);
        }
        world.active.still_runs()?;
        if waiting.elapsed() > PATIENCE {
            bail!("an event that was committed {PATIENCE:?} ago cannot be read yet");
        }
        if tokio::time::timeout(Duration::from_secs(1), seen.changed()).await.is_err()
            && acknowledged.is_none()
            && let Ok(client) = client(&world.servers.superuser).await
            && consumer::confirmed(&client).await.is_ok_and(|confirmed| confirmed >= end)
        {
            acknowledged = Some(compared());
        }
    }
}

/// Nothing goes wrong any more: everything arrives, and is acknowledged.
async fn settle(
    mode: Mode,
    writers: Writers,
    world: &mut World,
    probes: &mut Probes,
    consumer: &Consumer,
) -> Result<()> {
    writers.finish().await?;
    await_probe(world, probes, consumer).await.context("at the end")?;
    let client = patient_client(&world.servers.superuser).await?;
    let end = writers::end(&client).await?;
    let waiting = Instant::now();
    while !consumer::is_done(&client, mode, end).await? {
        if waiting.elapsed() > PATIENCE {
            bail!("what was committed {PATIENCE:?} ago is not acknowledged yet");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if let Some(action) = mode.swept() {
        action.is_done(&client).await?;
    }
    for other in &mut world.others {
        other.stop().await?;
    }
    world.active.stop().await
}

fn options() -> Result<Options> {
    let mut options = Options {
        length: Duration::from_secs(60),
        seed: std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs() % 100_000,
        postgres: "17".to_owned(),
        only: String::new(),
        mode: Mode::Log,
        program: PathBuf::from(env!("CARGO_BIN_EXE_outbox-relay")),
        library: String::new(),
        disks: false,
        shards: 1,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{name}: a value is missing"));
        match name.as_str() {
            "--seconds" => options.length = Duration::from_secs(value()?.parse().context("--seconds")?),
            "--seed" => options.seed = value()?.parse().context("--seed")?,
            "--postgres" => options.postgres = value()?,
            "--only" => {
                options.only = value()?;
                if !Fault::ALL.iter().any(|fault| fault.as_str().contains(&options.only)) {
                    let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.as_str()).collect();
                    bail!(
                        "--only {}: no fault has that in its name\n\nhint: {}",
                        options.only,
                        names.join("\n      ")
                    );
                }
            }
            "--backfill" => options.mode = Mode::Backfill,
            "--poll" => {
                options.mode = match value()?.as_str() {
                    "mark" => Mode::Mark,
                    "delete" => Mode::Delete,
                    other => bail!("--poll {other}: expected mark or delete"),
                };
            }
            "--library" => options.library = value()?,
            "--disks" => options.disks = true,
            "--partitions" => options.mode = Mode::Partitions,
            "--after-publish" => options.mode = Mode::Swept(Action::parse(&value()?)?),
            "--shards" => options.shards = value()?.parse().context("--shards")?,
            "--program" => options.program = PathBuf::from(value()?),
            _ => bail!("{name}: unknown\n\nhint: scripts/torture --help"),
        }
    }
    let divided = matches!(
        options.mode,
        Mode::Log | Mode::Partitions | Mode::Swept(Action::Delete) | Mode::Swept(Action::Mark)
    );
    if options.shards > 1 && !divided {
        bail!("--shards: backfill, polling and drop-partitions know no shards");
    }
    Ok(options)
}

/// What ends a run early: the servers are stopped all the same.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
