//! On loopback, with a DHT node of our own as bootstrap. Nothing sleeps: everything waits for an event, at most [`SOON`].

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::*;
use crate::dht::v2::{Config, Ephemeral, Node};
use crate::limits::MAX_DHT_DATAGRAM_BYTES;
use crate::limits::v2::{SWARM_PEERS, UDP_BATCH};

/// Far more than anything here needs, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn topic() -> Topic {
    Topic(crate::net::random::seed().unwrap())
}

fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// A DHT node and a network that enters by it.
async fn private_network() -> (AbortOnDropHandle<()>, Network) {
    let (ready, bound) = oneshot::channel();
    let node = tokio::spawn(async {
        run_dht_node(loopback(0), vec![], |addr| ready.send(addr).unwrap()).await.unwrap();
    });
    let bootstrap = vec![bound.await.unwrap().to_string()];
    let network = Network::start(NetworkConfig { bootstrap, mdns: false }).await.unwrap();
    (AbortOnDropHandle::new(node), network)
}

/// A network of its own mDNS socket and nothing else, as if it were another process. None if this machine has no
/// multicast on loopback.
fn local_network() -> Option<Network> {
    let group = crate::codec::v2::mdns::GROUP.0;
    let socket = std::net::UdpSocket::bind(loopback(0)).unwrap();
    if let Err(error) = socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST) {
        eprintln!("SKIPPED: no multicast on loopback: {error}");
        return None;
    }
    let mdns = mdns::start(interfaces::Scope::Loopback).unwrap();
    Some(Network::with(bootstrap::Resolver::start(&[]).unwrap(), Some(mdns?)))
}

/// A socket with a DHT node, driven by hand.
async fn endpoint() -> (endpoint::Endpoint, std::net::SocketAddr) {
    let config = Config { bootstrap: vec![], ephemeral: Ephemeral::Never };
    let node = Node::new(std::time::Instant::now(), config, [1; 32]);
    let socket = UdpSocket::bind(loopback(0)).await.unwrap();
    let addr = socket.local_addr().unwrap();
    (endpoint::Endpoint::new(socket, node), addr)
}

/// Waits for a state of the swarm.
async fn until(swarm: &mut Swarm, what: impl FnMut(&SwarmStatus) -> bool) -> SwarmStatus {
    timeout(SOON, swarm.status.wait_for(what)).await.expect("in time").expect("the swarm runs").clone()
}

async fn next(swarm: &mut Swarm) -> Connection {
    timeout(SOON, swarm.next()).await.expect("in time").expect("the swarm runs")
}

/// A swarm of a new topic that nobody else knows, entering nowhere.
async fn lonely() -> (Network, Swarm) {
    let network = Network::start(NetworkConfig { bootstrap: vec![], mdns: false }).await.unwrap();
    let swarm = network.join(topic()).await.unwrap();
    (network, swarm)
}

async fn is_closed_at_once(stream: &mut TcpStream) -> bool {
    // End or reset: either way nobody took the connection.
    matches!(timeout(SOON, stream.read(&mut [0])).await.expect("in time"), Ok(0) | Err(_))
}

#[tokio::test]
async fn two_swarms_find_each_other_by_the_dht_and_exchange_bytes() {
    let (_node, network) = private_network().await;
    let topic = topic();
    let mut first = network.join(topic).await.unwrap();
    until(&mut first, |s| s.announced_to > 0).await;
    let mut second = network.join(topic).await.unwrap();
    let (mut dialled, mut accepted) = (next(&mut second).await, next(&mut first).await);
    assert!(dialled.initiator && !accepted.initiator);
    assert_eq!(dialled.remote.port(), first.status().port);
    dialled.stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    accepted.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    accepted.stream.write_all(b"world").await.unwrap();
    dialled.stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"world");
}

#[tokio::test]
async fn two_processes_find_each_other_by_multicast_dns() {
    let (Some(one), Some(other)) = (local_network(), local_network()) else { return };
    let topic = topic();
    let mut first = one.join(topic).await.unwrap();
    let mut second = other.join(topic).await.unwrap();
    let (a, b) = (next(&mut first).await, next(&mut second).await);
    assert!(a.remote.ip().is_loopback() && b.remote.ip().is_loopback());
}

#[tokio::test]
async fn swarms_of_one_process_do_not_take_each_other_for_peers_by_multicast_dns() {
    let (Some(network), Some(other)) = (local_network(), local_network()) else { return };
    let topic = topic();
    let mut first = network.join(topic).await.unwrap();
    let mut second = network.join(topic).await.unwrap();
    // Another process asks, and finds both: by then both have heard all there was to hear.
    let mut third = other.join(topic).await.unwrap();
    let third_port = third.status().port;
    let mut dialled = Vec::new();
    while dialled.len() < 2 {
        let connection = next(&mut third).await;
        if connection.initiator {
            dialled.push(connection);
        }
    }
    for swarm in [&mut first, &mut second] {
        loop {
            let connection = next(swarm).await;
            if connection.initiator {
                assert_eq!(connection.remote.port(), third_port);
                break;
            }
        }
    }
}

#[tokio::test]
async fn tcp_and_udp_share_one_port_number() {
    let (_network, swarm) = lonely().await;
    let port = swarm.status().port;
    assert!(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await.is_err(), "UDP is taken");
    assert!(TcpStream::connect(loopback(port)).await.is_ok(), "TCP answers");
}

#[tokio::test]
async fn the_25th_connection_is_closed_at_once_and_a_dropped_one_makes_room() {
    let (_network, mut swarm) = lonely().await;
    let port = swarm.status().port;
    let mut clients = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..SWARM_PEERS {
        clients.push(TcpStream::connect(loopback(port)).await.unwrap());
        accepted.push(next(&mut swarm).await);
    }
    assert_eq!(until(&mut swarm, |s| s.connections == SWARM_PEERS).await.port, port);
    let mut refused = TcpStream::connect(loopback(port)).await.unwrap();
    assert!(is_closed_at_once(&mut refused).await);
    accepted.pop();
    until(&mut swarm, |s| s.connections == SWARM_PEERS - 1).await;
    let _client = TcpStream::connect(loopback(port)).await.unwrap();
    next(&mut swarm).await;
}

#[tokio::test]
async fn a_dialled_connection_that_is_dropped_is_dialled_again_but_a_banned_one_is_not() {
    let (_node, network) = private_network().await;
    let topic = topic();
    let mut first = network.join(topic).await.unwrap();
    until(&mut first, |s| s.announced_to > 0).await;
    let mut second = network.join(topic).await.unwrap();
    let dialled = next(&mut second).await;
    let again = until(&mut second, |s| s.connections == 1).await;
    assert_eq!(again.candidates, 0);
    drop(dialled);
    let status = until(&mut second, |s| s.connections == 0).await;
    assert_eq!(status.candidates, 1, "it waits to be dialled again");
    let dialled = next(&mut second).await;
    dialled.ban.ban();
    drop(dialled);
    let status = until(&mut second, |s| s.connections == 0).await;
    assert_eq!(status.candidates, 0);
}

#[tokio::test]
async fn a_topic_that_was_left_is_not_found_any_more() {
    let (_node, network) = private_network().await;
    let topic = topic();
    let mut first = network.join(topic).await.unwrap();
    until(&mut first, |s| s.announced_to > 0).await;
    first.leave().await;
    let mut second = network.join(topic).await.unwrap();
    let status = until(&mut second, |s| s.announced_to > 0).await;
    assert_eq!((status.candidates, status.connections), (0, 0));
}

#[tokio::test]
async fn leaving_closes_the_port_and_keeps_the_connections() {
    let (_network, mut swarm) = lonely().await;
    let port = swarm.status().port;
    let mut client = TcpStream::connect(loopback(port)).await.unwrap();
    let mut connection = next(&mut swarm).await;
    swarm.leave().await;
    assert!(TcpStream::connect(loopback(port)).await.is_err());
    client.write_all(b"x").await.unwrap();
    assert_eq!(connection.stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn dropping_a_swarm_ends_its_task() {
    let (network, swarm) = lonely().await;
    assert_eq!(Arc::strong_count(&network.shared), 2);
    let port = swarm.status().port;
    drop(swarm);
    let ended = async {
        while Arc::strong_count(&network.shared) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, ended).await.expect("in time");
    assert!(TcpStream::connect(loopback(port)).await.is_err());
}

#[tokio::test]
async fn a_datagram_of_the_largest_size_reaches_the_node_and_a_larger_one_does_not() {
    let (mut endpoint, addr) = endpoint().await;
    let client = UdpSocket::bind(loopback(0)).await.unwrap();
    // A ping, padded with an unknown field (number 15, bytes) up to the length wanted.
    let ping = |length: usize| {
        let mut bytes = b"\x58\x01\x08\x01\x10\x07\x3a\x05_ping".to_vec();
        let padding = length - bytes.len() - 3;
        bytes.extend([0x7a, (padding & 0x7f) as u8 | 0x80, (padding >> 7) as u8]);
        bytes.resize(length, 0);
        bytes
    };
    for (length, answers) in [(MAX_DHT_DATAGRAM_BYTES, 1), (MAX_DHT_DATAGRAM_BYTES + 1, 0)] {
        client.send_to(&ping(length), addr).await.unwrap();
        timeout(SOON, endpoint.readable()).await.unwrap();
        endpoint.receive(std::time::Instant::now());
        let sent = std::iter::from_fn(|| endpoint.node.poll_transmit());
        let sent = sent.filter(|t| std::net::SocketAddr::V4(t.to) == client.local_addr().unwrap());
        assert_eq!(sent.count(), answers, "{length} bytes");
    }
}

#[tokio::test]
async fn a_flood_is_handled_in_batches() {
    let (mut endpoint, addr) = endpoint().await;
    let client = UdpSocket::bind(loopback(0)).await.unwrap();
    for _ in 0..=UDP_BATCH {
        client.send_to(b"junk", addr).await.unwrap();
    }
    timeout(SOON, endpoint.readable()).await.unwrap();
    assert_eq!(endpoint.receive(std::time::Instant::now()), UDP_BATCH);
    timeout(SOON, endpoint.readable()).await.unwrap();
    assert_eq!(endpoint.receive(std::time::Instant::now()), 1);
}

/// A connection to this port from another address of this machine than 127.0.0.1. None where it has no other.
async fn connect_from_elsewhere(port: u16) -> Option<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    if let Err(error) = socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()) {
        println!("SKIPPED: this machine has no address 127.0.0.2: {error}");
        return None;
    }
    Some(socket.connect(loopback(port).into()).await.unwrap())
}

#[tokio::test]
async fn in_a_full_swarm_the_least_useful_connection_of_the_commonest_host_fails_for_a_newcomer() {
    let (_network, mut swarm) = lonely().await;
    let port = swarm.status().port;
    let (mut clients, mut accepted) = (Vec::new(), Vec::new());
    for n in 0..SWARM_PEERS {
        clients.push(TcpStream::connect(loopback(port)).await.unwrap());
        let connection = next(&mut swarm).await;
        if n != 5 {
            connection.standing.used(std::time::Instant::now());
        }
        accepted.push(connection);
    }
    let Some(_newcomer) = connect_from_elsewhere(port).await else { return };
    let connection = next(&mut swarm).await;
    assert_eq!(*connection.remote.ip(), Ipv4Addr::new(127, 0, 0, 2));
    let mut displaced = accepted.remove(5);
    let read = timeout(SOON, displaced.stream.read_u8()).await.expect("in time");
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    drop(displaced);
    assert!(is_closed_at_once(&mut clients[5]).await);
    clients[6].write_all(b"x").await.unwrap();
    assert_eq!(accepted[5].stream.read_u8().await.unwrap(), b'x');
    assert_eq!(until(&mut swarm, |s| s.connections == SWARM_PEERS).await.connections, SWARM_PEERS);
}

#[tokio::test]
async fn connections_that_are_handed_out_outlive_their_swarm() {
    let (_network, mut swarm) = lonely().await;
    let mut client = TcpStream::connect(loopback(swarm.status().port)).await.unwrap();
    let mut connection = next(&mut swarm).await;
    swarm.leave().await;
    for _ in 0..3 {
        client.write_all(b"x").await.unwrap();
        assert_eq!(connection.stream.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn fifty_of_fifty_pairs_that_start_together_meet_within_two_seconds() {
    let (_node, network) = private_network().await;
    let mut worst = Duration::ZERO;
    for _ in 0..50 {
        let topic = topic();
        let start = std::time::Instant::now();
        let (one, other) = tokio::join!(network.join(topic), network.join(topic));
        let (mut one, mut other) = (one.unwrap(), other.unwrap());
        let _connections = tokio::join!(next(&mut one), next(&mut other));
        worst = worst.max(start.elapsed());
    }
    println!("measured {worst:?} for the slowest of 50 pairs to meet on loopback, bar 2 s, seed none");
    assert!(worst <= Duration::from_secs(2));
}
