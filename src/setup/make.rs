//! Makes one thing after the other, each in a transaction of its own, and looks at all of them.

use super::backfill;
use super::judge;
use super::look::{self, Session};
use super::published;
use super::report::{Kind, Part, Report, State};
use super::rows;
use super::script::{self, Objects};
use crate::config::{Action, Config, Sharding};
use crate::findings::{self, Finding, Level, Wanted};
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::control::{Catalog, Control, OpenTransaction, Slot};
use crate::postgres::error::Error;
use crate::postgres::slot_wait;
use crate::postgres::sql::{self, identifier};
use crate::postgres::survey::Survey;

/// Limits that are set for the role or the database must not cut what waits, and transactions must be able to write.
/// `transaction_timeout` is there from 17 on.
const PINNED: &str = "SET default_transaction_read_only = off; \
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
        ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout')";

/// Makes what is missing on `server`, as its user. What takes long is told to `progress`. With
/// `backfill`, the whole configuration, the rows that are in the table are sent before there is a slot.
///
/// # Errors
/// If the server cannot be reached, or the connection breaks. What the server refuses is in the report.
pub async fn make(
    server: &ConnInfo,
    objects: &Objects,
    progress: &mut dyn FnMut(&str),
    backfill: Option<&Config>,
) -> Result<Report, Error> {
    let (control, server) = Control::connect(server).await?;
    let catalog = control.catalog();
    catalog.execute("prepare the session", PINNED).await?;
    let session = look::session(&catalog).await?;
    let mut report = Report::about(&server);
    if let Some(problem) = judge::standby(&session).or_else(|| judge::too_old(&session, objects)) {
        report.problems.push(problem);
        return Ok(report);
    }
    let application_name = server.application_name.clone();
    let mut work = Work { catalog, session, application_name, objects, report };
    work.tables().await?;
    work.role().await?;
    work.rights().await?;
    if objects.polls {
        work.remains().await?;
        return Ok(work.report);
    }
    let parts = objects.parts();
    let mut new = Vec::new();
    for part in &parts {
        work.objects = part;
        new.push(work.publication().await?);
    }
    for (part, publication_is_new) in parts.iter().zip(new) {
        work.objects = part;
        work.slot(&server, publication_is_new, progress, backfill).await?;
    }
    for part in &parts {
        work.objects = part;
        work.remains().await?;
    }
    Ok(work.report)
}

struct Work<'a> {
    catalog: Catalog,
    session: Session,
    application_name: String,
    objects: &'a Objects,
    report: Report,
}

impl Work<'_> {
    async fn tables(&mut self) -> Result<(), Error> {
        for name in self.objects.named() {
            let shown = sql::table(&name);
            let before = self.catalog.outbox(&name).await?.is_some();
            if !before {
                self.run(Kind::Table, &shown, &script::table(self.objects, &name)).await?;
            }
            let after = self.catalog.outbox(&name).await?.is_some();
            self.say(Kind::Table, &shown, before, after);
            if after && !before {
                let user = identifier(&self.session.user);
                self.report.remaining.push(format!(
                    "table {shown} belongs to {user}. The service that writes to it, if it is another role, needs: GRANT \
                     INSERT ON {shown} TO …"
                ));
            }
        }
        for outbox in self.catalog.meant_by_patterns(&self.objects.outbox.tables).await? {
            self.say(Kind::Table, &sql::table(&outbox.table.name), true, true);
        }
        for pattern in self.objects.patterns().filter(|_| self.objects.polls) {
            self.report.remaining.push(format!(
                "tables that {} means are not made here: when there are more, run setup again, which grants what is needed",
                sql::tables(pattern)
            ));
        }
        for pattern in self.objects.patterns().filter(|_| !self.objects.polls) {
            let (publication, pattern) = (identifier(&self.objects.publication), sql::tables(pattern));
            self.report.remaining.push(format!(
                "tables that {pattern} means are not made here. In the transaction that makes one: ALTER PUBLICATION {publication} \
                 ADD TABLE …, so that no row is written while it is not published"
            ));
        }
        Ok(())
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

    /// What the relay needs to delete or mark rows, or to drop partitions. Without the table, or the role, there is nothing to
    /// grant, and that they are missing has been told.
    async fn rights(&mut self) -> Result<(), Error> {
        let Objects { outbox, after_publish: after, role, .. } = self.objects;
        if after.action == Action::Keep || look::role(&self.catalog, role).await?.is_none() {
            return Ok(());
        }
        let tables = self.catalog.meant(&outbox.tables).await?;
        for table in tables.iter().flat_map(|meant| &meant.found) {
            let (name, catalog) = (&table.table.name, self.catalog.clone());
            let seen = async || catalog.cleaning(table, after, &outbox.of(name).columns, Some(role)).await;
            let Some(before) = seen().await? else { continue };
            let shown = sql::table(name);
            if after.action == Action::DropPartitions {
                // A table of another kind cannot be served; the findings say so.
                if before.by_time {
                    let has = before.functions && before.allowed;
                    if !has {
                        self.run(Kind::Functions, &shown, &published::functions(self.objects, name)).await?;
                    }
                    let after = seen().await?.is_some_and(|after| after.functions && after.allowed);
                    self.say(Kind::Functions, &format!("of partitions of {shown}"), has, after);
                }
            } else if let Some(statement) = published::rights(self.objects, name).filter(|_| !before.allowed)
            {
                self.run(Kind::Rights, &shown, &statement).await?;
                let after = seen().await?.is_some_and(|after| after.allowed);
                self.say(Kind::Rights, &format!("of {} on {shown}", identifier(role)), false, after);
            }
        }
        Ok(())
    }

    /// Whether it was made now.
    async fn publication(&mut self) -> Result<bool, Error> {
        let shown = identifier(&self.objects.publication);
        let (survey, _) = self.find().await?;
        let before = survey.publication.is_some();
        // Without its tables it cannot be made, and that they are missing has been told.
        if !before
            && self.objects.named().all(|name| survey.outboxes().any(|outbox| outbox.table.name == name))
        {
            self.run(Kind::Publication, &shown, &script::publication(self.objects)).await?;
        }
        let after = self.find().await?.0.publication.is_some();
        self.say(Kind::Publication, &shown, before, after);
        Ok(!before && after)
    }

    async fn slot(
        &mut self,
        server: &ConnInfo,
        publication_is_new: bool,
        progress: &mut dyn FnMut(&str),
        backfill: Option<&Config>,
    ) -> Result<(), Error> {
        let name = &self.objects.slot;
        let (survey, found) = self.find().await?;
        let before = survey.slot.is_some();
        let ours = |slot: &Slot| {
            slot.plugin.as_deref() == Some("pgoutput")
                && slot.database.as_ref() == Some(&self.session.database)
        };
        // Of another's slot the findings tell; nobody shall drop that one.
        if publication_is_new && survey.slot.as_ref().is_some_and(ours) {
            self.report.problems.push(judge::older_slot(self.objects));
        }
        if !before {
            let there = survey.outboxes().filter(|outbox| outbox.kind.unfit().is_none());
            let there: Vec<_> = there.map(|outbox| outbox.table.name.clone()).collect();
            // With anything else amiss it could not be made, or would be of no use: older than its publication.
            let in_the_way = |finding: &&Finding| {
                finding.level != Level::Warn && (backfill.is_none() || finding.id != findings::UNSENT_ROWS)
            };
            let fine = found.iter().find(in_the_way).is_none();
            if backfill.is_none() {
                self.report.rows_not_sent = Some(rows::count(&self.catalog, &there).await?);
            }
            if let (true, Some(config)) = (fine, backfill) {
                self.report.problems.extend(backfill::run(config, server, progress).await);
            } else if fine {
                let statement = script::slot(self.objects);
                let made = self.catalog.execute("make the replication slot", &statement);
                let made = slot_wait::told(made, async || open_transactions(server).await, progress).await;
                self.refused(Kind::Slot, name, made)?;
            }
        }
        let after = self.catalog.slot(name).await?.is_some();
        self.say(Kind::Slot, name, before, after);
        Ok(())
    }

    /// Takes down what the relay would not start with.
    async fn remains(&mut self) -> Result<(), Error> {
        for problem in judge::remains(self.find().await?.1) {
            if !self.report.problems.contains(&problem) {
                self.report.problems.push(problem);
            }
        }
        Ok(())
    }

    /// What is there, and what the relay would find.
    async fn find(&self) -> Result<(Survey, Vec<Finding>), Error> {
        let Objects { outbox, publication, slot, role, sharding, .. } = self.objects;
        let after_publish = &self.objects.after_publish;
        let survey = self.catalog.survey(&outbox.tables, publication, slot).await?;
        let parts: Vec<_> = sharding.iter().flat_map(Sharding::parts).collect();
        let mut survey = self.catalog.with_shards(survey, &parts).await?;
        // For the role of the relay, not for who works here.
        if look::role(&self.catalog, role).await?.is_some() {
            survey.cleaning = self.catalog.cleanings(&survey, after_publish, outbox, Some(role)).await?;
        }
        survey.role.name.clone_from(role);
        let wanted = Wanted {
            outbox,
            publication,
            slot,
            create_slot: true,
            backfill: false,
            after_publish,
            database: &self.session.database,
            application_name: &self.application_name,
            sharding: sharding.as_ref(),
        };
        let found = match self.objects.polls {
            true => findings::polled(&wanted, &survey),
            false => findings::postgres(&wanted, &survey, None),
        };
        Ok((survey, found))
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

/// The connection that makes the slot is busy; another one asks.
async fn open_transactions(server: &ConnInfo) -> Result<Vec<OpenTransaction>, Error> {
    let (control, _) = Control::connect(server).await?;
    control.catalog().open_transactions().await
}
