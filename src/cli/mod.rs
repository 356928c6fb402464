//! The command line, as far as it can be read without looking at anything else.
//!
//! Arguments go in; what was asked for comes out, or a message of clap's with its exit status (0 for `--help` and
//! `--version`, 2 for wrong usage). Nothing is read, opened or started here.

pub mod check;
pub mod config;
pub mod log;
pub mod republish;
pub mod setup;
pub mod status;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::secret::Secret;

/// Exit status of a configuration that was refused (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIGURATION: u8 = 78;

/// Exit status of something that is not, or was not done, as it must be.
const EXIT_FAILURE: u8 = 1;

/// What was typed.
#[derive(Parser)]
#[command(
    name = "outbox-relay",
    version,
    about = "Relays committed rows of a PostgreSQL outbox table to Kafka",
    long_about = "Relays committed rows of a PostgreSQL outbox table to Kafka.\n\n\
        It follows the write-ahead log through a logical replication slot, sends each inserted row as a record, and lets \
        PostgreSQL forget that log only after Kafka has confirmed the record.",
    after_long_help = AFTER_HELP,
    max_term_width = 100
)]
pub struct Cli {
    /// The configuration, a TOML file
    ///
    /// Not needed where environment or --set give everything.
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Set a configuration key, over file and environment
    ///
    /// May be repeated. Lists are written with commas. Everyone on the machine can see it: keep passwords out.
    #[arg(long, value_name = "KEY=VALUE", global = true, value_parser = key_and_value)]
    pub set: Vec<(String, String)>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Relay until told to stop by SIGTERM or SIGINT
    Run,
    /// Look at everything the relay needs, and print every problem at once
    ///
    /// Each comes with the SQL or the setting that mends it. Nothing is changed. Exit status 1 if something keeps the
    /// relay from working, now (wait) or until somebody mends it (stop).
    Check(Output),
    /// Create what is missing: table, role and its grants, publication, slot
    ///
    /// What exists is left as it is: nothing is ever dropped or altered. It may be run again at any time.
    Setup(Setup),
    /// Tell where the relay stands, from PostgreSQL and, if it runs, from its HTTP endpoint
    Status(Status),
    /// Print the effective configuration with the origin of each value, secrets hidden
    Config(Output),
    /// Send chosen rows of the outbox again: by id, by time, by status, by aggregate
    ///
    /// All given conditions must hold. Rows are sent as they are in the table now, in the order of their time and id, with the header
    /// "republished". A relay may run beside it. Exit status 1 if Kafka did not take all of them.
    Republish(Republish),
}

/// How results are written.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct Output {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `setup`.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct Setup {
    /// Who creates it: a connection string of the table's owner or an administrator
    ///
    /// Used once and never stored. Without it, the role of postgres.url, which usually may create the slot alone.
    /// Everyone on the machine can see arguments: a URL with a password belongs into OUTBOX_RELAY_SETUP_URL.
    #[arg(long = "as", value_name = "URL", value_parser = secret)]
    pub url: Option<Secret>,

    /// Print the SQL instead of running it
    #[arg(long, conflicts_with = "json")]
    pub print: bool,

    /// For so many relays that share the outbox, each with a part of the keys: shard.count
    ///
    /// Makes a publication and a slot for each. Takes PostgreSQL 15 or later.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub shards: Option<u32>,

    /// Print the SQL by which so many relays give over to the new ones
    ///
    /// 1 stands for a relay without shards.
    #[arg(long, value_name = "COUNT", requires = "print", requires = "shards", value_parser = clap::value_parser!(u32).range(1..))]
    pub from: Option<u32>,

    /// Before the slot is made, send the rows that are in the table already
    ///
    /// They go to Kafka in the order of their time and id, and the stream goes on from exactly there. Takes the whole
    /// configuration. If it is interrupted, nothing is left behind, and the next time begins anew.
    #[arg(long, conflicts_with = "print")]
    pub backfill: bool,

    /// How results are written.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `status`.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct Status {
    /// Look again every second until interrupted
    #[arg(long)]
    pub watch: bool,

    /// How results are written.
    #[command(flatten)]
    pub output: Output,
}

/// Arguments of `republish`.
#[derive(Debug, Default, PartialEq, Eq, Args)]
#[command(group(clap::ArgGroup::new("choice").required(true).multiple(true)
    .args(["id", "since", "until", "status", "aggregate"])))]
pub struct Republish {
    /// Rows with these ids; may be repeated, or take several with commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub id: Vec<String>,

    /// Rows not older than this, as PostgreSQL reads a time: "2026-01-31 12:00+01"
    ///
    /// By outbox.columns.timestamp, or by the column created_at.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Rows older than this
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Rows whose column status has this value, such as PENDING
    #[arg(long)]
    pub status: Option<String>,

    /// Rows of this aggregate type, and of this aggregate id if it is given
    #[arg(long, value_name = "TYPE[/ID]")]
    pub aggregate: Option<String>,

    /// Count, show some, and send nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask, however many there are
    #[arg(long)]
    pub yes: bool,

    /// So many a second at most
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,

    /// How results are written.
    #[command(flatten)]
    pub output: Output,
}

const AFTER_HELP: &str = "\
Configuration:
  --set is stronger than the environment, which is stronger than the file, which is stronger than
  the defaults. Every key is also a variable: OUTBOX_RELAY_, the section, two underscores, the key.
  With _FILE behind it, the variable names a file that holds the value; so passwords stay out of
  sight. Under KAFKA__ an underscore stands for a dot.

    postgres.url             OUTBOX_RELAY_POSTGRES__URL             required
    kafka.bootstrap.servers  OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS  required
    kafka.sasl.password      OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE

Exit status:
   0  done, or stopped as asked
   1  stopped by an error
   2  wrong usage of the command line
  78  configuration refused; stderr lists everything that is wrong with it

Example:
  outbox-relay --set postgres.url=postgres://outbox_relay@db.example/shop \\
               --set kafka.bootstrap.servers=kafka.example:9092 run
";

impl Cli {
    /// Reads arguments, the program's name first.
    ///
    /// # Errors
    /// Also for `--help` and `--version`: clap's error knows what to print, where, and the exit status.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments)
    }
}

/// Writes a result, at once. A reader that has seen enough, such as `head`, is a normal end: false, nobody reads any more.
fn print(out: &mut dyn Write, text: &str) -> io::Result<bool> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as log.level=debug".to_owned()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap takes parsers that may fail")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(arguments: &str) -> Result<Cli, String> {
        let arguments = format!("outbox-relay {arguments}");
        Cli::read(arguments.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn help_tells_what_one_needs_to_start() {
        // As on a terminal of this width.
        insta::assert_snapshot!(Cli::command().term_width(100).render_long_help(), @r"
        Relays committed rows of a PostgreSQL outbox table to Kafka.

        It follows the write-ahead log through a logical replication slot, sends each inserted row as a
        record, and lets PostgreSQL forget that log only after Kafka has confirmed the record.

        Usage: outbox-relay [OPTIONS] <COMMAND>

        Commands:
          run        Relay until told to stop by SIGTERM or SIGINT
          check      Look at everything the relay needs, and print every problem at once
          setup      Create what is missing: table, role and its grants, publication, slot
          status     Tell where the relay stands, from PostgreSQL and, if it runs, from its HTTP endpoint
          config     Print the effective configuration with the origin of each value, secrets hidden
          republish  Send chosen rows of the outbox again: by id, by time, by status, by aggregate
          help       Print this message or the help of the given subcommand(s)

        Options:
          -c, --config <FILE>
                  The configuration, a TOML file
                  
                  Not needed where environment or --set give everything.

              --set <KEY=VALUE>
                  Set a configuration key, over file and environment
                  
                  May be repeated. Lists are written with commas. Everyone on the machine can see it: keep
                  passwords out.

          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version

        Configuration:
          --set is stronger than the environment, which is stronger than the file, which is stronger than
          the defaults. Every key is also a variable: OUTBOX_RELAY_, the section, two underscores, the key.
          With _FILE behind it, the variable names a file that holds the value; so passwords stay out of
          sight. Under KAFKA__ an underscore stands for a dot.

            postgres.url             OUTBOX_RELAY_POSTGRES__URL             required
            kafka.bootstrap.servers  OUTBOX_RELAY_KAFKA__BOOTSTRAP_SERVERS  required
            kafka.sasl.password      OUTBOX_RELAY_KAFKA__SASL_PASSWORD_FILE

        Exit status:
           0  done, or stopped as asked
           1  stopped by an error
           2  wrong usage of the command line
          78  configuration refused; stderr lists everything that is wrong with it

        Example:
          outbox-relay --set postgres.url=postgres://outbox_relay@db.example/shop \
                       --set kafka.bootstrap.servers=kafka.example:9092 run
        ");
        insta::assert_snapshot!(Cli::command().term_width(100).render_help(), @"
        Relays committed rows of a PostgreSQL outbox table to Kafka

        Usage: outbox-relay [OPTIONS] <COMMAND>

        Commands:
          run        Relay until told to stop by SIGTERM or SIGINT
          check      Look at everything the relay needs, and print every problem at once
          setup      Create what is missing: table, role and its grants, publication, slot
          status     Tell where the relay stands, from PostgreSQL and, if it runs, from its HTTP endpoint
          config     Print the effective configuration with the origin of each value, secrets hidden
          republish  Send chosen rows of the outbox again: by id, by time, by status, by aggregate
          help       Print this message or the help of the given subcommand(s)

        Options:
          -c, --config <FILE>    The configuration, a TOML file
              --set <KEY=VALUE>  Set a configuration key, over file and environment
          -h, --help             Print help (see more with '--help')
          -V, --version          Print version
        ");
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_on_both_sides_of_the_command() {
        for arguments in [
            "-c a.toml --set x.y=1=2 run",
            "run --set x.y=1=2 --config a.toml",
            "--set x.y=1=2 run -c a.toml",
        ] {
            let cli = read(arguments).unwrap();
            assert_eq!(cli.command, Command::Run);
            assert_eq!(cli.config.unwrap(), PathBuf::from("a.toml"));
            assert_eq!(cli.set, [("x.y".to_owned(), "1=2".to_owned())]);
        }
    }

    #[test]
    fn wrong_usage_says_what_was_expected() {
        insta::assert_snapshot!(read("--set log.level run").map(|_| ()).unwrap_err(), @"
        error: invalid value 'log.level' for '--set <KEY=VALUE>': expected KEY=VALUE, such as log.level=debug

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(read("walk").map(|_| ()).unwrap_err(), @"
        error: unrecognized subcommand 'walk'

        Usage: outbox-relay [OPTIONS] <COMMAND>

        For more information, try '--help'.
        ");
    }
}
