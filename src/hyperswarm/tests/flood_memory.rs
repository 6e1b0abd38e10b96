//! RELIABILITY 13: what strangers make a DHT node, and a swarm on real sockets, remember stays below 64 MiB.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod counting;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use counting::peak;
use futures::FutureExt;
use hyperswarm::Topic;
use hyperswarm::codec::v2::{Kind, Message, PeersInput};
use hyperswarm::dht::v2::{Config, Ephemeral, Node};
use hyperswarm::limits::MAX_DHT_DATAGRAM_BYTES;
use hyperswarm::limits::v2::SWARM_PEERS;
use hyperswarm::net::v2::{Network, NetworkConfig};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

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

/// Far more than the flood needs, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// 20,000 datagrams that look like the DHT's, like uTP, oversized and empty ones, and 300 connections.
async fn flood_a_swarm() {
    let network = Network::start(NetworkConfig { bootstrap: vec![], mdns: false }).await.expect("a network");
    let mut swarm = network.join(Topic([7; 32])).await.expect("a swarm");
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, swarm.status().port);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let mut datagram = vec![0u8; MAX_DHT_DATAGRAM_BYTES + 1];
    for round in 0..20_000u32 {
        datagram[0] = [0x58, 0x41, 0x08, 0x01][round as usize % 4];
        datagram[2..6].copy_from_slice(&round.to_be_bytes());
        let length = [60, 20, MAX_DHT_DATAGRAM_BYTES + 1, 0, MAX_DHT_DATAGRAM_BYTES][round as usize % 5];
        socket.send_to(&datagram[..length], address).await.expect("sent");
        if round % 32 == 0 {
            // Else most would be lost in the system's buffer and show nothing.
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..300 {
        // Accepted or refused, at once or later: the swarm must survive all of them.
        let _ = TcpStream::connect(address).await;
        while let Some(Some(connection)) = swarm.next().now_or_never() {
            drop(connection);
        }
    }
    let answered = async {
        while swarm.status().connections >= SWARM_PEERS {
            tokio::task::yield_now().await;
        }
        let _client = TcpStream::connect(address).await.expect("taken");
        swarm.next().await
    };
    assert!(timeout(SOON, answered).await.expect("in time").is_some());
}

#[test]
fn a_flood_of_junk_leaves_a_swarm_small_and_answering() {
    // On this thread alone, whose allocations are counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bytes = peak(|| runtime.block_on(flood_a_swarm()));
    println!(
        "check 13: measured {:.1} MiB growth of a flooded swarm, bar 4, seed none",
        bytes as f64 / 1048576.0
    );
    // Whoever kept the datagrams that are not too long would hold 8 MiB.
    assert!(bytes < 4 << 20, "{bytes}");
}
