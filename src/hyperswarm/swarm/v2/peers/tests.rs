use std::time::Duration;

use super::*;
use crate::limits::v2::{PLACES_KEPT, PLACES_NOT_DIALLED, SWARM_LEAVING, SWARM_PEERS};

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

/// Peers that each have a host and a network of their own.
fn find(peers: &mut Peers, now: Instant, count: u16) {
    for n in 1..=count {
        assert!(peers.found(now, by_dht(&format!("198.51.{n}.1:4000"), "203.0.113.1:5"), nobody));
    }
}

fn dial(peers: &mut Peers, now: Instant) -> Option<Candidate> {
    peers.poll_dial(now).map(|(_, candidate)| candidate)
}

/// Dials and succeeds.
fn connect(peers: &mut Peers, now: Instant) -> (Slot, Candidate) {
    let (slot, candidate) = peers.poll_dial(now).unwrap();
    assert!(peers.dialled(now, slot, true));
    (slot, candidate)
}

fn accept(peers: &mut Peers, now: Instant, count: u8) -> Vec<Slot> {
    (0..count).map(|n| peers.accept(now, Ipv4Addr::new(10, 0, 0, n)).unwrap()).collect()
}

#[test]
fn a_peer_of_the_dht_is_dialled_with_its_referrer_and_one_of_the_local_network_without() {
    let (now, mut peers) = started();
    peers.found(now, by_dht("198.51.100.1:4007", "203.0.113.1:5"), nobody);
    peers.found(now, by_mdns("10.0.0.2:8", "10.0.0.2"), nobody);
    let (first, second) = (dial(&mut peers, now).unwrap(), dial(&mut peers, now).unwrap());
    assert_eq!((first.addr, first.referrer), (addr("10.0.0.2:8"), None));
    assert_eq!((second.addr, second.referrer), (addr("198.51.100.1:4007"), Some(addr("203.0.113.1:5"))));
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
fn a_stranger_cannot_have_us_dial_services_of_our_network_or_of_anybodys_system() {
    let (now, mut peers) = started();
    for peer in ["192.168.1.1:4430", "10.0.0.5:4000", "169.254.169.254:8080", "100.64.0.9:4000"] {
        assert!(!peers.found(now, by_dht(peer, "203.0.113.1:5"), nobody), "{peer}");
    }
    for port in [22, 25, 443, 1023] {
        assert!(!peers.found(now, by_dht(&format!("198.51.100.1:{port}"), "203.0.113.1:5"), nobody));
    }
    assert!(peers.found(now, by_dht("198.51.100.1:1024", "203.0.113.1:5"), nobody));
    assert!(!peers.found(now, by_mdns("169.254.169.254:80", "10.0.0.1"), nobody));
}

#[test]
fn hosts_of_our_private_network_are_dialled_when_they_can_be_meant() {
    let (now, mut peers) = started();
    assert!(peers.found(now, by_dht("10.0.0.5:4000", "10.0.0.1:5"), nobody), "named from inside");
    assert!(peers.found(now, by_dht("10.0.0.6:4000", "127.0.0.1:5"), nobody), "named by ourselves");
    assert!(peers.found(now, by_mdns("10.0.0.7:4000", "10.0.0.7"), nobody));
    // The node of a university sees us at our own private address.
    let seen = Source::Dht { referrer: addr("203.0.113.1:5"), to: Some(addr("10.0.0.2:7")) };
    let found = Found { addr: addr("10.0.0.8:4000"), source: seen };
    assert!(!peers.found(now, found, nobody), "a guess");
    assert!(peers.found(now, found, |host| host == Ipv4Addr::new(10, 0, 0, 2)));
}

#[test]
fn a_few_dials_run_at_once_and_each_end_makes_room_for_the_next() {
    let (now, mut peers) = started();
    find(&mut peers, now, DIALS_AT_ONCE as u16 + 1);
    let dials: Vec<_> = std::iter::from_fn(|| peers.poll_dial(now)).collect();
    assert_eq!(dials.len(), DIALS_AT_ONCE);
    assert!(!peers.dialled(now, dials[0].0, false));
    assert!(peers.poll_dial(now).is_some());
    assert!(peers.poll_dial(now).is_none());
}

#[test]
fn at_24_connections_nobody_is_dialled_or_accepted_until_one_closes() {
    let (now, mut peers) = started();
    find(&mut peers, now, 12);
    for _ in 0..12 {
        connect(&mut peers, now);
    }
    let accepted = accept(&mut peers, now, 12);
    assert_eq!(peers.connections(), SWARM_PEERS);
    assert_eq!(peers.accept(now, Ipv4Addr::new(10, 0, 0, 3)), None);
    peers.found(now, by_dht("198.51.100.9:4000", "203.0.113.1:5"), nobody);
    assert_eq!(peers.poll_dial(now), None);
    peers.closed(now, accepted[3], false);
    assert_eq!(peers.connections(), SWARM_PEERS - 1);
    assert!(peers.accept(now, Ipv4Addr::new(10, 0, 0, 3)).is_some());
    assert_eq!(peers.accept(now, Ipv4Addr::new(10, 0, 0, 3)), None);
}

#[test]
fn an_attempt_counts_as_a_connection_for_those_who_come() {
    let (now, mut peers) = started();
    accept(&mut peers, now, SWARM_PEERS as u8 - PLACES_NOT_DIALLED as u8 - 1);
    find(&mut peers, now, 1);
    assert!(peers.poll_dial(now).is_some());
    let room = (50..200).take_while(|n| peers.accept(now, Ipv4Addr::new(10, 0, 0, *n)).is_some());
    assert_eq!(room.count(), PLACES_NOT_DIALLED);
}

#[test]
fn dials_leave_places_to_those_who_come() {
    let (now, mut peers) = started();
    find(&mut peers, now, SWARM_PEERS as u16);
    let mut dialled = 0;
    while let Some((slot, _)) = peers.poll_dial(now) {
        assert!(peers.dialled(now, slot, true));
        dialled += 1;
    }
    assert_eq!(dialled, SWARM_PEERS - PLACES_NOT_DIALLED);
}

#[test]
fn the_daemons_of_one_address_may_take_all_places() {
    let (now, mut peers) = started();
    assert_eq!((0..100).filter(|_| peers.accept(now, Ipv4Addr::LOCALHOST).is_some()).count(), SWARM_PEERS);
    assert_eq!(peers.poll_displaced(), None);
}

#[test]
fn the_host_with_the_most_places_gives_its_least_useful_one_to_a_newcomer() {
    let (now, mut peers) = started();
    let (many, few) = (Ipv4Addr::new(203, 0, 113, 9), Ipv4Addr::new(198, 51, 100, 7));
    let slots: Vec<_> =
        (0..SWARM_PEERS).map(|n| peers.accept(now, if n < 2 { few } else { many }).unwrap()).collect();
    let worth = |slot: usize| peers.standing(slots[slot]).unwrap();
    for (n, slot) in (0..SWARM_PEERS).enumerate().filter(|(_, slot)| ![7, 9].contains(slot)) {
        worth(slot).used(now + Duration::from_secs(n as u64 + 1));
    }
    worth(9).greeted();
    let newcomer = |n| Ipv4Addr::new(192, 0, n, 1);
    let out: Vec<_> = (0..3)
        .map(|n| {
            peers.accept(now, newcomer(n)).expect("a place");
            peers.poll_displaced().expect("somebody lost it")
        })
        .collect();
    assert_eq!(out, [slots[7], slots[9], slots[2]]);
    assert_eq!(peers.connections(), SWARM_PEERS);
}

#[test]
fn a_network_of_hosts_gives_places_up_when_no_host_has_more_than_another() {
    let (now, mut peers) = started();
    for n in 0..SWARM_PEERS as u8 {
        peers.accept(now, Ipv4Addr::new(203, 0, 113, n)).unwrap();
    }
    assert!(peers.accept(now, Ipv4Addr::new(198, 51, 100, 7)).is_some());
    assert_eq!(peers.accept(now, Ipv4Addr::new(203, 0, 113, 99)), None, "one more of the same");
}

#[test]
fn the_connection_that_answered_a_load_last_keeps_its_place() {
    let (now, mut peers) = started();
    let many = Ipv4Addr::new(203, 0, 113, 9);
    let slots: Vec<_> = (0..SWARM_PEERS).map(|_| peers.accept(now, many).unwrap()).collect();
    peers.standing(slots[5]).unwrap().proven(now);
    peers.standing(slots[6]).unwrap().proven(now + Duration::from_secs(1));
    let mut gone = Vec::new();
    for n in 0..=255 {
        // A network each.
        if peers.accept(now, Ipv4Addr::new(198, 51, n, 7)).is_some() {
            gone.push(peers.poll_displaced().unwrap());
            peers.closed(now, gone[gone.len() - 1], false);
        }
    }
    assert!(!gone.contains(&slots[6]) && gone.len() >= SWARM_PEERS - 2, "{}", gone.len());
}

#[test]
fn where_all_have_the_same_the_least_useful_connection_is_exchanged_once_in_a_while() {
    let (now, mut peers) = started();
    let slots = accept(&mut peers, now, SWARM_PEERS as u8);
    for slot in &slots[1..] {
        peers.standing(*slot).unwrap().used(now);
    }
    let newcomer = |n| Ipv4Addr::new(10, 9, 9, n);
    let after = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(peers.accept(after(7), newcomer(1)), None, "they are new");
    assert!(peers.accept(after(8), newcomer(1)).is_some());
    assert_eq!(peers.poll_displaced(), Some(slots[0]));
    assert_eq!(peers.accept(after(9), newcomer(2)), None, "once in two seconds");
    assert!(peers.accept(after(10), newcomer(2)).is_some(), "what was of use is exchanged too");
    assert_eq!(peers.poll_displaced(), Some(slots[1]), "the last one has had no time to be of use");
}

#[test]
fn the_half_of_the_places_that_is_of_most_use_is_not_exchanged() {
    let (now, mut peers) = started();
    let slots = accept(&mut peers, now, SWARM_PEERS as u8);
    slots[..PLACES_KEPT].iter().for_each(|slot| peers.standing(*slot).unwrap().used(now));
    let later = now + Duration::from_secs(30);
    for (slot, n) in slots[PLACES_KEPT..].iter().zip(100..) {
        peers.closed(later, *slot, false);
        assert!(peers.accept(later, Ipv4Addr::new(10, 0, 0, n)).is_some());
    }
    assert_eq!(peers.accept(later, Ipv4Addr::new(10, 9, 9, 1)), None, "the others are new");
    let later = later + Duration::from_secs(8);
    assert!(peers.accept(later, Ipv4Addr::new(10, 9, 9, 1)).is_some());
    assert!(peers.poll_displaced().is_some_and(|slot| !slots.contains(&slot)));
}

#[test]
fn a_full_swarm_is_not_cut_down_by_dials_that_fail() {
    let (now, mut peers) = started();
    let many = Ipv4Addr::new(203, 0, 113, 9);
    (0..SWARM_PEERS).for_each(|_| assert!(peers.accept(now, many).is_some()));
    find(&mut peers, now, 2);
    let ((failing, _), (other, _)) = (peers.poll_dial(now).unwrap(), peers.poll_dial(now).unwrap());
    assert!(!peers.dialled(now, failing, false));
    assert_eq!((peers.poll_displaced(), peers.connections()), (None, SWARM_PEERS));
    assert!(peers.dialled(now, other, true));
    assert!(peers.poll_displaced().is_some());
    assert_eq!(peers.connections(), SWARM_PEERS);
}

#[test]
fn no_more_connections_than_the_limit_lose_their_places_before_they_are_closed() {
    let (now, mut peers) = started();
    let many = Ipv4Addr::new(203, 0, 113, 9);
    let mut places = |host| peers.accept(now, host).is_some();
    assert_eq!((0..99).filter(|_| places(many)).count(), SWARM_PEERS);
    // Each round of newcomers has one more place each than the one before.
    let mut newcomers = 0;
    for round in 0..40u8 {
        newcomers += (0..=255).filter(|n| places(Ipv4Addr::new(198, round, *n, 7))).count();
        newcomers += usize::from(places(Ipv4Addr::new(10, round, 0, 1)));
    }
    assert!(newcomers <= SWARM_LEAVING, "{newcomers}");
    assert_eq!(std::iter::from_fn(|| peers.poll_displaced()).count(), newcomers);
}

#[test]
fn a_dialled_connection_that_closes_is_dialled_again_after_about_a_second() {
    let (now, mut peers) = started();
    find(&mut peers, now, 1);
    let (slot, candidate) = connect(&mut peers, now);
    peers.closed(now, slot, false);
    assert_eq!(peers.poll_dial(now), None);
    let wait = peers.poll_timeout().unwrap() - now;
    assert!((660..1330).contains(&wait.as_millis()), "{wait:?}");
    peers.handle_timeout(now + wait);
    assert_eq!(dial(&mut peers, now + wait), Some(candidate));
}

#[test]
fn a_banned_connection_is_not_dialled_again() {
    let (now, mut peers) = started();
    find(&mut peers, now, 1);
    let (slot, candidate) = connect(&mut peers, now);
    peers.closed(now, slot, true);
    let later = now + Duration::from_secs(3600);
    peers.handle_timeout(later);
    assert!(!peers.found(now, by_dht(&candidate.addr.to_string(), "203.0.113.1:5"), nobody));
    assert_eq!((peers.poll_dial(later), peers.poll_timeout(), peers.connections()), (None, None, 0));
}
