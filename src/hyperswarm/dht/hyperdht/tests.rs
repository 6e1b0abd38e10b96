//! Single nodes that are asked things, and whole networks of hosts with two sockets each.

mod attacks;
mod listening;
mod operations;
mod routing;
mod storing;

use std::net::Ipv4Addr;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, Packet, Reply, Request};
use crate::crypto::KeyPair;
use crate::crypto::v4::node_id;
use crate::dht::v4::{CLIENT, Persistence, SERVER};
use crate::testkit::{Link, Machine, Network};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const STRANGER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(14, 0, 0, 1), 5000);
const TOPIC: Target = [0x55; 32];

/// A node and where its sockets are bound.
struct Host {
    dht: Hyperdht,
    client: SocketAddrV4,
    server: SocketAddrV4,
    /// It is none, but an attacker's.
    liar: Option<attacks::Liar>,
}

impl Machine for Host {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        self.handle_datagram_at(now, self.server, from, bytes);
    }

    fn handle_datagram_at(&mut self, now: Instant, at: SocketAddrV4, from: SocketAddrV4, bytes: &[u8]) {
        if let Some(liar) = &mut self.liar {
            return liar.handle_datagram(at, from, bytes);
        }
        let via = if at == self.client { CLIENT } else { SERVER };
        self.dht.handle_datagram(now, via, from, bytes);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.dht.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)> {
        self.poll_transmit_from().map(|(_, to, payload)| (to, payload))
    }

    fn poll_transmit_from(&mut self) -> Option<(Option<SocketAddrV4>, SocketAddrV4, Bytes)> {
        if let Some(liar) = &mut self.liar {
            return liar.out.pop_front().map(|(to, payload)| (None, to, payload));
        }
        let Transmit { to, via, payload } = self.dht.poll_transmit()?;
        Some((Some(if via == CLIENT { self.client } else { self.server }), to, payload))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.dht.poll_timeout().filter(|_| self.liar.is_none())
    }
}

/// The server's socket of the `n`th host, each in a network of its own.
fn addr(n: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0b00_0001 + ((n as u32) << 8)), 49_737)
}

fn seed(n: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    seed
}

fn keys(n: u64) -> KeyPair {
    KeyPair::from_seed(&seed(n))
}

fn hash_of(keys: &KeyPair) -> Target {
    crate::crypto::blake2b_256(&[&keys.public().0])
}

fn config(bootstrap: &[SocketAddrV4], persistence: Persistence) -> Config {
    let node = v4::Config {
        bootstrap: bootstrap.to_vec(),
        nodes: Vec::new(),
        persistence,
        open: false,
        server_port: 49_737,
        public: None,
    };
    Config { node, unix_time: Duration::from_secs(1_700_000_000) }
}

/// A node that knows its own address and is persistent at once.
fn persistent(now: Instant, at: SocketAddrV4, number: u64) -> Hyperdht {
    let Config { node, unix_time } = config(&[], Persistence::Persistent);
    Hyperdht::new(now, Config { node: v4::Config { public: Some(at), ..node }, unix_time }, seed(number))
}

fn add(network: &mut Network<Host>, server: SocketAddrV4, config: Config, number: u64) {
    let client = SocketAddrV4::new(*server.ip(), 40_000);
    let dht = Hyperdht::new(network.now(), config, seed(number));
    network.add_socket(client, server);
    network.add(server, Host { dht, client, server, liar: None });
}

fn delayed(milliseconds: u64) -> Link {
    Link { delay: Duration::from_millis(milliseconds), ..Link::PERFECT }
}

/// A bootstrap node at `addr(0)` that knows its own address, and nodes at `addr(1..count)` that want to be persistent.
fn network(count: usize, network_seed: u64, link: Link) -> Network<Host> {
    let mut network = Network::new(Instant::now(), network_seed, link);
    let dht = persistent(network.now(), addr(0), network_seed << 32);
    let client = SocketAddrV4::new(*addr(0).ip(), 40_000);
    network.add_socket(client, addr(0));
    network.add(addr(0), Host { dht, client, server: addr(0), liar: None });
    for n in 1..count {
        let others = config(&[addr(0)], Persistence::Persistent);
        add(&mut network, addr(n), others, network_seed << 32 | n as u64);
        network.run(Duration::from_millis(200));
    }
    network.run(20 * SECOND);
    network
}

fn events(network: &mut Network<Host>, at: SocketAddrV4) -> Vec<Event> {
    network.with(at, |host, _| std::iter::from_fn(|| host.dht.poll_event()).collect()).unwrap_or_default()
}

/// Begins an operation and runs until it has ended: what it found, and how it ended.
fn complete(
    network: &mut Network<Host>,
    at: SocketAddrV4,
    begin: impl FnOnce(&mut Hyperdht, Instant) -> OperationId,
) -> (Vec<Event>, Outcome) {
    let id = network.with(at, |host, now| begin(&mut host.dht, now)).expect("a machine");
    let mut found = Vec::new();
    for _ in 0..2400 {
        for event in events(network, at) {
            match event {
                Event::Done(done, outcome) if done == id => return (found, outcome),
                Event::Peer(of, _) | Event::Value(of, _) if of == id => found.push(event),
                _ => {}
            }
        }
        network.run(Duration::from_millis(25));
    }
    panic!("the operation did not end within a minute");
}

fn peers(found: &[Event]) -> Vec<PublicKey> {
    let key = |event: &Event| match event {
        Event::Peer(_, peer) => Some(peer.public_key),
        _ => None,
    };
    found.iter().filter_map(key).collect()
}

fn dht(network: &Network<Host>, at: SocketAddrV4) -> &Hyperdht {
    &network.machine(at).expect("a machine").dht
}

/// One persistent node at `addr(0)`, which knows nobody.
fn alone() -> (Hyperdht, Instant) {
    let now = Instant::now();
    (persistent(now, addr(0), 1), now)
}

fn encoded(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    write(&mut out);
    out.as_slice().to_vec()
}

fn request<'a>(command: Command, target: Target, value: Option<&'a [u8]>) -> Request<'a> {
    Request { target: Some(target), value, ..Request::new(7, addr(0), command) }
}

/// What the node sends when this arrives on its server's socket.
fn answers(dht: &mut Hyperdht, now: Instant, from: SocketAddrV4, request: &Request<'_>) -> Vec<Transmit> {
    dht.handle_datagram(now, SERVER, from, &encoded(|out| request.encode(out)));
    std::iter::from_fn(|| dht.poll_transmit()).collect()
}

fn reply(transmit: &Transmit) -> Reply<'_> {
    match Packet::decode(&transmit.payload).expect("a packet") {
        Packet::Reply(reply) => reply,
        Packet::Request(request) => panic!("not a reply: {request:?}"),
    }
}

/// A token of the node for this address.
fn token(dht: &mut Hyperdht, now: Instant, from: SocketAddrV4) -> [u8; 32] {
    let sent = answers(dht, now, from, &request(Command::FIND_PEER, [9; 32], None));
    reply(&sent[0]).token.expect("a token")
}

/// The error code with which a request that changes something is answered; none: it is not.
fn write(
    dht: &mut Hyperdht,
    now: Instant,
    from: SocketAddrV4,
    command: Command,
    target: Target,
    value: impl FnOnce([u8; 32]) -> Vec<u8>,
) -> Option<ErrorCode> {
    let token = token(dht, now, from);
    let value = value(token);
    let request = Request { token: Some(token), ..request(command, target, Some(&value)) };
    answers(dht, now, from, &request).first().map(|sent| reply(sent).error)
}

/// The value of the reply to a read.
fn read(dht: &mut Hyperdht, now: Instant, command: Command, target: Target) -> Option<Vec<u8>> {
    let minimum = [0];
    let value = (command == Command::MUTABLE_GET).then_some(&minimum[..]);
    let sent = answers(dht, now, STRANGER, &request(command, target, value));
    reply(&sent[0]).value.map(<[u8]>::to_vec)
}

fn id_of(dht: &Hyperdht) -> NodeId {
    dht.node().id().expect("persistent")
}
