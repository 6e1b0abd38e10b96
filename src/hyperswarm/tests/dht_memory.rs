//! Memory of a node of today's DHT, with hyperdht: 10,000 of them run in one process.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod counting;

use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use bytes::Bytes;
use counting::{in_use, peak};
use hyperswarm::codec::compact::Writer;
use hyperswarm::codec::v4::{
    Announce, Command, List, MutablePut, MutableSignable, MutableValue, Packet, Peer, Reply, Request,
};
use hyperswarm::crypto::v4::{Announcement, mutable_signable, node_id};
use hyperswarm::crypto::{KeyPair, blake2b_256};
use hyperswarm::dht::hyperdht::{Config, Hyperdht, Transmit};
use hyperswarm::dht::v4::{self, Persistence, SERVER};
use hyperswarm::limits::v4::{MAX_ANNOUNCEMENTS, MAX_FORWARDS, MAX_VALUE_BYTES, MAX_VALUES};

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

/// The requests of one stranger with a good token.
struct Flood {
    dht: Hyperdht,
    now: Instant,
    token: [u8; 32],
}

const STRANGER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(13, 0, 0, 1), 5000);

impl Flood {
    fn new() -> Self {
        let now = Instant::now();
        Self { dht: node(now), now, token: [0; 32] }
    }

    /// Lets time pass and gets a token.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        let find = Request { target: Some([1; 32]), ..Request::new(1, OWN, Command::FIND_PEER) };
        let sent = self.ask(&find).expect("an answer");
        let Ok(Packet::Reply(reply)) = Packet::decode(&sent) else { panic!("a request") };
        self.token = reply.token.expect("a token");
    }

    fn ask(&mut self, request: &Request<'_>) -> Option<Bytes> {
        let mut out = Writer::new();
        request.encode(&mut out);
        self.dht.handle_datagram(self.now, SERVER, STRANGER, out.as_slice());
        self.dht.poll_transmit().map(|transmit| transmit.payload)
    }

    /// Stores something, which is confirmed.
    fn write(&mut self, command: Command, target: [u8; 32], value: &[u8]) {
        let (token, value) = (Some(self.token), Some(value));
        let request = Request { token, target: Some(target), value, ..Request::new(1, OWN, command) };
        assert!(self.ask(&request).is_some());
    }

    fn announce(&mut self, keys: &KeyPair, target: [u8; 32], refresh: [u8; 32]) {
        let relays = [OWN, OWN, OWN];
        let peer = Peer { public_key: keys.public().0, relay_addresses: List::from(&relays[..]) };
        let mut out = Writer::new();
        peer.encode(&mut out);
        let signed = Announcement {
            target: &target,
            node: &node_id(OWN),
            token: &self.token,
            peer: out.as_slice(),
            refresh: Some(&refresh),
        };
        let signature = Some(keys.sign(&signed.announce_signable()).0);
        out.clear();
        Announce { peer: Some(peer), refresh: Some(refresh), signature, bump: 1 }.encode(&mut out);
        self.write(Command::ANNOUNCE, target, out.as_slice());
    }
}

#[test]
fn all_that_a_node_stores_takes_less_than_64_mib() {
    let keys = KeyPair::from_seed(&[1; 32]);
    let mut flood = Flood::new();
    let bytes = peak(|| {
        for n in 0..2 * MAX_ANNOUNCEMENTS.max(MAX_FORWARDS) as u32 {
            if (n as usize).is_multiple_of(MAX_ANNOUNCEMENTS) {
                // After a turn of the generations the fresh one fills anew.
                flood.wait(Duration::from_secs(800));
            }
            let name = blake2b_256(&[&n.to_le_bytes()]);
            flood.announce(&keys, name, name);
            let other = KeyPair::from_seed(&name);
            flood.announce(&other, blake2b_256(&[&other.public().0]), name);
        }
        for n in 0..2 * MAX_VALUES as u32 {
            let mut value = [7; MAX_VALUE_BYTES];
            value[..4].copy_from_slice(&n.to_le_bytes());
            flood.write(Command::IMMUTABLE_PUT, blake2b_256(&[&value]), &value);
            let keys = KeyPair::from_seed(&blake2b_256(&[&n.to_le_bytes()]));
            let mut out = Writer::new();
            MutableSignable { seq: 1, value: &value }.encode(&mut out);
            let signature = keys.sign(&mutable_signable(out.as_slice())).0;
            out.clear();
            let stored = MutableValue { seq: 1, value: &value, signature };
            MutablePut { public_key: keys.public().0, stored }.encode(&mut out);
            flood.write(Command::MUTABLE_PUT, blake2b_256(&[&keys.public().0]), out.as_slice());
        }
    });
    println!("check 13: measured {bytes} bytes that a node of v4 stores at most, bar {}", 64 << 20);
    assert!(bytes < 64 << 20);
    drop(flood);
}
