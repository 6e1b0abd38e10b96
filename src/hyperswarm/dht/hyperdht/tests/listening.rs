//! Servers of our own, announced whatever happens to the network.

use super::*;
use crate::codec::v4::{Handshake, Mode};
use crate::testkit::Nat;

/// A server at `addr(3)` of a network, which listens.
fn listening(count: usize, network_seed: u64) -> (Network<Host>, Target) {
    let mut network = network(count, network_seed, delayed(10));
    let target = listen(&mut network, addr(3));
    network.run(5 * SECOND);
    (network, target)
}

fn listen(network: &mut Network<Host>, at: SocketAddrV4) -> Target {
    network.with(at, |host, now| host.dht.listen(now, keys(1))).expect("a machine").expect("not yet")
}

fn relays(network: &Network<Host>, at: SocketAddrV4, target: Target) -> Vec<SocketAddrV4> {
    dht(network, at).relays(&target).iter().map(|relay| relay.relay_address).collect()
}

/// Where a node passes handshakes for the target on to.
fn forward(network: &Network<Host>, at: SocketAddrV4, target: Target) -> Option<SocketAddrV4> {
    dht(network, at).forward(&target)
}

/// Runs until this is true; the time it took, at most `most`.
fn until(
    network: &mut Network<Host>,
    most: Duration,
    mut is_so: impl FnMut(&mut Network<Host>) -> bool,
) -> Duration {
    let start = network.now();
    while !is_so(network) && network.now() < start + most {
        network.run(Duration::from_millis(100));
    }
    network.now() - start
}

/// Requests of a command that were sent from the host of `from` since recording began.
fn count_sent(network: &Network<Host>, from: SocketAddrV4, command: Command) -> usize {
    let is_one =
        |payload: &[u8]| matches!(Packet::decode(payload), Ok(Packet::Request(r)) if r.command == command);
    let sent = network.trace().iter().filter(|sent| sent.from.ip() == from.ip());
    sent.filter(|sent| is_one(&sent.payload)).count()
}

#[test]
fn a_server_is_announced_at_the_three_nodes_closest_to_its_key() {
    let (mut network, target) = listening(40, 1);
    let mut closest: Vec<usize> = (0..40).filter(|n| *n != 3).collect();
    closest.sort_by_key(|n| NodeId(node_id(addr(*n))).distance(&target));
    let mut expected: Vec<SocketAddrV4> = closest[..3].iter().map(|n| addr(*n)).collect();
    expected.sort_unstable();
    let info = dht(&network, addr(3)).relays(&target);
    let mut found = relays(&network, addr(3), target);
    found.sort_unstable();
    assert_eq!(found, expected);
    for relay in info {
        assert_eq!(relay.peer_address, addr(3), "an open server is asked from its own socket");
        assert_eq!(forward(&network, relay.relay_address, target), Some(addr(3)));
    }
    let events = events(&mut network, addr(3));
    assert_eq!(events.iter().filter(|event| **event == Event::Listening(target)).count(), 1);
    let addresses = dht(&network, addr(3)).relay_addresses(&target);
    assert_eq!((addresses.len(), addresses[0]), (3, addr(3)), "its own address first");
}

#[test]
fn a_key_can_listen_once_and_again_after_it_has_ended() {
    let (mut network, target) = listening(20, 2);
    let again = network.with(addr(3), |host, now| host.dht.listen(now, keys(1)));
    assert_eq!(again, Some(Err(ListenError::AlreadyListening)));
    let before = relays(&network, addr(3), target);
    network.with(addr(3), |host, now| host.dht.unlisten(now, target));
    network.run(SECOND);
    assert!(events(&mut network, addr(3)).contains(&Event::Unlistened(target)));
    assert!(before.iter().all(|relay| forward(&network, *relay, target).is_none()));
    assert_eq!(dht(&network, addr(3)).relays(&target), []);
    assert!(
        network.with(addr(3), |host, now| host.dht.listen(now, keys(1))).is_some_and(|done| done.is_ok())
    );
    network.run(5 * SECOND);
    assert_eq!(relays(&network, addr(3), target).len(), 3);
}

#[test]
fn a_server_that_ends_during_its_first_cycle_leaves_nothing_behind() {
    for milliseconds in [0, 15, 25, 35, 45, 55, 65, 75, 85, 95] {
        let mut network = network(20, 3, delayed(10));
        let target = listen(&mut network, addr(3));
        network.run(Duration::from_millis(milliseconds));
        network.with(addr(3), |host, now| host.dht.unlisten(now, target));
        network.run(10 * SECOND);
        let all = network.addresses();
        let left = all.iter().filter(|at| forward(&network, **at, target).is_some()).count();
        assert_eq!(left, 0, "after {milliseconds} ms");
        let events = events(&mut network, addr(3));
        assert!(events.contains(&Event::Unlistened(target)), "after {milliseconds} ms");
        let server = dht(&network, addr(3));
        assert!(server.tasks.is_empty() && server.walks.is_empty() && server.listeners.is_empty());
    }
}

#[test]
fn one_relay_is_pinged_every_five_seconds_and_a_cycle_comes_after_five_minutes() {
    let (mut network, target) = listening(25, 4);
    let (relays, start) = (relays(&network, addr(3), target), network.elapsed());
    network.record();
    network.run(4 * MINUTE);
    let is_ping = |payload: &[u8]| matches!(Packet::decode(payload), Ok(Packet::Request(r)) if r.command == Command::PING);
    let pings: Vec<_> = network
        .trace()
        .iter()
        .filter(|sent| sent.from == addr(3) && relays.contains(&sent.to) && is_ping(&sent.payload))
        .collect();
    // The table's upkeep may ping them too.
    assert!((48..=60).contains(&pings.len()), "{} pings in four minutes", pings.len());
    for relay in &relays {
        let mut last = start;
        for ping in pings.iter().filter(|ping| ping.to == *relay) {
            assert!(ping.at - last <= 15 * SECOND, "a mapping of a NAT must not end");
            last = ping.at;
        }
    }
    assert_eq!(count_sent(&network, addr(3), Command::ANNOUNCE), 0);
    network.run(2 * MINUTE);
    assert_eq!(count_sent(&network, addr(3), Command::ANNOUNCE), 3);
}

#[test]
fn a_relay_that_dies_is_replaced_within_twenty_seconds() {
    let (mut network, target) = listening(30, 5);
    let gone = relays(&network, addr(3), target)[1];
    network.remove(gone);
    let replaced = until(&mut network, MINUTE, |network| {
        let relays = relays(network, addr(3), target);
        relays.len() == 3 && !relays.contains(&gone)
    });
    println!("a relay that died was replaced after {replaced:?}");
    assert!(replaced <= 20 * SECOND, "{replaced:?}");
    let server = dht(&network, addr(3));
    assert!(server.is_server_relay(&target, gone), "remembered for three cycles");
    assert!(!server.is_server_relay(&target, addr(3)));
}

#[test]
fn relays_of_three_cycles_ago_are_forgotten_and_those_no_longer_closest_have_us_removed() {
    let (mut network, target) = listening(20, 6);
    let first = relays(&network, addr(3), target);
    // Newcomers closer to the target than all others.
    let mut closer: Vec<usize> = (100..3000).collect();
    closer.sort_by_key(|n| NodeId(node_id(addr(*n))).distance(&target));
    for n in &closer[..3] {
        add(&mut network, addr(*n), config(&[addr(0)], Persistence::Persistent), *n as u64);
    }
    network.run(30 * SECOND);
    network.with(addr(3), |host, now| host.dht.refresh(now));
    network.run(10 * SECOND);
    let now_relays = relays(&network, addr(3), target);
    assert!(now_relays.iter().all(|relay| closer[..3].iter().any(|n| addr(*n) == *relay)), "{now_relays:?}");
    assert!(first.iter().all(|relay| forward(&network, *relay, target).is_none()), "removed");
    let is_relay = |network: &Network<Host>| dht(network, addr(3)).is_server_relay(&target, first[0]);
    for cycle in 2..=3 {
        assert!(is_relay(&network), "cycle {cycle}");
        network.with(addr(3), |host, now| host.dht.refresh(now));
        network.run(10 * SECOND);
    }
    assert!(!is_relay(&network), "after three more cycles");
}

#[test]
fn a_server_started_before_its_network_is_announced_within_fifteen_seconds_of_its_coming() {
    let mut network = network(20, 7, delayed(10));
    let bootstrap = network.remove(addr(0)).expect("a machine");
    add(&mut network, addr(50), config(&[addr(0)], Persistence::Adaptive), 50);
    let target = listen(&mut network, addr(50));
    network.record();
    network.run(3 * MINUTE);
    let tried = network.trace().iter().filter(|sent| sent.from.ip() == addr(50).ip()).count();
    assert!(tried < 400, "{tried} datagrams in three minutes");
    assert!(events(&mut network, addr(50)).contains(&Event::Listening(target)), "it was tried");
    network.add(addr(0), bootstrap);
    let came = until(&mut network, 2 * MINUTE, |network| relays(network, addr(50), target).len() == 3);
    println!("announced {came:?} after the network came");
    assert!(came <= 16 * SECOND, "{came:?}");
}

/// True if a handshake of a stranger reaches the server through this relay.
fn reaches(network: &mut Network<Host>, relay: SocketAddrV4, at: SocketAddrV4, target: Target) -> bool {
    let handshake =
        Handshake { mode: Mode::FROM_CLIENT, noise: b"noise", peer_address: None, relay_address: None };
    let value = Some(Bytes::from(encoded(|out| handshake.encode(out))));
    let plain = Plain { target: Some(target), value, tries: 1, ..Plain::new(relay, Command::PEER_HANDSHAKE) };
    network.with(addr(1), |host, now| host.dht.request(now, plain));
    network.run(Duration::from_millis(50));
    events(network, at).iter().any(|event| matches!(event, Event::Handshake(_)))
}

#[test]
fn a_server_whose_nat_gets_another_address_is_reached_again_within_six_seconds() {
    let mut network = network(25, 8, delayed(10));
    let inside = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 49_737);
    let nats = [1, 2].map(|n| network.add_nat(Ipv4Addr::new(12, 0, 0, n), Nat::Consistent));
    network.put_behind(*inside.ip(), nats[0]);
    add(&mut network, inside, config(&[addr(0)], Persistence::Adaptive), 77);
    network.run(10 * SECOND);
    let target = listen(&mut network, inside);
    network.run(10 * SECOND);
    let before = dht(&network, inside).relays(&target);
    assert_eq!(before.len(), 3);
    assert!(before.iter().all(|relay| *relay.peer_address.ip() == Ipv4Addr::new(12, 0, 0, 1)));
    assert_eq!(dht(&network, inside).relay_addresses(&target).len(), 3);
    for relay in &before {
        assert!(reaches(&mut network, relay.relay_address, inside, target));
    }
    network.put_behind(*inside.ip(), nats[1]);
    let back = until(&mut network, MINUTE, |network| {
        let relays = dht(network, inside).relays(&target);
        relays.iter().all(|relay| *relay.peer_address.ip() == Ipv4Addr::new(12, 0, 0, 2))
    });
    println!("announced at the new address after {back:?}");
    assert!(back <= 6 * SECOND, "{back:?}");
    for relay in dht(&network, inside).relays(&target) {
        assert!(reaches(&mut network, relay.relay_address, inside, target));
    }
}

#[test]
fn a_relay_that_sees_us_elsewhere_every_time_costs_little() {
    let (mut network, target) = listening(25, 9);
    network.record();
    for _ in 0..60 {
        // What the relay would have said.
        network.with(addr(3), |host, now| {
            let relay = host.dht.relays(&target)[0].relay_address;
            let seen = SocketAddrV4::new(Ipv4Addr::new(99, 9, 9, 9), 9);
            let answer = Answer {
                from: relay,
                id: None,
                to: seen,
                token: None,
                error: ErrorCode::NONE,
                value: None,
                elapsed: SECOND,
            };
            host.dht.relay_task_ended(now, target, RelayTask::Ping { to: relay }, Some(&answer));
            host.dht.run(now);
        });
        network.run(15 * SECOND);
    }
    // In a quarter of an hour: three cycles, and one announcement each time.
    let announced = count_sent(&network, addr(3), Command::ANNOUNCE);
    assert!((60..=75).contains(&announced), "{announced}");
    let asked = count_sent(&network, addr(3), Command::FIND_PEER);
    assert!(asked <= 60 + 4 * 25, "{asked}");
}

#[test]
fn a_change_of_network_announces_anew_and_pings_all_relays_at_once() {
    let (mut network, _) = listening(25, 10);
    network.record();
    network.with(addr(3), |host, now| host.dht.refresh(now));
    network.run(Duration::from_millis(1));
    assert_eq!(count_sent(&network, addr(3), Command::PING), 3);
    network.run(SECOND);
    assert_eq!(count_sent(&network, addr(3), Command::ANNOUNCE), 3);
}

#[test]
fn a_machine_that_slept_announces_anew() {
    let (mut network, _) = listening(25, 13);
    network.record();
    for (ahead, announced) in [(Duration::ZERO, 0), (14 * SECOND, 0), (MINUTE, 3)] {
        network.with(addr(3), |host, now| {
            let wall = Duration::from_millis(host.dht.wall(now));
            host.dht.set_unix_time(now, wall + ahead);
        });
        network.run(2 * SECOND);
        assert_eq!(count_sent(&network, addr(3), Command::ANNOUNCE), announced, "{ahead:?}");
    }
}

#[test]
fn two_servers_of_one_node_have_relays_of_their_own() {
    let (mut network, target) = listening(40, 11);
    let other = network.with(addr(3), |host, now| host.dht.listen(now, keys(2)));
    let other = other.expect("a machine").expect("another key");
    network.run(5 * SECOND);
    assert_eq!(relays(&network, addr(3), other).len(), 3);
    assert_ne!(relays(&network, addr(3), other), relays(&network, addr(3), target));
    network.with(addr(3), |host, now| host.dht.unlisten(now, other));
    network.run(5 * SECOND);
    assert_eq!(relays(&network, addr(3), target).len(), 3);
}

#[test]
fn in_a_network_of_two_a_server_has_one_relay() {
    let mut network = network(2, 12, delayed(10));
    let target = listen(&mut network, addr(1));
    network.run(SECOND);
    assert_eq!(relays(&network, addr(1), target), [addr(0)]);
    network.run(MINUTE);
    assert_eq!(relays(&network, addr(1), target), [addr(0)]);
}
