//! The candidates of one topic: `lib/queue.js`, `lib/peer-info.js` and `lib/bulk-timer.js` of hyperswarm 2.14.
//!
//! ```text
//!            add                 take               connected
//! (unknown) ------> Queued ------------> Active ----------------+
//!                     ^                    |  ^                 |
//!                     | wait is over       |  +-----------------+  (retries = 0)
//!                     |            released (failed or closed)
//!                  Waiting <---------------+
//!                     (4th failure in a row: Forgotten, and after a while unknown again)
//! ```

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};

use super::dials::Dials;
use crate::dht::shares::{Tally, network_of};
use crate::limits::v2::{QUEUE_BANNED, QUEUE_LOCAL, QUEUE_LOCAL_PER_MINUTE, QUEUE_REMOTE};

/// Waits before the first, second and third repetition.
const BACK_OFF: [Duration; 3] =
    [Duration::from_millis(1000), Duration::from_millis(5000), Duration::from_millis(15_000)];
/// How long a candidate that failed four times in a row stays unwelcome.
const FORGET: Duration = Duration::from_millis(7500);
/// Upstream's timers have two phases, so that a wait is this part of its nominal length.
const SPREAD: std::ops::Range<f64> = 0.66..1.33;
/// Retries of a candidate that must not be repeated.
const RETRIES_MAX: u8 = 3;

/// A peer worth dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it listens, TCP and UDP.
    pub addr: SocketAddrV4,
    /// It is in our local network.
    pub local: bool,
    /// The DHT node that can relay a holepunch to it.
    pub referrer: Option<SocketAddrV4>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Active,
    Waiting(Instant),
    Forgotten(Instant),
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    state: State,
    retries: u8,
    tried: bool,
    proven: bool,
}

impl Entry {
    /// Highest first (`priority` in `lib/peer-info.js`).
    fn priority(&self) -> u8 {
        match self.retries {
            _ if self.tried && !self.proven => 0,
            3 => 1,
            2 => 4,
            1 => 5,
            _ if self.candidate.local => 3,
            _ => 2,
        }
    }
}

pub(super) struct Queue {
    entries: BTreeMap<SocketAddrV4, Entry>,
    banned: VecDeque<SocketAddrV4>,
    dials: Dials,
    /// Since when, and how many local candidates were new since then.
    local_minute: (Instant, usize),
    rng: StdRng,
}

impl Queue {
    pub(super) fn new(now: Instant, rng: StdRng) -> Self {
        Self {
            entries: BTreeMap::new(),
            banned: VecDeque::new(),
            dials: Dials::default(),
            local_minute: (now, 0),
            rng,
        }
    }

    /// Takes note of a discovered peer. One that is known changes nothing. `same_nat`: it shares our public address,
    /// so one attempt has to do. Returns whether it is new and was taken.
    pub(super) fn add(&mut self, now: Instant, candidate: Candidate, same_nat: bool) -> bool {
        let known = self.entries.contains_key(&candidate.addr) || self.banned.contains(&candidate.addr);
        if known || !self.has_room(now, &candidate) {
            return false;
        }
        let retries = if same_nat && !candidate.local { RETRIES_MAX } else { 0 };
        let entry = Entry { candidate, state: State::Queued, retries, tried: false, proven: false };
        self.entries.insert(candidate.addr, entry);
        true
    }

    /// Strangers in the DHT and strangers in the LAN can each fill only their own share, and each host only its part of
    /// that: when it is full, the host or network with the most candidates loses one.
    fn has_room(&mut self, now: Instant, candidate: &Candidate) -> bool {
        if candidate.local && now.saturating_duration_since(self.local_minute.0) >= Duration::from_secs(60) {
            self.local_minute = (now, 0);
        }
        if candidate.local && self.local_minute.1 >= QUEUE_LOCAL_PER_MINUTE {
            return false;
        }
        let most = if candidate.local { QUEUE_LOCAL } else { QUEUE_REMOTE };
        let held = self.entries.values().filter(|e| e.candidate.local == candidate.local);
        if held.clone().count() >= most {
            let tally: Tally = held.clone().map(|e| *e.candidate.addr.ip()).collect();
            let newcomer = *candidate.addr.ip();
            let idle = held.filter(|e| e.state != State::Active);
            let crowded = idle.filter(|e| tally.must_yield(*e.candidate.addr.ip(), newcomer));
            let Some(out) = crowded.min_by_key(|e| (e.proven, e.priority())).map(|e| e.candidate.addr) else {
                return false;
            };
            self.entries.remove(&out);
        }
        self.local_minute.1 += usize::from(candidate.local);
        true
    }

    /// The candidate to dial next, among hosts that `may_dial` allows and that have dials left: highest priority, and
    /// among equals every network and every host in it with the same chance, however many ports it has.
    pub(super) fn take(&mut self, now: Instant, may_dial: impl Fn(Ipv4Addr) -> bool) -> Option<Candidate> {
        let mut best = None;
        let mut equals: BTreeMap<Ipv4Addr, BTreeMap<Ipv4Addr, Vec<SocketAddrV4>>> = BTreeMap::new();
        for entry in self.entries.values().filter(|e| e.state == State::Queued) {
            let (priority, addr) = (Some(entry.priority()), entry.candidate.addr);
            let host = *addr.ip();
            if priority < best || !self.dials.has_left(now, host) || !may_dial(host) {
                continue;
            }
            if priority > best {
                best = priority;
                equals.clear();
            }
            equals.entry(network_of(host)).or_default().entry(host).or_default().push(addr);
        }
        let hosts = equals.values().choose(&mut self.rng)?;
        let addr = *hosts.values().choose(&mut self.rng)?.choose(&mut self.rng)?;
        self.dials.start(now, *addr.ip());
        let entry = self.entries.get_mut(&addr)?;
        entry.state = State::Active;
        entry.tried = true;
        Some(entry.candidate)
    }

    /// A dial has ended; what follows is [`Self::connected`] or [`Self::release`].
    pub(super) fn ended(&mut self, addr: SocketAddrV4, connected: bool) {
        self.dials.end(*addr.ip(), connected);
    }

    /// A dial succeeded.
    pub(super) fn connected(&mut self, addr: SocketAddrV4) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.proven = true;
            entry.retries = 0;
        }
    }

    /// A dial failed, or a dialled connection closed: wait, then queue again; after too many failures forget.
    pub(super) fn release(&mut self, now: Instant, addr: SocketAddrV4) {
        let factor = self.rng.random_range(SPREAD);
        let Some(entry) = self.entries.get_mut(&addr) else { return };
        entry.state = match BACK_OFF.get(usize::from(entry.retries)) {
            Some(wait) => State::Waiting(now + wait.mul_f64(factor)),
            None => State::Forgotten(now + FORGET.mul_f64(factor)),
        };
        entry.retries = entry.retries.saturating_add(1);
    }

    /// Never again, as far as memory goes.
    pub(super) fn ban(&mut self, addr: SocketAddrV4) {
        self.entries.remove(&addr);
        if self.banned.len() >= QUEUE_BANNED {
            self.banned.pop_front();
        }
        self.banned.push_back(addr);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.dials.handle_timeout(now);
        self.entries.retain(|_, entry| match entry.state {
            State::Waiting(until) if until <= now => {
                entry.state = State::Queued;
                true
            }
            State::Forgotten(until) => until > now,
            _ => true,
        });
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.entries.values().filter_map(|e| match e.state {
            State::Waiting(until) | State::Forgotten(until) => Some(until),
            State::Queued => self.dials.spaced_until(*e.candidate.addr.ip()),
            State::Active => None,
        });
        deadlines.min()
    }

    /// Known, welcome and not connected or being dialled.
    pub(super) fn candidates(&self) -> usize {
        let idle = |e: &&Entry| matches!(e.state, State::Queued | State::Waiting(_));
        self.entries.values().filter(idle).count()
    }
}
