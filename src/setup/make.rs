//! Makes one thing after the other, each in a transaction of its own, and looks at all of them.

use std::time::Duration;

use super::judge;
use super::look::{self, Session, Table};
use super::report::{Kind, Part, Report, State};
use super::rows;
use super::script::{self, Objects};
use crate::outbox::TableName;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control};
use crate::postgres::error::Error;
use crate::postgres::sql::{self, identifier};

/// How long making a slot may take before the transactions it waits for are told, and then how often.
const SLOT_PATIENCE: Duration = Duration::from_secs(3);
const REMINDER: Duration = Duration::from_secs(30);

/// Limits that are set for the role or the database must not cut what waits, and transactions must be able to write.
/// `transaction_timeout` is there from 17 on.
const PINNED: &str = "SET default_transaction_read_only = off; \
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
        ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout')";

/// Makes what is missing on `server`, as its user. What takes long is told to `progress`.
///
/// # Errors
/// If the server cannot be reached, or the connection breaks. What the server refuses is in the report.
pub async fn make(
    server: &ConnInfo,
    objects: &Objects,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let (control, server) = Control::connect(server).await?;
    let catalog = control.catalog();
    catalog.execute("prepare the session", PINNED).await?;
    let session = look::session(&catalog).await?;
    let mut report = Report::about(&server);
    if let Some(problem) = judge::standby(&session) {
        report.problems.push(problem);
        return Ok(report);
    }
    let mut work = Work { catalog, session, objects, report };
    let tables = work.tables().await?;
    work.role().await?;
    let publication = work.publication(&tables).await?;
    work.slot(&server, publication, progress).await?;
    Ok(work.report)
}

struct Work<'a> {
    catalog: Catalog,
    session: Session,
    objects: &'a Objects,
    report: Report,
}

/// Whether the slot can come after the publication.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publication {
    Made,
    Found,
    /// It is not there, or is not as it must be.
    Wrong,
}

impl Work<'_> {
    /// The tables that are there in the end.
    async fn tables(&mut self) -> Result<Vec<(TableName, Table)>, Error> {
        let mut tables = Vec::new();
        for name in &self.objects.outbox.tables {
            let shown = sql::table(name);
            let before = look::table(&self.catalog, name).await?;
            if let Some(found) = &before {
                self.report.problems.extend(judge::table(name, found, self.objects));
            } else {
                let statement = script::table(self.objects, name);
                self.run(Kind::Table, &shown, &statement).await?;
            }
            let after = look::table(&self.catalog, name).await?;
            self.say(Kind::Table, &shown, before.is_some(), after.is_some());
            tables.extend(after.map(|table| (name.clone(), table)));
        }
        Ok(tables)
    }

    async fn role(&mut self) -> Result<(), Error> {
        let shown = identifier(&self.objects.role);
        let before = look::role(&self.catalog, &self.objects.role).await?;
        // The part also grants CONNECT, should that be missing alone.
        if before.is_none_or(|role| !role.connect) {
            self.run(Kind::Role, &shown, &script::role(self.objects)).await?;
        }
        let after = look::role(&self.catalog, &self.objects.role).await?;
        self.say(Kind::Role, &shown, before.is_some(), after.is_some());
        if let Some((before, after)) = before.zip(after)
            && after.connect
            && !before.connect
        {
            let database = identifier(&self.session.database);
            self.say(Kind::Grant, &format!("CONNECT ON DATABASE {database} TO {shown}"), false, true);
        }
        if let Some(role) = after {
            self.report.problems.extend(judge::role(self.objects, &self.session, &role));
        }
        let password = look::password(&self.catalog, &self.objects.role).await?;
        let made = before.is_none() && after.is_some();
        if password == Some(false) && self.session.user != self.objects.role || password.is_none() && made {
            self.report.remaining.push(format!(
                "role {shown} has no password. If pg_hba.conf asks for one: \\password {shown}  in psql"
            ));
        }
        Ok(())
    }

    async fn publication(&mut self, tables: &[(TableName, Table)]) -> Result<Publication, Error> {
        let shown = identifier(&self.objects.publication);
        let before = look::publication(&self.catalog, &self.objects.publication).await?;
        let complete = tables.len() == self.objects.outbox.tables.len();
        if let Some(found) = &before {
            let wrong = judge::publication(self.objects, found, tables);
            self.say(Kind::Publication, &shown, true, true);
            let state = if wrong.is_empty() && complete { Publication::Found } else { Publication::Wrong };
            self.report.problems.extend(wrong);
            return Ok(state);
        }
        // Without its tables it cannot be made, and that they are missing has been told.
        if complete {
            self.run(Kind::Publication, &shown, &script::publication(self.objects)).await?;
        }
        let after = look::publication(&self.catalog, &self.objects.publication).await?;
        self.say(Kind::Publication, &shown, false, after.is_some());
        Ok(if after.is_some() { Publication::Made } else { Publication::Wrong })
    }

    async fn slot(
        &mut self,
        server: &ConnInfo,
        publication: Publication,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let name = &self.objects.slot;
        if let Some(found) = self.catalog.slot(name).await? {
            let made = publication == Publication::Made;
            self.report.problems.extend(judge::slot(self.objects, &self.session, &found, made));
            self.say(Kind::Slot, name, true, true);
            return Ok(());
        }
        let mut there = Vec::new();
        for table in &self.objects.outbox.tables {
            if look::table(&self.catalog, table).await?.is_some_and(|table| table.usable) {
                there.push(table.clone());
            }
        }
        self.report.rows_not_sent = Some(rows::count(&self.catalog, &there).await?);
        if publication == Publication::Wrong {
            // Why is among the problems. A slot that is older than its publication would be of no use.
        } else if let Some(problem) = judge::wal_level(self.objects, &self.session) {
            self.report.problems.push(problem);
        } else {
            let statement = script::slot(self.objects);
            let result = make_slot(&self.catalog, server, &statement, progress).await;
            self.refused(Kind::Slot, name, result)?;
        }
        let after = self.catalog.slot(name).await?;
        self.say(Kind::Slot, name, false, after.is_some());
        Ok(())
    }

    async fn run(&mut self, kind: Kind, name: &str, statement: &str) -> Result<(), Error> {
        let result = self.catalog.execute("run the SQL of setup", statement).await;
        self.refused(kind, name, result)
    }

    /// Takes down what the server refused; a broken connection ends the work.
    fn refused(&mut self, kind: Kind, name: &str, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if error.server().is_some() => {
                let problem = judge::refused(kind, name, &error, &self.session, self.objects);
                self.report.problems.push(problem);
                Ok(())
            }
            result => result,
        }
    }

    fn say(&mut self, kind: Kind, name: &str, before: bool, after: bool) {
        let state = match (before, after) {
            (true, _) => State::Exists,
            (false, true) => State::Created,
            (false, false) => State::Missing,
        };
        self.report.parts.push(Part { kind, name: name.to_owned(), state });
    }
}

/// Makes the slot. The server waits for every transaction that is writing now; who keeps it waiting is told.
async fn make_slot(
    catalog: &Catalog,
    server: &ConnInfo,
    statement: &str,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let made = catalog.execute("make the replication slot", statement);
    tokio::pin!(made);
    let mut patience = SLOT_PATIENCE;
    loop {
        tokio::select! {
            made = &mut made => return made,
            () = tokio::time::sleep(patience) => {
                patience = REMINDER;
                // This connection is busy with the slot. Should another one be refused, the wait goes on in silence.
                if let Ok(open) = open_transactions(server).await && !open.is_empty() {
                    progress(&format!("making the slot waits for open transactions: {}", open.join(", ")));
                }
            }
        }
    }
}

async fn open_transactions(server: &ConnInfo) -> Result<Vec<String>, Error> {
    let (control, _) = Control::connect(server).await?;
    let open = control.catalog().open_transactions().await?;
    Ok(open.iter().map(ToString::to_string).collect())
}
