//! The model: endless flows through one queue. Packets do not overtake each other, so a gap is a loss.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::*;
use crate::udx::pacing::Pacer;

const PACKET: u64 = 1472;

#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Bytes per second.
    pub(super) rate: u64,
    pub(super) rtt: Duration,
    /// Bytes.
    pub(super) queue: u64,
    pub(super) loss: f64,
    /// Acknowledgements arrive at multiples of this only.
    pub(super) ack_every: Duration,
}

struct Sent {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// When its acknowledgement comes; none if it is lost.
    acked: Option<Instant>,
}

struct Flow {
    controller: Bbr,
    pacer: Pacer,
    flight: VecDeque<Sent>,
    in_flight: u64,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    /// Recovery ends when what was sent until then is acknowledged.
    recovery: Option<Instant>,
}

pub(super) struct Bottleneck {
    path: Path,
    start: Instant,
    now: Instant,
    busy: Instant,
    rng: StdRng,
    flows: Vec<Flow>,
    waits: (Duration, Duration, u32),
}

impl Bottleneck {
    pub(super) fn new(path: Path, flows: u64) -> Self {
        let now = Instant::now();
        let flow = |n| Flow {
            controller: Bbr::new(PACKET, n),
            pacer: Pacer::new(now),
            flight: VecDeque::new(),
            in_flight: 0,
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            recovery: None,
        };
        let flows = (0..flows).map(flow).collect();
        let rng = StdRng::seed_from_u64(5);
        Self { path, start: now, now, busy: now, rng, flows, waits: Default::default() }
    }

    pub(super) fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    pub(super) fn delivered(&self, flow: usize) -> u64 {
        self.flows[flow].delivered
    }

    pub(super) fn forget_waits(&mut self) {
        self.waits = Default::default();
    }

    /// Mean and longest time in the queue.
    pub(super) fn waits(&self) -> (Duration, Duration) {
        let (sum, longest, count) = self.waits;
        (sum / count.max(1), longest)
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let mut next = until;
            for index in 0..self.flows.len() {
                self.acknowledge(index);
                let wake = self.send(index);
                let arrival = self.flows[index].flight.iter().find_map(|sent| sent.acked);
                next = [wake, arrival].into_iter().flatten().fold(next, Instant::min);
            }
            self.now = next.max(self.now + Duration::from_nanos(1));
        }
    }

    /// Sends what it may; when it may again, if not before an acknowledgement.
    fn send(&mut self, index: usize) -> Option<Instant> {
        let now = self.now;
        loop {
            let flow = &mut self.flows[index];
            if flow.in_flight + PACKET > flow.controller.window() {
                return None;
            }
            let quantum = flow.pacer.quantum().max(PACKET);
            if flow.pacer.budget(now) < PACKET {
                return Some(flow.pacer.next_release(now, quantum));
            }
            if flow.in_flight == 0 {
                (flow.first_sent, flow.delivered_at) = (now, now);
            }
            flow.in_flight += PACKET;
            flow.pacer.on_sent(now, PACKET);
            flow.controller.on_sent(now, PACKET, flow.in_flight);
            let (delivered, delivered_at, first_sent) = (flow.delivered, flow.delivered_at, flow.first_sent);
            let acked = self.pass();
            let sent = Sent { at: now, delivered, delivered_at, first_sent, acked };
            self.flows[index].flight.push_back(sent);
        }
    }

    fn pass(&mut self) -> Option<Instant> {
        let wait = self.busy.saturating_duration_since(self.now);
        if (wait.as_secs_f64() * self.path.rate as f64) as u64 + PACKET > self.path.queue {
            return None;
        }
        let (sum, longest, count) = self.waits;
        self.waits = (sum + wait, longest.max(wait), count + 1);
        self.busy = self.now.max(self.busy) + Duration::from_nanos(PACKET * 1_000_000_000 / self.path.rate);
        if self.rng.random_bool(self.path.loss) {
            return None;
        }
        let every = self.path.ack_every.as_nanos();
        let at = (self.busy + self.path.rtt - self.start).as_nanos().div_ceil(every) * every;
        Some(self.start + Duration::from_nanos(at as u64))
    }

    fn acknowledge(&mut self, index: usize) {
        let (now, flow) = (self.now, &mut self.flows[index]);
        let arrived = flow.flight.iter().take_while(|sent| sent.acked.is_none_or(|at| at <= now));
        let last = arrived.enumerate().filter(|(_, sent)| sent.acked.is_some()).last();
        let Some(last) = last.map(|(index, _)| index) else { return };
        let (mut acked, mut lost, mut latest) = (0, 0, None);
        for sent in flow.flight.drain(..=last) {
            match sent.acked {
                Some(_) => {
                    acked += PACKET;
                    latest = Some(sent);
                }
                None => lost += PACKET,
            }
        }
        let Some(sent) = latest else { return };
        flow.delivered += acked;
        flow.in_flight -= acked + lost;
        if lost > 0 {
            flow.recovery.get_or_insert(now);
            flow.controller.on_loss(&Loss { now, lost, in_flight: flow.in_flight, timeout: false });
        }
        let span = (now - sent.delivered_at).max(sent.at - sent.first_sent);
        let rate = (flow.delivered - sent.delivered) as f64 / span.as_secs_f64();
        (flow.delivered_at, flow.first_sent) = (now, sent.at);
        flow.controller.on_ack(&Ack {
            now,
            acked,
            delivered: flow.delivered,
            prior_delivered: sent.delivered,
            rtt: Some(now - sent.at),
            delivery_rate: (!span.is_zero()).then_some(rate as u64),
            app_limited: false,
            in_flight: flow.in_flight,
            lost,
        });
        if flow.recovery.is_some_and(|since| sent.at > since) {
            flow.recovery = None;
            flow.controller.on_recovered(now);
        }
        flow.pacer.set_rate(now, flow.controller.pacing_rate(), PACKET);
    }
}
