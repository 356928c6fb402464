//! What the machine gives to the relay and its servers, and can take away: names, the time of day, room on a disk.
//!
//! The first two are numbers in files that a library reads inside the relay (machine.c), because nobody could change them for
//! one process otherwise; the third is a file system that is filled.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The hosts that the relay knows by name.
pub(crate) struct Names(Number);

/// PostgreSQL's name and Kafka's. No name server ever knows one that ends like this.
pub(crate) const POSTGRES: &str = "postgres.outbox-relay.invalid";
pub(crate) const KAFKA: &str = "kafka.outbox-relay.invalid";

impl Names {
    /// In `folder`; both can be resolved.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        Ok(Self(Number::new(folder.join("names"))?))
    }

    /// Both can be resolved.
    pub(crate) fn give(&self) -> Result<()> {
        self.0.set(0)
    }

    /// Neither can.
    pub(crate) fn take(&self) -> Result<()> {
        self.0.set(1)
    }

    /// The environment of a relay that asks here first.
    pub(crate) fn environment(&self) -> (&'static str, PathBuf) {
        ("TORTURE_NAMES", self.0.path.clone())
    }
}

/// The relay's time of day.
pub(crate) struct Clock {
    number: Number,
    ahead: i64,
}

impl Clock {
    /// In `folder`; it is right.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        Ok(Self { number: Number::new(folder.join("clock"))?, ahead: 0 })
    }

    /// Sets it forward by so many seconds, or back; how far it is ahead then.
    pub(crate) fn set_by(&mut self, seconds: i64) -> Result<i64> {
        self.ahead += seconds;
        self.number.set(self.ahead)?;
        Ok(self.ahead)
    }

    /// The environment of a relay that goes by it.
    pub(crate) fn environment(&self) -> (&'static str, PathBuf) {
        ("TORTURE_CLOCK", self.number.path.clone())
    }
}

/// A number in a file. Relays have mapped it, and see at once that it has changed.
struct Number {
    path: PathBuf,
    file: File,
}

impl Number {
    /// 0, in `path`.
    fn new(path: PathBuf) -> Result<Self> {
        let number = Self { file: File::create(&path)?, path };
        number.set(0)?;
        Ok(number)
    }

    fn set(&self, value: i64) -> Result<()> {
        self.file
            .write_all_at(&value.to_ne_bytes(), 0)
            .with_context(|| format!("write {}", self.path.display()))
    }
}

/// A server's own file system, small enough to be filled.
pub(crate) struct Disk {
    ballast: PathBuf,
}

impl Disk {
    /// The one that is mounted at `folder`.
    pub(crate) fn at(folder: &str) -> Self {
        // Of no file of a server, and of no topic.
        Self { ballast: Path::new(folder).join("ballast") }
    }

    /// Takes all the room that there is. Called again, what was given back meanwhile.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.ballast)?;
        let zeros = vec![0; 1024 * 1024];
        loop {
            match file.write(&zeros) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("fill a disk"),
            }
        }
    }

    /// Gives it back.
    pub(crate) fn empty(&self) -> Result<()> {
        fs::remove_file(&self.ballast).context("empty a disk")
    }
}
