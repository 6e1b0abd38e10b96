//! Pacing: a token bucket that is filled by time, so that a window of packets does not leave as one burst that
//! overflows the queue of the bottleneck.

use std::time::{Duration, Instant};

/// Bytes of one GSO batch: what a single system call sends. Paths that are so fast that this takes less than
/// [`BURST`] get whole batches.
const BATCH: u64 = 64 * 1024;
/// As much may leave at once as takes this long: timers come up to a millisecond late, and what the bucket cannot hold
/// until then is lost for good.
const BURST: Duration = Duration::from_millis(2);
/// What a stream that waited for the pacer may make up for at most when it is woken late: on a busy machine a timer can
/// come as late as other threads like to run. Without it the bucket's size, not the rate, would decide what leaves
/// there; the rate measured would be lower, and the bucket of the next one smaller.
const LATENESS: Duration = Duration::from_millis(10);
/// Rate from which a burst is a whole batch at least: 32 MiB/s, where 64 KiB take 2 ms.
const FAST: u64 = 32 * 1024 * 1024;

/// Parts of a byte that tokens are counted in: rate (bytes per second) times nanoseconds, nothing is rounded.
const PARTS: i128 = 1_000_000_000;

/// Decides when bytes may leave, given a rate.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Bytes per second; none: everything may leave at once.
    rate: Option<u64>,
    /// Bytes that may leave at once after a pause.
    burst: u64,
    /// Billionths of bytes that may leave now; below zero after an overdraft.
    tokens: i128,
    /// The same, beyond the burst, for having been woken late; used first.
    credit: i128,
    /// When the stream that waits should have been woken.
    due: Option<Instant>,
    filled: Instant,
}

impl Pacer {
    /// A pacer without a rate.
    pub fn new(now: Instant) -> Self {
        Self {
            rate: None,
            burst: BATCH,
            tokens: i128::from(BATCH) * PARTS,
            credit: 0,
            due: None,
            filled: now,
        }
    }

    /// The controller's pacing rate and the bytes of a full packet, from now on.
    pub fn set_rate(&mut self, now: Instant, rate: Option<u64>, packet_size: u64) {
        self.fill(now);
        self.rate = rate.map(|rate| rate.max(1));
        let rate = rate.unwrap_or(FAST);
        let in_time = rate / (1_000_000_000 / u64::from(BURST.subsec_nanos()));
        let batch = if rate >= FAST { BATCH } else { 0 };
        self.burst = in_time.max(2 * packet_size).max(batch);
        self.tokens = self.tokens.min(i128::from(self.burst) * PARTS);
    }

    /// Bytes that may leave now. A sender may overdraw it by part of a packet.
    pub fn budget(&mut self, now: Instant) -> u64 {
        if self.rate.is_none() {
            return u64::MAX;
        }
        self.fill(now);
        u64::try_from((self.tokens + self.credit) / PARTS).unwrap_or(0)
    }

    /// `bytes` left.
    pub fn on_sent(&mut self, now: Instant, bytes: u64) {
        self.fill(now);
        // Without a rate nothing is owed: what left freely must not hold back what is paced later.
        let floor = if self.rate.is_none() { 0 } else { i128::MIN };
        let parts = i128::from(bytes) * PARTS;
        let from_credit = parts.min(self.credit);
        self.credit -= from_credit;
        self.tokens = (self.tokens - (parts - from_credit)).max(floor);
    }

    /// When so many bytes may leave, more than a burst counting as a burst; `now` if at once.
    pub fn next_release(&mut self, now: Instant, bytes: u64) -> Instant {
        let Some(rate) = self.rate else { return now };
        self.fill(now);
        let missing = i128::from(bytes.min(self.burst)) * PARTS - self.tokens - self.credit;
        if missing <= 0 {
            return now;
        }
        let nanoseconds = (missing as u128).div_ceil(u128::from(rate));
        // An hour is for ever here; the next acknowledgement will bring another rate.
        let wait = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let due = now + wait.min(Duration::from_secs(3600));
        self.due = Some(due);
        due
    }

    /// Bytes worth waiting for: half a burst, so that nothing is lost if the timer comes late.
    pub fn quantum(&self) -> u64 {
        self.burst / 2
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled).as_nanos() as i128;
        let Some(rate) = self.rate.filter(|_| elapsed > 0) else {
            self.filled = self.filled.max(now);
            return;
        };
        let rate = i128::from(rate);
        let full = i128::from(self.burst) * PARTS;
        let tokens = elapsed.saturating_mul(rate).saturating_add(self.tokens);
        if let Some(due) = self.due.take_if(|due| *due <= now) {
            let late = now.saturating_duration_since(due).min(LATENESS);
            self.credit = (tokens - full).clamp(0, late.as_nanos() as i128 * rate);
        } else if elapsed > LATENESS.as_nanos() as i128 {
            self.credit = 0;
        }
        self.tokens = tokens.min(full);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A pacer at this rate that has used its burst.
    fn empty(now: Instant, rate: u64) -> Pacer {
        let mut pacer = Pacer::new(now);
        pacer.set_rate(now, Some(rate), 1000);
        let budget = pacer.budget(now);
        pacer.on_sent(now, budget);
        pacer
    }

    #[test]
    fn without_a_rate_everything_may_leave() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.on_sent(now, 1 << 30);
        assert_eq!(pacer.budget(now), u64::MAX);
        assert_eq!(pacer.next_release(now, 1 << 30), now);
        pacer.set_rate(now, Some(1_000_000), 1000);
        assert_eq!(pacer.budget(now), 0, "a burst follows what left freely");
        assert_eq!(pacer.next_release(now, 1000), now + MS);
    }

    #[test]
    fn over_a_second_the_rate_leaves_exactly_and_a_burst_more() {
        for rate in [999_983, 12_500_000, 125_000_000, 1_250_000_000] {
            let start = Instant::now();
            let mut pacer = empty(start, rate);
            let (mut now, mut left) = (start, 0_u64);
            while now <= start + Duration::from_secs(1) {
                pacer.on_sent(now, 1000);
                left += 1000;
                now = pacer.next_release(now, 1000);
            }
            assert!(left.abs_diff(rate) <= 1000, "{left} bytes left at {rate} a second");
        }
    }

    #[test]
    fn a_pause_saves_no_more_than_a_burst() {
        let now = Instant::now();
        for (rate, burst) in
            [(100_000, 2000), (12_500_000, 25_000), (33_554_432, 67_108), (1 << 30, 2_147_483)]
        {
            let mut pacer = empty(now, rate);
            assert_eq!(pacer.budget(now + Duration::from_secs(10)), burst, "at {rate} a second");
            assert_eq!(pacer.quantum(), burst / 2);
        }
    }

    #[test]
    fn who_waited_and_is_woken_late_makes_up_for_it_once_within_bounds() {
        let start = Instant::now();
        for (late, credit) in [(0, 0), (1, 12_500), (7, 87_500), (10, 125_000), (10_000, 125_000)] {
            let mut pacer = empty(start, 12_500_000);
            let due = pacer.next_release(start, 25_000);
            assert_eq!(due, start + 2 * MS);
            let now = due + late * MS;
            assert_eq!(pacer.budget(now), 25_000 + credit, "{late} ms late");
            pacer.on_sent(now, 1000);
            pacer.set_rate(now, Some(12_500_000), 1000);
            assert_eq!(pacer.budget(now), 24_000 + credit, "the rest is not lost, {late} ms late");
            assert_eq!(pacer.budget(now + 11 * MS), 25_000, "not kept over a pause");
        }
    }

    #[test]
    fn an_overdraft_is_paid_back() {
        let now = Instant::now();
        let mut pacer = empty(now, 1_000_000);
        pacer.on_sent(now, 500);
        assert_eq!(pacer.budget(now), 0);
        assert_eq!(pacer.next_release(now, 1000), now + MS + MS / 2);
        assert_eq!(pacer.budget(now + MS + MS / 2), 1000);
    }

    #[test]
    fn nanoseconds_are_not_lost_to_rounding() {
        let start = Instant::now();
        let mut pacer = empty(start, 1_000_000);
        for n in 1..=1000 {
            pacer.budget(start + Duration::from_nanos(n));
        }
        assert_eq!(pacer.budget(start + Duration::from_micros(1)), 1);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let now = Instant::now() + Duration::from_secs(1);
        let mut pacer = empty(now, 1_000_000);
        assert_eq!(pacer.budget(now - MS), 0);
        assert_eq!(pacer.budget(now), 0);
    }
}
