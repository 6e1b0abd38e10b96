use std::time::{Duration, Instant};

/// When to send an empty message because nothing else was sent. The time starts anew with every message.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    interval: Option<Duration>,
    last: Instant,
}

impl KeepAlive {
    /// Keeps alive every `interval`; never, if there is none.
    pub fn new(now: Instant, interval: Option<Duration>) -> Self {
        Self { interval: interval.filter(|interval| !interval.is_zero()), last: now }
    }

    /// Something was sent.
    pub fn sent(&mut self, now: Instant) {
        self.last = now;
    }

    /// When the next empty message is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.last.checked_add(self.interval?)
    }

    /// Whether it is due now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Sends none any more.
    pub fn stop(&mut self) {
        self.interval = None;
    }
}
