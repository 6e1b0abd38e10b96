//! Several machines connected in memory, in virtual time.
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::*;
use crate::node::legacy::{ConnectionReader, Direction, OutgoingFrame, ReadError, Signer};
use hyperswarm::crypto::KeyPair;

/// One machine with what the runtime would hold.
pub(super) struct Machine {
    pub(super) swarm: LegacySwarm,
    pub(super) signer: Signer,
    readers: BTreeMap<ConnectionId, ConnectionReader>,
    pub(super) events: Vec<Event>,
    pub(super) closed: Vec<(ConnectionId, CloseReason)>,
    pub(super) read_errors: Vec<ReadError>,
    /// Frames are not written while this is set: a peer that does not read.
    pub(super) stuck: bool,
    /// Frames to this connection arrive, but count as written only when the test says so: a peer that reads slowly.
    pub(super) slow: Option<ConnectionId>,
    pub(super) unwritten: Vec<(ConnectionId, usize)>,
    /// Percent of the frames that it relays and loses, and what decides which.
    pub(super) loses: Option<(u32, StdRng)>,
}

/// The end of a connection: machine and its name for it.
pub(super) type End = (usize, ConnectionId);

/// Machines and the wires between them.
pub(super) struct Simulation {
    pub(super) now: Instant,
    pub(super) machines: Vec<Machine>,
    wires: BTreeMap<End, End>,
    /// Bytes for ends that no machine holds: the test plays that side.
    pub(super) outside: BTreeMap<ConnectionId, Vec<Vec<u8>>>,
    in_flight: VecDeque<(End, Vec<u8>)>,
    next: u64,
    pub(super) bytes: u64,
    /// Broadcasts whose signatures were checked.
    pub(super) checked: usize,
}

pub(super) fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

impl Simulation {
    pub(super) fn new() -> Self {
        Self {
            now: Instant::now(),
            machines: Vec::new(),
            wires: BTreeMap::new(),
            outside: BTreeMap::new(),
            in_flight: VecDeque::new(),
            next: 1,
            bytes: 0,
            checked: 0,
        }
    }

    /// Machines with the keys 1, 2, .. in one swarm.
    pub(super) fn of(count: u8, protocol: Protocol, purpose: &Purpose) -> Self {
        let mut simulation = Self::new();
        for seed in 1..=count {
            simulation.add(seed, protocol, purpose.clone());
        }
        simulation
    }

    pub(super) fn add(&mut self, seed: u8, protocol: Protocol, purpose: Purpose) -> usize {
        let signer = Signer::new(key(seed));
        let rng = StdRng::seed_from_u64(u64::from(seed));
        let config = SwarmConfig { protocol, purpose, own: signer.public(), rng, budget: Default::default() };
        self.machines.push(Machine {
            swarm: LegacySwarm::new(config),
            signer,
            readers: BTreeMap::new(),
            events: Vec::new(),
            closed: Vec::new(),
            read_errors: Vec::new(),
            stuck: false,
            slow: None,
            unwritten: Vec::new(),
            loses: None,
        });
        self.machines.len() - 1
    }

    fn attach(&mut self, machine: usize, direction: Direction, utp: bool) -> ConnectionId {
        self.attach_from(machine, direction, utp, "192.0.2.1:4000")
    }

    fn attach_from(&mut self, machine: usize, direction: Direction, utp: bool, remote: &str) -> ConnectionId {
        let connection = ConnectionId(self.next);
        self.next += 1;
        let host = &mut self.machines[machine];
        let reader = ConnectionReader::new(host.swarm.protocol, host.swarm.own, direction);
        host.readers.insert(connection, reader);
        let remote = remote.parse().unwrap();
        host.swarm.handle_connected(self.now, connection, ConnectionInfo { direction, utp, remote });
        connection
    }

    /// `a` dials `b`.
    pub(super) fn dial(&mut self, a: usize, b: usize, utp: bool) -> (ConnectionId, ConnectionId) {
        let from = self.attach(a, Direction::Dialled, utp);
        let to = self.attach(b, Direction::Accepted, utp);
        self.wires.insert((a, from), (b, to));
        self.wires.insert((b, to), (a, from));
        self.deliver();
        (from, to)
    }

    /// Both sides dial, as hyperswarm does.
    pub(super) fn join(&mut self, a: usize, b: usize) {
        self.dial(a, b, false);
        self.dial(b, a, false);
    }

    /// A connection whose other end is the test.
    pub(super) fn open(&mut self, machine: usize, direction: Direction, utp: bool) -> ConnectionId {
        let connection = self.attach(machine, direction, utp);
        self.outside.insert(connection, Vec::new());
        self.deliver();
        connection
    }

    /// The same, from this address.
    pub(super) fn open_from(&mut self, machine: usize, remote: &str) -> ConnectionId {
        let connection = self.attach_from(machine, Direction::Accepted, false, remote);
        self.outside.insert(connection, Vec::new());
        self.deliver();
        connection
    }

    /// The test writes bytes into its end.
    pub(super) fn write(&mut self, machine: usize, connection: ConnectionId, bytes: &[u8]) {
        self.in_flight.push_back(((machine, connection), bytes.to_vec()));
        self.deliver();
    }

    /// The JSON texts that arrived at the test's end since the last call.
    pub(super) fn read(&mut self, connection: ConnectionId) -> Vec<serde_json::Value> {
        let frames = self.outside.get_mut(&connection).map(std::mem::take).unwrap_or_default();
        let text = |frame: Vec<u8>| {
            let start = frame.iter().position(|b| *b == b'#').unwrap() + 1;
            serde_json::from_slice(&frame[start..]).unwrap()
        };
        frames.into_iter().map(text).collect()
    }

    /// Carries bytes until nothing moves.
    pub(super) fn deliver(&mut self) {
        loop {
            for machine in 0..self.machines.len() {
                self.drain(machine);
            }
            let Some(((machine, connection), bytes)) = self.in_flight.pop_front() else { break };
            self.receive(machine, connection, &bytes);
        }
    }

    fn receive(&mut self, machine: usize, connection: ConnectionId, bytes: &[u8]) {
        let now = self.now;
        if let Some(reader) = self.machines[machine].readers.get_mut(&connection) {
            reader.buffer().extend_from_slice(bytes);
        }
        loop {
            let Machine { swarm, readers, read_errors, .. } = &mut self.machines[machine];
            // It goes away when the machine closes the connection.
            let Some(reader) = readers.get_mut(&connection) else { break };
            match reader.next_worthwhile(|claim| swarm.worth(now, connection, claim)) {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    self.checked += usize::from(matches!(incoming, Incoming::Broadcast(_)));
                    swarm.handle_incoming(now, connection, incoming);
                }
                Err(error) => {
                    read_errors.push(error);
                    self.cut(machine, connection);
                }
            }
            self.drain(machine);
        }
    }

    fn drain(&mut self, machine: usize) {
        while let Some(output) = self.machines[machine].swarm.poll_output() {
            match output {
                Output::Event(event) => self.machines[machine].events.push(event),
                Output::Close { connection, reason } => {
                    self.machines[machine].closed.push((connection, reason));
                    self.cut(machine, connection);
                }
                Output::Send { connection, frame } => self.send(machine, connection, &frame),
            }
        }
    }

    fn send(&mut self, machine: usize, connection: ConnectionId, frame: &OutgoingFrame) {
        let host = &mut self.machines[machine];
        let weight = frame.weight();
        if host.stuck {
            return host.unwritten.push((connection, weight));
        }
        let percent = |rng: &mut StdRng| rand::Rng::next_u32(rng) % 100;
        let lost = host.loses.as_mut().filter(|_| frame.is_relay());
        let lost = lost.is_some_and(|(loss, rng)| percent(rng) < *loss);
        if let Some(bytes) = frame.prepare(&host.signer).filter(|_| !lost) {
            self.bytes += bytes.len() as u64;
            assert!(bytes.len() <= weight, "the weight {weight} is below the {} bytes", bytes.len());
            match self.wires.get(&(machine, connection)) {
                Some(end) => self.in_flight.push_back((*end, bytes.to_vec())),
                None => self.outside.entry(connection).or_default().push(bytes.to_vec()),
            }
        }
        match self.machines[machine].slow == Some(connection) {
            true => self.machines[machine].unwritten.push((connection, weight)),
            false => self.machines[machine].swarm.handle_written(self.now, connection, weight),
        }
    }

    /// The oldest frame that waits for this connection is written off; false: there is none.
    pub(super) fn write_one(&mut self, machine: usize, connection: ConnectionId) -> bool {
        let host = &mut self.machines[machine];
        let Some(at) = host.unwritten.iter().position(|(to, _)| *to == connection) else { return false };
        let (_, weight) = host.unwritten.remove(at);
        host.swarm.handle_written(self.now, connection, weight);
        self.deliver();
        true
    }

    /// What was stuck is written off.
    pub(super) fn unstick(&mut self, machine: usize) {
        let host = &mut self.machines[machine];
        host.stuck = false;
        for (connection, weight) in std::mem::take(&mut host.unwritten) {
            host.swarm.handle_written(self.now, connection, weight);
        }
        self.deliver();
    }

    /// The connection ends; the other side learns it.
    pub(super) fn cut(&mut self, machine: usize, connection: ConnectionId) {
        self.machines[machine].readers.remove(&connection);
        self.machines[machine].swarm.handle_closed(self.now, connection);
        if let Some((peer, other)) = self.wires.remove(&(machine, connection)) {
            self.wires.remove(&(peer, other));
            self.machines[peer].readers.remove(&other);
            self.machines[peer].swarm.handle_closed(self.now, other);
        }
    }

    /// Lets virtual time pass, from deadline to deadline.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.deliver();
        loop {
            let next = self.machines.iter().filter_map(|m| m.swarm.poll_timeout()).min();
            match next.filter(|next| *next <= end) {
                Some(next) => {
                    assert!(next >= self.now || self.now == end, "a deadline in the past is a busy loop");
                    self.now = self.now.max(next);
                }
                None => break,
            }
            let now = self.now;
            for machine in &mut self.machines {
                if machine.swarm.poll_timeout().is_some_and(|at| at <= now) {
                    machine.swarm.handle_timeout(now);
                    assert!(machine.swarm.poll_timeout().is_none_or(|at| at > now), "a deadline that stays");
                }
            }
            self.deliver();
        }
        self.now = end;
    }

    pub(super) fn id(&self, machine: usize, style: Style) -> NodeId {
        self.machines[machine].swarm.own_id(style)
    }

    pub(super) fn peers(&self, machine: usize) -> Vec<NodeId> {
        self.machines[machine].swarm.peers().collect()
    }

    pub(super) fn take_events(&mut self, machine: usize) -> Vec<Event> {
        std::mem::take(&mut self.machines[machine].events)
    }
}
