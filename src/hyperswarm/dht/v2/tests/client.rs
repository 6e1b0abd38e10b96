//! What a node asks, and what it believes of the answers.

use super::*;
use crate::codec::v2::{NodeRecord, PeersOutput, encode_address, encode_nodes};
use crate::limits::MAX_QUERIES;
use crate::limits::v2::MAX_PEERS_PER_ANSWER;
use rand::RngExt;

const TOPIC: Topic = Topic([7; 32]);

/// A node whose bootstrap is `addr(0)` and has answered that it knows nobody.
fn client() -> (Node, Instant) {
    let now = Instant::now();
    let mut node = Node::new(now, config(&[addr(0)], Ephemeral::Always), seed(1));
    let request = sent(&mut node).remove(0).1;
    node.handle_datagram(now, addr(0), &answer(&request).encode());
    assert!(node.poll_event().is_some_and(|e| matches!(e, Event::Ready)));
    (node, now)
}

fn sent(node: &mut Node) -> Vec<(SocketAddrV4, Message)> {
    std::iter::from_fn(|| node.poll_transmit())
        .map(|t| (t.to, Message::decode(&t.payload).expect("our own message")))
        .collect()
}

/// An answer of an ephemeral node that knows nothing.
fn answer(request: &Message) -> Message {
    Message { token: Some([8; 32]), to: Some(addr(77)), ..Message::new(Kind::Response, request.rid) }
}

fn peers_of(node: &mut Node) -> Vec<Peer> {
    std::iter::from_fn(|| node.poll_event())
        .filter_map(|e| if let Event::Peer(_, peer) = e { Some(peer) } else { None })
        .collect()
}

fn found_in(list: &[SocketAddrV4]) -> Vec<SocketAddrV4> {
    let (mut node, now) = client();
    node.lookup(now, TOPIC);
    let request = sent(&mut node).remove(0).1;
    let bytes: Vec<u8> = list.iter().flat_map(|a| encode_address(*a)).collect();
    let output = PeersOutput { peers: Some(bytes.into()), ..PeersOutput::default() };
    let message = Message { value: Some(output.encode()), ..answer(&request) };
    node.handle_datagram(now, addr(0), &message.encode());
    peers_of(&mut node).iter().map(|p| p.addr).collect()
}

#[test]
fn forged_answers_are_never_accepted() {
    let (mut node, now) = client();
    let query = node.lookup(now, TOPIC);
    let request = sent(&mut node).remove(0).1;
    let output =
        PeersOutput { peers: Some(Bytes::from_static(b"\x0a\0\0\x63\0\x05")), ..PeersOutput::default() };
    let (mut rng, mut accepted) = (StdRng::seed_from_u64(12), 0);
    for _ in 0..100_000 {
        // The forger knows the request id and the host, but not the port; or guesses all.
        let from = match rng.random_range(0..3) {
            0 => SocketAddrV4::new(*addr(0).ip(), rng.random()),
            1 => SocketAddrV4::new(rng.random::<u32>().into(), addr(0).port()),
            _ => SocketAddrV4::new(rng.random::<u32>().into(), rng.random()),
        };
        if from == addr(0) {
            continue;
        }
        let forged = Message { id: Some(rng.random()), value: Some(output.encode()), ..answer(&request) };
        node.handle_datagram(now, from, &forged.encode());
        accepted += std::iter::from_fn(|| node.poll_event()).count() + node.table_len();
    }
    println!("check 12: measured {accepted} of 100000 forged replies accepted, bar 0, seed 12");
    assert_eq!(accepted, 0);
    node.handle_datagram(now, addr(0), &answer(&request).encode());
    let done = |e: Event| matches!(e, Event::Done(id, Outcome { answered: 1, .. }) if id == query);
    assert!(node.poll_event().is_some_and(done), "the real answer still counts");
}

#[test]
fn a_duplicated_answer_counts_once() {
    let (mut node, now) = client();
    node.lookup(now, TOPIC);
    let request = sent(&mut node).remove(0).1;
    for _ in 0..3 {
        node.handle_datagram(now, addr(0), &answer(&request).encode());
    }
    assert_eq!(std::iter::from_fn(|| node.poll_event()).count(), 1);
}

#[test]
fn our_own_address_is_not_a_peer() {
    assert_eq!(found_in(&[addr(5), addr(77), addr(6)]), [addr(5), addr(6)]);
}

#[test]
fn impossible_peers_are_left_out() {
    let parse = |text: &str| text.parse().expect("an address");
    let list =
        [addr(5), parse("127.0.0.1:22"), parse("224.0.0.251:5353"), parse("255.255.255.255:9"), addr(6)];
    assert_eq!(found_in(&list), [addr(5), addr(6)]);
}

#[test]
fn at_most_82_peers_of_one_answer_are_taken() {
    let list = |n: usize| (1000..1000 + n).map(addr).collect::<Vec<_>>();
    assert_eq!(found_in(&list(MAX_PEERS_PER_ANSWER)).len(), MAX_PEERS_PER_ANSWER);
    assert_eq!(found_in(&list(MAX_PEERS_PER_ANSWER + 1)).len(), MAX_PEERS_PER_ANSWER);
}

#[test]
fn peers_with_lengths_are_peers_too() {
    let (mut node, now) = client();
    node.lookup(now, TOPIC);
    let request = sent(&mut node).remove(0).1;
    let list = [encode_address(addr(5)).as_slice(), &[0; 8]].concat();
    let output = PeersOutput { peers_with_length: Some(list.into()), ..PeersOutput::default() };
    let message = Message { value: Some(output.encode()), ..answer(&request) };
    node.handle_datagram(now, addr(0), &message.encode());
    assert_eq!(peers_of(&mut node)[0].addr, addr(5));
}

#[test]
fn only_20_sane_nodes_of_one_answer_are_asked() {
    let (mut node, now) = client();
    node.lookup(now, TOPIC);
    let request = sent(&mut node).remove(0).1;
    let mut records: Vec<NodeRecord> =
        (1..=30).map(|n| NodeRecord { id: [n; 32], addr: addr(n.into()) }).collect();
    records[0].addr = "127.0.0.1:22".parse().expect("an address");
    records[1].addr = "224.0.0.1:22".parse().expect("an address");
    records[2].addr = addr(77); // ourselves, as the answer says
    let message = Message { closer_nodes: Some(encode_nodes(&records)), ..answer(&request) };
    node.handle_datagram(now, addr(0), &message.encode());
    let mut asked = Vec::new();
    loop {
        let requests = sent(&mut node);
        if requests.is_empty() {
            break;
        }
        for (to, request) in requests {
            asked.push(to);
            node.handle_datagram(now, to, &answer(&request).encode());
        }
    }
    asked.sort();
    assert_eq!(asked, (4..=20).map(addr).collect::<Vec<_>>());
}

#[test]
fn a_node_that_now_has_another_id_is_forgotten() {
    let (mut node, now) = client();
    node.table.heard(NodeId([5; 32]), addr(5), None, 0, true);
    node.lookup(now, TOPIC);
    for (to, request) in sent(&mut node) {
        let id = (to == addr(5)).then_some([6; 32]);
        node.handle_datagram(now, to, &Message { id, ..answer(&request) }.encode());
    }
    assert!(node.table.find(&NodeId([5; 32])).is_none());
    assert!(node.table.find(&NodeId([6; 32])).is_some_and(|c| c.addr == addr(5)));
}

#[test]
fn what_others_say_about_an_id_does_not_remove_it() {
    let (mut node, now) = client();
    node.lookup(now, TOPIC);
    let request = sent(&mut node).remove(0).1;
    node.table.heard(NodeId([5; 32]), addr(5), None, 0, true);
    // The bootstrap says that id 5 is at addr(9), where somebody else answers.
    let closer_nodes = Some(encode_nodes(&[NodeRecord { id: [5; 32], addr: addr(9) }]));
    node.handle_datagram(now, addr(0), &Message { closer_nodes, ..answer(&request) }.encode());
    let (to, request) = sent(&mut node).remove(0);
    assert_eq!(to, addr(9));
    node.handle_datagram(now, to, &Message { id: Some([9; 32]), ..answer(&request) }.encode());
    assert!(node.table.find(&NodeId([5; 32])).is_some());
}

#[test]
fn a_node_that_times_out_in_a_query_is_forgotten() {
    let (mut node, now) = client();
    node.table.heard(NodeId([5; 32]), addr(5), None, 0, true);
    node.lookup(now, TOPIC);
    for n in 0..=10 {
        node.handle_timeout(now + n * Duration::from_millis(750));
    }
    assert_eq!(node.table_len(), 0);
    let failed = |e: Event| matches!(e, Event::Done(_, Outcome { answered: 0, updated: 0, failed: true }));
    assert!(node.poll_event().is_some_and(failed));
}

#[test]
fn queries_beyond_256_fail_at_once() {
    let (mut node, now) = client();
    for _ in 0..MAX_QUERIES {
        node.lookup(now, TOPIC);
    }
    assert!(node.poll_event().is_none());
    let query = node.lookup(now, TOPIC);
    assert!(node.poll_event().is_some_and(|e| matches!(e, Event::Done(id, o) if id == query && o.failed)));
    assert_eq!(node.operations.len(), MAX_QUERIES);
}

#[test]
fn peers_nobody_takes_are_dropped_beyond_4096_events_and_ends_are_not() {
    let (mut node, _) = client();
    let peer = Peer { addr: addr(1), referrer: addr(2), to: None };
    for _ in 0..MAX_DHT_EVENTS + 1 {
        node.emit(Event::Peer(QueryId(1), peer));
    }
    assert_eq!(node.events.len(), MAX_DHT_EVENTS);
    node.emit(Event::Done(QueryId(1), Outcome { answered: 0, updated: 0, failed: true }));
    assert_eq!(node.events.len(), MAX_DHT_EVENTS + 1);
}

#[test]
fn a_lookup_with_no_bootstrap_and_nobody_known_fails() {
    let now = Instant::now();
    let mut node = Node::new(now, config(&[], Ephemeral::Always), seed(1));
    let query = node.lookup(now, TOPIC);
    let failed = |e: &Event| matches!(e, Event::Done(id, o) if *id == query && o.failed);
    assert!(std::iter::from_fn(|| node.poll_event()).any(|e| failed(&e)));
}

/// The values a get believes when the bootstrap answers these bytes.
fn believed(get: impl FnOnce(&mut Node, Instant) -> QueryId, value: Bytes) -> Vec<Value> {
    let (mut node, now) = client();
    get(&mut node, now);
    let request = sent(&mut node).remove(0).1;
    node.handle_datagram(now, addr(0), &Message { value: Some(value), ..answer(&request) }.encode());
    std::iter::from_fn(|| node.poll_event())
        .filter_map(|e| if let Event::Value(_, value) = e { Some(value) } else { None })
        .collect()
}

#[test]
fn an_immutable_value_with_another_hash_is_not_believed() {
    let hash = crate::crypto::blake2b_256(&[b"value"]);
    let get =
        |value: &'static [u8]| believed(|node, now| node.immutable_get(now, hash), Bytes::from_static(value));
    assert_eq!(get(b"value").len(), 1);
    assert!(get(b"other").is_empty());
}

#[test]
fn a_mutable_value_with_a_wrong_signature_or_salt_or_age_is_not_believed() {
    let pair = KeyPair::from_seed(&[1; 32]);
    let get = |key_pair: &KeyPair, seq, salt: Option<&'static [u8]>| {
        let salt = salt.map(Bytes::from_static);
        let signed = What::put_mutable(key_pair, Bytes::from_static(b"value"), seq, salt).expect("short");
        let record = signed.request(true).1.expect("a record");
        believed(|node, now| node.mutable_get(now, pair.public(), None, 3), record)
    };
    assert_eq!(get(&pair, 3, None).len(), 1);
    assert!(get(&pair, 2, None).is_empty(), "older than asked for");
    assert!(get(&pair, 3, Some(b"salt")).is_empty(), "of another salt");
    assert!(get(&KeyPair::from_seed(&[2; 32]), 3, None).is_empty(), "of another key");
}

/// Where the node sends when `informant` has answered a lookup and named these nodes.
fn asks_after(bootstrap: SocketAddrV4, named: &[&str]) -> Vec<String> {
    let now = Instant::now();
    let mut node = Node::new(now, config(&[bootstrap, addr(0)], Ephemeral::Always), seed(1));
    let requests = sent(&mut node);
    let request = &requests.iter().find(|(to, _)| *to == bootstrap).expect("asked").1;
    let nodes: Vec<_> = named
        .iter()
        .enumerate()
        .map(|(n, text)| NodeRecord { id: [n as u8 + 1; 32], addr: text.parse().expect("an address") })
        .collect();
    let message = Message { closer_nodes: Some(encode_nodes(&nodes)), ..answer(request) };
    node.handle_datagram(now, bootstrap, &message.encode());
    sent(&mut node).iter().map(|(to, _)| to.to_string()).collect()
}

#[test]
fn a_bootstrap_node_outside_may_name_nodes_of_our_private_network() {
    let outside = "203.0.113.9:49737".parse().expect("an address");
    let named = ["192.168.1.7:4000", "127.0.0.1:22", "169.254.169.254:80", "198.51.100.7:4000"];
    let mut asked = asks_after(outside, &named);
    asked.sort();
    assert_eq!(asked, ["192.168.1.7:4000", "198.51.100.7:4000"]);
}

#[test]
fn another_node_outside_may_not_name_nodes_of_our_private_network() {
    let (outside, inside) = ("203.0.113.9:5", "192.168.1.7:53");
    let parse = |text: &str| text.parse::<SocketAddrV4>().expect("an address");
    assert!(!may_name(&[], parse(outside), parse(inside)));
    assert!(may_name(&[], parse("192.168.1.9:5"), parse(inside)));
    let bootstrap = [Bootstrap { addr: parse("203.0.113.10:5"), named: false }];
    assert!(!may_name(&bootstrap, parse(outside), parse(inside)));
}
