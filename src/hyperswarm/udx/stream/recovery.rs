//! What was lost, and when to give up waiting: round trips, RACK, the tail loss probe and the retransmission timer,
//! with the numbers of libudx.

use std::time::{Duration, Instant};

use super::flight::{Flight, Sent, State};
use super::sending::Sending;
use crate::udx::congestion::Loss;
use crate::udx::types::CloseReason;

const INITIAL_RTO: Duration = Duration::from_secs(1);
const MIN_RTO: Duration = Duration::from_secs(1);
const MAX_RTO: Duration = Duration::from_secs(30);
/// Samples beyond this that are also far from what was seen are cut to what is plausible.
const OUTLIER: Duration = Duration::from_secs(5);
const MAX_RTT: Duration = Duration::from_secs(30);
const MIN_RTT_AGE: Duration = Duration::from_secs(300);
/// Retransmission time-outs of one packet; one more closes the stream.
const MAX_TIMEOUTS: u8 = 6;
/// Retransmission time-outs of one packet after which its size is suspected.
const BLACK_HOLE_TIMEOUTS: u8 = 2;
/// The least a timer waits for packets that overtook each other, and for the tail's acknowledgement: operating
/// systems do not wake us more precisely, nor the peer.
const GRANULARITY: Duration = Duration::from_millis(1);
const MIN_TAIL: Duration = Duration::from_millis(5);
/// So often the least wait for a tail probe can be doubled before the longest RTO has passed.
const MAX_TAIL_DOUBLINGS: u32 = 13;

/// Quarters of a round trip that packets may be overtaken by, at most, as long as the round trip measured.
const MAX_PATIENCE: u32 = 15;

#[derive(Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    min: Option<(Duration, Instant)>,
}

impl Rtt {
    pub(super) fn sample(&mut self, now: Instant, rtt: Duration) {
        let rtt = self.plausible(rtt);
        if self.min.is_none_or(|(min, at)| rtt <= min || now.saturating_duration_since(at) > MIN_RTT_AGE) {
            self.min = Some((rtt, now));
        }
        let Some(smoothed) = self.smoothed else {
            (self.smoothed, self.variation) = (Some(rtt), rtt / 2);
            return;
        };
        self.variation = (3 * self.variation + smoothed.abs_diff(rtt)) / 4;
        self.smoothed = Some((7 * smoothed + rtt) / 8);
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub(super) fn min(&self) -> Option<Duration> {
        self.min.map(|(rtt, _)| rtt)
    }

    pub(super) fn rto(&self) -> Duration {
        self.smoothed.map_or(INITIAL_RTO, |smoothed| (smoothed + 4 * self.variation).clamp(MIN_RTO, MAX_RTO))
    }

    fn plausible(&self, rtt: Duration) -> Duration {
        let expected = self.smoothed.map_or(MAX_RTT, |smoothed| smoothed + 5 * self.variation);
        let cut = if rtt > OUTLIER && rtt > expected { expected.max(OUTLIER) } else { rtt };
        cut.min(MAX_RTT)
    }
}

/// The most recently sent packet that arrived: what was sent before it and is still missing was probably lost.
#[derive(Debug, Default)]
pub(super) struct Rack {
    newest: Option<(Instant, u64)>,
    rtt: Duration,
    /// Highest number delivered.
    highest: Option<u64>,
    reordering: bool,
    /// Repetitions were needless so often: the window is longer by as many quarters of a round trip.
    patience: u32,
    patient_since: Option<Instant>,
}

impl Rack {
    pub(super) fn deliver(&mut self, now: Instant, number: u64, packet: &Sent, min_rtt: Option<Duration>) {
        let rtt = now.saturating_duration_since(packet.sent_at);
        let repeated = packet.transmissions > 1;
        match self.highest {
            Some(highest) if number < highest => self.reordering |= !repeated,
            _ => self.highest = Some(number),
        }
        // An acknowledgement faster than the network can be is of the transmission before, which was not lost. Clearly
        // faster: a short packet may be somewhat faster than any before.
        if let Some(min) = min_rtt.filter(|min| repeated && rtt < *min - *min / 8) {
            self.be_patient(now, min);
            return;
        }
        if self.newest.is_none_or(|newest| (packet.sent_at, number) > newest) {
            (self.newest, self.rtt) = (Some((packet.sent_at, number)), rtt);
        }
    }

    /// How long a packet may be overtaken by others before it counts as lost.
    fn window(&self, rtt: &Rtt, recovering: bool, sacked: usize) -> Duration {
        if !self.reordering && (recovering || sacked >= 3) {
            return Duration::ZERO;
        }
        let quarters = rtt.min().unwrap_or_default() / 4 * (1 + self.patience);
        quarters.min(rtt.smoothed().unwrap_or_default()).max(GRANULARITY)
    }

    /// Waits longer from now on for packets that were overtaken; once per round trip at most.
    fn be_patient(&mut self, now: Instant, min_rtt: Duration) {
        if self.patient_since.is_none_or(|since| now.saturating_duration_since(since) > min_rtt) {
            self.reordering = true;
            self.patience = (self.patience + 1).min(MAX_PATIENCE);
            self.patient_since = Some(now);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Losses are repaired until the packets below the number are acknowledged.
    Recovering(u64),
}

#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) rtt: Rtt,
    pub(super) rack: Rack,
    pub(super) phase: Phase,
    /// Tail probes since something was last acknowledged; none are sent before anything was, nor after an RTO.
    pub(super) tail_probes: Option<u32>,
    /// A tail probe is to be sent now.
    pub(super) tail_probe: bool,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self {
            rtt: Rtt::default(),
            rack: Rack::default(),
            phase: Phase::Open,
            tail_probes: None,
            tail_probe: false,
        }
    }

    pub(super) fn recovering(&self) -> bool {
        self.phase != Phase::Open
    }

    /// When the packets under way should be probed for, if they should.
    ///
    /// libudx probes once and then leaves it to the RTO, which takes a second: all streams of a path that lost a whole
    /// window, repetitions included, would stand still so long. Here each probe doubles the wait for the next, until
    /// the RTO; also in recovery.
    pub(super) fn tail_deadline(
        &self,
        now: Instant,
        flight: &Flight,
        rto: Option<Instant>,
    ) -> Option<Instant> {
        let probes = self.tail_probes.filter(|_| !flight.is_empty())?;
        let mut wait = self.rtt.smoothed().map_or(INITIAL_RTO, |smoothed| (2 * smoothed).max(MIN_TAIL));
        if flight.len() == 1 {
            wait += Duration::from_millis(2);
        }
        let at = now + wait.saturating_mul(1 << probes.min(MAX_TAIL_DOUBLINGS));
        Some(rto.map_or(at, |rto| rto.min(at)))
    }
}

impl Sending {
    /// Marks as lost what was sent too long before the newest packet that arrived; sets a timer for what may still
    /// turn out to be. Returns the bytes lost that tell of congestion, and the packets lost.
    pub(super) fn detect_losses(&mut self, now: Instant) -> (u64, u64) {
        self.timers.reorder = None;
        let Some(newest) = self.recovery.rack.newest else { return (0, 0) };
        let recovery = &self.recovery;
        let patience = recovery.rack.rtt
            + recovery.rack.window(&recovery.rtt, recovery.recovering(), self.flight.sacked());
        let (mut lost, mut packets) = (0, 0);
        while let Some((number, packet)) = self.flight.oldest() {
            if (packet.sent_at, number) >= newest {
                break;
            }
            let deadline = packet.sent_at + patience;
            if now < deadline {
                self.timers.reorder = Some(deadline);
                break;
            }
            lost += self.lose(number);
            packets += 1;
        }
        if lost > 0 {
            self.report_loss(now, lost, false);
        }
        (lost, packets)
    }

    /// All that is under way never had a way to the peer. The timer starts anew.
    pub(super) fn repeat_all(&mut self, now: Instant) {
        while let Some(number) = self.flight.last_flying() {
            self.lose(number);
        }
        if let Some(first) = self.flight.first_mut() {
            first.timeouts = 0;
            self.timers.rto = Some(now + self.recovery.rtt.rto());
        }
    }

    /// The retransmission timer: the peer acknowledged nothing for long. Returns the packets lost, or why to give up.
    pub(super) fn on_rto(&mut self, now: Instant) -> Result<u64, CloseReason> {
        let base = self.flight.base();
        let Some(first) = self.flight.first_mut() else {
            self.timers.rto = None;
            return Ok(0);
        };
        if first.timeouts >= MAX_TIMEOUTS {
            return Err(CloseReason::TimedOut { seq: base });
        }
        first.timeouts += 1;
        if first.timeouts == BLACK_HOLE_TIMEOUTS && self.mtu.on_black_hole(first.size) {
            self.on_packet_size();
        }
        let recovery = &self.recovery;
        let patience = recovery.rack.rtt
            + recovery.rack.window(&recovery.rtt, recovery.recovering(), self.flight.sacked());
        let flying = self.flight.get(base).is_some_and(|packet| packet.state == State::Flying);
        let (mut lost, mut packets) = (self.lose(base), u64::from(flying));
        while let Some((number, packet)) = self.flight.oldest() {
            if now < packet.sent_at + patience {
                break;
            }
            lost += self.lose(number);
            packets += 1;
        }
        (self.recovery.tail_probe, self.recovery.tail_probes) = (false, None);
        (self.timers.tail, self.timers.rto) = (None, Some(now + 2 * self.recovery.rtt.rto()));
        self.report_loss(now, lost, true);
        Ok(packets)
    }

    /// Sends something although the window may be full, so that the peer's acknowledgement shows what is missing.
    pub(super) fn on_tail_timeout(&mut self) {
        self.timers.tail = None;
        if let Some(probes) = self.recovery.tail_probes.as_mut().filter(|_| !self.flight.is_empty()) {
            *probes += 1;
            self.recovery.tail_probe = true;
        }
    }

    /// Everything below the recovery point was acknowledged?
    pub(super) fn leave_recovery(&mut self, now: Instant) {
        if let Phase::Recovering(until) = self.recovery.phase
            && self.flight.base() >= until
        {
            self.recovery.phase = Phase::Open;
            self.controller.on_recovered(now);
        }
    }

    /// Bytes lost that tell of congestion: those of a probe do not.
    fn lose(&mut self, number: u64) -> u64 {
        let Some(size) = self.flight.lose(number) else { return 0 };
        match self.flight.get_mut(number) {
            Some(packet) if packet.probe => {
                packet.probe = false;
                self.mtu.probe_lost();
                0
            }
            _ => size,
        }
    }

    fn report_loss(&mut self, now: Instant, lost: u64, timeout: bool) {
        if !self.recovery.recovering() {
            self.recovery.phase = Phase::Recovering(self.flight.next());
        }
        self.controller.on_loss(&Loss { now, lost, in_flight: self.flight.bytes(), timeout });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udx::stream::rate::RateSampler;

    const MS: Duration = Duration::from_millis(1);

    fn repeated(sent_at: Instant) -> Sent {
        let stamp = RateSampler::new(sent_at).stamp(sent_at, 0);
        Sent {
            offset: 0,
            length: 1,
            size: 21,
            flags: 1,
            state: State::Flying,
            probe: false,
            timeouts: 0,
            transmissions: 2,
            sent_at,
            stamp,
        }
    }

    #[test]
    fn an_acknowledgement_faster_than_the_network_is_of_the_transmission_before_which_was_not_lost() {
        let start = Instant::now();
        let mut repeated = repeated(start);
        let mut rtt = Rtt::default();
        rtt.sample(start, 40 * MS);
        let mut rack = Rack::default();
        rack.deliver(start + 34 * MS, 0, &repeated, rtt.min());
        assert_eq!(rack.newest, None, "what was sent before the repetition is not late");
        assert_eq!(rack.window(&rtt, true, 3), 20 * MS, "what is overtaken is waited for longer");
        repeated.sent_at += 30 * MS;
        rack.deliver(start + 40 * MS, 0, &repeated, rtt.min());
        assert_eq!(rack.window(&rtt, true, 3), 20 * MS, "once per round trip");
        repeated.sent_at += 30 * MS;
        rack.deliver(start + 80 * MS, 0, &repeated, rtt.min());
        assert_eq!(rack.window(&rtt, true, 3), 30 * MS);
        assert_eq!(rack.newest, None);
        repeated.transmissions = 1;
        rack.deliver(start + 80 * MS, 0, &repeated, rtt.min());
        assert_eq!(rack.newest, Some((repeated.sent_at, 0)), "that of a first transmission is one");
    }

    #[test]
    fn an_acknowledgement_hardly_faster_than_any_before_is_of_the_repetition() {
        let start = Instant::now();
        let mut rtt = Rtt::default();
        rtt.sample(start, 40 * MS);
        let mut rack = Rack::default();
        rack.deliver(start + 39 * MS, 0, &repeated(start), rtt.min());
        assert_eq!(rack.newest, Some((start, 0)));
        assert_eq!(rack.window(&rtt, true, 3), Duration::ZERO);
    }
}
