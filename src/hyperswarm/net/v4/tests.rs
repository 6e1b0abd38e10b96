//! Nodes on loopback. What needs lost packets, NATs or time is tested on the machine, in virtual time.

use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, Request};
use crate::crypto::v4::node_id;
use crate::crypto::{KeyPair, PublicKey};
use crate::dht::hyperdht::Plain;
use crate::dht::id::NodeId;
use crate::holepunch::{ConnectError, DialOptions, ListenOptions};
use crate::limits::v4::{MAX_UNTAKEN_CONNECTIONS, SWARM_UNTAKEN_CONNECTIONS};
use crate::swarm::v4::Mode;
use crate::topic::Topic;
use crate::udx::StreamOptions;

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("in time")
}

/// The first node of a network.
fn first() -> Dht {
    Dht::bind(DhtOptions { public_host: Some(HOST), ..DhtOptions::private(HOST, []) }).unwrap()
}

fn address(dht: &Dht) -> SocketAddrV4 {
    SocketAddrV4::new(HOST, dht.local_address().port())
}

/// So many nodes that know each other.
async fn network(count: usize) -> Vec<Dht> {
    let mut nodes = vec![first()];
    while nodes.len() < count {
        let node = Dht::bind(DhtOptions::private(HOST, [address(&nodes[0])])).unwrap();
        let status = soon(node.until(|status| status.ready && status.id.is_some())).await;
        assert_eq!(status.id, Some(NodeId(node_id(address(&node)))));
        nodes.push(node);
    }
    nodes
}

/// A node that knows the network and is not kept by it.
async fn guest(nodes: &[Dht]) -> Dht {
    let options =
        DhtOptions { persistence: Persistence::Ephemeral, ..DhtOptions::private(HOST, [address(&nodes[0])]) };
    let guest = Dht::bind(options).unwrap();
    soon(guest.until(|status| status.ready)).await;
    guest
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_enter_a_network_and_store_and_find_things_in_it() {
    let nodes = network(8).await;
    let (a, b) = (guest(&nodes).await, guest(&nodes).await);
    let (topic, keys) = ([7; 32], KeyPair::from_seed(&[1; 32]));
    let relays = [address(&nodes[1])];
    soon(async {
        let outcome = a.announce(topic, &keys, &relays).outcome().await;
        assert_eq!((outcome.stored, outcome.refused), (8, 0));
        let (peers, outcome) = b.lookup(topic).peers().await;
        assert!(peers.iter().all(|peer| peer.public_key == keys.public() && peer.relay_addresses == relays));
        assert_eq!((peers.len(), outcome.answered), (8, 8));
        assert_eq!(a.mutable_put(&keys, 3, b"value").outcome().await.stored, 8);
        let found = b.mutable_get(keys.public(), 0).value().await.unwrap();
        assert_eq!((&found.value[..], found.seq), (&b"value"[..], 3));
        assert_eq!(a.immutable_put(b"fixed").outcome().await.stored, 8);
        let hash = crate::crypto::blake2b_256(&[b"fixed"]);
        assert_eq!(b.immutable_get(hash).value().await.unwrap().value, "fixed");
        assert_eq!(a.unannounce(topic, &keys).outcome().await.stored, 8);
        assert!(b.lookup(topic).peers().await.0.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_pings_and_a_stranger_that_is_not_there_does_not() {
    let nodes = network(2).await;
    let answer = soon(nodes[1].ping(address(&nodes[0]))).await.unwrap();
    assert_eq!(answer.id, Some(NodeId(node_id(address(&nodes[0])))));
    assert_eq!(answer.to, address(&nodes[1]));
    let nobody = SocketAddrV4::new(HOST, UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap().port());
    let plain = Plain { tries: 1, ..Plain::new(nobody, Command::PING) };
    assert_eq!(soon(nodes[1].request(plain)).await, Err(NoAnswer(nobody)));
}

#[tokio::test]
async fn streams_share_the_sockets_of_a_node() {
    let (a, b) = (first(), first());
    let left = a.client_socket().open(StreamOptions::default()).unwrap();
    let right = b.server_socket().open(StreamOptions::default()).unwrap();
    left.connect(right.id(), b.local_address()).unwrap();
    right.connect(left.id(), a.client_socket().local_address()).unwrap();
    soon(async {
        left.write_chunk("through".into()).await.unwrap();
        assert_eq!(right.read_chunk().await.unwrap().unwrap(), "through");
        assert!(b.ping(address(&a)).await.is_ok());
    })
    .await;
}

/// A datagram that asks for a ping.
fn ping(to: &Dht) -> Vec<u8> {
    let mut out = Writer::new();
    Request::new(7, address(to), Command::PING).encode(&mut out);
    out.as_slice().to_vec()
}

#[tokio::test]
async fn a_node_that_is_closed_answers_nobody_though_a_stream_keeps_its_socket() {
    let node = first();
    let (request, at) = (ping(&node), node.local_address());
    let stream = node.server_socket().open(StreamOptions::default()).unwrap();
    let stranger = tokio::net::UdpSocket::bind((HOST, 0)).await.unwrap();
    let mut buffer = [0; 100];
    stranger.send_to(&request, at).await.unwrap();
    soon(stranger.recv(&mut buffer)).await.unwrap();
    drop(node);
    stranger.send_to(&request, at).await.unwrap();
    // A stream hears what comes after it on the same socket.
    let other = UdxSocket::bind((HOST, 0).into(), BindOptions::default()).unwrap();
    let far = other.open(StreamOptions::default()).unwrap();
    far.connect(stream.id(), at).unwrap();
    far.write_chunk("later".into()).await.unwrap();
    assert_eq!(soon(stream.read_chunk()).await.unwrap().unwrap(), "later");
    assert!(stranger.try_recv(&mut buffer).is_err());
}

#[tokio::test]
async fn an_operation_that_nobody_waits_for_ends() {
    let node = first();
    let nobody = UdpSocket::bind((HOST, 0)).unwrap();
    let SocketAddr::V4(silent) = nobody.local_addr().unwrap() else { panic!("IPv4") };
    let operation = node.operation(|machine, now| machine.find_peer(now, [1; 32], &[silent]));
    drop(operation);
    let asking = node.ping(silent);
    drop(asking);
    let left = node.inner.instance.waiting(|waiting| waiting.len());
    assert_eq!(left, Some(0));
}

fn keys(seed: u8) -> Arc<KeyPair> {
    Arc::new(KeyPair::from_seed(&[seed; 32]))
}

/// A node that knows nobody's word for that it can be reached, as behind a NAT.
async fn firewalled(nodes: &[Dht]) -> Dht {
    let options = DhtOptions { host: HOST, ports: 0..0, ..DhtOptions::new([address(&nodes[0])]) };
    let node = Dht::bind(options).unwrap();
    soon(node.until(|status| status.ready)).await;
    node
}

/// Connects, and sends something there and back.
async fn exchange(dialler: &Dht, server: &mut Server) {
    let connecting = dialler.connect(&keys(1), server.public_key(), DialOptions::default());
    let (connected, accepted) = soon(async { tokio::join!(connecting, server.accept()) }).await;
    let (mut left, mut right) = (connected.unwrap(), accepted.unwrap());
    assert_eq!((left.remote(), right.remote()), (server.public_key(), keys(1).public()));
    assert!(left.is_initiator() && !right.is_initiator());
    left.send(b"there").await.unwrap();
    assert_eq!(soon(right.next()).await.unwrap().unwrap(), "there");
    right.send(b"and back").await.unwrap();
    assert_eq!(soon(left.next()).await.unwrap().unwrap(), "and back");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_connect_by_public_key() {
    let nodes = network(5).await;
    for (open_server, open_dialler) in [(true, true), (true, false), (false, true), (false, false)] {
        let one = if open_server { guest(&nodes).await } else { firewalled(&nodes).await };
        let other = if open_dialler { guest(&nodes).await } else { firewalled(&nodes).await };
        let mut server = one.serve((*keys(2)).clone(), ListenOptions::default()).unwrap();
        soon(server.listening()).await;
        for _ in 0..3 {
            let begun = Instant::now();
            exchange(&other, &mut server).await;
            let taken = begun.elapsed();
            println!(
                "open server {open_server}, open dialler {open_dialler}: measured {taken:?} to the first answer"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_found_under_a_key_that_nobody_listens_to() {
    let nodes = network(4).await;
    let guest = guest(&nodes).await;
    let connected = soon(guest.connect(&keys(1), keys(9).public(), DialOptions::default())).await;
    assert_eq!(connected.err(), Some(ConnectError::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_refuses_whom_it_does_not_admit() {
    let nodes = network(5).await;
    let (one, other) = (guest(&nodes).await, guest(&nodes).await);
    let admitted = keys(1).public();
    let admit = move |peer: &PublicKey, _| *peer == admitted;
    let mut server = one.serve_if((*keys(2)).clone(), ListenOptions::default(), admit).unwrap();
    soon(server.listening()).await;
    let refused = soon(other.connect(&keys(3), server.public_key(), DialOptions::default())).await;
    assert_eq!(refused.err(), Some(ConnectError::NoAnswer));
    exchange(&other, &mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_nobody_takes_are_few() {
    let nodes = network(5).await;
    let (one, other) = (guest(&nodes).await, guest(&nodes).await);
    let mut server = one.serve((*keys(2)).clone(), ListenOptions::default()).unwrap();
    soon(server.listening()).await;
    let mut kept = Vec::new();
    for _ in 0..MAX_UNTAKEN_CONNECTIONS {
        kept.push(soon(other.connect(&keys(1), server.public_key(), DialOptions::default())).await.unwrap());
    }
    let mut further = soon(other.connect(&keys(1), server.public_key(), DialOptions::default())).await;
    if let Ok(connection) = &mut further {
        assert!(soon(connection.next()).await.is_none_or(|message| message.is_err()), "reset");
    }
    for _ in 0..MAX_UNTAKEN_CONNECTIONS {
        assert!(soon(server.accept()).await.is_some());
    }
}

/// A swarm on a node of its own, and its first connection's message from there.
async fn swarm(nodes: &[Dht], seed: u8) -> Swarm {
    Swarm::start(firewalled(nodes).await, (*keys(seed)).clone(), crate::swarm::v4::Options::default())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_topic_meet_and_have_one_connection_each() {
    let nodes = network(5).await;
    let mut swarms = Vec::new();
    let mut joined = Vec::new();
    for seed in 10..15 {
        let swarm = swarm(&nodes, seed).await;
        joined.push(soon(swarm.join(Topic([5; 32]), Mode::BOTH)).await.unwrap());
        swarms.push(swarm);
    }
    let begun = Instant::now();
    let members: Vec<_> = swarms.iter().map(Swarm::public_key).collect();
    for swarm in &mut swarms {
        let mut met = std::collections::BTreeSet::new();
        let mut connections = Vec::new();
        while met.len() < members.len() - 1 {
            let mut connection = soon(swarm.next()).await.unwrap();
            assert!(members.contains(&connection.remote()) && connection.remote() != swarm.public_key());
            let _ = connection.send(b"hello").await;
            met.insert(connection.remote());
            connections.push(connection);
        }
        drop(connections);
    }
    println!("measured {:?} until five members have met", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_that_is_dropped_removes_its_announcements_though_somebody_holds_a_session() {
    let nodes = network(5).await;
    let (topic, looking) = (Topic([9; 32]), guest(&nodes).await);
    let dropped = swarm(&nodes, 22).await;
    let _joined = soon(dropped.join(topic, Mode { server: true, client: false })).await.unwrap();
    soon(dropped.flush()).await;
    assert!(!soon(looking.lookup(topic.0).peers()).await.0.is_empty());
    drop(dropped);
    soon(async { while !looking.lookup(topic.0).peers().await.0.is_empty() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_without_topics_can_connect_to_a_key_and_flushes_when_everybody_was_tried() {
    let nodes = network(5).await;
    let (mut one, mut other) = (swarm(&nodes, 20).await, swarm(&nodes, 21).await);
    let _joined = soon(one.join(Topic([6; 32]), Mode { server: true, client: false })).await.unwrap();
    soon(one.flush()).await;
    other.join_peer(one.public_key()).await;
    let mut connection = soon(other.next()).await.unwrap();
    assert!(connection.topics().is_empty() && connection.is_initiator());
    connection.send(b"hello").await.unwrap();
    let mut accepted = soon(one.next()).await.unwrap();
    assert_eq!(soon(accepted.next()).await.unwrap().unwrap(), "hello");
    soon(other.flush()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_whose_user_takes_no_connection_holds_no_more_than_its_limits() {
    let nodes = network(5).await;
    let options = crate::swarm::v4::Options { max_peers: usize::MAX, ..Default::default() };
    let mut idle = Swarm::start(guest(&nodes).await, (*keys(30)).clone(), options).unwrap();
    soon(idle.join(Topic([8; 32]), Mode::BOTH)).await.unwrap();
    let dialler = guest(&nodes).await;
    let idle_key = idle.public_key();
    let dial = |seed: u8| dialler.connect(&keys(seed), idle_key, DialOptions::default());
    // What the swarm holds, what its server holds, and one that is between them.
    let most = SWARM_UNTAKEN_CONNECTIONS + MAX_UNTAKEN_CONNECTIONS + 1;
    let mut kept = Vec::new();
    for seed in 40..40 + most as u8 + 20 {
        kept.extend(soon(dial(seed)).await.ok());
    }
    let mut taken = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_secs(2), idle.next()).await {
        taken += 1;
    }
    assert!((SWARM_UNTAKEN_CONNECTIONS..=most).contains(&taken), "{taken}");
}
