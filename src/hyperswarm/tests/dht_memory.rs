//! Memory of a node of today's DHT, with hyperdht: 10,000 of them run in one process.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used)]

mod counting;

use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use counting::in_use;
use hyperswarm::codec::compact::Writer;
use hyperswarm::codec::v4::{Command, Packet, Reply, Request};
use hyperswarm::crypto::v4::node_id;
use hyperswarm::dht::hyperdht::{Config, Hyperdht, Transmit};
use hyperswarm::dht::v4::{self, Persistence, SERVER};

const OWN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(11, 0, 0, 1), 49_737);

fn node(now: Instant) -> Hyperdht {
    let node = v4::Config {
        bootstrap: Vec::new(),
        nodes: Vec::new(),
        persistence: Persistence::Persistent,
        open: false,
        server_port: OWN.port(),
        public: Some(OWN),
    };
    Hyperdht::new(now, Config { node, unix_time: Duration::from_secs(1 << 30) }, [1; 32])
}

/// A node that was pinged by so many others, one every three seconds, all of which answer when they are asked: what is
/// remembered of each of them for minutes is forgotten again.
fn hears(count: u32) -> Hyperdht {
    let now = Instant::now();
    let mut dht = node(now);
    for n in 0..count {
        let now = now + Duration::from_secs(3) * n;
        let from = SocketAddrV4::new(Ipv4Addr::from(0x0c00_0000 + (n << 8)), 49_737);
        let ping = Request { id: Some(node_id(from)), ..Request::new(1, OWN, Command::PING) };
        hand(&mut dht, now, from, Packet::Request(ping));
    }
    while dht.poll_event().is_some() {}
    dht
}

/// Hands the node a packet, and the answers to what it asks then.
fn hand(dht: &mut Hyperdht, now: Instant, from: SocketAddrV4, packet: Packet<'_>) {
    let mut out = Writer::new();
    packet.encode(&mut out);
    dht.handle_datagram(now, SERVER, from, out.as_slice());
    while let Some(Transmit { to, payload, .. }) = dht.poll_transmit() {
        if let Ok(Packet::Request(request)) = Packet::decode(&payload) {
            let answer = Reply { id: Some(node_id(to)), ..Reply::new(request.tid, OWN) };
            hand(dht, now, to, Packet::Reply(answer));
        }
    }
}

#[test]
fn a_node_with_a_full_table_of_ten_thousand_takes_16_kib() {
    let before = in_use();
    let dht = hears(10_000);
    let known = dht.node().known().count();
    let bytes = (in_use() - before).unsigned_abs() + size_of::<Hyperdht>();
    println!(
        "node-memory: measured {bytes} bytes with {known} nodes in the table ({} in the struct), bar {}",
        size_of::<Hyperdht>(),
        16 << 10
    );
    assert!(known > 180, "{known}");
    assert!(bytes <= 16 << 10);
    drop(dht);
}

#[test]
fn a_node_that_knows_nobody_takes_next_to_nothing() {
    let before = in_use();
    let dht = hears(0);
    let bytes = (in_use() - before).unsigned_abs() + size_of::<Hyperdht>();
    println!("measured {bytes} bytes of an idle node ({} in the struct), bar 4096", size_of::<Hyperdht>());
    assert!(bytes <= 4096);
    drop(dht);
}
