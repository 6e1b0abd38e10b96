//! Members, and the hosts that trouble them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::{Announcer, Found, Peers, Slot, Source};
use crate::codec::v2::{Kind, Message, NodeRecord, PeersOutput, encode_address, encode_nodes};
use crate::dht::v2::{Bootstrap, Config, Ephemeral, Event, Node, QueryId};
use crate::testkit::{Link, Machine, Network};
use crate::topic::Topic;

pub(super) const TOPIC: Topic = Topic([7; 32]);
/// Overall limit of connecting, as in the driver.
const CONNECT: Duration = Duration::from_secs(10);

/// First byte of a datagram that stands for what TCP does; those of the DHT begin otherwise.
const TCP: u8 = 0xff;

/// What such a datagram says, in its second byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tcp {
    Connect = 0,
    Accepted = 1,
    Closed = 2,
    /// The application's greeting.
    Hello = 3,
    /// The application asks for something.
    Ask = 4,
}

/// The datagram about the `number`th connection that its dialler has made.
pub(super) fn tcp(what: Tcp, by_dialler: bool, number: u32) -> Bytes {
    let mut bytes = vec![TCP, what as u8, by_dialler.into()];
    bytes.extend(number.to_be_bytes());
    bytes.into()
}

/// One connection of a member: the other end, who dialled, and the dialler's number for it.
pub(super) type Key = (SocketAddrV4, bool, u32);

/// A machine of the network.
pub(super) enum Host {
    Dht(Box<Node>),
    Member(Box<Member>),
    Liar(Box<Liar>),
}

/// A daemon in one topic, driven as `net::v2::instance` drives it.
pub(super) struct Member {
    node: Node,
    announcer: Announcer,
    peers: Peers,
    announce: Option<QueryId>,
    dials: BTreeMap<u32, (Slot, SocketAddrV4, Instant)>,
    pub(super) open: BTreeMap<Key, Slot>,
    out: VecDeque<(SocketAddrV4, Bytes)>,
    count: u32,
    /// Connections that were closed by either side.
    pub(super) closings: usize,
    /// Addresses that were dialled.
    pub(super) dialled: BTreeSet<SocketAddrV4>,
}

impl Member {
    pub(super) fn new(now: Instant, port: u16, bootstrap: SocketAddrV4, seed: [u8; 32]) -> Self {
        let bootstrap = vec![Bootstrap { addr: bootstrap, named: false }];
        Self {
            node: Node::new(now, Config { bootstrap, ephemeral: Ephemeral::Adaptive }, seed),
            announcer: Announcer::new(now, seed),
            peers: Peers::new(now, port, seed),
            announce: None,
            dials: BTreeMap::new(),
            open: BTreeMap::new(),
            out: VecDeque::new(),
            count: 0,
            closings: 0,
            dialled: BTreeSet::new(),
        }
    }

    /// Hosts it is connected to.
    pub(super) fn neighbours(&self) -> BTreeSet<SocketAddrV4> {
        self.open.keys().map(|(addr, ..)| *addr).collect()
    }

    /// Asks all it is connected to, as a load does.
    pub(super) fn ask_all(&mut self, now: Instant) {
        for ((addr, by_us, number), slot) in &self.open {
            self.out.push_back((*addr, tcp(Tcp::Ask, *by_us, *number)));
            self.peers.standing(*slot).expect("open").used(now);
        }
    }

    /// This peer has answered a load.
    pub(super) fn prove(&mut self, now: Instant, peer: SocketAddrV4) {
        for (_, slot) in self.open.iter().filter(|((addr, ..), _)| *addr == peer) {
            self.peers.standing(*slot).expect("open").proven(now);
        }
    }

    fn advance(&mut self, now: Instant) {
        if self.announcer.poll_announce(now) {
            self.announce = Some(self.node.announce(now, TOPIC, 0));
        }
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Peer(_, peer) => {
                    let source = Source::Dht { referrer: peer.referrer, to: peer.to };
                    self.peers.found(now, Found { addr: peer.addr, source }, |_| false);
                }
                Event::Done(query, outcome) if self.announce == Some(query) => {
                    self.announce = None;
                    self.announcer.ended(now, outcome.answered);
                }
                _ => {}
            }
        }
        if self.announcer.poll_lookup() {
            self.node.lookup(now, TOPIC);
        }
        while let Some((slot, candidate)) = self.peers.poll_dial(now) {
            self.count += 1;
            self.dialled.insert(candidate.addr);
            self.dials.insert(self.count, (slot, candidate.addr, now + CONNECT));
            self.out.push_back((candidate.addr, tcp(Tcp::Connect, true, self.count)));
        }
        while let Some(displaced) = self.peers.poll_displaced() {
            let key = self.open.iter().find(|(_, slot)| **slot == displaced).map(|(key, _)| *key);
            if let Some(key) = key {
                self.close(now, key, true);
            }
        }
    }

    fn close(&mut self, now: Instant, key: Key, tell: bool) {
        let Some(slot) = self.open.remove(&key) else { return };
        self.closings += 1;
        self.peers.closed(now, slot, false);
        if tell {
            self.out.push_back((key.0, tcp(Tcp::Closed, key.1, key.2)));
        }
    }

    fn handle_tcp(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        let number = u32::from_be_bytes(bytes[3..7].try_into().expect("a number"));
        let (what, by_them) = (bytes[1], bytes[2] == 1);
        let key = (from, !by_them, number);
        if what == Tcp::Connect as u8 {
            // Accepted by the system in any case; refused means closed at once.
            self.out.push_back((from, tcp(Tcp::Accepted, false, number)));
            match self.peers.accept(now, *from.ip()) {
                Some(slot) => drop(self.open.insert(key, slot)),
                None => self.out.push_back((from, tcp(Tcp::Closed, false, number))),
            }
        } else if what == Tcp::Accepted as u8 {
            let Some((slot, ..)) = self.dials.remove(&number) else { return };
            if self.peers.dialled(now, slot, true) {
                self.open.insert(key, slot);
                self.out.push_back((from, tcp(Tcp::Hello, true, number)));
            } else {
                self.out.push_back((from, tcp(Tcp::Closed, true, number)));
            }
        } else if what == Tcp::Closed as u8 {
            self.close(now, key, false);
        } else if let Some(standing) = self.open.get(&key).and_then(|slot| self.peers.standing(*slot)) {
            standing.greeted();
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
        self.peers.handle_timeout(now);
        let late: Vec<u32> = self.dials.iter().filter(|(_, dial)| dial.2 <= now).map(|(n, _)| *n).collect();
        for (slot, ..) in late.iter().filter_map(|number| self.dials.remove(number)).collect::<Vec<_>>() {
            self.peers.dialled(now, slot, false);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let dial = self.dials.values().map(|dial| dial.2).min();
        let timeouts = [self.node.poll_timeout(), self.peers.poll_timeout(), self.announcer.poll_timeout()];
        timeouts.into_iter().chain([dial]).flatten().min()
    }
}

/// A DHT node that answers politely, with an id beside the topic: it names only others like it, and made-up peers.
pub(super) struct Liar {
    id: [u8; 32],
    token: [u8; 32],
    /// The hosts and ids that it names.
    others: Vec<NodeRecord>,
    /// It names others each time, at which nobody answers.
    name_nobody: bool,
    count: u16,
    peers: Bytes,
    /// Keeps itself known to this node.
    dht: SocketAddrV4,
    next: Instant,
    out: VecDeque<(SocketAddrV4, Bytes)>,
}

impl Liar {
    /// The `n`th of 50 on one host.
    pub(super) fn new(now: Instant, host: Ipv4Addr, n: u16, name_nobody: bool, dht: SocketAddrV4) -> Self {
        let record = |n| NodeRecord { id: liar_id(LIARS + n), addr: SocketAddrV4::new(host, 5000 + n) };
        let others = (n..n + 20).map(|n| record(n % 50)).collect();
        let peers: Vec<u8> =
            (0..50).flat_map(|i| encode_address(SocketAddrV4::new(host, 10_000 + 50 * n + i))).collect();
        let peers = PeersOutput { peers: Some(peers.into()), ..PeersOutput::default() }.encode();
        let (id, token, out) = (liar_id(LIARS + n), [9; 32], VecDeque::new());
        Self { id, token, others, name_nobody, count: 0, peers, dht, next: now, out }
    }

    fn message(&self, kind: Kind, rid: u16) -> Message {
        Message { id: Some(self.id), ..Message::new(kind, rid) }
    }

    fn handle_datagram(&mut self, from: SocketAddrV4, bytes: &[u8]) {
        let Ok(request) = Message::decode(bytes) else { return };
        if request.kind == Kind::Response {
            return;
        }
        if self.name_nobody {
            for node in &mut self.others {
                self.count += 1;
                // Nearer to the topic than the liars themselves.
                let n = self.count % LIARS;
                let addr = SocketAddrV4::new(*node.addr.ip(), 20_000 + n);
                *node = NodeRecord { id: liar_id(n), addr };
            }
        }
        let answer = Message {
            to: Some(from),
            token: Some(self.token),
            closer_nodes: Some(encode_nodes(&self.others)),
            value: Some(self.peers.clone()).filter(|_| request.command.as_deref() == Some("peers")),
            ..self.message(Kind::Response, request.rid)
        };
        self.out.push_back((from, answer.encode()));
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.next <= now {
            self.next = now + Duration::from_secs(5);
            let command = Some("_find_node".to_owned());
            let query = Message { command, target: Some(TOPIC.0), ..self.message(Kind::Query, 1) };
            self.out.push_back((self.dht, query.encode()));
        }
    }
}

/// Number of the first liar that is there; those before it are not, and nearer to the topic.
const LIARS: u16 = 20_000;

/// Ids that share their first 240 bits with the topic.
fn liar_id(n: u16) -> [u8; 32] {
    let mut id = TOPIC.0;
    id[30..].copy_from_slice(&(n + 1).to_be_bytes());
    id
}

impl Machine for Host {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        match self {
            Self::Dht(node) => node.handle_datagram(now, from, bytes),
            Self::Liar(liar) => liar.handle_datagram(from, bytes),
            Self::Member(member) => {
                match bytes.first() {
                    Some(&TCP) => member.handle_tcp(now, from, bytes),
                    _ => member.node.handle_datagram(now, from, bytes),
                }
                member.advance(now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Dht(node) => node.handle_timeout(now),
            Self::Liar(liar) => liar.handle_timeout(now),
            Self::Member(member) => {
                member.handle_timeout(now);
                member.advance(now);
            }
        }
    }

    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)> {
        match self {
            Self::Dht(node) => {
                while node.poll_event().is_some() {}
                node.poll_transmit().map(|t| (t.to, t.payload))
            }
            Self::Liar(liar) => liar.out.pop_front(),
            Self::Member(member) => {
                let own = member.out.pop_front();
                own.or_else(|| member.node.poll_transmit().map(|t| (t.to, t.payload)))
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Dht(node) => node.poll_timeout(),
            Self::Liar(liar) => Some(liar.next),
            Self::Member(member) => member.poll_timeout(),
        }
    }
}

/// The network with one DHT node that everybody enters by.
pub(super) struct World {
    pub(super) network: Network<Host>,
    pub(super) dht: SocketAddrV4,
    seed: u64,
    members: u64,
}

impl World {
    pub(super) fn new(seed: u64, link: Link) -> Self {
        let dht = "198.51.100.1:49737".parse().expect("an address");
        let mut network = Network::new(Instant::now(), seed, link);
        let config = Config { bootstrap: vec![], ephemeral: Ephemeral::Never };
        let node = Node::new(network.now(), config, expand(seed, 0));
        network.add(dht, Host::Dht(Box::new(node)));
        Self { network, dht, seed, members: 0 }
    }

    /// Starts a member.
    pub(super) fn start(&mut self, addr: SocketAddrV4) {
        self.members += 1;
        let seed = expand(self.seed, self.members);
        let mut member = Member::new(self.network.now(), addr.port(), self.dht, seed);
        member.advance(self.network.now());
        self.network.add(addr, Host::Member(Box::new(member)));
    }

    pub(super) fn member(&self, addr: SocketAddrV4) -> &Member {
        match self.network.machine(addr) {
            Some(Host::Member(member)) => member,
            _ => panic!("{addr} is no member"),
        }
    }

    pub(super) fn with<T>(&mut self, at: SocketAddrV4, action: impl FnOnce(&mut Member, Instant) -> T) -> T {
        let result = self.network.with(at, |host, now| match host {
            Host::Member(member) => action(member, now),
            _ => panic!("{at} is no member"),
        });
        result.expect("there")
    }

    /// The real DHT node.
    pub(super) fn with_dht<T>(&mut self, action: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let result = self.network.with(self.dht, |host, now| match host {
            Host::Dht(node) => action(node, now),
            _ => panic!("no DHT node"),
        });
        result.expect("there")
    }

    /// Runs until the condition holds; how long that took, and None if it takes longer than `most`.
    pub(super) fn until(
        &mut self,
        most: Duration,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Option<Duration> {
        let start = self.network.now();
        while self.network.now() - start <= most {
            if holds(self) {
                return Some(self.network.now() - start);
            }
            self.network.run(Duration::from_millis(10));
        }
        None
    }

    /// True if the two have a connection that both know of.
    pub(super) fn connected(&self, one: SocketAddrV4, other: SocketAddrV4) -> bool {
        let there = &self.member(other).open;
        self.member(one)
            .open
            .keys()
            .any(|(addr, by_us, number)| *addr == other && there.contains_key(&(one, !by_us, *number)))
    }
}

fn expand(seed: u64, n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    bytes
}
