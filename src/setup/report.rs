//! What `setup` has to say when it is done: for people, and as JSON for programs.

use std::fmt;

use serde_json::json;

use super::rows::Rows;
use crate::findings::Finding;
use crate::postgres::conninfo::ConnInfo;

/// What is there now, what is not, and what somebody has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The database it was about.
    pub database: String,
    /// Where it is: `db.example:5432`.
    pub host: String,
    /// The role that did the work.
    pub user: String,
    /// What the relay needs, in the order in which it is made.
    pub parts: Vec<Part>,
    /// Rows that are in the tables and will not be sent. Nothing if the slot was there before.
    pub rows_not_sent: Option<Rows>,
    /// What is left for somebody to do although nothing is wrong.
    pub remaining: Vec<String>,
    /// What keeps the relay from working.
    pub problems: Vec<Finding>,
}

/// One of the things that the relay needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Its name, as SQL writes it.
    pub name: String,
    /// Whether it is there.
    pub state: State,
}

/// What a [`Part`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An outbox table.
    Table,
    /// The role that the relay logs in as.
    Role,
    /// A privilege that a role lacked which was there before.
    Grant,
    /// What the relay needs to delete or mark published rows.
    Rights,
    /// What it calls to drop partitions.
    Functions,
    /// The publication.
    Publication,
    /// The replication slot.
    Slot,
}

/// Whether a [`Part`] is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was made now.
    Created,
    /// It was there before.
    Exists,
    /// It is not there; a problem says why.
    Missing,
}

impl Report {
    /// A report about `server` that has nothing to say yet.
    #[must_use]
    pub fn about(server: &ConnInfo) -> Self {
        let hosts: Vec<_> = server.hosts.iter().map(ToString::to_string).collect();
        Self {
            database: server.dbname.clone(),
            host: hosts.join(", "),
            user: server.user.clone(),
            parts: Vec::new(),
            rows_not_sent: None,
            remaining: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Whether the relay can work with what is there.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// The report for programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let of = |state: State| -> Vec<_> {
            let parts = self.parts.iter().filter(|part| part.state == state);
            parts.map(|part| json!({"kind": part.kind.to_string(), "name": part.name})).collect()
        };
        let problems: Vec<_> = self.problems.iter().map(Finding::json).collect();
        json!({
            "ok": self.is_ok(),
            "created": of(State::Created),
            "existing": of(State::Exists),
            "missing": of(State::Missing),
            "rows_not_sent": self.rows_not_sent.as_ref().and_then(|rows| rows.count),
            "rows_not_sent_exact": self.rows_not_sent.as_ref().map(|rows| rows.exact),
            "remaining": self.remaining,
            "problems": problems,
        })
    }
}

/// Everything but the problems.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "database \"{}\" on {}, as \"{}\"\n", self.database, self.host, self.user)?;
        for Part { kind, name, state } in &self.parts {
            match state {
                State::Created => writeln!(f, "  created  {kind} {name}")?,
                State::Exists => writeln!(f, "  exists   {kind} {name}, left as it is")?,
                State::Missing => writeln!(f, "  missing  {kind} {name}")?,
            }
        }
        if let Some(rows) = self.rows_not_sent.as_ref().filter(|rows| rows.count != Some(0)) {
            writeln!(f, "\n{rows}")?;
        }
        for remaining in &self.remaining {
            writeln!(f, "\nleft to do: {remaining}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Role => "role",
            Self::Grant => "grant",
            Self::Rights => "rights",
            Self::Functions => "functions",
            Self::Publication => "publication",
            Self::Slot => "slot",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let part = |kind, name: &str, state| Part { kind, name: name.to_owned(), state };
        Report {
            database: "shop".to_owned(),
            host: "db.example:5432".to_owned(),
            user: "owner".to_owned(),
            parts: vec![
                part(Kind::Table, "public.outbox", State::Exists),
                part(Kind::Role, "outbox_relay", State::Created),
                part(Kind::Publication, "outbox_relay", State::Created),
                part(Kind::Slot, "outbox_relay", State::Missing),
            ],
            rows_not_sent: Some(Rows {
                tables: vec!["public.outbox".to_owned()],
                count: Some(3),
                exact: true,
            }),
            remaining: vec!["give the role a password".to_owned()],
            problems: vec![Finding::stop("not_made", "slot outbox_relay was not made", "restart PostgreSQL")],
        }
    }

    #[test]
    fn people_read_what_is_there_and_what_is_left() {
        insta::assert_snapshot!(report(), @r#"
        database "shop" on db.example:5432, as "owner"

          exists   table public.outbox, left as it is
          created  role outbox_relay
          created  publication outbox_relay
          missing  slot outbox_relay

        3 rows are in public.outbox already and will not be sent: the slot keeps what is committed after it was made

        left to do: give the role a password
        "#);
        insta::assert_snapshot!(report().problems[0], @"
        slot outbox_relay was not made

        hint: restart PostgreSQL
        ");
    }

    #[test]
    fn programs_read_the_same() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&report().json()).unwrap(), @r#"
        {
          "created": [
            {
              "kind": "role",
              "name": "outbox_relay"
            },
            {
              "kind": "publication",
              "name": "outbox_relay"
            }
          ],
          "existing": [
            {
              "kind": "table",
              "name": "public.outbox"
            }
          ],
          "missing": [
            {
              "kind": "slot",
              "name": "outbox_relay"
            }
          ],
          "ok": false,
          "problems": [
            {
              "fix": "restart PostgreSQL",
              "id": "not_made",
              "level": "stop",
              "message": "slot outbox_relay was not made"
            }
          ],
          "remaining": [
            "give the role a password"
          ],
          "rows_not_sent": 3,
          "rows_not_sent_exact": true
        }
        "#);
        let report = Report { rows_not_sent: None, problems: Vec::new(), ..report() };
        assert_eq!(report.json()["ok"], true);
        assert_eq!(report.json()["rows_not_sent"], serde_json::Value::Null);
    }
}
