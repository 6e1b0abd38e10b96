//! Whole networks: who becomes what, and who finds whom.

use super::*;

fn delayed(milliseconds: u64) -> Link {
    Link { delay: Duration::from_millis(milliseconds), ..Link::PERFECT }
}

#[test]
fn nodes_of_an_open_network_become_persistent_and_know_each_other() {
    let network = network(30, 1, delayed(10));
    for n in 0..30 {
        let node = node(&network, addr(n));
        assert_eq!(node.id(), Some(NodeId(node_id(addr(n)))), "node {n}");
        assert_eq!(node.remote_address(), Some(addr(n)), "node {n}");
        assert!(node.known().count() >= 20, "node {n} knows {}", node.known().count());
    }
}

#[test]
fn a_node_behind_a_nat_or_firewall_stays_firewalled_and_ephemeral_and_finds_the_others() {
    for (seed, nat) in [(1, Nat::Consistent), (2, Nat::Random), (3, Nat::Firewall)] {
        let mut network = network(25, seed, delayed(10));
        let inside = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 49_737);
        let own = if nat == Nat::Firewall { addr(99) } else { inside };
        let id = network.add_nat(Ipv4Addr::new(12, 0, 0, 1), nat);
        network.put_behind(*own.ip(), id);
        add(&mut network, own, config(&[addr(0)], Persistence::Adaptive), 77);
        network.run(30 * MINUTE);
        let node = node(&network, own);
        assert!(node.is_firewalled() && node.id().is_none() && node.remote_address().is_none(), "{nat:?}");
        assert!(node.known().count() >= 20, "{nat:?}");
        match nat {
            Nat::Random => assert_eq!(node.seen(), Seen::Randomized(Ipv4Addr::new(12, 0, 0, 1))),
            Nat::Consistent => assert_eq!(node.seen().host(), Some(Ipv4Addr::new(12, 0, 0, 1))),
            Nat::Firewall => assert_eq!(node.seen().host(), Some(*own.ip())),
        }
        let everybody = network.addresses();
        let knows = |at: &SocketAddrV4| super::node(&network, *at).known().any(|other| other == own);
        assert!(!everybody.iter().any(knows), "nobody keeps an ephemeral node");
    }
}

#[test]
fn an_open_adaptive_node_is_not_firewalled_at_once_and_persistent_after_twenty_minutes() {
    let mut network = network(25, 4, delayed(10));
    add(&mut network, addr(50), config(&[addr(0)], Persistence::Adaptive), 50);
    network.run(5 * SECOND);
    assert!(!node(&network, addr(50)).is_firewalled());
    assert_eq!(node(&network, addr(50)).remote_address(), Some(addr(50)));
    assert_eq!(node(&network, addr(50)).id(), None);
    network.run(19 * MINUTE);
    assert_eq!(node(&network, addr(50)).id(), None);
    network.run(2 * MINUTE);
    assert_eq!(node(&network, addr(50)).id(), Some(NodeId(node_id(addr(50)))));
    let persistent = Event::Persistent(NodeId(node_id(addr(50))));
    assert!(events(&mut network, addr(50)).contains(&persistent));
}

#[test]
fn a_query_finds_the_twenty_nodes_closest_to_its_target() {
    for seed in 0..5 {
        let mut network = network(100, seed, delayed(10));
        let target = [seed as u8 + 1; 32];
        let query = network.with(addr(7), |host, now| host.node.query(now, target, Command::FIND_NODE, None));
        let (answers, outcome) = finish(&mut network, addr(7), query.expect("a machine"));
        let mut all: Vec<NodeId> = (0..100).filter(|n| *n != 7).map(|n| NodeId(node_id(addr(n)))).collect();
        all.sort_by_key(|id| id.distance(&target));
        let found: Vec<NodeId> = outcome.closest.iter().map(|closest| closest.id).collect();
        assert_eq!(found, all[..20], "seed {seed}");
        assert_eq!(answers.len(), outcome.answered, "seed {seed}");
        println!("seed {seed}: {} answers among 100 nodes", outcome.answered);
        assert!(outcome.answered < 60, "seed {seed}: {}", outcome.answered);
    }
}

#[test]
fn a_node_that_knows_others_from_before_needs_no_bootstrap_node() {
    let mut network = network(30, 6, delayed(10));
    let known: Vec<SocketAddrV4> = node(&network, addr(3)).known().take(5).collect();
    network.remove(addr(0));
    let nodes = known.into_iter().filter(|known| *known != addr(0)).collect();
    add(&mut network, addr(60), Config { nodes, ..config(&[], Persistence::Adaptive) }, 60);
    network.run(10 * SECOND);
    assert!(node(&network, addr(60)).known().count() >= 20);
    assert!(events(&mut network, addr(60)).contains(&Event::Ready));
}

#[test]
fn nodes_that_are_gone_leave_every_table_within_ten_minutes() {
    let mut network = network(40, 7, delayed(10));
    (20..40).for_each(|n| drop(network.remove(addr(n))));
    network.run(10 * MINUTE);
    for n in 0..20 {
        let gone =
            node(&network, addr(n)).known().filter(|known| (20..40).any(|m| addr(m) == *known)).count();
        assert!(gone <= 2, "node {n} still knows {gone}");
    }
}

#[test]
fn the_same_seed_gives_the_same_traffic() {
    let run = || {
        let mut network = network(20, 8, Link { loss: 0.05, ..delayed(20) });
        network.record();
        network.run(2 * MINUTE);
        network.trace().to_vec()
    };
    let (one, other) = (run(), run());
    assert!(one.len() > 100 && one == other, "{} and {} datagrams", one.len(), other.len());
}

#[test]
fn a_node_that_wants_to_be_persistent_and_was_there_before_its_network_tries_again() {
    let mut network: Network<Host> = Network::new(Instant::now(), 9, delayed(10));
    add(&mut network, addr(5), config(&[addr(0)], Persistence::Persistent), 5);
    network.run(20 * SECOND);
    let first = Config { public: Some(addr(0)), ..config(&[], Persistence::Persistent) };
    add(&mut network, addr(0), first, 0);
    for n in 1..5 {
        add(&mut network, addr(n), config(&[addr(0)], Persistence::Persistent), n as u64);
    }
    network.run(10 * MINUTE);
    assert_eq!(node(&network, addr(5)).id(), Some(NodeId(node_id(addr(5)))));
}
