//! The command `setup`: from arguments, configuration and environment to what [`crate::setup`] does, and its result in
//! words. The environment is an argument.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use super::{Cli, EXIT_CONFIGURATION, EXIT_FAILURE, Setup, print};
use crate::config::{self, Config, Named, Problems};
use crate::findings::{self, Finding};
use crate::postgres::conninfo::{ConnInfo, read_passfile};
use crate::postgres::error::Error;
use crate::setup::{self, Objects, Report, Target};

/// Makes what is missing in PostgreSQL, or prints the SQL for it. Results go to `out`, errors to `err`. Gives the exit
/// status.
///
/// # Errors
/// If nothing can be written. A reader of `out` that has gone away, such as `head`, is a normal end.
pub fn run(
    arguments: &Cli,
    options: &Setup,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let environment: BTreeMap<OsString, OsString> = environment.into_iter().collect();
    let variable = |name: &str| Some(environment.get(OsStr::new(name))?.to_str()?.to_owned());
    let shards = options.shards.map(|count| ("shard.count".to_owned(), count.to_string()));
    let set: Vec<_> = arguments.set.iter().cloned().chain(shards).collect();
    let config = match config::load_names(arguments.config.as_deref(), environment.clone(), &set) {
        Ok(config) => config,
        Err(problems) => {
            write!(err, "error: {problems}")?;
            return Ok(EXIT_CONFIGURATION);
        }
    };
    let url = config.url.as_ref();
    if options.print {
        return match setup::role(url, &variable) {
            Ok(role) => {
                let objects = objects(&config, role);
                let sql = options.from.map(|from| setup::change(&objects, from));
                print(out, &sql.unwrap_or_else(|| setup::whole(&objects))).map(|_| 0)
            }
            Err(problem) => refused(err, &problem),
        };
    }
    let read = |path: &Path| std::fs::read_to_string(path);
    let administrator = setup::administrator(options.url.as_ref(), &variable, &read);
    let target = administrator
        .and_then(|administrator| setup::target(administrator.as_ref(), url, &variable, &read_passfile));
    let Target { server, role } = match target {
        Ok(target) => target,
        Err(problem) => return refused(err, &problem),
    };
    if options.backfill && config.shards > 1 {
        let problem = "--backfill knows no shards\n\nhint: let one relay without shards send what is there first, or use republish";
        return refused(err, &problem);
    }
    let whole = match options.backfill.then(|| load(arguments, environment)).transpose() {
        Ok(whole) => whole,
        Err(problems) => {
            write!(err, "error: {problems}")?;
            return Ok(EXIT_CONFIGURATION);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut progress = |what: &str| _ = writeln!(err, "{what}");
    match runtime.block_on(setup::make(&server, &objects(&config, role), &mut progress, whole.as_ref())) {
        Ok(report) => tell(&report, options.output.json, out, err),
        Err(error) => {
            let problem = unreachable(&error, &server);
            if options.output.json {
                let mut report = Report::about(&server);
                report.problems.push(problem);
                return tell(&report, true, out, err);
            }
            writeln!(err, "error: {problem}")?;
            Ok(EXIT_FAILURE)
        }
    }
}

/// The whole configuration: a backfill takes Kafka as well.
fn load(arguments: &Cli, environment: BTreeMap<OsString, OsString>) -> Result<Config, Problems> {
    let mut config = config::load(arguments.config.as_deref(), environment, &arguments.set)?;
    config.postgres.backfill = true;
    config.postgres.create_slot = true;
    Ok(config)
}

/// Why there was nothing to work on.
fn unreachable(error: &Error, server: &ConnInfo) -> Finding {
    let problem = findings::of_login(error, server);
    let user = &server.user;
    let fix = match error.server().map(|error| error.code.as_str()) {
        Some("3D000") => "name the service's database: --as postgres://USER@HOST/DATABASE".to_owned(),
        Some(code) if code.starts_with("28") => {
            format!("setup logs in as \"{user}\"; name another role with --as URL or OUTBOX_RELAY_SETUP_URL")
        }
        _ => return problem,
    };
    Finding { fix, ..problem }
}

fn objects(config: &Named, role: String) -> Objects {
    Objects {
        outbox: config.outbox.clone(),
        role,
        publication: config.publication.clone(),
        slot: config.slot.clone(),
        after_publish: config.after_publish.clone(),
        shards: config.shards,
        sharding: None,
        polls: config.polls,
    }
}

fn tell(report: &Report, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    if json {
        print(out, &format!("{:#}\n", report.json()))?;
    } else {
        print(out, &report.to_string())?;
        for problem in &report.problems {
            writeln!(err, "\nerror: {problem}")?;
        }
    }
    Ok(if report.is_ok() { 0 } else { EXIT_FAILURE })
}

fn refused(err: &mut dyn Write, problem: &dyn Display) -> io::Result<u8> {
    writeln!(err, "error: {problem}")?;
    Ok(EXIT_CONFIGURATION)
}
