//! What a poller remembers of the rows it has seen, so that none is sent twice. Pure.

use std::collections::{HashMap, VecDeque};

use crate::rows::Version;

/// A row that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its number in the stream.
    pub(super) number: u64,
    /// Which of the tables it is in.
    pub(super) table: usize,
    /// The name of its version.
    pub(super) name: u64,
    /// Its id.
    pub(super) id: Option<String>,
    /// Its version.
    pub(super) version: Version,
}

/// Rows that were sent and are not done with.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Those that Kafka has not confirmed, in the order of their numbers.
    in_flight: VecDeque<Sent>,
    /// By the name of each: whether Kafka has it, and then when it was seen last.
    names: HashMap<u64, Option<u64>>,
    /// How often the tables were gone through.
    rounds: u64,
}

/// What is to be done with a row that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is to be sent.
    Send,
    /// It is on its way.
    Wait,
    /// Kafka has it, and it could not be marked or deleted before.
    Finish,
}

impl Seen {
    /// What to do with the row `name`.
    pub(super) fn verdict(&mut self, name: u64) -> Verdict {
        match self.names.get_mut(&name) {
            None => Verdict::Send,
            Some(None) => Verdict::Wait,
            Some(Some(last)) => {
                *last = self.rounds;
                Verdict::Finish
            }
        }
    }

    /// A row was sent.
    pub(super) fn sent(&mut self, row: Sent) {
        self.names.insert(row.name, None);
        self.in_flight.push_back(row);
    }

    /// How many rows a look may meet that were sent before.
    pub(super) fn known(&self) -> usize {
        self.names.len()
    }

    /// How many rows wait for Kafka.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Takes the rows of one table that Kafka has up to `number`, `most` at most; none if there are no more.
    pub(super) fn confirmed(&mut self, number: u64, most: usize) -> Vec<Sent> {
        let mut confirmed: Vec<Sent> = Vec::new();
        while let Some(row) = self.in_flight.front()
            && row.number <= number
            && confirmed.len() < most
            && confirmed.first().is_none_or(|first| first.table == row.table)
        {
            self.names.insert(row.name, Some(self.rounds));
            confirmed.extend(self.in_flight.pop_front());
        }
        confirmed
    }

    /// The row `name` was marked or deleted.
    pub(super) fn finished(&mut self, name: u64) {
        self.names.remove(&name);
    }

    /// All tables have been gone through. What Kafka has, and was not met on the way, is not pending any more.
    pub(super) fn end_of_round(&mut self) {
        let rounds = self.rounds;
        self.names.retain(|_, seen| seen.is_none_or(|last| last >= rounds));
        self.rounds = rounds.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64, table: usize) -> Sent {
        Sent { number, table, name: number * 10, id: Some(number.to_string()), version: Version::default() }
    }

    fn numbers(rows: &[Sent]) -> Vec<u64> {
        rows.iter().map(|row| row.number).collect()
    }

    #[test]
    fn a_row_on_its_way_is_not_sent_again() {
        let mut seen = Seen::default();
        assert_eq!(seen.verdict(10), Verdict::Send);
        seen.sent(row(1, 0));
        assert_eq!((seen.verdict(10), seen.in_flight()), (Verdict::Wait, 1));
        // Not even if it was not met for a while.
        seen.end_of_round();
        seen.end_of_round();
        assert_eq!(seen.verdict(10), Verdict::Wait);
        assert!(seen.confirmed(0, 9).is_empty());
        assert_eq!(numbers(&seen.confirmed(1, 9)), [1]);
        assert_eq!((seen.verdict(10), seen.in_flight()), (Verdict::Finish, 0));
        seen.finished(10);
        assert_eq!(seen.verdict(10), Verdict::Send, "somebody has made it pending again");
    }

    #[test]
    fn confirmed_rows_are_taken_a_table_and_so_many_at_a_time() {
        let mut seen = Seen::default();
        for (number, table) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1)] {
            seen.sent(row(number, table));
        }
        assert_eq!(numbers(&seen.confirmed(4, 2)), [1, 2]);
        assert_eq!(numbers(&seen.confirmed(4, 2)), [3]);
        assert_eq!(numbers(&seen.confirmed(4, 2)), [4]);
        assert!(seen.confirmed(4, 2).is_empty());
    }

    #[test]
    fn what_could_not_be_finished_is_forgotten_when_it_is_met_no_more() {
        let mut seen = Seen::default();
        seen.sent(row(1, 0));
        seen.sent(row(2, 0));
        seen.confirmed(2, 9);
        seen.end_of_round();
        // One of them is still pending: somebody has locked it.
        assert_eq!(seen.verdict(10), Verdict::Finish);
        seen.end_of_round();
        assert_eq!((seen.verdict(10), seen.verdict(20)), (Verdict::Finish, Verdict::Send));
    }
}
