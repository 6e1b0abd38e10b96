//! Floods, forgeries, and a host that would have a topic for itself (RELIABILITY 11, 12 and 33).

use rand::RngExt;

use super::*;
use crate::codec::v4::{Announce, Handshake, Holepunch, List, Mode, encode_nat_port, encode_ping_delay};
use crate::crypto::blake2b_256;
use crate::limits::UNVALIDATED_BURST_BYTES;

const VICTIM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(17, 0, 0, 1), 5000);

/// A node with everything that makes replies long, and a server of its own.
fn generous() -> (Hyperdht, Instant, Target) {
    let now = Instant::now();
    let Config { node, unix_time } = config(&[], Persistence::Persistent);
    let nodes = (1..40).map(addr).collect();
    let node = v4::Config { public: Some(addr(0)), nodes, ..node };
    let mut dht = Hyperdht::new(now, Config { node, unix_time }, seed(1));
    let mut rng = StdRng::from_seed([1; 32]);
    for n in 0..60 {
        dht.kept(now).keep_unsigned(now, addr(n), TOPIC, blake2b_256(&[&[n as u8]]), &mut rng);
    }
    // The victim announced itself, and was not heard for so long that this is no proof any more.
    dht.kept(now).keep_unsigned(now, VICTIM, hash_of(&keys(2)), keys(2).public().0, &mut rng);
    let long = [7; 1024];
    let write = storage::Write { from: addr(1), target: blake2b_256(&[&long]), token: [0; 32], value: &long };
    assert!(dht.kept(now).put_immutable(&write));
    let put = announcement::put_mutable(&keys(1), 1, &long);
    let write = storage::Write { target: hash_of(&keys(1)), value: &put, ..write };
    assert_eq!(dht.kept(now).put_mutable(&write), Some(ErrorCode::NONE));
    let target = dht.listen(now, keys(3)).expect("not yet");
    (dht, now, target)
}

/// A hundred datagrams a second for two minutes, in anybody's name: the most bytes in a minute to the victim beyond
/// three times what came from there. The owner answers every handshake and holepunch message.
fn flood(name: &str, source: impl Fn(u64) -> SocketAddrV4, requests: &[Request<'_>]) -> u64 {
    let (mut dht, start, _) = generous();
    let datagrams: Vec<Vec<u8>> = requests.iter().map(|request| encoded(|out| request.encode(out))).collect();
    while dht.poll_transmit().is_some() {}
    let (mut received, mut sent) = (vec![0u64; 120], vec![0u64; 120]);
    for n in 0..12_000u64 {
        let (second, now) = ((n / 100) as usize, start + Duration::from_millis(n * 10));
        let bytes = &datagrams[n as usize % datagrams.len()];
        let from = source(n);
        dht.handle_datagram(now, SERVER, from, bytes);
        if dht.poll_timeout().is_some_and(|due| due <= now) {
            dht.handle_timeout(now);
        }
        received[second] += if from == VICTIM { bytes.len() as u64 } else { 0 };
        while let Some(event) = dht.poll_event() {
            match event {
                Event::Handshake(message) => dht.reply_handshake(now, &message, &[1; 300], None),
                Event::Holepunch(message) => dht.reply_holepunch(now, &message, &[1; 300], None),
                _ => {}
            }
        }
        let to_victim = std::iter::from_fn(|| dht.poll_transmit()).filter(|sent| sent.to.ip() == VICTIM.ip());
        sent[second] += to_victim.map(|transmit| transmit.payload.len() as u64).sum::<u64>();
    }
    let minute = |start: usize| {
        let (input, output): (u64, u64) =
            (received[start..start + 60].iter().sum(), sent[start..start + 60].iter().sum());
        output.saturating_sub(3 * input)
    };
    let worst = (0..=60).map(minute).max().expect("a minute");
    println!(
        "check 11: measured {worst} bytes beyond 3 times the input in the worst minute ({name}), bar 16384, seed 1"
    );
    assert!(worst <= 16 * 1024, "{name}");
    worst
}

fn plain(command: Command) -> Request<'static> {
    Request::new(7, addr(0), command)
}

#[test]
fn a_flood_of_requests_in_the_victims_name_gains_little() {
    let long = blake2b_256(&[&[7; 1024]]);
    let (port, delay) = (encode_nat_port(5001), encode_ping_delay(SECOND));
    let hint = crate::codec::v4::encode_down_hint(addr(1));
    let value = encoded(|out| Announce::default().encode(out));
    let bad = Request { token: Some([1; 32]), ..request(Command::ANNOUNCE, TOPIC, Some(&value)) };
    let (unknown, external) =
        (Command { internal: true, number: 99 }, Command { internal: false, number: 99 });
    let kinds = [
        ("ping", plain(Command::PING)),
        ("ping_nat", Request { value: Some(&port), ..plain(Command::PING_NAT) }),
        ("delayed_ping", Request { value: Some(&delay), ..plain(Command::DELAYED_PING) }),
        ("down_hint", Request { value: Some(&hint), ..plain(Command::DOWN_HINT) }),
        ("find_node", request(Command::FIND_NODE, TOPIC, None)),
        ("lookup", request(Command::LOOKUP, TOPIC, None)),
        ("find_peer", request(Command::FIND_PEER, hash_of(&keys(2)), None)),
        ("mutable_get", request(Command::MUTABLE_GET, hash_of(&keys(1)), Some(&[0]))),
        ("immutable_get", request(Command::IMMUTABLE_GET, long, None)),
        ("announce with a bad token", bad),
        ("unknown", request(unknown, TOPIC, None)),
        ("unknown of hyperdht", request(external, TOPIC, None)),
    ];
    for (name, request) in kinds {
        let gained = flood(name, |_| VICTIM, &[request]);
        let long = ["lookup", "mutable_get", "immutable_get"].contains(&name);
        assert!(
            !long || gained > u64::from(UNVALIDATED_BURST_BYTES) / 2,
            "{name} is answered at first: {gained}"
        );
    }
}

#[test]
fn messages_to_pass_on_cannot_be_aimed_at_a_victim() {
    let (noise, peer_address) = ([7; 900], Some(VICTIM));
    let shake = |mode, peer_address, relay_address| {
        encoded(|out| Handshake { mode, noise: &noise, peer_address, relay_address }.encode(out))
    };
    let punch = |mode| encoded(|out| Holepunch { mode, id: 0, payload: &noise, peer_address }.encode(out));
    let (announced, own) = (hash_of(&keys(2)), hash_of(&keys(3)));
    let to_relay = shake(Mode::FROM_CLIENT, None, None);
    let named = shake(Mode::FROM_CLIENT, None, Some(VICTIM));
    let from_server = shake(Mode::FROM_SERVER, peer_address, None);
    let (to_peer, punched) = (punch(Mode::FROM_CLIENT), punch(Mode::FROM_SERVER));
    let second = shake(Mode::FROM_SECOND_RELAY, Some(addr(9)), Some(VICTIM));
    let first = shake(Mode::FROM_RELAY, Some(addr(9)), None);
    let punched_relay = punch(Mode::FROM_RELAY);
    let (handshake, holepunch) = (Command::PEER_HANDSHAKE, Command::PEER_HOLEPUNCH);
    let kinds = [
        ("handshake for who announced itself", request(handshake, announced, Some(&to_relay))),
        ("handshake with a named relay", request(handshake, TOPIC, Some(&named))),
        ("answer of a server", request(handshake, TOPIC, Some(&from_server))),
        ("holepunch message with a named peer", request(holepunch, TOPIC, Some(&to_peer))),
        ("holepunch answer of a server", request(holepunch, TOPIC, Some(&punched))),
        ("handshake from a second relay", request(handshake, own, Some(&second))),
    ];
    // Each datagram comes from somewhere else, and now and then one from the victim, so that it was heard lately.
    let source = |n: u64| if n.is_multiple_of(101) { VICTIM } else { addr(100 + n as usize) };
    for (name, request) in kinds {
        flood(name, source, &[request, plain(Command::PING)]);
    }
    // The answer of a server of our own goes to the relay that brought the message: the sender.
    let kinds = [
        ("handshake from a relay", request(handshake, own, Some(&first))),
        ("holepunch message from a relay", request(holepunch, own, Some(&punched_relay))),
    ];
    for (name, request) in kinds {
        flood(name, |_| VICTIM, &[request]);
    }
}

#[test]
fn forged_replies_are_never_accepted() {
    let (mut dht, now) = alone();
    let nodes = vec![addr(1)];
    let Config { node, unix_time } = config(&[], Persistence::Ephemeral);
    dht.node = Node::new(now, v4::Config { nodes, ..node }, seed(2));
    dht.unix_time = unix_time;
    let id = dht.find_peer(now, hash_of(&keys(1)), &[]);
    let sent: Vec<_> = std::iter::from_fn(|| dht.poll_transmit()).collect();
    while dht.poll_event().is_some() {}
    let Ok(Packet::Request(asked)) = Packet::decode(&sent.last().expect("a request").payload) else {
        panic!("a reply")
    };
    let record = announcement::encode_peer(&keys(1).public().0, &[]);
    let (mut rng, mut accepted) = (StdRng::from_seed(seed(12)), 0);
    for _ in 0..100_000 {
        // The forger knows the request id and the host but not the port, or the address but not the id, or guesses all.
        let (from, tid) = match rng.random_range(0..4) {
            0 => (SocketAddrV4::new(*addr(1).ip(), rng.random()), asked.tid),
            1 => (SocketAddrV4::new(rng.random::<u32>().into(), addr(1).port()), asked.tid),
            2 => (addr(1), rng.random()),
            _ => (SocketAddrV4::new(rng.random::<u32>().into(), rng.random()), rng.random()),
        };
        let ids: Vec<u16> = sent.iter().filter_map(|sent| tid_of(&sent.payload)).collect();
        if from == addr(1) && ids.contains(&tid) {
            continue;
        }
        let forged = Reply {
            id: Some(node_id(from)),
            token: Some([1; 32]),
            value: Some(&record),
            ..Reply::new(tid, addr(0))
        };
        dht.handle_datagram(now, CLIENT, from, &encoded(|out| forged.encode(out)));
        accepted += std::iter::from_fn(|| dht.poll_event()).count();
        accepted += std::iter::from_fn(|| dht.poll_transmit()).count();
    }
    println!("check 12: measured {accepted} of 100000 forged replies accepted, bar 0, seed 12");
    assert_eq!(accepted, 0);
    let good = Reply { id: Some(node_id(addr(1))), value: Some(&record), ..Reply::new(asked.tid, addr(0)) };
    dht.handle_datagram(now, CLIENT, addr(1), &encoded(|out| good.encode(out)));
    let found =
        std::iter::from_fn(|| dht.poll_event()).any(|event| matches!(event, Event::Peer(of, _) if of == id));
    assert!(found, "the real answer still counts");
}

fn tid_of(datagram: &[u8]) -> Option<u16> {
    match Packet::decode(datagram).ok()? {
        Packet::Request(request) => Some(request.tid),
        Packet::Reply(_) => None,
    }
}

const ATTACKER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// The ports of the attacker at which nodes are nearest to the topic.
fn nearest_ports() -> Vec<SocketAddrV4> {
    let mut all: Vec<SocketAddrV4> = (1024..60_000).map(|port| SocketAddrV4::new(ATTACKER, port)).collect();
    all.sort_by_cached_key(|addr| NodeId(node_id(*addr)).distance(&TOPIC));
    all.truncate(50);
    all
}

/// A network that one host attacks: 50 nodes beside the topic, which name each other and store nothing, and announcements
/// of its own at the twenty nodes nearest to the topic besides, a tenth of them for the topic.
fn attacked(network_seed: u64, announcements: u32) -> Network<Host> {
    let mut network =
        network(40, network_seed, Link { delay: Duration::from_millis(20), loss: 0.01, ..Link::PERFECT });
    let liars = nearest_ports();
    for (n, at) in liars.iter().enumerate() {
        let dht = Hyperdht::new(network.now(), config(&[], Persistence::Ephemeral), seed(n as u64));
        let liar = Some(Liar { others: liars.clone(), out: VecDeque::new() });
        network.add(*at, Host { dht, client: *at, server: *at, liar });
    }
    let mut honest: Vec<SocketAddrV4> = (0..40).map(addr).collect();
    honest.sort_by_key(|addr| NodeId(node_id(*addr)).distance(&TOPIC));
    for (n, to) in honest.iter().enumerate() {
        for liar in &liars {
            let ping = Request { id: Some(node_id(*liar)), ..Request::new(7, *to, Command::PING) };
            network.inject(*liar, *to, encoded(|out| ping.encode(out)).into());
        }
        let mut rng = StdRng::from_seed(seed(network_seed));
        network.with(*to, |host, now| {
            for n in 0..if n < 20 { announcements } else { 0 } {
                let name = if n % 10 == 0 { TOPIC } else { blake2b_256(&[&(n / 7).to_le_bytes()]) };
                let key = blake2b_256(&[&n.to_le_bytes(), b"key"]);
                let from = SocketAddrV4::new(ATTACKER, 1000);
                host.dht.kept(now).keep_unsigned(now, from, name, key, &mut rng);
            }
        });
    }
    network.run(MINUTE);
    network
}

/// The time from the beginning of a lookup until it tells of the peer.
fn find(network: &mut Network<Host>, at: SocketAddrV4, key: PublicKey) -> Duration {
    let start = network.now();
    network.with(at, |host, now| host.dht.lookup(now, TOPIC));
    for _ in 0..6000 {
        let found = events(network, at)
            .iter()
            .any(|event| matches!(event, Event::Peer(_, peer) if peer.public_key == key));
        if found {
            return network.now() - start;
        }
        network.run(Duration::from_millis(10));
    }
    MINUTE
}

#[test]
fn two_nodes_meet_though_one_host_surrounds_and_fills_their_topic() {
    let mut worst = Duration::ZERO;
    for network_seed in 0..3 {
        let mut network = attacked(network_seed, 20_000);
        let (one, other) = (addr(100), addr(101));
        for (n, at) in [(100, one), (101, other)] {
            add(&mut network, at, config(&[addr(0)], Persistence::Adaptive), n);
        }
        let start = network.now();
        let (_, outcome) =
            complete(&mut network, one, |dht, now| dht.announce(now, TOPIC, &keys(1), &[], false));
        assert!(outcome.stored > 0);
        find(&mut network, other, keys(1).public());
        worst = worst.max(network.now() - start);
    }
    println!(
        "check 33: measured {:.2} s from joining until one of two nodes has found the other (v4, 50 nodes of one host beside the topic, 20,000 announcements at each of the 20 nearest nodes), bar 5, seed 0..3",
        worst.as_secs_f64()
    );
    assert!(worst <= 5 * SECOND);
}

#[test]
fn an_honest_record_survives_200_000_announcements_of_one_host() {
    let (mut dht, now) = alone();
    let mut rng = StdRng::from_seed(seed(1));
    let honest = (keys(1).public().0, hash_of(&keys(1)));
    dht.kept(now).keep_unsigned(now, addr(1), TOPIC, honest.0, &mut rng);
    dht.kept(now).keep_unsigned(now, addr(1), honest.1, honest.0, &mut rng);
    for n in 0..200_000u32 {
        let from = SocketAddrV4::new(ATTACKER, 1000);
        let key = blake2b_256(&[&n.to_le_bytes()]);
        let name = match n % 10 {
            0 => TOPIC,
            1..5 => blake2b_256(&[&key]),
            _ => blake2b_256(&[&(n / 7).to_le_bytes()]),
        };
        dht.kept(now).keep_unsigned(now, from, name, key, &mut rng);
    }
    let value = read(&mut dht, now, Command::LOOKUP, TOPIC).expect("known");
    let found = crate::codec::v4::LookupReply::decode(&value).expect("a reply");
    let survived = found.peers.iter().any(|peer| peer.public_key == honest.0);
    let forwarded = dht.forward(&honest.1) == Some(addr(1));
    println!(
        "check 33: measured {} of 2 honest records named after 200,000 announcements of one host (v4), bar 2, seed 1",
        u32::from(survived) + u32::from(forwarded)
    );
    assert!(survived && forwarded);
}

/// A node that names its fellows and nobody else, and confirms everything without storing it.
pub(super) struct Liar {
    others: Vec<SocketAddrV4>,
    pub(super) out: VecDeque<(SocketAddrV4, Bytes)>,
}

impl Liar {
    pub(super) fn handle_datagram(&mut self, own: SocketAddrV4, from: SocketAddrV4, bytes: &[u8]) {
        let Ok(Packet::Request(request)) = Packet::decode(bytes) else { return };
        let nearest: Vec<SocketAddrV4> = self.others.iter().copied().take(20).collect();
        let reply = Reply {
            id: Some(node_id(own)),
            token: Some([1; 32]),
            closer_nodes: List::from(nearest.as_slice()),
            ..Reply::new(request.tid, from)
        };
        self.out.push_back((from, encoded(|out| reply.encode(out)).into()));
    }
}
