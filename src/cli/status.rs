//! `outbox-relay status`: where the relay stands, from PostgreSQL and, when it runs, from its HTTP endpoint.
//!
//! Each side is asked by itself and within a time, so that one which is away hides nothing of the other.

mod standing;

use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::{Status as Arguments, print};
use crate::config::Config;
use crate::http::{fetch, reachable};
use crate::poll::Polling;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control};
use crate::postgres::error::Error;
use standing::{MOST_PENDING, Postgres, Relay, Standing};

/// A server that takes longer to answer is not well.
const PATIENCE: Duration = Duration::from_secs(3);

/// With `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

/// Clears the screen, and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints where the relay stands; with `--watch` every second until a signal, on a `terminal` always in the same place.
/// Gives whether the slot can be read and is usable.
///
/// # Errors
/// If stdout cannot be written to. Who closes it has seen enough: that is none.
pub async fn run(
    arguments: &Arguments,
    config: &Config,
    server: &ConnInfo,
    terminal: bool,
) -> std::io::Result<bool> {
    let mut looker = Looker { config, server, control: None };
    if !arguments.watch {
        let standing = looker.look().await;
        let text = if arguments.output.json { format!("{:#}\n", standing.json()) } else { standing.text() };
        print(&mut std::io::stdout(), &text)?;
        return Ok(standing.problems().is_empty());
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        let look = async {
            ticks.tick().await;
            looker.look().await
        };
        let standing = tokio::select! {
            standing = look => standing,
            _ = interrupt.recv() => return Ok(true),
            _ = terminate.recv() => return Ok(true),
        };
        let text = match (arguments.output.json, terminal) {
            (true, _) => format!("{}\n", standing.json()),
            (false, true) => {
                let size =
                    terminal_size::terminal_size().map(|(width, height)| (width.0.into(), height.0.into()));
                redraw(&standing.text(), std::mem::take(&mut first), size)
            }
            (false, false) => standing.line(),
        };
        if !print(&mut std::io::stdout(), &text)? {
            return Ok(true);
        }
    }
}

/// Draws `text` over what was there, line by line: nothing flickers, as it would after clearing the screen. What does not
/// fit on a screen of `size` (columns, rows) is left out, because a screen that scrolls cannot be drawn over.
fn redraw(text: &str, first: bool, size: Option<(usize, usize)>) -> String {
    let (columns, rows) = size.unwrap_or((usize::MAX, usize::MAX));
    let mut screen = if first { CLEAR } else { "\x1b[H" }.to_owned();
    // The cursor stands in a row of its own.
    let mut left = rows.saturating_sub(1);
    for line in text.lines() {
        let taken = line.chars().count().div_ceil(columns.max(1)).max(1);
        if taken > left {
            break;
        }
        left = left.saturating_sub(taken);
        screen.push_str(line);
        screen.push_str("\x1b[K\n");
    }
    screen.push_str("\x1b[J");
    screen
}

/// Looks at both sides, again and again on one connection.
struct Looker<'a> {
    config: &'a Config,
    server: &'a ConnInfo,
    control: Option<(Control, ConnInfo)>,
}

impl Looker<'_> {
    async fn look(&mut self) -> Standing {
        let relay = relay(self.config.http.as_deref());
        let (postgres, relay) = tokio::join!(self.postgres(), relay);
        Standing { at: SystemTime::now(), slot: self.config.postgres.slot.clone(), postgres, relay }
    }

    async fn postgres(&mut self) -> Result<Postgres, String> {
        let answer = match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "look at {}: no answer within {}",
                self.server.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                humantime::format_duration(PATIENCE)
            )),
        };
        if answer.is_err() {
            self.control = None;
        }
        answer
    }

    async fn ask(&mut self) -> Result<Postgres, Error> {
        let (control, at) = match self.control.take() {
            Some(control) => control,
            None => Control::connect(self.server).await?,
        };
        let catalog = control.catalog();
        let postgres = Postgres {
            host: at.hosts.first().map(ToString::to_string).unwrap_or_default(),
            database: at.dbname.clone(),
            server: catalog.server().await?,
            slot: catalog.slot(&self.config.postgres.slot).await?,
            pending: match &self.config.polling {
                Some(polling) => Some(self.pending(&catalog, polling).await?),
                None => None,
            },
        };
        self.control = Some((control, at));
        Ok(postgres)
    }
}

impl Looker<'_> {
    /// The pending rows of each table.
    async fn pending(&self, catalog: &Catalog, polling: &Polling) -> Result<Vec<(String, u64)>, Error> {
        let mut pending = Vec::new();
        for outbox in
            catalog.meant(&self.config.outbox.tables).await?.into_iter().flat_map(|meant| meant.found)
        {
            let name = outbox.table.name;
            let rows = catalog.count_pending(&name, &polling.after.pending(), MOST_PENDING).await?;
            pending.push((name.to_string(), rows));
        }
        Ok(pending)
    }
}

async fn relay(listen: Option<&str>) -> Relay {
    let Some(listen) = listen else {
        return Relay::Off;
    };
    let address = reachable(listen);
    match fetch(&address, "/status").await {
        Ok(page) => Relay::read(address, &page),
        Err(error) => Relay::Silent { address, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_text_leaves_nothing_of_the_one_before() {
        assert_eq!(redraw("a\nb\n", true, None), "\x1b[2J\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(redraw("a\n", false, Some((80, 24))), "\x1b[Ha\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_screen_that_is_too_small_does_not_scroll() {
        let shown = |columns, rows| {
            let screen = redraw("one\n\nthree and more\nfour\n", false, Some((columns, rows)));
            screen.matches('\n').count()
        };
        assert_eq!([shown(80, 5), shown(80, 4), shown(80, 3)], [4, 3, 2]);
        // The third line takes two rows.
        assert_eq!([shown(10, 6), shown(10, 5), shown(10, 4)], [4, 3, 2]);
        assert_eq!([shown(0, 0), shown(10, 1)], [0, 0]);
    }
}
