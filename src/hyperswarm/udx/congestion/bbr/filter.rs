//! What the controller remembers of its measurements: maxima and minima of late, rounds, acknowledgements in lumps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::Ack;
use super::FINE;

/// Rounds for which a delivery rate counts.
const BANDWIDTH_ROUNDS: u64 = 10;
/// How long a shortest round trip counts.
const RTT_TIME: Duration = Duration::from_secs(10);
/// Rounds in which acknowledgements that came together are counted, twice.
const AGGREGATION_ROUNDS: u64 = 5;
/// The most that is allowed for acknowledgements that come together, as time: one round trip, but within these.
const AGGREGATION_TIME: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// The greatest delivery rate of the last rounds.
#[derive(Debug, Default)]
pub(super) struct MaxFilter {
    /// (round, rate): later and smaller from the front to the back, one per round at most.
    samples: VecDeque<(u64, u64)>,
}

impl MaxFilter {
    pub(super) fn max(&self) -> Option<u64> {
        self.samples.front().map(|(_, rate)| *rate)
    }

    pub(super) fn update(&mut self, round: u64, rate: u64) {
        while self.samples.back().is_some_and(|(_, last)| *last <= rate) {
            self.samples.pop_back();
        }
        if self.samples.back().is_none_or(|(last, _)| *last < round) {
            self.samples.push_back((round, rate));
        }
        while self.samples.front().is_some_and(|(first, _)| first + BANDWIDTH_ROUNDS <= round) {
            self.samples.pop_front();
        }
    }
}

/// The shortest round trip of the last ten seconds.
#[derive(Debug, Default)]
pub(super) struct MinRtt {
    shortest: Option<(Duration, Instant)>,
}

impl MinRtt {
    pub(super) fn value(&self) -> Option<Duration> {
        self.shortest.map(|(rtt, _)| rtt)
    }

    /// Whether the shortest one known was so old that this one took its place, longer as it is. One that is longer by
    /// less than a sixteenth confirms it: the queues are nearly empty.
    pub(super) fn update(&mut self, now: Instant, rtt: Duration) -> bool {
        let Some((shortest, at)) = self.shortest else {
            self.shortest = Some((rtt, now));
            return false;
        };
        if rtt <= shortest.saturating_add(shortest / 16) {
            self.shortest = Some((shortest.min(rtt), now));
            return false;
        }
        let old = now.saturating_duration_since(at) > RTT_TIME;
        if old {
            self.shortest = Some((rtt, now));
        }
        old
    }

    /// It was looked for and counts for the whole time again.
    pub(super) fn renew(&mut self, now: Instant) {
        if let Some((_, at)) = &mut self.shortest {
            *at = now;
        }
    }
}

/// Counts round trips by what was delivered.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) count: u64,
    /// Whether the present acknowledgement is the first of a round.
    pub(super) started: bool,
    end: u64,
    since: Option<Instant>,
}

impl Rounds {
    pub(super) fn update(&mut self, ack: &Ack) {
        let long_enough = self.since.is_none_or(|since| ack.now.saturating_duration_since(since) >= FINE);
        self.started = ack.prior_delivered >= self.end && long_enough;
        if self.started {
            self.end = ack.delivered;
            self.since = Some(ack.now);
            self.count += 1;
        }
    }
}

/// How much more is acknowledged at once, at most, than the bandwidth explains: radio links and busy machines gather
/// acknowledgements, and the window has to cover the pauses between.
#[derive(Debug, Default)]
pub(super) struct Aggregation {
    epoch: Option<Instant>,
    acked: u64,
    /// The maximum of the present rounds and of those before.
    extra: [u64; 2],
    since_round: u64,
}

impl Aggregation {
    pub(super) fn extra(&self) -> u64 {
        let [present, before] = self.extra;
        present.max(before)
    }

    pub(super) fn restart(&mut self, now: Instant) {
        (self.epoch, self.acked) = (Some(now), 0);
    }

    pub(super) fn update(&mut self, ack: &Ack, round: u64, bandwidth: u64, rtt: Duration, window: u64) {
        if round >= self.since_round + AGGREGATION_ROUNDS {
            self.since_round = round;
            self.extra = [0, self.extra[0]];
        }
        let epoch = *self.epoch.get_or_insert(ack.now);
        let elapsed = ack.now.saturating_duration_since(epoch);
        let expected = bytes_in(bandwidth, elapsed);
        if self.acked <= expected {
            self.restart(ack.now);
            self.acked = ack.acked;
            let extra = ack.acked.min(window);
            self.note(extra, bandwidth, rtt);
            return;
        }
        self.acked = self.acked.saturating_add(ack.acked);
        let extra = self.acked.saturating_sub(expected).min(window);
        self.note(extra, bandwidth, rtt);
    }

    fn note(&mut self, extra: u64, bandwidth: u64, rtt: Duration) {
        let (least, most) = AGGREGATION_TIME;
        let extra = extra.min(bytes_in(bandwidth, rtt.clamp(least, most)));
        let [present, _] = &mut self.extra;
        *present = extra.max(*present);
    }
}

fn bytes_in(bandwidth: u64, time: Duration) -> u64 {
    (bandwidth as f64 * time.as_secs_f64()) as u64
}
