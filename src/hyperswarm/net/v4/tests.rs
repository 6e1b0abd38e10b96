//! Nodes on loopback. What needs lost packets, NATs or time is tested on the machine, in virtual time.

use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, Request};
use crate::crypto::v4::node_id;
use crate::dht::hyperdht::Plain;
use crate::dht::id::NodeId;
use crate::limits::v4::{MAX_WAITING_PROBES, PROBE_QUEUE};
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
async fn a_request_leaves_from_the_socket_it_names_and_the_answer_is_heard_there() {
    let node = first();
    let extra = node.open_socket().unwrap();
    let other = first();
    let plain = Plain { via: Some(extra.via()), ..Plain::new(address(&other), Command::PING) };
    let answer = soon(node.request(plain)).await.unwrap();
    assert_eq!(SocketAddr::V4(answer.to), extra.socket().local_address());
    // Its number is free again once its task has ended.
    let via = extra.via();
    drop(extra);
    soon(async {
        while node.open_socket().unwrap().via() != via {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn streams_share_the_sockets_of_a_node() {
    let (a, b) = (first(), first());
    let extra = a.open_socket().unwrap();
    let left = extra.socket().open(StreamOptions::default()).unwrap();
    let right = b.server_socket().open(StreamOptions::default()).unwrap();
    left.connect(right.id(), b.local_address()).unwrap();
    right.connect(left.id(), extra.socket().local_address()).unwrap();
    soon(async {
        left.write_chunk("through".into()).await.unwrap();
        assert_eq!(right.read_chunk().await.unwrap().unwrap(), "through");
        assert!(b.ping(address(&a)).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn probes_reach_their_listener_and_nobody_elses() {
    let (a, b) = (first(), first());
    let extra = b.open_socket().unwrap();
    let (mut at_server, mut at_extra) =
        (b.probes().listen(b.server_socket()), b.probes().listen(extra.socket()));
    let SocketAddr::V4(there) = extra.socket().local_address() else { panic!("IPv4") };
    a.probes().send(a.client_socket(), address(&b), Probe::Near);
    a.probes().send(a.client_socket(), there, Probe::Far);
    let sender = soon(async { (at_server.recv().await, at_extra.recv().await) }).await;
    let SocketAddr::V4(from) = a.client_socket().local_address() else { panic!("IPv4") };
    assert_eq!(sender, (Some(from), Some(from)));
    let stranger = UdpSocket::bind((HOST, 0)).unwrap();
    stranger.send_to(b"", there).unwrap();
    assert_eq!(
        soon(at_extra.recv()).await.map(SocketAddr::V4),
        stranger.local_addr().ok(),
        "empty ones, too"
    );
    assert!(at_server.try_recv().is_err());
}

#[tokio::test]
async fn probes_that_nobody_takes_are_counted_in_both_directions() {
    let node = first();
    let probes = node.probes();
    let mut heard = probes.listen(node.server_socket());
    let stranger = UdpSocket::bind((HOST, 0)).unwrap();
    let SocketAddr::V4(own) = stranger.local_addr().unwrap() else { panic!("IPv4") };
    for _ in 0..=PROBE_QUEUE {
        stranger.send_to(&[0], node.local_address()).unwrap();
    }
    stranger.send_to(b"after it all", node.local_address()).unwrap();
    // The answer comes after what came before the question.
    assert!(soon(node.ping(address(&node))).await.is_ok());
    assert_eq!(std::iter::from_fn(|| heard.try_recv().ok()).count(), PROBE_QUEUE);
    // A socket of which the runtime has yet to notice that it takes datagrams sends nothing.
    let extra = node.open_socket().unwrap();
    for _ in 0..=MAX_WAITING_PROBES {
        probes.send(extra.socket(), own, Probe::Far);
    }
    assert_eq!(probes.waiting(extra.socket()), MAX_WAITING_PROBES);
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
