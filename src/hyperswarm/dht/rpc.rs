//! Requests in flight: request ids, resends, time-outs, pacing, and who may answer (dht-rpc `lib/io.js`).
//!
//! Both generations share this; what differs is in [`Rules`] and [`Waits`]. Nothing runs while nothing is in flight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

mod pacing;

pub use self::pacing::Pacing;
use crate::crypto::keyed_blake2b_256;
use crate::limits::MAX_REQUESTS;

/// How long a first answer may take before the referrer is asked for help.
const PUNCH_AFTER: Duration = Duration::from_millis(500);

/// How one generation sends its requests.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Time-outs count from the last multiple of this since the start; zero: from the moment of sending. The original of
    /// v2 looks at all requests every 750 ms.
    pub grid: Duration,
    /// Which requests have to wait.
    pub pacing: Pacing,
}

/// When a request is sent again and given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Datagrams at most; one at least is sent.
    pub tries: u8,
    /// From each datagram to the next.
    pub resend: Duration,
    /// From the last datagram to failure.
    pub fail: Duration,
}

/// One of the owner's sockets, by a number that it has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Via(pub u16);

/// A request to make.
pub struct Outgoing<C> {
    /// Where it goes, and the only address whose answer counts.
    pub to: SocketAddrV4,
    /// The socket that sends it.
    pub via: Via,
    /// When it is sent again and given up.
    pub waits: Waits,
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

impl<C> Outgoing<C> {
    /// A plain request, from the owner's first socket.
    pub fn new(to: SocketAddrV4, waits: Waits, context: C) -> Self {
        let via = Via::default();
        Self { to, via, waits, context, referrer: None, punching: false, punched: false, immediate: false }
    }
}

/// What the owner has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<C> {
    /// Send a request, for the first time or again.
    Send {
        /// Destination.
        to: SocketAddrV4,
        /// The socket that sends it.
        via: Via,
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
    /// Datagrams sent.
    pub tries: u8,
}

struct Request<C> {
    to: SocketAddrV4,
    via: Via,
    waits: Waits,
    payload: Bytes,
    context: C,
    referrer: Option<SocketAddrV4>,
    punching: bool,
    punch_at: Option<Instant>,
    sent: Option<Sent>,
}

/// State of a request that is on its way.
#[derive(Clone, Copy)]
struct Sent {
    first: Instant,
    tries: u8,
    /// The first datagram brought no answer in time.
    late: bool,
    due: Instant,
}

impl<C> Request<C> {
    /// When something is to be done about it.
    fn deadline(&self) -> Option<Instant> {
        let due = self.sent?.due;
        Some(self.punch_at.map_or(due, |at| at.min(due)))
    }
}

/// Draws request ids: the hashes of a counter under a secret, of which each makes 16. A random source like
/// the node's would take as much memory as all the rest of [`Requests`].
struct Ids {
    secret: [u8; 32],
    drawn: u64,
    hash: [u8; 32],
}

impl Ids {
    fn new(rng: &mut StdRng) -> Self {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        Self { secret, drawn: 0, hash: [0; 32] }
    }

    fn draw(&mut self) -> u16 {
        let place = (self.drawn % 16) as usize;
        if place == 0 {
            self.hash = keyed_blake2b_256(&self.secret, &[&self.drawn.to_le_bytes()]);
        }
        self.drawn += 1;
        self.hash.as_chunks().0.get(place).map_or(0, |id| u16::from_le_bytes(*id))
    }
}

/// All requests of a node.
pub struct Requests<C> {
    start: Instant,
    grid: Duration,
    pacing: Pacing,
    ids: Ids,
    requests: BTreeMap<u16, Request<C>>,
    /// The deadlines of those that have been sent.
    deadlines: BTreeSet<(Instant, u16)>,
    /// Ids of paced requests, in order. Each is in `requests`.
    waiting: VecDeque<u16>,
    in_flight: usize,
    /// Number of those requests that were sent again, or that wait for that.
    late_in_flight: usize,
    actions: VecDeque<Action<C>>,
    /// Requests without an answer to the first datagram, not yet told to the owner, who takes them after every time-out.
    /// No more than there are requests.
    late: VecDeque<(SocketAddrV4, C)>,
}

impl<C: Clone> Requests<C> {
    /// No requests.
    pub fn new(now: Instant, rng: &mut StdRng, rules: Rules) -> Self {
        Self {
            start: now,
            grid: rules.grid,
            pacing: rules.pacing,
            ids: Ids::new(rng),
            requests: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            late_in_flight: 0,
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
            via: outgoing.via,
            waits: outgoing.waits,
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

    /// An id no request uses, at random: the next one cannot be guessed from the one before.
    pub fn fresh_rid(&mut self) -> u16 {
        loop {
            // MAX_REQUESTS is far below the number of ids, so this ends soon.
            let rid = self.ids.draw();
            if !self.requests.contains_key(&rid) {
                return rid;
            }
        }
    }

    /// An answer arrived. Only the one from the address that was asked ends the request: a forger would have to
    /// guess the id and be able to send from there.
    pub fn answer(&mut self, now: Instant, rid: u16, from: SocketAddrV4) -> Option<Answered<C>> {
        let sent = self.requests.get(&rid).filter(|request| request.to == from)?.sent?;
        let request = self.remove(rid)?;
        self.finished(now, sent);
        let elapsed = now.saturating_duration_since(sent.first);
        Some(Answered { context: request.context, elapsed, tries: sent.tries })
    }

    /// Ends every request for which this is true, without telling the owner.
    pub fn cancel(&mut self, now: Instant, is_over: impl Fn(&C) -> bool) {
        let over = self.requests.iter().filter(|(_, request)| is_over(&request.context));
        let over: BTreeSet<u16> = over.map(|(rid, _)| *rid).collect();
        self.waiting.retain(|rid| !over.contains(rid));
        // All are gone before any of them makes room.
        let sent: Vec<_> =
            over.into_iter().filter_map(|rid| self.remove(rid).and_then(|request| request.sent)).collect();
        sent.into_iter().for_each(|sent| self.finished(now, sent));
    }

    /// Resends and gives up what is due, and sends what waited for its turn.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self.deadlines.range(..=(now, u16::MAX)).map(|(_, rid)| *rid);
        for rid in due.collect::<Vec<_>>() {
            self.request_due(now, rid);
        }
        self.release(now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let turn = if self.waiting.is_empty() { None } else { self.pacing.turn() };
        [self.deadlines.first().map(|(at, _)| *at), turn].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action<C>> {
        self.actions.pop_front()
    }

    /// A request that the first datagram brought no answer to, and its context.
    pub fn poll_late(&mut self) -> Option<(SocketAddrV4, C)> {
        self.late.pop_front()
    }

    fn request_due(&mut self, now: Instant, rid: u16) {
        let saturated = self.saturated(now);
        let postponed = self.pacing.turn().unwrap_or_else(|| self.grid_point(now) + self.grid);
        let from = self.grid_point(now);
        let Some(request) = self.requests.get_mut(&rid) else { return };
        let Some(sent) = request.sent.as_mut() else { return };
        let before = request.punch_at.map_or(sent.due, |at| at.min(sent.due));
        self.deadlines.remove(&(before, rid));
        if let Some(referrer) = request.referrer
            && request.punch_at.is_some_and(|at| at <= now)
        {
            request.punch_at = None;
            self.actions.push_back(punch(rid, request.to, referrer, request.punching));
        }
        if sent.due <= now {
            // Once, with the first datagram that brings no answer.
            if sent.tries == 1 && !std::mem::replace(&mut sent.late, true) {
                self.late_in_flight += 1;
                self.late.push_back((request.to, request.context.clone()));
            }
            if sent.tries >= request.waits.tries {
                self.fail(now, rid);
                return;
            }
            if saturated {
                sent.due = postponed.max(now + Duration::from_millis(1));
            } else {
                sent.tries += 1;
                let wait =
                    if sent.tries < request.waits.tries { request.waits.resend } else { request.waits.fail };
                sent.due = from + wait;
                let (to, via, payload) = (request.to, request.via, request.payload.clone());
                self.actions.push_back(Action::Send { to, via, payload });
                self.pacing.sent(now);
                if let Some(referrer) = request.referrer {
                    self.actions.push_back(punch(rid, request.to, referrer, request.punching));
                }
            }
        }
        if let Some(at) = self.requests.get(&rid).and_then(Request::deadline) {
            self.deadlines.insert((at, rid));
        }
    }

    fn fail(&mut self, now: Instant, rid: u16) {
        let Some(request) = self.remove(rid) else { return };
        let (to, context) = (request.to, request.context);
        self.actions.push_back(Action::Failed { to, sent: true, context });
        if let Some(sent) = request.sent {
            self.finished(now, sent);
        }
    }

    fn send_first(&mut self, now: Instant, rid: u16) {
        let from = self.grid_point(now);
        let Some(request) = self.requests.get_mut(&rid) else { return };
        let wait = if request.waits.tries > 1 { request.waits.resend } else { request.waits.fail };
        request.sent = Some(Sent { first: now, tries: 1, late: false, due: from + wait });
        request.punch_at = request.punch_at.map(|_| now + PUNCH_AFTER);
        if let Some(at) = request.deadline() {
            self.deadlines.insert((at, rid));
        }
        self.in_flight += 1;
        self.pacing.sent_first(now);
        let (to, via, payload) = (request.to, request.via, request.payload.clone());
        self.actions.push_back(Action::Send { to, via, payload });
        if request.punching
            && let Some(referrer) = request.referrer
        {
            self.actions.push_back(punch(rid, request.to, referrer, true));
        }
    }

    fn remove(&mut self, rid: u16) -> Option<Request<C>> {
        let request = self.requests.remove(&rid)?;
        if let Some(at) = request.deadline() {
            self.deadlines.remove(&(at, rid));
        }
        if self.requests.is_empty() {
            // An empty map would keep room for eleven.
            (self.requests, self.deadlines) = (BTreeMap::new(), BTreeSet::new());
        }
        Some(request)
    }

    /// A request has ended: its place goes to those that wait.
    fn finished(&mut self, now: Instant, sent: Sent) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if sent.late {
            self.late_in_flight = self.late_in_flight.saturating_sub(1);
        }
        self.pacing.ended(now);
        self.release(now);
    }

    fn release(&mut self, now: Instant) {
        while !self.waiting.is_empty() && !self.saturated(now) {
            if let Some(rid) = self.waiting.pop_front() {
                self.send_first(now, rid);
            }
        }
    }

    fn saturated(&mut self, now: Instant) -> bool {
        self.pacing.is_full(now, self.in_flight)
    }

    /// The moment from which time-outs of what is sent now count.
    fn grid_point(&self, now: Instant) -> Instant {
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        let beyond = elapsed.checked_rem(self.grid.as_nanos()).unwrap_or(0);
        now - Duration::from_nanos(u64::try_from(beyond).unwrap_or(0))
    }
}

fn punch<C>(rid: u16, to: SocketAddrV4, referrer: SocketAddrV4, punching: bool) -> Action<C> {
    Action::Punch { rid: punching.then_some(rid), to, referrer }
}

#[cfg(test)]
mod tests;
