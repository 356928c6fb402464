//! What the machine gives to the relay and its servers, and can take away: names, the time of day, room on a disk.
//!
//! The first two are files that libraries read inside the relay (nss_wrapper and clock.c), because nobody could change them
//! for one process otherwise; the third is a file system that is filled.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

/// The hosts that the relay knows by name.
pub(crate) struct Names {
    file: PathBuf,
    /// nss_wrapper reads the file again when its time has changed by a second.
    written: u64,
}

/// PostgreSQL's name and Kafka's. No name server ever knows one that ends like this.
pub(crate) const POSTGRES: &str = "postgres.outbox-relay.invalid";
pub(crate) const KAFKA: &str = "kafka.outbox-relay.invalid";

impl Names {
    /// In `folder`; both can be resolved.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut names = Self { file: folder.join("hosts"), written: 0 };
        names.give()?;
        Ok(names)
    }

    /// Both can be resolved.
    pub(crate) fn give(&mut self) -> Result<()> {
        self.write(&format!("127.0.0.1 {POSTGRES} {KAFKA}\n"))
    }

    /// Neither can.
    pub(crate) fn take(&mut self) -> Result<()> {
        self.write("")
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.written += 1;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.written);
        replace(&self.file, text, time)
    }

    /// The environment of a relay that asks here first.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 1] {
        [("NSS_WRAPPER_HOSTS", self.file.clone())]
    }
}

/// The relay's time of day.
pub(crate) struct Clock {
    path: PathBuf,
    file: File,
    ahead: i64,
}

impl Clock {
    /// In `folder`; it is right.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let path = folder.join("clock");
        let mut clock = Self { file: File::create(&path)?, path, ahead: 0 };
        clock.set_by(0)?;
        Ok(clock)
    }

    /// Sets it forward by so many seconds, or back; how far it is ahead then. Relays have mapped the file and see it at
    /// once.
    pub(crate) fn set_by(&mut self, seconds: i64) -> Result<i64> {
        self.ahead += seconds;
        self.file.write_all_at(&self.ahead.to_ne_bytes(), 0).context("set the clock")?;
        Ok(self.ahead)
    }

    /// The environment of a relay that goes by it.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 1] {
        [("TORTURE_CLOCK", self.path.clone())]
    }
}

/// As a whole: a reader finds the old file or the new one.
fn replace(file: &Path, text: &str, time: SystemTime) -> Result<()> {
    let new = file.with_extension("new");
    let mut writer = File::create(&new)?;
    writer.write_all(text.as_bytes())?;
    writer.set_modified(time)?;
    fs::rename(&new, file).with_context(|| format!("write {}", file.display()))
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
