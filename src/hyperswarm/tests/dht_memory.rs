//! Memory of a node of today's DHT, with hyperdht: 10,000 of them run in one process.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used)]

mod counting;

use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use counting::in_use;
use hyperswarm::codec::compact::Writer;
use hyperswarm::codec::v4::{Command, Request};
use hyperswarm::crypto::v4::node_id;
use hyperswarm::dht::hyperdht::{Config, Hyperdht};
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

/// A node that was pinged by so many others, one every three seconds: what is remembered of each of them for minutes
/// is forgotten again.
fn hears(count: u32) -> Hyperdht {
    let now = Instant::now();
    let mut dht = node(now);
    for n in 0..count {
        let from = SocketAddrV4::new(Ipv4Addr::from(0x0c00_0000 + (n << 8)), 49_737);
        let mut out = Writer::new();
        Request { id: Some(node_id(from)), ..Request::new(1, OWN, Command::PING) }.encode(&mut out);
        dht.handle_datagram(now + Duration::from_secs(3) * n, SERVER, from, out.as_slice());
        while dht.poll_transmit().is_some() {}
        while dht.poll_event().is_some() {}
    }
    dht
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
