//! The simulated network on which sans-io machines are tested: a virtual clock, endpoints by address, links with
//! delay, loss, reordering and duplication, all decided by one seed. Ten minutes of retries take microseconds, and a
//! seed that failed fails again.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What the network drives. Machines of the crate have these functions; a test implements the trait for them.
pub trait Machine {
    /// A datagram arrived.
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]);
    /// A deadline passed.
    fn handle_timeout(&mut self, now: Instant);
    /// The next datagram to send, and where.
    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)>;
    /// The next deadline.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// How a link treats datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Added at random, up to this; datagrams overtake each other by it.
    pub jitter: Duration,
    /// Probability that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// Probability that a datagram arrives twice, 0 to 1.
    pub duplication: f64,
}

impl Link {
    /// 10 ms, nothing lost.
    pub const GOOD: Self =
        Self { delay: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0.0, duplication: 0.0 };
    /// 20 to 60 ms with reordering, 5 % lost, 1 % twice.
    pub const BAD: Self = Self {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(40),
        loss: 0.05,
        duplication: 0.01,
    };
}

/// What happened to a datagram, for the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Since the start.
    pub at: Duration,
    /// Sender.
    pub from: SocketAddrV4,
    /// Destination.
    pub to: SocketAddrV4,
    /// The datagram.
    pub payload: Bytes,
}

/// A network of machines of one kind.
pub struct Network<M> {
    start: Instant,
    now: Instant,
    rng: StdRng,
    link: Link,
    machines: BTreeMap<SocketAddrV4, M>,
    /// When each machine wants to be woken; the same as `wakes`, by machine.
    deadlines: BTreeMap<SocketAddrV4, Instant>,
    wakes: BTreeSet<(Instant, SocketAddrV4)>,
    flying: BinaryHeap<Flying>,
    sent: u64,
    trace: Option<Vec<Traced>>,
}

struct Flying {
    at: Instant,
    /// Datagrams of one moment arrive in the order they were sent.
    number: u64,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: Bytes,
}

impl<M: Machine> Network<M> {
    /// An empty network; `seed` decides the weather. `start` is the only real instant in it.
    pub fn new(start: Instant, seed: u64, link: Link) -> Self {
        Self {
            start,
            now: start,
            rng: StdRng::seed_from_u64(seed),
            link,
            machines: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            wakes: BTreeSet::new(),
            flying: BinaryHeap::new(),
            sent: 0,
            trace: None,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Changes how links behave from now on.
    pub fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// Records every datagram from now on.
    pub fn record(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// What was recorded.
    pub fn trace(&self) -> &[Traced] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Connects a machine; one that was there before is replaced.
    pub fn add(&mut self, addr: SocketAddrV4, machine: M) {
        self.machines.insert(addr, machine);
        self.settle(addr);
    }

    /// Disconnects a machine; what flies to it is lost.
    pub fn remove(&mut self, addr: SocketAddrV4) -> Option<M> {
        self.plan(addr, None);
        self.machines.remove(&addr)
    }

    /// Addresses of all machines.
    pub fn addresses(&self) -> Vec<SocketAddrV4> {
        self.machines.keys().copied().collect()
    }

    /// A machine, to look at.
    pub fn machine(&self, addr: SocketAddrV4) -> Option<&M> {
        self.machines.get(&addr)
    }

    /// Does something to a machine at the present moment.
    pub fn with<T>(&mut self, addr: SocketAddrV4, action: impl FnOnce(&mut M, Instant) -> T) -> Option<T> {
        let result = action(self.machines.get_mut(&addr)?, self.now);
        self.settle(addr);
        Some(result)
    }

    /// Sends a datagram in anybody's name.
    pub fn inject(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: Bytes) {
        self.carry(from, to, payload);
    }

    /// Goes on to the next thing that happens, not later than `until`. Returns false if nothing does before.
    pub fn step(&mut self, until: Instant) -> bool {
        let arrival = self.flying.peek().map(|f| f.at);
        let wake = self.wakes.first().copied();
        match (arrival, wake) {
            (Some(at), wake) if at <= until && wake.is_none_or(|(wake, _)| at <= wake) => {
                self.now = self.now.max(at);
                if let Some(flying) = self.flying.pop()
                    && let Some(machine) = self.machines.get_mut(&flying.to)
                {
                    machine.handle_datagram(self.now, flying.from, &flying.payload);
                    self.settle(flying.to);
                }
                true
            }
            (_, Some((at, addr))) if at <= until => {
                self.now = self.now.max(at);
                if let Some(machine) = self.machines.get_mut(&addr) {
                    machine.handle_timeout(self.now);
                }
                self.settle(addr);
                true
            }
            _ => {
                self.now = self.now.max(until);
                false
            }
        }
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Takes what a machine wants to send and notes when it wants to be woken.
    fn settle(&mut self, addr: SocketAddrV4) {
        let Some(machine) = self.machines.get_mut(&addr) else { return };
        let mut out = Vec::new();
        while let Some(transmit) = machine.poll_transmit() {
            out.push(transmit);
        }
        let deadline = machine.poll_timeout();
        for (to, payload) in out {
            self.carry(addr, to, payload);
        }
        self.plan(addr, deadline);
    }

    fn plan(&mut self, addr: SocketAddrV4, deadline: Option<Instant>) {
        if let Some(old) = self.deadlines.remove(&addr) {
            self.wakes.remove(&(old, addr));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert(addr, deadline);
            self.wakes.insert((deadline, addr));
        }
    }

    fn carry(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: Bytes) {
        if let Some(trace) = &mut self.trace {
            trace.push(Traced { at: self.now - self.start, from, to, payload: payload.clone() });
        }
        let copies = 1 + u8::from(self.rng.random_bool(self.link.duplication));
        for _ in 0..copies {
            self.sent += 1;
            let jitter = self.link.jitter.mul_f64(self.rng.random_range(0.0..1.0));
            if !self.rng.random_bool(self.link.loss) {
                let at = self.now + self.link.delay + jitter;
                self.flying.push(Flying { at, number: self.sent, from, to, payload: payload.clone() });
            }
        }
    }
}

impl Ord for Flying {
    /// The heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Flying {}

#[cfg(test)]
mod tests;
