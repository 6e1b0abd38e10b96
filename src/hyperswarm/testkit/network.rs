//! The network: machines, the links between them, and the clock that jumps from one event to the next.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::link::Pipe;
use super::nat::{Nat, NatId, Nats};
use super::{Datagram, Link, LinkStats, Machine, Traced};

/// A network of machines of one kind.
pub struct Network<M> {
    start: Instant,
    now: Instant,
    rng: StdRng,
    machines: BTreeMap<SocketAddrV4, M>,
    /// When each machine wants to be woken; the same as `wakes`, by machine.
    deadlines: BTreeMap<SocketAddrV4, Instant>,
    wakes: BTreeSet<(Instant, SocketAddrV4)>,
    /// The links; the first serves all pairs without a route.
    pipes: Vec<Pipe>,
    routes: BTreeMap<(SocketAddrV4, SocketAddrV4), LinkId>,
    /// Further sockets, and the machines to which they belong.
    sockets: BTreeMap<SocketAddrV4, SocketAddrV4>,
    nats: Nats,
    /// Datagrams that will be overtaken on their link. The others are in its own queue, which costs nothing to keep
    /// in order.
    overtaken: BinaryHeap<Datagram>,
    sent: u64,
    trace: Option<Vec<Traced>>,
}

/// A link of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId(usize);

impl<M: Machine> Network<M> {
    /// An empty network; `seed` decides the weather. `start` is the only real instant in it. `link` carries what is
    /// sent between pairs without a [route](Self::route).
    pub fn new(start: Instant, seed: u64, link: Link) -> Self {
        Self {
            start,
            now: start,
            rng: StdRng::seed_from_u64(seed),
            machines: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            wakes: BTreeSet::new(),
            pipes: vec![Pipe::new(start, link)],
            routes: BTreeMap::new(),
            sockets: BTreeMap::new(),
            nats: Nats::default(),
            overtaken: BinaryHeap::new(),
            sent: 0,
            trace: None,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Datagrams sent so far, copies included.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// A further link. It carries nothing until a route leads over it.
    pub fn add_link(&mut self, link: Link) -> LinkId {
        self.pipes.push(Pipe::new(self.now, link));
        LinkId(self.pipes.len() - 1)
    }

    /// What is sent from one to the other goes over this link. Several pairs on one link share its rate and queue.
    pub fn route(&mut self, from: SocketAddrV4, to: SocketAddrV4, link: LinkId) {
        self.routes.insert((from, to), link);
    }

    /// What a link has done so far.
    pub fn link_stats(&self, id: LinkId) -> LinkStats {
        self.pipes.get(id.0).map(|pipe| pipe.stats).unwrap_or_default()
    }

    /// How long a datagram sent over the link now would wait in its queue.
    pub fn queueing_delay(&self, id: LinkId) -> Duration {
        self.pipes.get(id.0).map(|pipe| pipe.wait(self.now)).unwrap_or_default()
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

    /// A further socket of the machine at `of`, to which what arrives there is handed with
    /// [`Machine::handle_datagram_at`].
    pub fn add_socket(&mut self, addr: SocketAddrV4, of: SocketAddrV4) {
        self.sockets.insert(addr, of);
    }

    /// A NAT box with this address outside.
    pub fn add_nat(&mut self, public: Ipv4Addr, nat: Nat) -> NatId {
        self.nats.add(public, nat)
    }

    /// Everything at `host` is behind the box from now on. Machines there keep their addresses inside.
    pub fn put_behind(&mut self, host: Ipv4Addr, nat: NatId) {
        self.nats.put_behind(host, nat);
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

    /// Goes on to the next thing that happens, not later than `until`: one machine gets all that arrives for it at one
    /// moment in a row, or is woken. Returns false if nothing happens before.
    pub fn step(&mut self, until: Instant) -> bool {
        let arrival = self.next_arrival();
        let wake = self.wakes.first().copied();
        match (arrival, wake) {
            (Some((at, pipe)), wake) if at <= until && wake.is_none_or(|(wake, _)| at <= wake) => {
                self.now = self.now.max(at);
                self.deliver(at, pipe);
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

    /// When the next datagram arrives, and on which link; none of them: it was overtaken.
    fn next_arrival(&self) -> Option<(Instant, Option<usize>)> {
        let mut next = self.overtaken.peek().map(|datagram| (datagram.at, datagram.number, None));
        for (index, pipe) in self.pipes.iter().enumerate() {
            if let Some(first) = pipe.ordered.front()
                && next.is_none_or(|(at, number, _)| (first.at, first.number) < (at, number))
            {
                next = Some((first.at, first.number, Some(index)));
            }
        }
        next.map(|(at, _, pipe)| (at, pipe))
    }

    /// Hands over the next datagram of that link, and those after it that arrive at the same place and moment.
    fn deliver(&mut self, at: Instant, pipe: Option<usize>) {
        let Some(to) = self.next_from(pipe).map(|next| next.to) else { return };
        let owner = self.sockets.get(&to).copied().unwrap_or(to);
        while self.next_from(pipe).is_some_and(|next| next.at == at && next.to == to)
            && let Some(next) = self.take(pipe)
        {
            if let Some(machine) = self.machines.get_mut(&owner) {
                machine.handle_datagram_at(self.now, to, next.from, &next.payload);
            }
        }
        self.settle(owner);
    }

    fn next_from(&self, pipe: Option<usize>) -> Option<&Datagram> {
        match pipe {
            Some(index) => self.pipes.get(index).and_then(|pipe| pipe.ordered.front()),
            None => self.overtaken.peek(),
        }
    }

    fn take(&mut self, pipe: Option<usize>) -> Option<Datagram> {
        match pipe {
            Some(index) => self.pipes.get_mut(index).and_then(|pipe| pipe.ordered.pop_front()),
            None => self.overtaken.pop(),
        }
    }

    /// Takes what a machine wants to send and notes when it wants to be woken.
    fn settle(&mut self, addr: SocketAddrV4) {
        while let Some((from, to, payload)) =
            self.machines.get_mut(&addr).and_then(Machine::poll_transmit_from)
        {
            self.carry(from.unwrap_or(addr), to, payload);
        }
        let deadline = self.machines.get(&addr).and_then(Machine::poll_timeout);
        self.plan(addr, deadline);
    }

    fn plan(&mut self, addr: SocketAddrV4, deadline: Option<Instant>) {
        let old = match deadline {
            Some(deadline) => self.deadlines.insert(addr, deadline),
            None => self.deadlines.remove(&addr),
        };
        if old == deadline {
            return;
        }
        if let Some(old) = old {
            self.wakes.remove(&(old, addr));
        }
        if let Some(deadline) = deadline {
            self.wakes.insert((deadline, addr));
        }
    }

    fn carry(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: Bytes) {
        let Some((from, to)) = self.nats.pass(&mut self.rng, from, to) else { return };
        if let Some(trace) = &mut self.trace {
            trace.push(Traced { at: self.now - self.start, from, to, payload: payload.clone() });
        }
        let LinkId(index) = self.routes.get(&(from, to)).copied().unwrap_or(LinkId(0));
        let Some(pipe) = self.pipes.get_mut(index) else { return };
        let (arrival, copy) = pipe.pass(self.now, &mut self.rng, payload.len());
        self.sent += 1 + u64::from(copy.is_some());
        let (number, copied) = (self.sent, copy.map(|at| (at, payload.clone())));
        if let Some(at) = arrival {
            self.fly(index, Datagram { at, number, from, to, payload });
        }
        if let Some((at, payload)) = copied {
            self.fly(index, Datagram { at, number, from, to, payload });
        }
    }

    fn fly(&mut self, index: usize, datagram: Datagram) {
        match self.pipes.get_mut(index) {
            Some(pipe) if pipe.ordered.back().is_none_or(|last| last.at <= datagram.at) => {
                pipe.ordered.push_back(datagram);
            }
            _ => self.overtaken.push(datagram),
        }
    }
}
