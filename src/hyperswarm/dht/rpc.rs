//! Requests in flight: request ids, resends, time-outs, pacing, and who may answer (dht-rpc 4.9 `lib/io.js`).
//!
//! The original looks at all requests every 750 ms. Here the same moments are computed per request, so nothing runs
//! while nothing is in flight: a request is resent at the 3rd and the 6th of these ticks after it was sent and fails
//! at the 10th.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

use crate::limits::MAX_REQUESTS;

/// The grid on which requests are resent and given up.
const TICK: Duration = Duration::from_millis(750);
/// Ticks from one datagram of a request to the next.
const RESEND_TICKS: u64 = 3;
/// Ticks from the last datagram to failure.
const FAIL_TICKS: u64 = 4;
/// Datagrams per request.
const TRIES: u8 = 3;
/// How long a first answer may take before the referrer is asked for help.
const PUNCH_AFTER: Duration = Duration::from_millis(500);
/// Requests in flight at which pacing begins, if the rate is high too.
pub const CONCURRENCY: usize = 16;
/// Requests per second at which pacing begins, if many are in flight too.
const RATE: f64 = 50.0;

/// A request to make.
pub struct Outgoing<C> {
    /// Where it goes, and the only address whose answer counts.
    pub to: SocketAddrV4,
    /// Given back when it ends.
    pub context: C,
    /// Who told us of the target and can relay a holepunch to it.
    pub referrer: Option<SocketAddrV4>,
    /// It is a holepunch itself: the referrer is asked at once, with the same request id.
    pub punching: bool,
    /// Help has been asked for this target before; it is asked again only with a resend.
    pub punched: bool,
    /// Skip the queue of paced requests.
    pub immediate: bool,
}

/// What the owner has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<C> {
    /// Send a request, for the first time or again.
    Send {
        /// Destination.
        to: SocketAddrV4,
        /// The whole message.
        payload: Bytes,
    },
    /// Ask `referrer` to relay a holepunch to `to`.
    Punch {
        /// The request id to use; None for a fresh one.
        rid: Option<u16>,
        /// Who is to be reached.
        to: SocketAddrV4,
        /// Who relays.
        referrer: SocketAddrV4,
    },
    /// Nobody answered, or there were too many requests to make this one.
    Failed {
        /// Who was to be asked.
        to: SocketAddrV4,
        /// True if it was asked: if not, nothing is known about it.
        sent: bool,
        /// As given.
        context: C,
    },
}

/// A request that was answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered<C> {
    /// As given.
    pub context: C,
    /// From the first datagram to the answer.
    pub elapsed: Duration,
}

struct Request<C> {
    to: SocketAddrV4,
    payload: Bytes,
    context: C,
    referrer: Option<SocketAddrV4>,
    punching: bool,
    punch_at: Option<Instant>,
    sent: Option<Sent>,
}

/// State of a request that is on its way.
struct Sent {
    first: Instant,
    tries: u8,
    due: u64,
}

/// All requests of a node.
pub struct Requests<C> {
    start: Instant,
    next_rid: u16,
    requests: BTreeMap<u16, Request<C>>,
    /// Ids of paced requests, in order. Each is in `requests`.
    waiting: VecDeque<u16>,
    in_flight: usize,
    /// Number of those packets that were retransmitted.
    late_in_flight: usize,
    rate: Rate,
    actions: VecDeque<Action<C>>,
    /// Requests sent a second time, and not yet told to the owner, who takes them after every time-out. No more than
    /// there are requests.
    late: VecDeque<(SocketAddrV4, C)>,
}

impl<C: Clone> Requests<C> {
    /// No requests; the first id is random.
    pub fn new(now: Instant, rng: &mut StdRng) -> Self {
        Self {
            start: now,
            next_rid: (rng.next_u32() & 0xffff) as u16,
            requests: BTreeMap::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            late_in_flight: 0,
            rate: Rate::new(now),
            actions: VecDeque::new(),
            late: VecDeque::new(),
        }
    }

    /// Requests on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Requests on their way of which an answer can be expected: those that had to be sent again are left out, else a few
    /// nodes that never answer would keep all others waiting.
    pub fn expected(&self) -> usize {
        self.in_flight.saturating_sub(self.late_in_flight)
    }

    /// Makes a request: sends it, or queues it while the node is saturated, or fails it if there are too many.
    /// `encode` gets the request id.
    pub fn start(&mut self, now: Instant, outgoing: Outgoing<C>, encode: impl FnOnce(u16) -> Bytes) {
        if self.requests.len() >= MAX_REQUESTS {
            self.actions.push_back(Action::Failed {
                to: outgoing.to,
                sent: false,
                context: outgoing.context,
            });
            return;
        }
        let rid = self.fresh_rid();
        let punch = outgoing.referrer.is_some() && !outgoing.punched;
        let request = Request {
            to: outgoing.to,
            payload: encode(rid),
            context: outgoing.context,
            referrer: outgoing.referrer,
            punching: outgoing.punching,
            punch_at: punch.then_some(now),
            sent: None,
        };
        self.requests.insert(rid, request);
        if !outgoing.immediate && (!self.waiting.is_empty() || self.saturated(now)) {
            self.waiting.push_back(rid);
        } else {
            self.send_first(now, rid);
        }
    }

    /// An id no request uses; ids count up and wrap.
    pub fn fresh_rid(&mut self) -> u16 {
        // MAX_REQUESTS is far below the number of ids, so this ends.
        while self.requests.contains_key(&self.next_rid) {
            self.next_rid = self.next_rid.wrapping_add(1);
        }
        let rid = self.next_rid;
        self.next_rid = rid.wrapping_add(1);
        rid
    }

    /// An answer arrived. Only the one from the address that was asked ends the request: a forger would have to
    /// guess the id and be able to send from there.
    pub fn answer(&mut self, now: Instant, rid: u16, from: SocketAddrV4) -> Option<Answered<C>> {
        let request = self.requests.get(&rid)?;
        if request.to != from {
            return None;
        }
        let first = request.sent.as_ref()?.first;
        let request = self.requests.remove(&rid)?;
        self.finished(now, request.sent.as_ref());
        Some(Answered { context: request.context, elapsed: now.saturating_duration_since(first) })
    }

    /// Resends and gives up what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let tick = self.tick(now);
        let due = |r: &Request<C>| {
            r.sent.as_ref().is_some_and(|s| s.due <= tick || r.punch_at.is_some_and(|at| at <= now))
        };
        let rids: Vec<u16> = self.requests.iter().filter(|(_, r)| due(r)).map(|(rid, _)| *rid).collect();
        for rid in rids {
            self.request_due(now, tick, rid);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.requests
            .values()
            .filter_map(|r| {
                let due = self.start + TICK * u32::try_from(r.sent.as_ref()?.due).unwrap_or(u32::MAX);
                Some(r.punch_at.map_or(due, |at| at.min(due)))
            })
            .min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action<C>> {
        self.actions.pop_front()
    }

    /// A request that the first datagram brought no answer to, and its context.
    pub fn poll_late(&mut self) -> Option<(SocketAddrV4, C)> {
        self.late.pop_front()
    }

    fn request_due(&mut self, now: Instant, tick: u64, rid: u16) {
        let saturated = self.saturated(now);
        let Some(request) = self.requests.get_mut(&rid) else { return };
        let Some(sent) = request.sent.as_mut() else { return };
        if let Some(referrer) = request.referrer
            && request.punch_at.is_some_and(|at| at <= now)
        {
            request.punch_at = None;
            self.actions.push_back(punch(rid, request.to, referrer, request.punching));
        }
        if sent.due > tick {
            return;
        }
        if sent.tries >= TRIES {
            if let Some(request) = self.requests.remove(&rid) {
                let (to, context) = (request.to, request.context);
                self.actions.push_back(Action::Failed { to, sent: true, context });
                self.finished(now, request.sent.as_ref());
            }
        } else if saturated {
            sent.due = tick + 1;
        } else {
            sent.tries += 1;
            if sent.tries == 2 {
                self.late_in_flight += 1;
                self.late.push_back((request.to, request.context.clone()));
            }
            sent.due = tick + if sent.tries < TRIES { RESEND_TICKS } else { FAIL_TICKS };
            self.actions.push_back(Action::Send { to: request.to, payload: request.payload.clone() });
            if let Some(referrer) = request.referrer {
                self.actions.push_back(punch(rid, request.to, referrer, request.punching));
            }
        }
    }

    fn send_first(&mut self, now: Instant, rid: u16) {
        let due = self.tick(now) + RESEND_TICKS;
        let Some(request) = self.requests.get_mut(&rid) else { return };
        request.sent = Some(Sent { first: now, tries: 1, due });
        request.punch_at = request.punch_at.map(|_| now + PUNCH_AFTER);
        self.in_flight += 1;
        self.rate.add(now);
        self.actions.push_back(Action::Send { to: request.to, payload: request.payload.clone() });
        if request.punching
            && let Some(referrer) = request.referrer
        {
            self.actions.push_back(punch(rid, request.to, referrer, true));
        }
    }

    /// A request has ended: its place goes to those that wait.
    fn finished(&mut self, now: Instant, sent: Option<&Sent>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if sent.is_some_and(|sent| sent.tries > 1) {
            self.late_in_flight = self.late_in_flight.saturating_sub(1);
        }
        while !self.waiting.is_empty() && !self.saturated(now) {
            if let Some(rid) = self.waiting.pop_front() {
                self.send_first(now, rid);
            }
        }
    }

    fn saturated(&mut self, now: Instant) -> bool {
        self.in_flight >= CONCURRENCY && self.rate.per_second(now) >= RATE
    }

    fn tick(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.start).as_millis() / TICK.as_millis()) as u64
    }
}

fn punch<C>(rid: u16, to: SocketAddrV4, referrer: SocketAddrV4, punching: bool) -> Action<C> {
    Action::Punch { rid: punching.then_some(rid), to, referrer }
}

/// Requests per second, averaged over up to 5 s in quarters of a second (npm speedometer).
struct Rate {
    start: Instant,
    slots: [u32; Self::SLOTS],
    latest: u64,
}

impl Rate {
    const SLOTS: usize = 20;
    const PER_SECOND: u64 = 4;

    fn new(now: Instant) -> Self {
        Self { start: now, slots: [0; Self::SLOTS], latest: 0 }
    }

    fn add(&mut self, now: Instant) {
        self.advance(now);
        let at = (self.latest % Self::SLOTS as u64) as usize;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot += 1;
        }
    }

    fn per_second(&mut self, now: Instant) -> f64 {
        self.advance(now);
        let slots = (self.latest + 1).clamp(Self::PER_SECOND, Self::SLOTS as u64);
        f64::from(self.slots.iter().sum::<u32>()) * Self::PER_SECOND as f64 / slots as f64
    }

    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.start).as_millis() as u64;
        let current = elapsed * Self::PER_SECOND / 1000;
        for passed in (self.latest + 1..=current).take(Self::SLOTS) {
            if let Some(slot) = self.slots.get_mut((passed % Self::SLOTS as u64) as usize) {
                *slot = 0;
            }
        }
        self.latest = self.latest.max(current);
    }
}

#[cfg(test)]
mod tests;
