//! The parts of the state machine: whether the pipe is full, which phase of probing it is, how much was lost.

use std::time::{Duration, Instant};

use super::FINE;

/// Growth per round that says the pipe is not full yet.
const GROWTH: f64 = 1.25;
/// Rounds without it after which the pipe is full.
const FLAT_ROUNDS: u32 = 3;
/// Pacing gains in turn; each lasts about one round trip.
const GAINS: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// Growth per turn of these gains that says that the path has much more, and turns in a row that must say so.
const TURN_GROWTH: f64 = 1.15;
const GROWING_TURNS: u32 = 2;
/// Packets that must be lost before the share of losses means anything.
const FEW_PACKETS: u64 = 20;
/// Rounds over which the share of losses is smoothed.
const SMOOTHING: f64 = 8.0;
/// Rounds for which heavy loss is answered with caution.
const CAUTIOUS_ROUNDS: u32 = 8;

/// Notices that the bandwidth stopped growing.
#[derive(Debug, Default)]
pub(super) struct FullPipe {
    pub(super) full: bool,
    bandwidth: u64,
    flat: u32,
}

impl FullPipe {
    /// It was taken for full too early, or others left it.
    pub(super) fn reopen(&mut self, bandwidth: u64) {
        *self = Self { full: false, bandwidth, flat: 0 };
    }

    pub(super) fn on_round(&mut self, bandwidth: u64, app_limited: bool, too_much: bool) {
        if self.full || (app_limited && !too_much) {
            return;
        }
        if bandwidth as f64 >= self.bandwidth as f64 * GROWTH && !too_much {
            (self.bandwidth, self.flat) = (bandwidth, 0);
            return;
        }
        self.flat += 1;
        self.full = self.flat >= FLAT_ROUNDS || too_much;
    }
}

/// The turns of more, less and just as much.
#[derive(Debug)]
pub(super) struct Cycle {
    phase: usize,
    since: Option<Instant>,
    random: u64,
    /// The bandwidth when the last turn began, and how many turns in a row found much more.
    bandwidth: u64,
    growing: u32,
}

impl Cycle {
    pub(super) fn new(seed: u64) -> Self {
        Self { phase: 0, since: None, random: seed, bandwidth: 0, growing: 0 }
    }

    pub(super) fn gain(&self) -> f64 {
        GAINS.get(self.phase).copied().unwrap_or(1.0)
    }

    /// Begins at a random phase, but not with less: flows that begin together must not probe together for ever.
    pub(super) fn begin(&mut self, now: Instant) {
        // The step of splitmix64, which is enough to choose one of seven.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let choice = ((mixed >> 32) % 7) as usize;
        self.phase = if choice == 0 { 0 } else { choice + 1 };
        self.since = Some(now);
        (self.bandwidth, self.growing) = (u64::MAX, 0);
    }

    /// A turn is over at this bandwidth. Whether turn after turn found so much more that the path must have far more:
    /// a quarter per turn would take for ever to find it.
    fn outgrown(&mut self, bandwidth: u64) -> bool {
        let grown = bandwidth as f64 >= self.bandwidth as f64 * TURN_GROWTH;
        self.growing = if grown { self.growing + 1 } else { 0 };
        self.bandwidth = bandwidth;
        self.growing >= GROWING_TURNS
    }

    /// Goes to the next phase if this one has done its work: `above`, the path had more than it holds or lost some;
    /// `empty`, its queue is gone.
    /// True if the path has outgrown these turns.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        rtt: Duration,
        above: bool,
        empty: bool,
        bandwidth: u64,
    ) -> bool {
        let since = *self.since.get_or_insert(now);
        let over = now.saturating_duration_since(since) > rtt.max(FINE);
        let next = match self.gain() {
            gain if gain > 1.0 => over && above,
            gain if gain < 1.0 => over || empty,
            _ => over,
        };
        if next {
            self.phase = (self.phase + 1) % GAINS.len();
            self.since = Some(now);
        }
        next && self.phase == 0 && self.outgrown(bandwidth)
    }
}

/// What was lost in this round, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct RoundLoss {
    lost: u64,
    delivered: u64,
    /// Bytes under way when the round began.
    flight: u64,
    /// Share of what was sent, smoothed over rounds.
    share: f64,
    cautious: u32,
    conserving: u32,
}

impl RoundLoss {
    pub(super) fn lost(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_add(bytes);
    }

    pub(super) fn delivered(&mut self, bytes: u64) {
        self.delivered = self.delivered.saturating_add(bytes);
    }

    /// What to send instead of 1 so that 1 arrives, for losses up to a quarter.
    pub(super) fn compensation(&self) -> f64 {
        1.0 / (1.0 - self.share.min(0.25))
    }

    /// Whether so much was lost of late that it cannot be chance.
    pub(super) fn heavy(&self) -> bool {
        self.cautious > 0
    }

    /// Whether more than a third of this round is lost so far.
    pub(super) fn heavy_now(&self, packet: u64) -> bool {
        let round = self.flight.max(self.lost.saturating_add(self.delivered));
        self.lost >= FEW_PACKETS * packet && self.lost > round / 3
    }

    /// Whether the window follows what is under way: one packet leaves for each that arrived.
    pub(super) fn conserving(&self) -> bool {
        self.conserving > 0
    }

    /// Conserves in what is left of this round and in the next.
    pub(super) fn conserve(&mut self) {
        self.conserving = 2;
    }

    pub(super) fn end_round(&mut self, packet: u64, flight: u64) {
        let sent = self.lost.saturating_add(self.delivered).max(1);
        self.share += (self.lost as f64 / sent as f64 - self.share) / SMOOTHING;
        self.cautious =
            if self.heavy_now(packet) { CAUTIOUS_ROUNDS } else { self.cautious.saturating_sub(1) };
        self.conserving = self.conserving.saturating_sub(1);
        (self.lost, self.delivered, self.flight) = (0, 0, flight);
    }
}
