//! Lookups, announcements, puts and gets on whole networks.

use super::*;
use crate::codec::v4::{MutableValue, Peer};
use crate::crypto::blake2b_256;

fn values(found: &[Event]) -> Vec<FoundValue> {
    let value = |event: &Event| match event {
        Event::Value(_, value) => Some(value.clone()),
        _ => None,
    };
    found.iter().filter_map(value).collect()
}

#[test]
fn a_topic_is_announced_at_twenty_nodes_looked_up_and_unannounced() {
    let mut network = network(50, 1, delayed(10));
    let relays = [addr(8), addr(9)];
    let (found, outcome) =
        complete(&mut network, addr(3), |dht, now| dht.announce(now, TOPIC, &keys(1), &relays, false));
    assert_eq!((outcome.asked, outcome.stored, outcome.refused, found.len()), (20, 20, 0, 0));
    assert_eq!(outcome.closest.len(), 20);
    let (found, outcome) = complete(&mut network, addr(4), |dht, now| dht.lookup(now, TOPIC));
    assert_eq!(peers(&found), vec![keys(1).public(); found.len()]);
    assert!(found.len() >= 15 && outcome.asked == 0, "{}", found.len());
    let Event::Peer(_, peer) = &found[0] else { panic!("not a peer") };
    assert_eq!((peer.relay_addresses.as_slice(), peer.to), (&relays[..], addr(4)));
    let bump = dht(&network, addr(3)).wall(network.now());
    complete(&mut network, addr(3), |dht, now| {
        dht.announce_and_bump(now, TOPIC, &keys(1), &relays, false, bump)
    });
    let (found, _) = complete(&mut network, addr(4), |dht, now| dht.lookup(now, TOPIC));
    assert!(matches!(&found[0], Event::Peer(_, peer) if peer.bump == bump));
    let (_, outcome) = complete(&mut network, addr(3), |dht, now| dht.unannounce(now, TOPIC, &keys(1)));
    assert!(outcome.stored >= 19 && outcome.stored == outcome.asked, "{outcome:?}");
    let (found, _) = complete(&mut network, addr(4), |dht, now| dht.lookup(now, TOPIC));
    assert!(found.len() <= 1, "{found:?}");
}

#[test]
fn announcing_with_clear_removes_what_was_announced_before() {
    let mut network = network(30, 2, delayed(10));
    complete(&mut network, addr(3), |dht, now| dht.announce(now, TOPIC, &keys(1), &[addr(8)], false));
    let (_, outcome) =
        complete(&mut network, addr(3), |dht, now| dht.announce(now, TOPIC, &keys(1), &[addr(9)], true));
    assert_eq!((outcome.asked, outcome.stored), (20, 20));
    let (found, _) = complete(&mut network, addr(4), |dht, now| dht.lookup(now, TOPIC));
    for event in &found {
        let Event::Peer(_, peer) = event else { panic!("not a peer") };
        assert_eq!(peer.relay_addresses, [addr(9)]);
    }
    assert!(!found.is_empty());
}

#[test]
fn a_listening_server_is_found_by_its_key_and_by_nobody_elses() {
    let mut network = network(30, 3, delayed(10));
    let listening = network.with(addr(3), |host, now| host.dht.listen(now, keys(1)));
    let target = listening.expect("a machine").expect("not yet");
    network.run(5 * SECOND);
    let (found, _) = complete(&mut network, addr(4), |dht, now| dht.find_peer(now, target, &[]));
    assert!(peers(&found).len() >= 3 && peers(&found).iter().all(|key| *key == keys(1).public()));
    let other = hash_of(&keys(2));
    let (found, outcome) = complete(&mut network, addr(4), |dht, now| dht.find_peer(now, other, &[]));
    assert!(found.is_empty() && outcome.answered >= 20);
}

#[test]
fn a_walk_that_starts_from_the_relays_asks_them_first() {
    let mut network = network(60, 4, delayed(10));
    let listening = network.with(addr(3), |host, now| host.dht.listen(now, keys(1)));
    let target = listening.expect("a machine").expect("not yet");
    network.run(5 * SECOND);
    let relays = dht(&network, addr(3)).relay_addresses(&target);
    let relay = *relays.iter().find(|relay| **relay != addr(3)).expect("a relay");
    add(&mut network, addr(70), config(&[addr(0)], Persistence::Ephemeral), 70);
    network.with(addr(70), |host, now| host.dht.find_peer(now, target, &[relay]));
    network.run(Duration::from_millis(25));
    let events = events(&mut network, addr(70));
    let first = events.iter().find_map(|event| match event {
        Event::Peer(_, peer) => Some(peer.from),
        _ => None,
    });
    assert_eq!(first, Some(relay), "after one round trip: {events:?}");
}

#[test]
fn mutable_values_are_put_and_the_newest_is_got() {
    let mut network = network(40, 5, delayed(10));
    let (_, outcome) = complete(&mut network, addr(3), |dht, now| dht.mutable_put(now, &keys(1), 1, b"one"));
    assert_eq!((outcome.asked, outcome.stored), (20, 20));
    complete(&mut network, addr(5), |dht, now| dht.mutable_put(now, &keys(1), 2, b"two"));
    let key = keys(1).public();
    let (found, _) = complete(&mut network, addr(4), |dht, now| dht.mutable_get(now, key, 0, true));
    let [value] = values(&found).try_into().expect("one value");
    assert_eq!((value.seq, value.value.as_ref()), (2, &b"two"[..]));
    let signed = MutableValue { seq: 2, value: b"two", signature: value.signature.expect("signed") };
    assert!(storage::verify_mutable(&key, &signed));
    let (found, _) = complete(&mut network, addr(4), |dht, now| dht.mutable_get(now, key, 3, true));
    assert_eq!(values(&found), []);
    let (found, outcome) = complete(&mut network, addr(4), |dht, now| dht.mutable_get(now, key, 0, false));
    assert_eq!((values(&found).len(), outcome.closest.len()), (1, 0), "ends with the first");
    let again = |dht: &mut Hyperdht, now| dht.mutable_put_again(now, key, &value);
    assert_eq!(complete(&mut network, addr(6), again).1.stored, 20, "by somebody without the secret key");
}

#[test]
fn a_put_says_how_many_nodes_stored_it_and_why_others_did_not() {
    let mut network = network(30, 6, delayed(10));
    complete(&mut network, addr(3), |dht, now| dht.mutable_put(now, &keys(1), 5, b"five"));
    let (_, outcome) = complete(&mut network, addr(3), |dht, now| dht.mutable_put(now, &keys(1), 4, b"four"));
    assert_eq!((outcome.stored, outcome.refused, outcome.error), (0, 20, ErrorCode::SEQ_TOO_LOW));
    let (_, outcome) =
        complete(&mut network, addr(3), |dht, now| dht.mutable_put(now, &keys(1), 5, b"other"));
    assert_eq!((outcome.stored, outcome.refused, outcome.error), (0, 20, ErrorCode::SEQ_REUSED));
    let long = [1; crate::limits::v4::MAX_VALUE_BYTES + 1];
    let (_, outcome) = complete(&mut network, addr(3), |dht, now| dht.immutable_put(now, &long));
    assert_eq!((outcome.asked, outcome.stored, outcome.refused), (20, 0, 0), "no reply");
}

#[test]
fn immutable_values_are_put_and_got() {
    let mut network = network(40, 7, delayed(10));
    let (_, outcome) = complete(&mut network, addr(3), |dht, now| dht.immutable_put(now, b"value"));
    assert_eq!((outcome.asked, outcome.stored), (20, 20));
    let hash = blake2b_256(&[b"value"]);
    let (found, _) = complete(&mut network, addr(4), |dht, now| dht.immutable_get(now, hash));
    let [value] = values(&found).try_into().expect("one value");
    assert_eq!((value.value.as_ref(), value.signature), (&b"value"[..], None));
    let (found, outcome) = complete(&mut network, addr(4), |dht, now| dht.immutable_get(now, [8; 32]));
    assert!(found.is_empty() && outcome.answered >= 20);
}

#[test]
fn in_a_network_of_two_each_finds_what_the_other_announces_and_puts() {
    let mut network = network(2, 13, delayed(10));
    let (one, other) = (addr(0), addr(1));
    let announce = |dht: &mut Hyperdht, now| dht.announce(now, TOPIC, &keys(1), &[one], false);
    assert_eq!(complete(&mut network, one, announce).1.stored, 1);
    complete(&mut network, one, |dht, now| dht.mutable_put(now, &keys(1), 3, b"value"));
    complete(&mut network, one, |dht, now| dht.immutable_put(now, b"value"));
    let (found, outcome) = complete(&mut network, other, |dht, now| dht.lookup(now, TOPIC));
    assert_eq!((peers(&found), outcome.answered), (vec![keys(1).public()], 1));
    let key = keys(1).public();
    for latest in [false, true] {
        let (found, _) = complete(&mut network, other, |dht, now| dht.mutable_get(now, key, 0, latest));
        assert_eq!(values(&found).len(), 1);
        let (found, _) = complete(&mut network, other, |dht, now| dht.mutable_get(now, key, 4, latest));
        assert_eq!(values(&found).len(), 0, "older than asked for");
    }
    let hash = blake2b_256(&[b"value"]);
    let (found, _) = complete(&mut network, other, |dht, now| dht.immutable_get(now, hash));
    assert_eq!(values(&found).len(), 1);
}

#[test]
fn an_operation_without_a_network_ends_and_stores_nothing() {
    let mut network = Network::new(Instant::now(), 8, delayed(10));
    add(&mut network, addr(1), config(&[addr(0)], Persistence::Adaptive), 1);
    let (found, outcome) = complete(&mut network, addr(1), |dht, now| dht.immutable_put(now, b"value"));
    assert_eq!((found.len(), outcome), (0, Outcome::default()));
}

#[test]
fn operations_beyond_the_limit_of_queries_end_at_once() {
    use crate::limits::MAX_QUERIES;
    let now = Instant::now();
    let mut dht = Hyperdht::new(now, config(&[addr(0)], Persistence::Ephemeral), seed(1));
    // The walk to enter the network is one.
    for n in 1..MAX_QUERIES {
        dht.lookup(now, [n as u8; 32]);
    }
    let done = |dht: &mut Hyperdht| {
        std::iter::from_fn(|| dht.poll_event()).filter(|event| matches!(event, Event::Done(..))).count()
    };
    assert_eq!(done(&mut dht), 0);
    let id = dht.lookup(now, TOPIC);
    assert_eq!(dht.poll_event(), Some(Event::Done(id, Outcome::default())));
}

#[test]
fn a_cancelled_operation_is_silent() {
    let mut network = network(20, 9, delayed(10));
    complete(&mut network, addr(3), |dht, now| dht.announce(now, TOPIC, &keys(1), &[], false));
    let id = network.with(addr(4), |host, now| host.dht.lookup(now, TOPIC)).expect("a machine");
    network.run(Duration::from_millis(15));
    network.with(addr(4), |host, now| host.dht.cancel(now, id));
    events(&mut network, addr(4));
    network.run(20 * SECOND);
    assert_eq!(events(&mut network, addr(4)), []);
    let id = network.with(addr(4), |host, now| host.dht.announce(now, TOPIC, &keys(1), &[], false));
    network.run(Duration::from_millis(90));
    network.with(addr(4), |host, now| host.dht.cancel(now, id.expect("a machine")));
    assert!(dht(&network, addr(4)).tasks.is_empty());
    events(&mut network, addr(4));
    network.run(20 * SECOND);
    assert_eq!(events(&mut network, addr(4)), [], "while it stores, too");
}

/// A node that has asked `node` in an operation.
fn asking(node: SocketAddrV4, begin: impl FnOnce(&mut Hyperdht, Instant) -> OperationId) -> Asking {
    let now = Instant::now();
    let Config { node: below, unix_time } = config(&[], Persistence::Ephemeral);
    let config = Config { node: v4::Config { nodes: vec![node], ..below }, unix_time };
    let mut dht = Hyperdht::new(now, config, seed(1));
    while dht.poll_transmit().is_some() {}
    let id = begin(&mut dht, now);
    let sent = dht.poll_transmit().expect("a request");
    Asking { dht, now, id, sent, node }
}

struct Asking {
    dht: Hyperdht,
    now: Instant,
    id: OperationId,
    sent: Transmit,
    node: SocketAddrV4,
}

impl Asking {
    /// The node answers the last request; then the next one is sent.
    fn answer(&mut self, error: ErrorCode, token: Option<[u8; 32]>, value: Option<&[u8]>) {
        let Ok(Packet::Request(request)) = Packet::decode(&self.sent.payload) else { panic!("a reply") };
        let reply =
            Reply { id: Some(node_id(self.node)), error, token, value, ..Reply::new(request.tid, addr(50)) };
        self.dht.handle_datagram(self.now, CLIENT, self.node, &encoded(|out| reply.encode(out)));
        if let Some(next) = self.dht.poll_transmit() {
            self.sent = next;
        }
    }

    fn request(&self) -> Request<'_> {
        match Packet::decode(&self.sent.payload).expect("a packet") {
            Packet::Request(request) => request,
            Packet::Reply(reply) => panic!("a reply: {reply:?}"),
        }
    }

    fn found(&mut self) -> Vec<Event> {
        let id = self.id;
        let events = std::iter::from_fn(|| self.dht.poll_event());
        events
            .filter(|event| matches!(event, Event::Peer(of, _) | Event::Value(of, _) if *of == id))
            .collect()
    }
}

#[test]
fn a_token_that_has_expired_is_replaced_once() {
    let mut asking = asking(addr(1), |dht, now| dht.announce(now, TOPIC, &keys(1), &[], false));
    asking.answer(ErrorCode::NONE, Some([1; 32]), None);
    let first = asking.request().value.expect("signed").to_vec();
    assert_eq!((asking.request().command, asking.request().token), (Command::ANNOUNCE, Some([1; 32])));
    asking.answer(ErrorCode::INVALID_TOKEN, Some([2; 32]), None);
    assert_eq!((asking.request().command, asking.request().token), (Command::ANNOUNCE, Some([2; 32])));
    assert_ne!(asking.request().value.expect("signed"), first, "the signature covers the token");
    asking.answer(ErrorCode::INVALID_TOKEN, Some([3; 32]), None);
    let done = std::iter::from_fn(|| asking.dht.poll_event()).last();
    let Some(Event::Done(_, outcome)) = done else { panic!("{done:?}") };
    let Outcome { asked, stored, refused, error, .. } = outcome;
    assert_eq!((asked, stored, refused, error), (1, 0, 1, ErrorCode::INVALID_TOKEN));
}

#[test]
fn values_that_are_forged_are_not_told() {
    let good = announcement::put_mutable(&keys(1), 4, b"value")[32..].to_vec();
    let forged = announcement::put_mutable(&keys(2), 9, b"value")[32..].to_vec();
    let key = keys(1).public();
    for (value, told) in [(&good, 1), (&forged, 0), (&b"?".to_vec(), 0)] {
        let mut asking = asking(addr(1), |dht, now| dht.mutable_get(now, key, 0, true));
        asking.answer(ErrorCode::NONE, None, Some(value));
        assert_eq!(asking.found().len(), told);
    }
    let mut asking = asking(addr(1), |dht, now| dht.mutable_get(now, key, 5, true));
    asking.answer(ErrorCode::NONE, None, Some(&good));
    assert_eq!(asking.found(), [], "older than asked for");
}

#[test]
fn an_immutable_value_of_another_hash_is_not_told() {
    let hash = blake2b_256(&[b"value"]);
    for (value, told) in [(&b"value"[..], 1), (b"forged", 0)] {
        let mut asking = asking(addr(1), |dht, now| dht.immutable_get(now, hash));
        asking.answer(ErrorCode::NONE, None, Some(value));
        assert_eq!(asking.found().len(), told);
    }
}

#[test]
fn a_peer_of_another_key_is_not_told_and_relays_that_must_not_be_asked_are_left_out() {
    let relays = [
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, 22),
        SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 1), 80),
        SocketAddrV4::new(Ipv4Addr::new(15, 0, 0, 2), 4000),
    ];
    let record = announcement::encode_peer(&keys(1).public().0, &relays);
    assert!(Peer::decode(&record).is_ok());
    for (number, told) in [(1, 1), (2, 0)] {
        let target = hash_of(&keys(number));
        let mut asking = asking(addr(1), |dht, now| dht.find_peer(now, target, &[]));
        asking.answer(ErrorCode::NONE, None, Some(&record));
        let found = asking.found();
        assert_eq!(found.len(), told);
        for event in found {
            let Event::Peer(_, peer) = event else { panic!("not a peer") };
            assert_eq!(peer.relay_addresses, relays[2..]);
        }
    }
}
