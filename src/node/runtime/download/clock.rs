//! Time and rates as a download sees them.

use std::time::{Duration, Instant};

/// By the clock of the timers, which tests can turn.
pub(in crate::node::runtime) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A wait for our own disk that is shorter is none of our business here: what arrives meanwhile is read in time.
const STALL: Duration = Duration::from_millis(500);

/// A clock that stands still while our own disk stalls: then nothing is read, and no provider is to blame for
/// what does not arrive.
#[derive(Debug, Default)]
pub(super) struct ReadingClock {
    stood: Duration,
}

impl ReadingClock {
    pub(super) fn now(&self) -> Instant {
        self.reading(now())
    }

    fn reading(&self, real: Instant) -> Instant {
        real.checked_sub(self.stood).unwrap_or(real)
    }

    /// When this clock will show `at`, if it goes on.
    pub(super) fn real(&self, at: Instant) -> Instant {
        at + self.stood
    }

    /// Waits for something of our own, during which the clock stands.
    pub(super) async fn stand_while<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let began = now();
        let result = wait.await;
        let waited = now().saturating_duration_since(began);
        if waited >= STALL {
            self.stood += waited;
        }
        result
    }
}

/// Bytes per second over the last seconds.
#[derive(Debug)]
pub(super) struct Rate {
    since: Instant,
    bytes: u64,
    average: u64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, average: 0 }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= super::TICK
    }

    pub(super) fn sample(&mut self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.since);
        if time >= super::TICK {
            let rate = (u128::from(self.bytes) * 1000 / time.as_millis().max(1)) as u64;
            self.average = if self.average == 0 { rate } else { (self.average * 3 + rate) / 4 };
            self.bytes = 0;
            self.since = now;
        }
        self.average
    }
}
