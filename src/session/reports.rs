//! What Kafka says of the records that it was sent.
//!
//! A failed delivery never proves that this record is at fault: a broker refuses whole batches. So it stops all enqueuing
//! at once; when the others are reported, the session ends, and the next one, which gets them all again from the slot,
//! sends each record of the refused batch alone (`suspects`). One that fails alone is rejected. Nothing else is in flight
//! then, so the session goes on with a new producer.

use std::time::{Duration, Instant, SystemTime};

use super::outlet::Refused;
use super::{Error, Session, age};
use crate::clock;
use crate::kafka::{self, Undelivered, Verdict};
use crate::outbox::{RECORD_OVERHEAD, Record, RejectionReason, Token};
use crate::suspects::Guilt;

/// A suspect, or a dead letter that has come upon events in flight: it is sent alone.
pub(super) struct Trial {
    record: Record,
    /// It was handed on; until then it waits for the others to be reported.
    sent: bool,
}

/// A delivery that failed, or all of them.
pub(super) struct Failure {
    /// The most telling one.
    error: kafka::Error,
    /// Why the record that was alone was refused.
    convicted: Option<Undelivered>,
    /// How long the reports of the others are waited for.
    until: Instant,
}

/// librdkafka gives up what is in its queue at once, and what is on the wire has its answer soon. Of what was to be sent
/// again it says nothing more. Whatever is not reported by then is sent again.
const LAST_REPORTS: Duration = Duration::from_millis(500);

impl Session<'_> {
    /// Hands `record` on; a suspect, and a dead letter that comes upon events in flight, when it is alone. One that Kafka
    /// has refused already is rejected again, unless its dead letter is stored: then there is nothing left to send.
    pub(super) fn produce(&mut self, record: Record) -> Result<(), Error> {
        let suspects = &self.outlet.suspects;
        let place = self.relay.sent(record.token).map(|sent| sent.place);
        let guilt = place.and_then(|place| suspects.guilt(place)).filter(|_| !record.is_dead_letter());
        if let Some(Guilt { reason, words, buried }) = guilt.cloned() {
            if buried {
                self.relay.confirmed(record.token);
                return Ok(());
            }
            return self.refused_alone(record, reason, &words);
        }
        // An event in flight may yet become a dead letter, which belongs before this one.
        let too_early = record.is_dead_letter() && self.relay.in_flight().events() > 0;
        if too_early || place.is_some_and(|place| suspects.contains(place)) {
            self.trial = Some(Trial { record, sent: false });
            return self.try_alone();
        }
        self.offer(record)
    }

    fn offer(&mut self, record: Record) -> Result<(), Error> {
        if self.outlet.unreported() == 0 {
            self.owed_since = clock::now();
        }
        let offered = self.outlet.offer(record);
        self.taken(offered)
    }

    fn try_alone(&mut self) -> Result<(), Error> {
        let alone = self.outlet.unreported() == 0 && self.failure.is_none();
        match &mut self.trial {
            Some(trial) if alone && !trial.sent => {
                trial.sent = true;
                let record = trial.record.clone();
                self.offer(record)
            }
            _ => Ok(()),
        }
    }

    /// What came of a record that was offered, now or earlier.
    pub(super) fn taken(&mut self, offered: Result<(), Refused>) -> Result<(), Error> {
        match offered {
            Ok(()) => Ok(()),
            Err(Refused::Rejected(record, rejection)) => self.reject(*record, rejection),
            // Reports that say why may be on their way.
            Err(Refused::Failed(error)) => {
                self.fail(error, None);
                Ok(())
            }
        }
    }

    /// Takes in what librdkafka has said.
    pub(super) fn reports(&mut self, events: &mut Vec<kafka::Event>) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let now = SystemTime::now();
        for event in events.drain(..) {
            match event {
                kafka::Event::Delivered(_) if self.settling => {}
                kafka::Event::Delivered(token) => self.delivered(token, now),
                kafka::Event::Undelivered(undelivered) => self.undelivered(*undelivered),
                kafka::Event::Trouble(code, reason) => tracing::debug!(?code, "librdkafka: {reason}"),
                kafka::Event::Fatal(code, reason) => self.fail(kafka::Error::Fatal { code, reason }, None),
            }
        }
        if self.settling && self.outlet.unreported() == 0 {
            self.settling = false;
        }
        self.try_alone()
    }

    fn delivered(&mut self, token: Token, now: SystemTime) {
        self.owed_since = clock::now();
        let Some(sent) = self.relay.confirmed(token) else {
            return;
        };
        self.told.last_delivery = Some(self.owed_since);
        self.told.delivered = self.told.delivered.saturating_add(1);
        self.deliveries.count(&sent.topic, sent.payload_size);
        self.metrics.commit_to_delivery.observe(age(sent.committed, now));
        if self.trial.as_ref().is_some_and(|trial| trial.record.token == token) {
            self.trial = None;
        }
        self.outlet.suspects.stored(sent.place);
    }

    fn undelivered(&mut self, undelivered: Undelivered) {
        let error = kafka::Error::Undelivered(undelivered.clone());
        let sent = self.relay.sent(undelivered.token).filter(|_| !self.settling);
        match (undelivered.verdict(), sent) {
            (Verdict::Rejected(reason), Some(sent)) => {
                let alone = self.trial.as_ref().is_some_and(|trial| trial.record.token == undelivered.token);
                if alone {
                    return self.fail(error, Some(undelivered));
                }
                let bytes = sent.size.saturating_sub(RECORD_OVERHEAD);
                self.outlet.suspects.suspect(sent.place, reason, bytes);
            }
            (Verdict::Denied, _) => self.outlet.deny(&undelivered.topic),
            (Verdict::Rejected(_) | Verdict::Failed, _) => {}
        }
        self.fail(error, None);
    }

    /// Stops reading and enqueuing until everything is reported.
    fn fail(&mut self, error: kafka::Error, convicted: Option<Undelivered>) {
        self.outlet.release();
        let until = || {
            let now = clock::now();
            now.checked_add(LAST_REPORTS).unwrap_or(now)
        };
        let failure = match self.failure.take() {
            None => {
                self.outlet.give_up();
                Failure { error, convicted, until: until() }
            }
            // That the producer has failed is told before the report that says why.
            Some(before) => Failure {
                error: if is_telling(&error) && !is_telling(&before.error) { error } else { before.error },
                convicted: before.convicted.or(convicted),
                until: before.until,
            },
        };
        self.failure = Some(failure);
    }

    /// When the other reports are no longer waited for.
    pub(super) fn judgement_due(&self) -> Option<Instant> {
        self.failure.as_ref().map(|failure| failure.until)
    }

    /// Draws the consequence of a failed delivery, when all others are reported.
    pub(super) fn judge(&mut self, now: Instant) -> Result<(), Error> {
        if self.failure.as_ref().is_some_and(|failure| self.outlet.unreported() == 0 || failure.until <= now)
            && let Some(failure) = self.failure.take()
        {
            let Some((undelivered, trial)) = failure.convicted.zip(self.trial.take()) else {
                return Err(failure.error.into());
            };
            // It was alone: there is nothing else to be sent again.
            self.outlet.replace_producer()?;
            self.convict(trial.record, &undelivered)?;
        }
        Ok(self.outlet.recover()?)
    }

    fn convict(&mut self, record: Record, undelivered: &Undelivered) -> Result<(), Error> {
        let reason = match undelivered.verdict() {
            Verdict::Rejected(reason) => reason,
            Verdict::Denied | Verdict::Failed => RejectionReason::Refused,
        };
        let words = undelivered.words();
        if let Some(sent) = self.relay.sent(record.token).filter(|_| !record.is_dead_letter()) {
            self.outlet.suspects.convict(sent.place, Guilt { reason, words: words.clone(), buried: false });
        }
        self.refused_alone(record, reason, &words)
    }
}

/// Whether it says more than that the producer is of no use any more.
fn is_telling(error: &kafka::Error) -> bool {
    matches!(error, kafka::Error::Undelivered(undelivered) if undelivered.verdict() != Verdict::Failed)
}
