//! Nodes on the simulated network.

mod client;
mod network;
mod server;
mod session;
mod upkeep;

use std::net::Ipv4Addr;

use super::*;
use crate::testkit::{Link, Machine, Network};

impl Machine for Node {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        Node::handle_datagram(self, now, from, bytes);
    }

    fn handle_timeout(&mut self, now: Instant) {
        Node::handle_timeout(self, now);
    }

    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)> {
        Node::poll_transmit(self).map(|t| (t.to, t.payload))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Node::poll_timeout(self)
    }
}

/// The `n`th address, each on a host of its own.
fn addr(n: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0a00_0001 + n as u32), 4000 + (n % 50_000) as u16)
}

fn seed(n: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    seed
}

fn config(bootstrap: &[SocketAddrV4], ephemeral: Ephemeral) -> Config {
    let bootstrap = bootstrap.iter().map(|addr| Bootstrap { addr: *addr, named: false }).collect();
    Config { bootstrap, ephemeral }
}

/// Persistent nodes at `addr(0..count)`, the first being everybody's bootstrap, given time to find each other.
fn network(count: usize, network_seed: u64, link: Link) -> Network<Node> {
    let start = Instant::now();
    let mut network = Network::new(start, network_seed, link);
    for n in 0..count {
        let bootstrap: &[SocketAddrV4] = if n == 0 { &[] } else { &[addr(0)] };
        let node = Node::new(
            network.now(),
            config(bootstrap, Ephemeral::Never),
            seed(network_seed << 32 | n as u64),
        );
        network.add(addr(n), node);
        network.run(Duration::from_millis(100));
    }
    network.run(Duration::from_secs(10));
    network
}

fn events(network: &mut Network<Node>, at: SocketAddrV4) -> Vec<Event> {
    network.with(at, |node, _| std::iter::from_fn(|| node.poll_event()).collect()).unwrap_or_default()
}

/// Runs until the query has ended; what it found, and how it ended.
fn finish(network: &mut Network<Node>, at: SocketAddrV4, query: QueryId) -> (Vec<Peer>, Outcome) {
    let mut peers = Vec::new();
    for _ in 0..600 {
        for event in events(network, at) {
            match event {
                Event::Peer(id, peer) if id == query => peers.push(peer),
                Event::Done(id, outcome) if id == query => return (peers, outcome),
                _ => {}
            }
        }
        network.run(Duration::from_millis(100));
    }
    panic!("the query did not end within a minute");
}

fn found(peers: &[Peer]) -> std::collections::BTreeSet<SocketAddrV4> {
    peers.iter().map(|p| p.addr).collect()
}
