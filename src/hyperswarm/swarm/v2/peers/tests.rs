use std::time::Duration;

use super::*;

const OWN_PORT: u16 = 999;

fn started() -> (Instant, Peers) {
    let now = Instant::now();
    (now, Peers::new(now, OWN_PORT, [9; 32]))
}

fn addr(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn by_dht(peer: &str, referrer: &str) -> Found {
    let source = Source::Dht { referrer: addr(referrer), to: Some(addr("203.0.113.7:1")) };
    Found { addr: addr(peer), source }
}

fn by_mdns(peer: &str, sender: &str) -> Found {
    Found { addr: addr(peer), source: Source::LocalNetwork { sender: sender.parse().unwrap() } }
}

fn nobody(_: Ipv4Addr) -> bool {
    false
}

fn find(peers: &mut Peers, now: Instant, count: u16) {
    for port in 1..=count {
        assert!(peers.found(now, by_dht(&format!("198.51.100.1:{port}"), "203.0.113.1:5"), nobody));
    }
}

#[test]
fn a_peer_of_the_dht_is_dialled_with_its_referrer_and_one_of_the_local_network_without() {
    let (now, mut peers) = started();
    peers.found(now, by_dht("198.51.100.1:7", "203.0.113.1:5"), nobody);
    peers.found(now, by_mdns("10.0.0.2:8", "10.0.0.2"), nobody);
    let (first, second) = (peers.poll_dial().unwrap(), peers.poll_dial().unwrap());
    assert_eq!((first.addr, first.referrer), (addr("10.0.0.2:8"), None));
    assert_eq!((second.addr, second.referrer), (addr("198.51.100.1:7"), Some(addr("203.0.113.1:5"))));
}

#[test]
fn our_own_address_is_never_dialled() {
    let (now, mut peers) = started();
    let own = |host| host == Ipv4Addr::new(10, 0, 0, 2);
    assert!(!peers.found(now, by_mdns("10.0.0.2:999", "10.0.0.2"), own));
    assert!(peers.found(now, by_mdns("10.0.0.2:998", "10.0.0.2"), own), "another daemon on this host");
    assert!(peers.found(now, by_mdns("10.0.0.3:999", "10.0.0.3"), own), "another host with our port number");
}

#[test]
fn addresses_nobody_can_have_are_never_dialled() {
    let (now, mut peers) = started();
    for peer in
        ["0.0.0.0:1", "0.1.2.3:1", "224.0.0.251:1", "255.255.255.255:1", "240.0.0.1:1", "198.51.100.1:0"]
    {
        assert!(!peers.found(now, by_dht(peer, "203.0.113.1:5"), nobody), "{peer}");
    }
}

#[test]
fn only_a_node_on_our_loopback_interface_may_name_loopback_addresses() {
    let (now, mut peers) = started();
    assert!(!peers.found(now, by_dht("127.0.0.1:22", "203.0.113.1:5"), nobody));
    assert!(!peers.found(now, by_mdns("127.0.0.1:22", "10.0.0.1"), nobody));
    assert!(peers.found(now, by_dht("127.0.0.1:22", "127.0.0.1:5"), nobody));
}

#[test]
fn a_few_dials_run_at_once_and_each_end_makes_room_for_the_next() {
    let (now, mut peers) = started();
    find(&mut peers, now, DIALS_AT_ONCE as u16 + 1);
    let dials: Vec<_> = std::iter::from_fn(|| peers.poll_dial()).collect();
    assert_eq!(dials.len(), DIALS_AT_ONCE);
    peers.dialled(now, dials[0].addr, false);
    assert!(peers.poll_dial().is_some());
    assert!(peers.poll_dial().is_none());
}

#[test]
fn at_24_connections_nobody_is_dialled_or_accepted_until_one_closes() {
    let (now, mut peers) = started();
    find(&mut peers, now, 12);
    for _ in 0..12 {
        let dial = peers.poll_dial().unwrap();
        peers.dialled(now, dial.addr, true);
    }
    for host in 0..12 {
        assert!(peers.accept(Ipv4Addr::new(10, 0, 0, host)));
    }
    assert_eq!(peers.connections(), SWARM_PEERS);
    assert!(!peers.accept(Ipv4Addr::new(10, 0, 0, 99)));
    peers.found(now, by_dht("198.51.100.9:1", "203.0.113.1:5"), nobody);
    assert_eq!(peers.poll_dial(), None);
    peers.closed(now, Slot::Incoming(Ipv4Addr::new(10, 0, 0, 3)), false);
    assert_eq!(peers.connections(), SWARM_PEERS - 1);
    assert!(peers.poll_dial().is_some());
    assert!(!peers.accept(Ipv4Addr::new(10, 0, 0, 99)), "an attempt counts too");
}

#[test]
fn one_host_cannot_take_all_slots() {
    let (now, mut peers) = started();
    let host = Ipv4Addr::new(10, 0, 0, 1);
    let accepted = (0..=INCOMING_PER_HOST).filter(|_| peers.accept(host)).count();
    assert_eq!(accepted, INCOMING_PER_HOST);
    assert!(peers.accept(Ipv4Addr::new(10, 0, 0, 2)));
    peers.closed(now, Slot::Incoming(host), false);
    assert!(peers.accept(host));
    assert!(!peers.accept(host));
}

#[test]
fn the_daemons_of_one_machine_may_take_all_slots_of_each_other() {
    let (_, mut peers) = started();
    assert_eq!((0..100).filter(|_| peers.accept(Ipv4Addr::LOCALHOST)).count(), SWARM_PEERS);
}

#[test]
fn a_dialled_connection_that_closes_is_dialled_again_after_about_a_second() {
    let (now, mut peers) = started();
    find(&mut peers, now, 1);
    let dial = peers.poll_dial().unwrap();
    peers.dialled(now, dial.addr, true);
    peers.closed(now, Slot::Dialled(dial.addr), false);
    assert_eq!(peers.poll_dial(), None);
    let wait = peers.poll_timeout().unwrap() - now;
    assert!((660..1330).contains(&wait.as_millis()), "{wait:?}");
    peers.handle_timeout(now + wait);
    assert_eq!(peers.poll_dial(), Some(dial));
}

#[test]
fn a_banned_connection_is_not_dialled_again() {
    let (now, mut peers) = started();
    find(&mut peers, now, 1);
    let dial = peers.poll_dial().unwrap();
    peers.dialled(now, dial.addr, true);
    peers.closed(now, Slot::Dialled(dial.addr), true);
    peers.handle_timeout(now + Duration::from_secs(3600));
    assert!(!peers.found(now, by_dht("198.51.100.1:1", "203.0.113.1:5"), nobody));
    assert_eq!((peers.poll_dial(), peers.poll_timeout(), peers.connections()), (None, None, 0));
}
