//! How fast bytes come.

use std::time::{Duration, Instant};

/// Rates are averaged over samples of this length.
const SAMPLE: Duration = Duration::from_millis(250);
/// A sample of this length or more stands for itself: older ones say nothing about a sender that has slowed down.
const LONG_SAMPLE: Duration = Duration::from_secs(1);
/// Bytes from which the first sample may be shorter: a fast sender answers its first request in a few milliseconds.
const FIRST_SAMPLE: u64 = 64 << 10;

/// A clock that only bytes move, each by its time at some rate. It lags as far as bytes were missing at that rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteClock(Instant);

impl ByteClock {
    pub(crate) fn new(now: Instant) -> Self {
        Self(now)
    }

    /// `bytes` came. The clock never runs ahead: a sender cannot save up time for later.
    pub(crate) fn add(&mut self, bytes: u64, rate: u64, now: Instant) {
        let time = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1));
        self.0 = self.0.checked_add(time).map_or(now, |at| at.min(now));
    }

    pub(crate) fn lag(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0)
    }

    pub(crate) fn at(&self) -> Instant {
        self.0
    }
}

/// The rate of one sender in bytes per second.
#[derive(Debug)]
pub(super) struct Rate {
    /// 0: unknown.
    average: u64,
    since: Instant,
    bytes: u64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { average: 0, since: now, bytes: 0 }
    }

    /// It is asked again after it had nothing to send: idle time is not part of the rate.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.bytes = 0;
    }

    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        let time = now.saturating_duration_since(self.since);
        if time >= SAMPLE {
            self.take_sample(time, now);
        }
    }

    /// It has answered a whole request, which may have taken less time than a sample.
    pub(super) fn answered(&mut self, now: Instant) {
        if self.average == 0 && self.bytes >= FIRST_SAMPLE {
            self.take_sample(now.saturating_duration_since(self.since), now);
        }
    }

    fn take_sample(&mut self, time: Duration, now: Instant) {
        let rate = per_second(self.bytes, time);
        let alone = self.average == 0 || time >= LONG_SAMPLE;
        self.average = if alone { rate } else { self.average / 2 + rate / 2 }.max(1);
        self.restart(now);
    }

    /// Averaged over the time in which it had something to send; 0: unknown.
    pub(super) fn average(&self) -> u64 {
        self.average
    }

    /// The rate of one that has something to send: falls as it stalls. 0: unknown.
    pub(super) fn current(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.since);
        if time >= LONG_SAMPLE { per_second(self.bytes, time).max(1) } else { self.average }
    }
}

pub(super) fn per_second(bytes: u64, time: Duration) -> u64 {
    bytes.saturating_mul(1000) / (time.as_millis() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_byte_clock_lags_by_the_bytes_that_did_not_come() {
        let now = Instant::now();
        let mut clock = ByteClock::new(now);
        clock.add(2000, 1000, now + 3 * SECOND);
        assert_eq!(clock.lag(now + 3 * SECOND), SECOND);
        clock.add(1, 1000, now + 7 * SECOND);
        assert_eq!(clock.lag(now + 7 * SECOND), 5 * SECOND - Duration::from_millis(1));
    }

    #[test]
    fn a_byte_clock_saves_nothing_up() {
        let now = Instant::now();
        let mut clock = ByteClock::new(now);
        clock.add(u64::MAX, 1, now + SECOND);
        assert_eq!(clock.lag(now + 2 * SECOND), SECOND);
    }

    #[test]
    fn the_rate_of_a_fast_sender_that_trickles_falls_within_a_second() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        rate.add(1_000_000, now + SAMPLE);
        assert_eq!(rate.current(now + SAMPLE), 4_000_000);
        assert_eq!(rate.current(now + SAMPLE + SECOND), 1);
        rate.add(1, now + 5 * SECOND);
        assert!(rate.average() < 10, "{}", rate.average());
    }

    #[test]
    fn a_quick_first_answer_tells_the_rate() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        rate.add(FIRST_SAMPLE, now + Duration::from_millis(64));
        assert_eq!(rate.average(), 0);
        rate.answered(now + Duration::from_millis(64));
        assert_eq!(rate.average(), 1_024_000);
    }
}
