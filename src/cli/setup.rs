//! The command `setup`: from arguments, configuration and environment to what [`crate::setup`] does, and its result in
//! words. The environment is an argument.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::{Cli, EXIT_CONFIGURATION, Setup};
use crate::config::{self, Named};
use crate::postgres::conninfo::read_passfile;
use crate::postgres::error::Error;
use crate::setup::{self, Objects, Problem, Report, Target};

/// Exit status of something that is not as it must be.
const EXIT_FAILURE: u8 = 1;

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
    let config = match config::load_names(arguments.config.as_deref(), environment.clone(), &arguments.set) {
        Ok(config) => config,
        Err(problems) => {
            write!(err, "error: {problems}")?;
            return Ok(EXIT_CONFIGURATION);
        }
    };
    let url = config.url.as_ref();
    if options.print {
        return match setup::role(url, &variable) {
            Ok(role) => print(out, &setup::whole(&objects(&config, role))).map(|()| 0),
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut progress = |what: &str| _ = writeln!(err, "{what}");
    match runtime.block_on(setup::make(&server, &objects(&config, role), &mut progress)) {
        Ok(report) => tell(&report, options.output.json, out, err),
        Err(error) if options.output.json => {
            let hint = login_hint(&error, &server.user).unwrap_or_default();
            let mut report = Report::about(&server);
            report.problems.push(Problem::new(error.to_string(), hint));
            tell(&report, true, out, err)
        }
        Err(error) => {
            writeln!(err, "error: {error}")?;
            if let Some(hint) = login_hint(&error, &server.user) {
                writeln!(err, "\nhint: {hint}")?;
            }
            Ok(EXIT_FAILURE)
        }
    }
}

fn login_hint(error: &Error, user: &str) -> Option<String> {
    refuses_login(error).then(|| {
        format!("setup logs in as \"{user}\"; name another role with --as URL or OUTBOX_RELAY_SETUP_URL")
    })
}

fn objects(config: &Named, role: String) -> Objects {
    Objects {
        outbox: config.outbox.clone(),
        role,
        publication: config.publication.clone(),
        slot: config.slot.clone(),
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

fn print(out: &mut dyn Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether the server is there and does not let this role in.
fn refuses_login(error: &Error) -> bool {
    error.server().is_some_and(|error| error.code.starts_with("28") || error.code.starts_with("3D"))
}
