//! Nodes on the simulated network, each a host with two sockets.

mod network;
mod requests;

use std::net::Ipv4Addr;

use super::*;
use crate::testkit::{Link, Machine, Nat, Network};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A node and where its sockets are bound.
struct Host {
    node: Node,
    client: SocketAddrV4,
    server: SocketAddrV4,
}

impl Machine for Host {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        self.handle_datagram_at(now, self.server, from, bytes);
    }

    fn handle_datagram_at(&mut self, now: Instant, at: SocketAddrV4, from: SocketAddrV4, bytes: &[u8]) {
        let via = if at == self.client { CLIENT } else { SERVER };
        self.node.handle_datagram(now, via, from, bytes);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)> {
        self.poll_transmit_from().map(|(_, to, payload)| (to, payload))
    }

    fn poll_transmit_from(&mut self) -> Option<(Option<SocketAddrV4>, SocketAddrV4, Bytes)> {
        let Transmit { to, via, payload } = self.node.poll_transmit()?;
        Some((Some(if via == CLIENT { self.client } else { self.server }), to, payload))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.node.poll_timeout()
    }
}

/// The server's socket of the `n`th host.
fn addr(n: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0b00_0001 + n as u32), 49_737)
}

fn seed(n: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    seed
}

fn config(bootstrap: &[SocketAddrV4], persistence: Persistence) -> Config {
    Config {
        bootstrap: bootstrap.to_vec(),
        nodes: Vec::new(),
        persistence,
        open: false,
        server_port: 49_737,
        public: None,
    }
}

fn add(network: &mut Network<Host>, server: SocketAddrV4, config: Config, number: u64) {
    let client = SocketAddrV4::new(*server.ip(), 40_000);
    let node = Node::new(network.now(), config, seed(number));
    network.add_socket(client, server);
    network.add(server, Host { node, client, server });
}

/// A bootstrap node at `addr(0)` that knows its own address, and nodes at `addr(1..count)` that want to be persistent.
fn network(count: usize, network_seed: u64, link: Link) -> Network<Host> {
    let mut network = Network::new(Instant::now(), network_seed, link);
    let first = Config { public: Some(addr(0)), ..config(&[], Persistence::Persistent) };
    add(&mut network, addr(0), first, network_seed << 32);
    for n in 1..count {
        let others = config(&[addr(0)], Persistence::Persistent);
        add(&mut network, addr(n), others, network_seed << 32 | n as u64);
        network.run(Duration::from_millis(200));
    }
    network.run(20 * SECOND);
    network
}

fn events(network: &mut Network<Host>, at: SocketAddrV4) -> Vec<Event> {
    network.with(at, |host, _| std::iter::from_fn(|| host.node.poll_event()).collect()).unwrap_or_default()
}

/// Runs until a query has ended; the answers, and how it ended.
fn finish(network: &mut Network<Host>, at: SocketAddrV4, query: QueryId) -> (Vec<Answer>, Outcome) {
    let mut answers = Vec::new();
    for _ in 0..1200 {
        for event in events(network, at) {
            match event {
                Event::Answer(id, answer) if id == query => answers.push(answer),
                Event::Done(id, outcome) if id == query => return (answers, outcome),
                _ => {}
            }
        }
        network.run(Duration::from_millis(50));
    }
    panic!("the query did not end within a minute");
}

fn node(network: &Network<Host>, at: SocketAddrV4) -> &Node {
    &network.machine(at).expect("a machine").node
}
