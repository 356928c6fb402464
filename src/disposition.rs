//! What to do after an error: try again, or stop.

/// Whether another try can succeed without anybody changing something.
///
/// Every error type of the PostgreSQL and the Kafka side answers this in one method of its own; nobody else looks at
/// codes or texts to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// It will pass: wait with backoff and try again.
    Retry,
    /// It will be the same next time: stop, and say what somebody has to change.
    Stop,
}
