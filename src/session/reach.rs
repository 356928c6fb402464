//! Whether Kafka can be reached, and who is to ask it next.
//!
//! A producer can forget its brokers for good: it removes those that an answer does not list, and a broker that comes back
//! from a long freeze lists none until its cluster has taken it in again (confluentinc/librdkafka#5301). So when it gets
//! no answer, new clients ask, one after the other, which know only the configured servers. As soon as one of them gets
//! an answer, the producer is told of these servers again, which does no harm if it had not forgotten them: an answer may
//! also wait behind records that the broker has not replicated yet. Only if that lasts is the producer of no use any more.

use std::time::{Duration, Instant};

use crate::kafka::TopicState;

/// What is known of Kafka. Time is an argument, and others do the asking.
#[derive(Debug)]
pub(super) struct Reach {
    /// Why Kafka is taken to be away; `None` while it answers.
    away: Option<String>,
    /// What librdkafka has said of a broker since Kafka answered last.
    trouble: Option<String>,
    /// When Kafka has answered last, with a report or otherwise.
    heard: Instant,
    /// Who asks, or will be the next to ask.
    asks: Asks,
    /// When the producer was told of its servers again.
    reminded: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Producer,
    /// A new client, because the producer has had no answer; since when others may have had one.
    Another(Instant),
    /// The producer, after a new client had an answer; since when.
    ProducerAgain(Instant),
}

/// What to do to know more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The producer asks.
    AskProducer,
    /// A new client asks.
    AskAnother,
    /// The producer is told of its servers again, and asks.
    Remind,
    /// Nobody asks before that time.
    Pause(Instant),
    /// The producer does not find its brokers: another one is needed.
    Replace,
}

const NO_ANSWER_YET: &str = "no broker has answered yet";

/// Pause between two questions to a cluster that is away, or for a topic that is missing.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A producer that has no answer for so long, while others do, is of no use. librdkafka itself gives up a request that is not
/// answered after `socket.timeout.ms`, by default as long. It is also the least time between two reminders: librdkafka keeps
/// each of them for good.
const LOST: Duration = Duration::from_secs(60);

/// With nothing to send, Kafka is asked so often whether it is there: librdkafka does not tell that an idle connection
/// was closed, and `/ready` should not find out with the next event.
pub(super) const PROBE: Duration = Duration::from_secs(10);

impl Reach {
    /// Kafka counts as away until it has answered once.
    pub(super) fn new(now: Instant) -> Self {
        let away = Some(NO_ANSWER_YET.to_owned());
        Self { away, trouble: None, heard: now, asks: Asks::Producer, reminded: None }
    }

    /// There is a new producer. What is known to keep Kafka away holds until it has an answer.
    pub(super) fn starts_over(&mut self, now: Instant) {
        self.trouble = None;
        self.heard = now;
        self.asks = Asks::Producer;
        self.reminded = None;
    }

    /// Kafka counts as away until it has answered once more.
    pub(super) fn is_doubted(&mut self) {
        self.away.get_or_insert_with(|| NO_ANSWER_YET.to_owned());
    }

    /// Kafka has answered.
    pub(super) fn answers(&mut self, now: Instant) {
        self.away = None;
        self.trouble = None;
        self.heard = now;
    }

    /// librdkafka has trouble with a broker.
    pub(super) fn has_trouble(&mut self, reason: &str) {
        self.trouble = Some(reason.to_owned());
    }

    /// librdkafka has lost all brokers. What it said of one of them before tells more.
    pub(super) fn has_lost_all(&mut self, reason: &str) {
        self.away = Some(self.trouble.take().unwrap_or_else(|| reason.to_owned()));
    }

    /// Kafka is taken to be away.
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// What keeps Kafka away, as far as anything is known. What librdkafka says of a broker tells more than that none has
    /// answered: a refused login, for example.
    pub(super) fn reason(&self) -> Option<&String> {
        self.trouble.as_ref().or(self.away.as_ref())
    }

    /// The next to ask is the producer.
    pub(super) fn asks_producer(&self) -> bool {
        self.asks == Asks::Producer
    }

    /// A pause is over.
    pub(super) fn pause_is_over(&mut self, now: Instant) -> Next {
        match self.asks {
            Asks::Another(since) if self.heard <= since => Next::AskAnother,
            _ => {
                self.asks = Asks::Producer;
                if self.is_away() || now.saturating_duration_since(self.heard) >= PROBE {
                    Next::AskProducer
                } else {
                    Next::Pause(after(self.heard, PROBE))
                }
            }
        }
    }

    /// Whoever asked has this `answer`.
    pub(super) fn answered(&mut self, answer: TopicState, now: Instant) -> Next {
        let unreachable = match answer {
            TopicState::Unreachable(reason) => Some(reason),
            _ => None,
        };
        let (asks, next) = match (self.asks, unreachable) {
            // The producer has had an answer meanwhile.
            (Asks::Another(since) | Asks::ProducerAgain(since), _) if self.heard > since => {
                (Asks::Producer, Next::Pause(after(self.heard, PROBE)))
            }
            (Asks::Producer | Asks::ProducerAgain(_), None) => {
                self.answers(now);
                (Asks::Producer, Next::Pause(after(now, PROBE)))
            }
            // It may be the producer alone that gets none.
            (Asks::Producer, Some(_)) => (Asks::Another(now), Next::AskAnother),
            (Asks::ProducerAgain(since), Some(_)) => {
                (Asks::Another(since), Next::Pause(after(now, ASK_AGAIN)))
            }
            (Asks::Another(_), Some(reason)) => {
                self.away.get_or_insert(reason);
                (Asks::Another(now), Next::Pause(after(now, ASK_AGAIN)))
            }
            (Asks::Another(since), None) => self.another_has_an_answer(since, now),
        };
        self.asks = asks;
        next
    }

    fn another_has_an_answer(&mut self, since: Instant, now: Instant) -> (Asks, Next) {
        if now.saturating_duration_since(since) >= LOST {
            return (Asks::Producer, Next::Replace);
        }
        let lately = self.reminded.is_some_and(|at| now.saturating_duration_since(at) < LOST);
        if lately {
            return (Asks::ProducerAgain(since), Next::AskProducer);
        }
        self.reminded = Some(now);
        (Asks::ProducerAgain(since), Next::Remind)
    }
}

fn after(time: Instant, pause: Duration) -> Instant {
    time.checked_add(pause).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_broker() -> TopicState {
        TopicState::Unreachable("no broker answers".to_owned())
    }

    /// One that has answered at this moment.
    fn reached() -> (Reach, Instant) {
        let now = Instant::now();
        let mut reach = Reach::new(now);
        assert_eq!(reach.answered(TopicState::Missing, now), Next::Pause(now + PROBE));
        (reach, now)
    }

    #[test]
    fn kafka_is_away_until_anything_answers() {
        let mut reach = Reach::new(Instant::now());
        assert_eq!(reach.reason().unwrap(), "no broker has answered yet");
        reach.answers(Instant::now());
        assert!(!reach.is_away() && reach.reason().is_none());
    }

    #[test]
    fn kafka_is_asked_when_nothing_was_heard_of_it_for_a_while() {
        let (mut reach, start) = reached();
        // A delivery.
        let heard = start + PROBE / 2;
        reach.answers(heard);
        assert_eq!(reach.pause_is_over(start + PROBE), Next::Pause(heard + PROBE));
        assert_eq!(reach.pause_is_over(heard + PROBE), Next::AskProducer);
    }

    #[test]
    fn kafka_is_away_when_neither_the_producer_nor_a_new_client_has_an_answer() {
        let (mut reach, now) = reached();
        assert_eq!(reach.answered(no_broker(), now), Next::AskAnother);
        for _ in 0..3 {
            assert!(!reach.asks_producer());
            assert_eq!(reach.answered(no_broker(), now), Next::Pause(now + ASK_AGAIN));
            assert_eq!(reach.pause_is_over(now + ASK_AGAIN), Next::AskAnother);
        }
        assert_eq!(reach.reason().unwrap(), "no broker answers");
    }

    #[test]
    fn a_producer_that_has_an_answer_while_another_client_asks_is_well() {
        let (mut reach, start) = reached();
        let later = start + ASK_AGAIN;
        for other in [no_broker(), TopicState::Missing] {
            assert_eq!(reach.answered(no_broker(), start), Next::AskAnother);
            // A delivery.
            reach.answers(later);
            assert_eq!(reach.answered(other, later), Next::Pause(later + PROBE));
            assert!(reach.asks_producer());
        }
        // The same in the pause after the question.
        assert_eq!(reach.answered(no_broker(), later), Next::AskAnother);
        assert_eq!(reach.answered(no_broker(), later), Next::Pause(later + ASK_AGAIN));
        let latest = later + ASK_AGAIN;
        reach.answers(latest);
        assert_eq!(reach.pause_is_over(latest), Next::Pause(latest + PROBE));
        assert_eq!(reach.pause_is_over(latest + PROBE), Next::AskProducer);
    }

    #[test]
    fn a_producer_that_finds_its_cluster_when_it_is_reminded_is_kept() {
        let (mut reach, now) = reached();
        assert_eq!(reach.answered(no_broker(), now), Next::AskAnother);
        assert_eq!(reach.answered(TopicState::Missing, now), Next::Remind);
        assert_eq!(reach.answered(TopicState::Missing, now), Next::Pause(now + PROBE));
        assert!(!reach.is_away() && reach.asks_producer());
    }

    #[test]
    fn that_another_client_has_an_answer_does_not_end_an_outage() {
        let (mut reach, now) = reached();
        reach.has_lost_all("1/1 brokers are down");
        assert_eq!(reach.answered(no_broker(), now), Next::AskAnother);
        assert_eq!(reach.answered(TopicState::Missing, now), Next::Remind);
        assert!(reach.is_away());
        assert_eq!(reach.answered(TopicState::Denied, now), Next::Pause(now + PROBE));
        assert!(!reach.is_away());
    }

    #[test]
    fn a_producer_that_finds_nobody_where_others_do_is_replaced_after_a_while() {
        let (mut reach, start) = reached();
        assert_eq!(reach.answered(no_broker(), start), Next::AskAnother);
        assert_eq!(reach.answered(TopicState::Missing, start), Next::Remind);
        let mut now = start;
        while now < start + LOST {
            assert_eq!(reach.answered(no_broker(), now), Next::Pause(now + ASK_AGAIN));
            now += ASK_AGAIN;
            assert_eq!(reach.pause_is_over(now), Next::AskAnother);
            let next = reach.answered(TopicState::Missing, now);
            // It is told of its servers no more.
            assert_eq!(next, if now < start + LOST { Next::AskProducer } else { Next::Replace });
        }
        // The new one is given the same chances.
        reach.starts_over(now);
        assert_eq!(reach.answered(no_broker(), now), Next::AskAnother);
        assert_eq!(reach.answered(TopicState::Missing, now), Next::Remind);
    }

    #[test]
    fn a_producer_is_not_replaced_for_an_outage_of_all() {
        let (mut reach, start) = reached();
        assert_eq!(reach.answered(no_broker(), start), Next::AskAnother);
        let end = start + 2 * LOST;
        assert_eq!(reach.answered(no_broker(), end), Next::Pause(end + ASK_AGAIN));
        assert_eq!(reach.pause_is_over(end + ASK_AGAIN), Next::AskAnother);
        assert_eq!(reach.answered(TopicState::Missing, end + ASK_AGAIN), Next::Remind);
    }

    #[test]
    fn a_producer_that_forgets_again_is_told_again_but_not_all_the_time() {
        let (mut reach, start) = reached();
        for (seconds, next) in [(0, Next::Remind), (59, Next::AskProducer), (60, Next::Remind)] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(reach.answered(no_broker(), now), Next::AskAnother);
            assert_eq!(reach.answered(TopicState::Missing, now), next);
            assert_eq!(reach.answered(TopicState::Missing, now), Next::Pause(now + PROBE));
        }
    }

    #[test]
    fn the_reason_is_what_tells_most() {
        let (mut reach, now) = reached();
        reach.has_lost_all("2/2 brokers are down");
        assert_eq!(reach.reason().unwrap(), "2/2 brokers are down");
        reach.has_trouble("kafka:9092: login refused");
        assert_eq!(reach.reason().unwrap(), "kafka:9092: login refused");
        reach.has_lost_all("2/2 brokers are down");
        reach.starts_over(now);
        assert_eq!(reach.reason().unwrap(), "kafka:9092: login refused");
        reach.answers(now);
        // A broker is in trouble; that is not to be away.
        reach.has_trouble("kafka:9092: disconnected");
        assert!(!reach.is_away());
        reach.is_doubted();
        assert!(reach.is_away());
    }
}
