//! BBR: a model of the path (how fast it delivers, how long it takes when its queues are empty) decides how much is
//! under way, not the losses. In the style of version 1, which libudx speaks (`udx_bbr.c`), in bytes and nanoseconds
//! instead of packets and milliseconds, and with six changes:
//!
//! * Random loss does not shrink the window. Only when more than a third of a round trip is lost, or all of it (a
//!   retransmission timeout), the window follows what is still under way.
//! * Probing for bandwidth sends more by what is lost at random: a gain of 1.25 finds nothing if a fifth is lost.
//! * A path that gives more turn after turn is searched as at the start: round trips that vary end startup early.
//! * Draining ends after some rounds, as in later versions, also if the queue is not empty: it may be that of others.
//! * Round trips below `FINE` count as that long: there the scheduler, not the path, decides when acknowledgements
//!   come, and a window of two real round trips would leave a loopback idle most of the time.
//! * The window is not shrunk to look for a shorter round trip while those measured are nearly as short as the
//!   shortest, which is so whenever the stream has the path for itself; nor below `FINE`.
//!
//! Nothing in it depends on the other stream's honesty for safety: a peer that acknowledges too much makes us send
//! faster, to itself, and the window it advertises bounds what is under way.

mod filter;
mod model;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::{Ack, Controller, Loss};
use filter::{Aggregation, MaxFilter, MinRtt, Rounds};
use model::{Cycle, FullPipe, RoundLoss};

/// Packets under way before anything is known.
const INITIAL_PACKETS: u64 = 10;
/// Packets that may always be under way, so that acknowledgements keep coming.
const MINIMUM_PACKETS: u64 = 4;
/// Doubles the rate in every round trip: 2 / ln 2.
const STARTUP_GAIN: f64 = 2.885;
/// Empties in one round trip the queue that startup built.
const DRAIN_GAIN: f64 = 1.0 / STARTUP_GAIN;
/// Of the path's capacity under way while probing it; twice, for acknowledgements that come late or together.
const WINDOW_GAIN: f64 = 2.0;
/// Rounds after which draining is over in any case: the queue that is left then is that of others, and who waited for
/// them would leave them all of the path.
const DRAIN_ROUNDS: u64 = 3;
/// Paced a little below the estimate, so that no queue stays.
const PACING_MARGIN: f64 = 0.99;
/// The shortest round trip that the model works with, and the shortest round.
const FINE: Duration = Duration::from_millis(1);
/// Packets of the smallest batch that the window has room for on such a path. Windows that only follow the estimates
/// keep the shares of flows as they happen to be, or let them drift apart; a part that is equal for all draws them
/// together.
const FINE_BATCH: u64 = 4;
/// How long the window stays at its minimum to see the round trip without queues.
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
/// Bytes of one batch of packets on a fast path; see [`super::super::pacing`].
const BATCH: u64 = 64 * 1024;

/// What the controller is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Looking for the capacity, doubling each round.
    Startup,
    /// Letting the queue run empty that startup filled; the round until which it may take.
    Drain(u64),
    /// At capacity, trying a little more and a little less in turn.
    ProbeBandwidth,
    /// Next to nothing under way, to measure the bare round trip; until when, once that is reached.
    ProbeRtt(Option<Instant>),
}

/// The controller of one path.
pub struct Bbr {
    packet: u64,
    mode: Mode,
    bandwidth: MaxFilter,
    rounds: Rounds,
    pipe: FullPipe,
    rtt: MinRtt,
    cycle: Cycle,
    aggregation: Aggregation,
    loss: RoundLoss,
    /// Sending began anew after a pause; until the next acknowledgement.
    restarted: bool,
    window: u64,
    /// The window before a loss or a probe of the round trip shrank it.
    saved: u64,
    rate: Option<u64>,
}

impl Bbr {
    /// For a path whose full packets have so many bytes. `seed` spreads the probing of flows that share it.
    pub fn new(packet_size: u64, seed: u64) -> Self {
        let packet = packet_size.max(1);
        Self {
            packet,
            mode: Mode::Startup,
            bandwidth: MaxFilter::default(),
            rounds: Rounds::default(),
            pipe: FullPipe::default(),
            rtt: MinRtt::default(),
            cycle: Cycle::new(seed),
            aggregation: Aggregation::default(),
            loss: RoundLoss::default(),
            restarted: false,
            window: INITIAL_PACKETS * packet,
            saved: 0,
            rate: None,
        }
    }

    /// Bytes per second that the path is thought to deliver; none before the first sample.
    pub fn bandwidth(&self) -> Option<u64> {
        self.bandwidth.max()
    }

    /// The shortest round trip of late, rounded up to `FINE`.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.rtt.value()
    }

    fn minimum(&self) -> u64 {
        MINIMUM_PACKETS * self.packet
    }

    /// Bytes under way when the path is full and its queues are empty, times `gain`.
    fn capacity(&self, gain: f64) -> Option<u64> {
        let (bandwidth, rtt) = (self.bandwidth.max()?, self.rtt.value()?);
        Some((bandwidth as f64 * rtt.as_secs_f64() * gain) as u64)
    }

    /// Capacity and what batching at both ends needs on top of it.
    fn target(&self, gain: f64) -> u64 {
        let Some(capacity) = self.capacity(gain) else { return INITIAL_PACKETS * self.packet };
        let in_time = self.rate.unwrap_or(0) / 1000;
        let alike = if self.is_fine() { BATCH.min(FINE_BATCH * self.packet) } else { 0 };
        let batch = in_time.clamp(alike, BATCH).max(self.packet);
        capacity.saturating_add(3 * batch).max(self.minimum())
    }

    /// Whether the scheduler decides when acknowledgements come.
    fn is_fine(&self) -> bool {
        self.rtt.value().is_none_or(|rtt| rtt <= FINE)
    }

    fn pacing_gain(&self) -> f64 {
        match self.mode {
            Mode::Startup => STARTUP_GAIN,
            Mode::Drain(_) => DRAIN_GAIN,
            Mode::ProbeBandwidth if self.loss.heavy() => 1.0,
            Mode::ProbeBandwidth if self.cycle.gain() > 1.0 => self.cycle.gain() * self.loss.compensation(),
            Mode::ProbeBandwidth => self.cycle.gain(),
            Mode::ProbeRtt(_) => 1.0,
        }
    }

    fn window_gain(&self) -> f64 {
        match self.mode {
            Mode::ProbeBandwidth if self.loss.heavy() => 1.0,
            Mode::Startup | Mode::Drain(_) => STARTUP_GAIN,
            Mode::ProbeBandwidth => WINDOW_GAIN,
            Mode::ProbeRtt(_) => 1.0,
        }
    }

    fn update_mode(&mut self, ack: &Ack) {
        let before = ack.in_flight.saturating_add(ack.acked).saturating_add(ack.lost);
        if self.mode == Mode::ProbeBandwidth {
            let above = self.capacity(self.cycle.gain()).is_none_or(|capacity| before >= capacity);
            let empty = self.capacity(1.0).is_some_and(|capacity| before <= capacity);
            let rtt = self.rtt.value().unwrap_or(FINE);
            let bandwidth = self.bandwidth.max().unwrap_or(0);
            if self.cycle.advance(ack.now, rtt, above || ack.lost > 0, empty, bandwidth) {
                self.pipe.reopen(bandwidth);
                self.mode = Mode::Startup;
            }
        }
        if self.rounds.started {
            let too_much = self.loss.heavy() && self.mode == Mode::Startup;
            self.pipe.on_round(self.bandwidth.max().unwrap_or(0), ack.app_limited, too_much);
        }
        if self.mode == Mode::Startup && self.pipe.full {
            self.mode = Mode::Drain(self.rounds.count + DRAIN_ROUNDS);
        }
        if let Mode::Drain(until) = self.mode {
            let empty = self.capacity(1.0).is_some_and(|capacity| ack.in_flight <= capacity);
            if empty || self.rounds.count >= until {
                self.probe_bandwidth(ack.now);
            }
        }
    }

    fn probe_bandwidth(&mut self, now: Instant) {
        self.mode = Mode::ProbeBandwidth;
        self.cycle.begin(now);
    }

    fn update_rtt(&mut self, ack: &Ack) {
        let expired = ack.rtt.is_some_and(|rtt| self.rtt.update(ack.now, rtt.max(FINE)));
        if expired && !self.is_fine() && !self.restarted && !matches!(self.mode, Mode::ProbeRtt(_)) {
            self.saved = self.saved.max(self.window);
            self.mode = Mode::ProbeRtt(None);
        }
        if let Mode::ProbeRtt(until) = self.mode {
            match until {
                None if ack.in_flight <= self.minimum() => {
                    let rtt = self.rtt.value().unwrap_or(FINE);
                    self.mode = Mode::ProbeRtt(Some(ack.now + PROBE_RTT_TIME.max(rtt)));
                }
                Some(until) if ack.now >= until => self.end_probe_rtt(ack.now),
                _ => {}
            }
        }
    }

    fn end_probe_rtt(&mut self, now: Instant) {
        self.rtt.renew(now);
        self.restore_window();
        if self.pipe.full {
            self.probe_bandwidth(now);
        } else {
            self.mode = Mode::Startup;
        }
    }

    fn restore_window(&mut self) {
        self.window = self.window.max(self.saved);
        self.saved = 0;
    }

    fn update_rate(&mut self, rtt: Option<Duration>) {
        let gain = self.pacing_gain();
        let rate = match (self.bandwidth.max(), rtt.or(self.rtt.value())) {
            // The first acknowledgement tells how long the path is, but not how wide.
            (Some(bandwidth), _) if self.rate.is_some() => (bandwidth as f64 * gain * PACING_MARGIN) as u64,
            (_, Some(rtt)) => (self.window as f64 * gain / rtt.max(FINE).as_secs_f64()) as u64,
            (_, None) => return,
        };
        let rate = rate.max(1);
        if self.pipe.full || self.rate.is_none_or(|current| rate > current) {
            self.rate = Some(rate);
        }
    }

    fn update_window(&mut self, ack: &Ack) {
        let target = self.target(self.window_gain()).saturating_add(self.extra());
        if self.loss.conserving() {
            self.window = self.window.max(ack.in_flight.saturating_add(ack.acked));
        } else if self.pipe.full {
            self.window = self.window.saturating_add(ack.acked).min(target);
        } else if self.window < target || ack.delivered < INITIAL_PACKETS * self.packet {
            self.window = self.window.saturating_add(ack.acked);
        }
        self.window = self.window.max(self.minimum());
        if matches!(self.mode, Mode::ProbeRtt(_)) {
            self.window = self.window.min(self.minimum());
        }
    }

    /// Room for acknowledgements that come together.
    fn extra(&self) -> u64 {
        if self.pipe.full && !self.loss.heavy() { self.aggregation.extra() } else { 0 }
    }
}

impl Controller for Bbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        if in_flight > bytes {
            return;
        }
        // Nothing was under way: the application paused. What it sends now measures the path as it is, and leaves at
        // the estimated rate whatever was being probed.
        self.restarted = true;
        self.aggregation.restart(now);
        match self.mode {
            Mode::ProbeBandwidth => {
                self.rate = self.bandwidth.max().or(self.rate);
            }
            Mode::ProbeRtt(Some(until)) if now >= until => self.end_probe_rtt(now),
            _ => {}
        }
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.loss.delivered(ack.acked);
        self.rounds.update(ack);
        if self.rounds.started {
            self.loss.end_round(self.packet, ack.in_flight);
        }
        if let Some(rate) = ack.delivery_rate
            && (!ack.app_limited || self.bandwidth.max().is_none_or(|max| rate >= max))
        {
            self.bandwidth.update(self.rounds.count, rate);
        }
        if let (Some(bandwidth), Some(rtt)) = (self.bandwidth.max(), self.rtt.value()) {
            self.aggregation.update(ack, self.rounds.count, bandwidth, rtt, self.window);
        }
        self.update_mode(ack);
        self.update_rtt(ack);
        self.restarted = false;
        self.update_rate(ack.rtt);
        self.update_window(ack);
    }

    fn on_loss(&mut self, loss: &Loss) {
        self.loss.lost(loss.lost);
        if loss.timeout || self.loss.heavy_now(self.packet) {
            self.saved = self.saved.max(self.window);
            self.loss.conserve();
            self.window = loss.in_flight.saturating_add(self.packet).max(self.minimum());
        }
    }

    fn on_recovered(&mut self, _now: Instant) {
        if !matches!(self.mode, Mode::ProbeRtt(_)) {
            self.restore_window();
        }
    }

    fn on_packet_size(&mut self, bytes: u64) {
        self.packet = bytes.max(1);
        self.window = self.window.max(self.minimum());
        if self.bandwidth.max().is_none() {
            self.window = self.window.max(INITIAL_PACKETS * self.packet);
        }
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self) -> Option<u64> {
        self.rate
    }
}
