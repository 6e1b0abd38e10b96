//! RELIABILITY 13, the DHT's part: what strangers make a node remember stays below 64 MiB.

mod counting;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use counting::peak;
use kachery_p2p::hyperswarm::codec::v2::{Kind, Message, PeersInput};
use kachery_p2p::hyperswarm::dht::v2::{Config, Ephemeral, Node};

/// More announcements than both generations hold.
const ANNOUNCEMENTS: u32 = 140_000;

fn message(kind: Kind, topic: u32) -> Message {
    let mut target = [0; 32];
    target[..4].copy_from_slice(&topic.to_be_bytes());
    Message {
        target: Some(target),
        command: Some("peers".to_owned()),
        value: Some(PeersInput::default().encode()),
        ..Message::new(kind, 1)
    }
}

/// Announces one topic after the other with a token got honestly: the worst shape of what can be stored.
fn announce_much(node: &mut Node, now: Instant) {
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 1000);
    node.handle_datagram(now, from, &message(Kind::Query, 0).encode());
    let token = node.poll_transmit().and_then(|t| Message::decode(&t.payload).ok()).and_then(|m| m.token);
    assert!(token.is_some());
    for topic in 0..ANNOUNCEMENTS {
        let update = Message { token, ..message(Kind::Update, topic) };
        node.handle_datagram(now, from, &update.encode());
        assert!(node.poll_transmit().is_some(), "announcement {topic} was not taken");
    }
}

/// Shows 100,000 ids from as many spoofed addresses, with junk between.
fn show_ids(node: &mut Node, now: Instant) {
    for n in 0..100_000u32 {
        let from = SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + n), 1000);
        let mut id = [n as u8; 32];
        id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
        let query = Message { id: Some(id), ..message(Kind::Query, n) };
        node.handle_datagram(now, from, &query.encode());
        node.handle_datagram(now, from, &id);
        while node.poll_transmit().is_some() {}
    }
}

#[test]
fn a_flood_of_announcements_and_ids_costs_less_than_64_mib() {
    let now = Instant::now();
    let mut node = Node::new(now, Config { bootstrap: Vec::new(), ephemeral: Ephemeral::Never }, [1; 32]);
    let bytes = peak(|| {
        announce_much(&mut node, now);
        show_ids(&mut node, now);
    });
    println!(
        "check 13: measured {:.1} MiB growth of a flooded DHT node, bar 64, seed 1",
        bytes as f64 / 1048576.0
    );
    assert!(bytes < 64 << 20);
    assert!(bytes > 4 << 20, "the flood must reach the storage: {bytes}");
}
