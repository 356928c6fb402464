//! `[shard]`: which part of the keys is this relay's, and what does not go together with that.

use super::Sharding;
use super::problem::Problem;
use super::settings::Settings;
use super::table_name::LONGEST_IDENTIFIER;
use super::value::Mistake;
use crate::outbox::{Shard, Spec, key_column};

/// More shards have more slots than servers have, by default.
const MOST: i64 = 64;

/// How many shards there are; nothing if that is wrong.
pub(super) fn count(settings: &Settings, outbox: Option<&Spec>, problems: &mut Vec<Problem>) -> Option<u32> {
    let number = settings.integer("shard.count")?;
    let mut wrong = |path: &str, mistake: Mistake| {
        problems.extend(settings.entry(path).map(|entry| entry.problem(mistake)));
    };
    let Some(count) = u32::try_from(number).ok().filter(|_| (1..=MOST).contains(&number)) else {
        wrong("shard.count", Mistake::new(format!("must be 1 to {MOST}")));
        return None;
    };
    if count == 1 {
        return Some(count);
    }
    if settings.text("outbox.source").as_deref() == Some("poll") {
        wrong(
            "shard.count",
            Mistake::new("needs outbox.source = \"wal\": row filters of publications divide the rows"),
        );
    }
    // The others touch only the rows that the shard's publication sends.
    if settings.text("after_publish.action").as_deref() == Some("drop-partitions") {
        let mistake =
            Mistake::new("knows no shards: in a partition are rows that another relay may not have sent");
        wrong(
            "after_publish.action",
            mistake
                .hint("\"delete\" and \"mark\" go with shards; or let a job of your own drop old partitions"),
        );
    }
    if settings.bool("postgres.backfill") == Some(true) {
        let mistake = Mistake::new("knows no shards: with shard.count each relay would send all rows");
        wrong(
            "postgres.backfill",
            mistake.hint("let one relay without shards send them first, or use republish"),
        );
    }
    for path in ["postgres.slot", "postgres.publication"] {
        let longest =
            settings.text(path).map(|name| Shard { count, index: count.saturating_sub(1) }.name(&name));
        if longest.is_some_and(|name| name.len() > LONGEST_IDENTIFIER) {
            wrong(
                path,
                Mistake::new(format!(
                    "is too long: a shard's own has the layout behind it, and {LONGEST_IDENTIFIER} bytes at most"
                )),
            );
        }
    }
    for key in outbox.map(keys_of_several_columns).unwrap_or_default() {
        let problem =
            Problem::new(key, "is not made of one column, by which shard.count could divide the rows");
        problems.push(problem.hint("name one column, without functions: \"{aggregate_id}\""));
    }
    Some(count)
}

/// Where the key is something else than one column, with text around it perhaps: the keys that say so.
fn keys_of_several_columns(outbox: &Spec) -> Vec<String> {
    let mut shapes: Vec<_> = outbox.overrides.iter().map(|(_, shape)| shape).collect();
    // If sections stand for all tables, what holds for the others does not matter.
    let has_own = |table| outbox.overrides.iter().any(|(own, _)| own == table);
    if outbox.message_prefix.is_some() || !outbox.tables.iter().all(has_own) {
        shapes.push(&outbox.shape);
    }
    let several = shapes.into_iter().filter(|shape| key_column(&shape.route.key).is_none());
    let mut keys: Vec<_> = several.map(|shape| shape.key("route.key")).collect();
    keys.dedup();
    keys
}

/// The shard of this relay; `None` inside if there is only one.
pub(super) fn build(
    settings: &Settings,
    outbox: Option<&Spec>,
    host: &dyn Fn() -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Option<Option<Sharding>> {
    let count = count(settings, outbox, problems)?;
    let given = settings.optional("shard.index")?;
    if count == 1 {
        return Some(None);
    }
    let mut wrong = |mistake: Mistake| {
        problems.extend(settings.entry("shard.index").map(|entry| entry.problem(mistake)));
        None
    };
    let last = count.saturating_sub(1);
    let (text, what) = match given {
        Some(text) => (text, "is".to_owned()),
        None => {
            let host = host().unwrap_or_default();
            let digits = host.chars().rev().take_while(char::is_ascii_digit).count();
            let number = host.get(host.len().saturating_sub(digits)..).unwrap_or_default().to_owned();
            (number, format!("is taken from the end of the host's name, {host:?}, and that is"))
        }
    };
    match text.parse().ok().filter(|index| *index < count) {
        Some(index) => Some(Some(Sharding {
            shard: Shard { count, index },
            slot: settings.text("postgres.slot")?,
            publication: settings.text("postgres.publication")?,
        })),
        None => wrong(
            Mistake::new(format!("{what} no number from 0 to {last}, as shard.count = {count} wants it"))
                .hint("set it, or OUTBOX_RELAY_SHARD__INDEX; the pods of a StatefulSet have it at the end of their names"),
        ),
    }
}

impl Sharding {
    /// The publications and slots of all shards.
    pub fn parts(&self) -> impl Iterator<Item = (String, String)> {
        let name = |shard: Shard| (shard.name(&self.publication), shard.name(&self.slot));
        Shard::all(self.shard.count).map(name)
    }
}
