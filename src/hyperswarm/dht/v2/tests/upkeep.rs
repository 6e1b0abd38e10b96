//! The table kept alive, rooms made, votes counted, and the change to persistent.

use super::*;
use crate::codec::v2::encode_address;
use crate::limits::{MAX_BUCKET_NODES, MAX_BUCKET_PINGS, MAX_REQUESTS};

const MINUTE: Duration = Duration::from_secs(60);

/// Lets a node alone for some time, waking it only when it asks; what it sent, with the time since `start`.
fn alone(node: &mut Node, start: Instant, until: Duration) -> Vec<(Duration, SocketAddrV4, Message)> {
    let (mut now, mut sent) = (start, Vec::new());
    loop {
        while let Some(t) = node.poll_transmit() {
            sent.push((now - start, t.to, Message::decode(&t.payload).expect("our own message")));
        }
        match node.poll_timeout() {
            Some(at) if at <= start + until => {
                now = now.max(at);
                node.handle_timeout(now);
            }
            _ => return sent,
        }
    }
}

fn commands(sent: &[(Duration, SocketAddrV4, Message)], command: &str) -> Vec<Duration> {
    sent.iter().filter(|(_, _, m)| m.command.as_deref() == Some(command)).map(|s| s.0).collect()
}

fn node_id(n: u8) -> NodeId {
    NodeId([n; 32])
}

#[test]
fn a_node_with_nothing_to_keep_never_wakes() {
    let now = Instant::now();
    let mut node = Node::new(now, config(&[], Ephemeral::Never), seed(1));
    assert_eq!(node.poll_timeout(), None);
    assert!(node.poll_event().is_some_and(|e| matches!(e, Event::Ready)));
}

#[test]
fn an_idle_network_wakes_a_node_only_every_40_s() {
    let mut network = network(5, 1, Link::GOOD);
    let start = network.now();
    network.record();
    let mut steps = 0;
    while network.step(start + 4 * MINUTE) {
        steps += 1;
    }
    // Per node and round: one wake-up, at most 4 pings out, 4 in, and their answers.
    assert!(steps <= 5 * 6 * 17, "{steps} steps");
    assert!(network.trace().len() <= 5 * 6 * 8, "{} datagrams", network.trace().len());
}

#[test]
fn every_40_s_the_five_longest_silent_nodes_are_pinged_by_their_ids() {
    let start = Instant::now();
    let mut node = Node::new(start, config(&[], Ephemeral::Never), seed(1));
    for n in 1..=9 {
        node.table.heard(node_id(n), addr(n.into()), None, 0, true);
    }
    let sent = alone(&mut node, start, Duration::from_secs(41));
    let pinged: Vec<_> = sent.iter().map(|(at, to, m)| (at.as_secs(), *to, m.value.clone())).collect();
    let expected: Vec<_> =
        (1..=5).map(|n| (40, addr(n.into()), Some(Bytes::copy_from_slice(&[n; 32])))).collect();
    assert_eq!(pinged, expected);
}

#[test]
fn nodes_that_answer_no_ping_are_forgotten() {
    let start = Instant::now();
    let mut node = Node::new(start, config(&[], Ephemeral::Never), seed(1));
    for n in 1..=9 {
        node.table.heard(node_id(n), addr(n.into()), None, 0, true);
    }
    alone(&mut node, start, Duration::from_secs(50));
    assert_eq!(node.table_len(), 4);
    alone(&mut node, start, Duration::from_secs(90));
    assert_eq!(node.table_len(), 0);
    assert_eq!(node.poll_timeout(), None, "nothing is left to keep");
}

#[test]
fn nodes_heard_in_the_same_five_seconds_are_not_pinged() {
    let start = Instant::now();
    let mut node = Node::new(start, config(&[], Ephemeral::Never), seed(1));
    node.table.heard(node_id(1), addr(1), None, 8, true);
    assert!(alone(&mut node, start, Duration::from_secs(41)).is_empty());
    assert_eq!(alone(&mut node, start, Duration::from_secs(81)).len(), 1);
}

#[test]
fn with_an_empty_table_bootstrap_is_tried_every_40_s() {
    let start = Instant::now();
    let mut node = Node::new(start, config(&[addr(9)], Ephemeral::Adaptive), seed(1));
    let sent = alone(&mut node, start, Duration::from_secs(85));
    let seconds: Vec<u64> = commands(&sent, "_find_node").iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 2, 4, 40, 42, 44, 80, 81, 84]);
    assert!(sent.iter().all(|(_, to, m)| *to == addr(9) && m.id.is_none() && m.to == Some(addr(9))));
}

#[test]
fn ready_comes_even_if_nobody_answers() {
    let start = Instant::now();
    let mut node = Node::new(start, config(&[addr(9)], Ephemeral::Adaptive), seed(1));
    alone(&mut node, start, Duration::from_millis(7499));
    assert!(node.poll_event().is_none());
    alone(&mut node, start, Duration::from_millis(7500));
    assert!(node.poll_event().is_some_and(|e| matches!(e, Event::Ready)));
    alone(&mut node, start, 5 * MINUTE);
    assert!(node.poll_event().is_none(), "only once");
}

#[test]
fn a_small_table_bootstraps_again_after_320_s() {
    let mut network = network(5, 1, Link::GOOD);
    network.record();
    network.run(Duration::from_secs(300));
    let find_nodes = |network: &Network<Node>| {
        let is = |t: &&crate::testkit::Traced| {
            t.from == addr(2)
                && Message::decode(&t.payload).is_ok_and(|m| m.command.as_deref() == Some("_find_node"))
        };
        network.trace().iter().filter(is).count()
    };
    assert_eq!(find_nodes(&network), 0);
    network.run(Duration::from_secs(21));
    assert!(find_nodes(&network) >= 4);
}

#[test]
fn later_bootstrap_addresses_are_used_at_once_while_nobody_is_known() {
    let now = Instant::now();
    let mut node = Node::new(now, config(&[], Ephemeral::Adaptive), seed(1));
    assert_eq!(node.poll_transmit(), None);
    let later = vec![Bootstrap { addr: addr(5), named: true }];
    node.set_bootstrap(now, later.clone());
    let sent = alone(&mut node, now, Duration::ZERO);
    assert_eq!((sent.len(), sent[0].1, sent[0].2.to), (1, addr(5), None), "named: without `to`");
    node.set_bootstrap(now, later);
    assert_eq!(node.poll_transmit(), None, "nothing new");
}

/// Ids that share exactly `shared` leading bits with the node's own.
fn sharing(node: &Node, shared: usize, n: u8) -> NodeId {
    let mut id = node.id().0;
    id[shared / 8] ^= 0x80 >> (shared % 8);
    id[30] ^= n;
    NodeId(id)
}

/// A node whose buckets for 0 to `buckets` shared bits are full, and ids for which there is no room.
fn crowded(buckets: usize) -> (Node, Instant, Vec<NodeId>) {
    let start = Instant::now();
    let mut node = Node::new(start, config(&[], Ephemeral::Never), seed(1));
    for shared in 0..=buckets {
        for n in 0..MAX_BUCKET_NODES as u8 {
            let id = sharing(&node, shared, n + 1);
            node.table.heard(id, addr(shared * 100 + n as usize), None, 0, true);
        }
    }
    assert_eq!(node.table_len(), (buckets + 1) * MAX_BUCKET_NODES);
    let newcomers = (0..buckets).map(|shared| sharing(&node, shared, 99)).collect();
    (node, start, newcomers)
}

fn knock(node: &mut Node, now: Instant, id: NodeId, from: SocketAddrV4) {
    let ping = Message { id: Some(id.0), command: Some("_ping".into()), ..Message::new(Kind::Query, 1) };
    node.handle_datagram(now, from, &ping.encode());
}

fn pings(node: &mut Node) -> Vec<(SocketAddrV4, Message)> {
    std::iter::from_fn(|| node.poll_transmit())
        .map(|t| (t.to, Message::decode(&t.payload).expect("our own message")))
        .filter(|(_, m)| m.command.as_deref() == Some("_ping"))
        .collect()
}

#[test]
fn a_newcomer_takes_the_place_of_the_first_silent_node_of_a_full_bucket() {
    let (mut node, start, newcomers) = crowded(1);
    let now = start + Duration::from_secs(6);
    knock(&mut node, now, newcomers[0], addr(5000));
    assert!(node.table.find(&newcomers[0]).is_none());
    let sent = alone(&mut node, now, Duration::from_secs(8));
    let pinged: Vec<SocketAddrV4> = sent.iter().filter(|s| s.2.command.is_some()).map(|s| s.1).collect();
    assert_eq!(pinged, [addr(0), addr(0), addr(0)], "the longest unheard, three tries");
    assert!(node.table.find(&newcomers[0]).is_some());
    assert!(node.table.find(&sharing(&node, 0, 1)).is_none());
}

#[test]
fn a_newcomer_is_discarded_if_the_three_longest_unheard_answer() {
    let (mut node, start, newcomers) = crowded(1);
    let now = start + Duration::from_secs(6);
    knock(&mut node, now, newcomers[0], addr(5000));
    for n in 0..3 {
        let sent = pings(&mut node);
        assert_eq!((sent.len(), sent[0].0), (1, addr(n)), "one after the other");
        let pong = Message {
            id: Some(sharing(&node, 0, n as u8 + 1).0),
            to: Some(addr(9)),
            ..Message::new(Kind::Response, sent[0].1.rid)
        };
        node.handle_datagram(now, addr(n), &pong.encode());
    }
    assert!(pings(&mut node).is_empty());
    assert!(node.table.find(&newcomers[0]).is_none() && node.upkeep.bucket_pings.is_empty());
}

#[test]
fn nodes_of_a_full_bucket_heard_just_now_are_not_pinged() {
    let (mut node, start, newcomers) = crowded(1);
    knock(&mut node, start + Duration::from_secs(4), newcomers[0], addr(5000));
    assert!(pings(&mut node).is_empty());
}

#[test]
fn a_full_bucket_has_one_ping_at_a_time() {
    let (mut node, start, newcomers) = crowded(1);
    let now = start + Duration::from_secs(6);
    knock(&mut node, now, newcomers[0], addr(5000));
    let second = sharing(&node, 0, 98);
    knock(&mut node, now, second, addr(5001));
    assert_eq!(pings(&mut node).len(), 1);
}

#[test]
fn at_most_16_full_buckets_are_pinged_at_the_same_time() {
    let (mut node, start, newcomers) = crowded(MAX_BUCKET_PINGS + 1);
    let now = start + Duration::from_secs(6);
    for (n, newcomer) in newcomers.iter().enumerate() {
        knock(&mut node, now, *newcomer, addr(5000 + n));
        assert_eq!(node.upkeep.bucket_pings.len(), (n + 1).min(MAX_BUCKET_PINGS));
    }
    assert_eq!(pings(&mut node).len(), MAX_BUCKET_PINGS);
}

#[test]
fn a_node_that_could_not_be_pinged_keeps_its_place() {
    let (mut node, start, newcomers) = crowded(1);
    let now = start + Duration::from_secs(39);
    for _ in 0..MAX_REQUESTS {
        node.ping(now, addr(9000));
    }
    knock(&mut node, now, newcomers[0], addr(5000));
    assert!(node.table.find(&newcomers[0]).is_none() && node.upkeep.bucket_pings.is_empty());
    node.handle_timeout(start + Duration::from_secs(40));
    assert_eq!(node.table_len(), 2 * MAX_BUCKET_NODES);
}

#[test]
fn no_room_is_made_before_the_first_bootstrap_has_ended() {
    let (mut node, start, newcomers) = crowded(1);
    node.upkeep.ready = false;
    knock(&mut node, start + Duration::from_secs(6), newcomers[0], addr(5000));
    assert!(pings(&mut node).is_empty());
}

fn voters(votes: &[&str]) -> Node {
    let mut node = Node::new(Instant::now(), config(&[], Ephemeral::Adaptive), seed(1));
    for (n, vote) in votes.iter().enumerate() {
        let to = Some(vote.parse().expect("an address"));
        node.table.heard(node_id(n as u8 + 1), addr(n + 1), to, 0, true);
    }
    node
}

#[test]
fn our_address_is_what_three_nodes_see_and_fewer_than_three_deny() {
    let (us, other) = ("203.0.113.9:5", "198.51.100.7:5");
    let own = |votes: &[&str]| voters(votes).own_address().map(|a| a.to_string());
    assert_eq!(own(&[us, us]), None);
    assert_eq!(own(&[us, us, us]).as_deref(), Some(us));
    assert_eq!(own(&[us, us, us, other, other]).as_deref(), Some(us));
    assert_eq!(own(&[us, us, us, other, other, other]), None);
}

#[test]
fn with_a_new_port_for_every_node_only_our_host_is_known() {
    let node = voters(&["203.0.113.9:5", "203.0.113.9:6", "203.0.113.9:7"]);
    assert_eq!(node.own_address().map(|a| a.to_string()).as_deref(), Some("203.0.113.9:0"));
}

#[test]
fn only_the_ten_latest_nodes_vote() {
    let mut votes = vec!["198.51.100.7:5"; 30];
    votes.extend(["203.0.113.9:5"; 8]);
    assert_eq!(voters(&votes).own_address().map(|a| a.to_string()).as_deref(), Some("203.0.113.9:5"));
}

/// An adaptive node in a network that sees it at one address, or at a different port each.
fn adaptive(consistent: bool) -> (Network<Node>, SocketAddrV4) {
    let mut network = network(8, 1, Link::GOOD);
    let at = addr(50);
    network.add(at, Node::new(network.now(), config(&[addr(0)], Ephemeral::Adaptive), seed(50)));
    network.run(MINUTE);
    if !consistent {
        // What the others answer is as if a NAT gave every destination another port.
        network.with(at, |node, _| {
            let contacts: Vec<_> = node.table.oldest_first().copied().collect();
            for (n, c) in contacts.iter().enumerate() {
                let to = Some(SocketAddrV4::new(*at.ip(), 100 + n as u16));
                node.table.heard(c.id, c.addr, to, c.pinged, true);
            }
        });
    }
    (network, at)
}

#[test]
fn an_adaptive_node_shows_its_id_after_20_to_30_minutes_if_all_see_one_address() {
    let (mut network, at) = adaptive(true);
    network.run(18 * MINUTE);
    assert!(!network.machine(at).expect("there").is_persistent());
    assert!(network.machine(addr(3)).expect("there").table_len() == 7);
    network.run(12 * MINUTE);
    assert!(network.machine(at).expect("there").is_persistent());
    assert!(network.machine(addr(3)).expect("there").table_len() == 8, "others keep it now");
}

#[test]
fn an_adaptive_node_seen_at_many_ports_waits_again() {
    let start = Instant::now();
    let mut node = Node::new(start, config(&[], Ephemeral::Adaptive), seed(1));
    let first = node.poll_timeout().expect("the wait");
    assert!((20 * MINUTE..=30 * MINUTE).contains(&(first - start)));
    node.handle_timeout(first);
    let second = node.poll_timeout().expect("another wait");
    assert!(!node.is_persistent() && (20 * MINUTE..=30 * MINUTE).contains(&(second - first)));
    let (network, at) = adaptive(false);
    assert_eq!(network.machine(at).and_then(Node::own_address), Some(SocketAddrV4::new(*at.ip(), 0)));
}

#[test]
fn after_the_machine_slept_the_wait_starts_again() {
    let mut node = voters(&["203.0.113.9:5"; 5]);
    let at = node.upkeep.adaptive_at.expect("the wait");
    let woke = at + Duration::from_secs(61);
    node.handle_timeout(woke);
    assert!(!node.is_persistent());
    let again = node.upkeep.adaptive_at.expect("another wait");
    assert!(again >= woke + 20 * MINUTE);
    // In the meantime the five were pinged and are gone; let them be heard again.
    for n in 1..=5 {
        node.table.heard(
            node_id(n),
            addr(n.into()),
            Some("203.0.113.9:5".parse().expect("an address")),
            0,
            true,
        );
    }
    node.handle_timeout(again + Duration::from_secs(59));
    assert!(node.is_persistent());
}

#[test]
fn own_address_votes_come_from_answers_to_our_requests_only() {
    let now = Instant::now();
    let mut node = Node::new(now, config(&[], Ephemeral::Adaptive), seed(1));
    for n in 1..=10 {
        let ping = Message {
            id: Some([n; 32]),
            to: Some(addr(66)),
            value: Some(Bytes::copy_from_slice(&encode_address(addr(66)))),
            command: Some("_ping".into()),
            ..Message::new(Kind::Query, 1)
        };
        node.handle_datagram(now, addr(n.into()), &ping.encode());
    }
    assert_eq!((node.table_len(), node.own_address()), (10, None));
}
