//! A relay's process: one session after the other with one outlet, as the supervisor has it, under a watch that counts how
//! often it wakes.

use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::World;
use super::client::Handle;
use super::plan::{DEAD_LETTERS, Plan};
use super::postgres::outboxes;
use crate::config::{self, Config, OnRejected};
use crate::disposition::Disposition;
use crate::lsn::Lsn;
use crate::metrics::Metrics;
use crate::outbox::Topic;
use crate::postgres::conninfo::ConnInfo;
use crate::session::control_watch::Subjects;
use crate::session::start::{Started, relay};
use crate::session::{Error, Known, Outlet, Session};
use crate::status::Status;
use crate::wal::Timelines;

/// As the supervisor's.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SLOT_POLL: Duration = Duration::from_millis(500);
const HELD_BY_ANOTHER: Duration = Duration::from_secs(5);

/// More wake-ups without the time going on are a circle.
const AT_ONCE: u32 = 1_000;

/// More wake-ups in a second have no reason. A queue that is full is tried 200 times.
const IN_A_SECOND: u32 = 2_000;

static INFO: LazyLock<ConnInfo> =
    LazyLock::new(|| ConnInfo::parse("host=simulated user=u dbname=shop", &|_| None, &|_| None).unwrap());

/// Reading a configuration takes longer than most worlds.
static CONFIGS: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let config = |largest: &str, create: &str| {
        let set = [
            ("postgres.url", "postgres://u@simulated/shop"),
            ("outbox.tables", "public.outbox,audit.outbox"),
            ("kafka.bootstrap.servers", "simulated:9092"),
            ("kafka.message.max.bytes", largest),
            ("topics.create", create),
        ];
        let set = set.map(|(key, value)| (key.to_owned(), value.to_owned()));
        config::load(None, [], &set).unwrap()
    };
    vec![
        config("4000", "false"),
        config("4000", "true"),
        config("1000000", "false"),
        config("1000000", "true"),
    ]
});

/// The relay's configuration in a world.
pub(super) fn configuration(plan: &Plan, passed_over: &[String]) -> Config {
    let number = usize::from(plan.largest_message > 4_000) * 2 + usize::from(plan.create_topics);
    let mut config = CONFIGS[number].clone();
    config.delivery.skip = passed_over.to_vec();
    config.delivery.max_in_flight = plan.max_in_flight;
    config.delivery.drain_timeout = plan.drain_timeout;
    if plan.dead_letters {
        config.delivery.on_rejected = OnRejected::DeadLetter(Topic::new(DEAD_LETTERS.as_bytes()).unwrap());
    }
    config
}

/// Relays until `shutdown` becomes true.
///
/// # Errors
/// An error after which the supervisor would not try again.
pub(super) async fn live(
    world: World,
    config: Config,
    status: &Status,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let metrics = Metrics::new();
    let properties: Vec<_> = config.kafka.iter().collect();
    let producer = Handle::producer(&world.kafka, &properties)?;
    let mut outlet = Outlet::over(producer, config.kafka.clone(), config.topics.clone());
    let mut pause = Duration::from_millis(100);
    let mut last = None;
    let mut known = Known::default();
    loop {
        let began = Instant::now();
        let session = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            session = start(&world, &config, &mut known, &mut last, &mut outlet, status, &metrics) => session,
        };
        let ended = match session {
            Ok(session) => session.run(&mut shutdown).await,
            Err(error) => Err(error),
        };
        let Err(error) = ended else {
            return Ok(());
        };
        world.witness.note(|| format!("relay: the session has ended: {error}"));
        if error.disposition() == Disposition::Stop {
            return Err(error);
        }
        if matches!(error, Error::Kafka(_)) {
            outlet.renew()?;
        }
        if began.elapsed() >= Duration::from_secs(60) || error.is_refused_batch() {
            pause = Duration::from_millis(100);
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            () = sleep(pause.max(error.least_delay())) => {}
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// What `session/start.rs` does, without the catalog: waits for the slot, and begins to stream.
async fn start<'a>(
    world: &World,
    config: &'a Config,
    known: &'a mut Known,
    last: &mut Option<u32>,
    outlet: &'a mut Outlet,
    status: &'a Status,
    metrics: &'a Metrics,
) -> Result<Session<'a>, Error> {
    let control = world.postgres.control()?;
    let since = Instant::now();
    loop {
        let holder = world.postgres.server().holder;
        if holder.is_none() {
            break;
        }
        if holder == *last {
            // What has become of the connection to it is known here, and perhaps not there.
            world.postgres.change(|server| server.cut_all());
        } else if since.elapsed() >= HELD_BY_ANOTHER && outlet.unreported() > 0 {
            outlet.renew()?;
        }
        sleep(SLOT_POLL).await;
    }
    let (mut connection, number) = world.postgres.connect().map_err(Error::Replication)?;
    let publications = [config.postgres.publication.as_str()];
    let begun = connection.start_replication(&config.postgres.slot, &publications, false);
    let late = |_| crate::postgres::error::Error::Closed { action: "start replication".into() };
    timeout(Duration::from_secs(10), begun).await.map_err(late)??;
    *last = Some(number);
    let confirmed_flush = Lsn::new(world.postgres.server().confirmed);
    let session = {
        let mut cluster = world.kafka.cluster();
        cluster.session += 1;
        cluster.session
    };
    world.witness.note(|| format!("relay: session {session} streams from {confirmed_flush}"));
    let subjects = Subjects {
        outboxes: outboxes(),
        entries: config.outbox.tables.clone(),
        publication: config.postgres.publication.clone(),
        version_num: 170_000,
    };
    let started = Started {
        connection,
        control,
        server: INFO.clone(),
        relay: relay(
            config,
            subjects.ids(),
            Some(format!("7/{}", config.postgres.slot)),
            Timelines::only(1),
            confirmed_flush,
        ),
        subjects,
        wal_sender_timeout: world.plan.wal_sender_timeout,
        walsender: i32::try_from(number).ok(),
        rows: None,
        origin: None,
    };
    Ok(Session::new(config, started, known, outlet, status, metrics))
}

/// Polls what a process does, unless it is stopped, and gives up if it wakes without end.
pub(super) struct Watched<'a, F> {
    inner: Pin<Box<F>>,
    pub(super) watch: &'a mut Watch,
    paused_until: Pin<Box<Sleep>>,
}

/// How often processes woke.
pub(super) struct Watch {
    pub(super) polls: u64,
    /// The most in a second.
    pub(super) busiest: u32,
    /// How long after all was well again everything had arrived.
    pub(super) settled: Duration,
    second: Instant,
    in_second: u32,
    at: Instant,
    at_once: u32,
}

/// How a process ended.
pub(super) enum Ended {
    Itself(Result<(), Error>),
    /// It woke without end.
    Spun,
}

impl Default for Watch {
    fn default() -> Self {
        let now = Instant::now();
        Self { polls: 0, busiest: 0, settled: Duration::ZERO, second: now, in_second: 0, at: now, at_once: 0 }
    }
}

impl Watch {
    /// Counts a wake-up; false if it is one too many.
    fn wakes(&mut self, now: Instant) -> bool {
        self.polls += 1;
        if now >= self.second + Duration::from_secs(1) {
            (self.second, self.in_second) = (now, 0);
        }
        if self.at != now {
            (self.at, self.at_once) = (now, 0);
        }
        self.in_second += 1;
        self.at_once += 1;
        self.busiest = self.busiest.max(self.in_second);
        self.at_once < AT_ONCE && self.in_second < IN_A_SECOND
    }
}

impl<'a, F: Future<Output = Result<(), Error>>> Watched<'a, F> {
    pub(super) fn new(inner: F, watch: &'a mut Watch) -> Self {
        let paused_until = Box::pin(tokio::time::sleep_until(Instant::now()));
        Self { inner: Box::pin(inner), watch, paused_until }
    }

    /// It stands still for so long.
    pub(super) fn pause(&mut self, length: Duration) {
        let until = self.paused_until.deadline().max(Instant::now() + length);
        self.paused_until.as_mut().reset(until);
    }

    /// Until when it stands still; if it does not, the present.
    pub(super) fn paused_until(&self) -> Instant {
        self.paused_until.deadline().max(Instant::now())
    }
}

impl<F: Future<Output = Result<(), Error>>> Future for Watched<'_, F> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let now = Instant::now();
        if self.paused_until.deadline() > now && self.paused_until.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if !self.watch.wakes(now) {
            return Poll::Ready(Ended::Spun);
        }
        self.inner.as_mut().poll(context).map(Ended::Itself)
    }
}
