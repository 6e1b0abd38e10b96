//! Many nodes: finding each other, churn, loss, determinism.

use super::*;
use crate::crypto::v2::hypersign;
use crate::testkit::Traced;
use rand::RngExt;
use std::collections::BTreeSet;

const TOPIC: Topic = Topic([7; 32]);

fn announce(network: &mut Network<Node>, at: SocketAddrV4) -> Outcome {
    let query = network.with(at, |node, now| node.announce(now, TOPIC, 0)).expect("there");
    finish(network, at, query).1
}

fn lookup(network: &mut Network<Node>, at: SocketAddrV4) -> (Vec<Peer>, Outcome) {
    let query = network.with(at, |node, now| node.lookup(now, TOPIC)).expect("there");
    finish(network, at, query)
}

#[test]
fn a_lookup_finds_who_announced() {
    let mut network = network(10, 1, Link::GOOD);
    assert_eq!(announce(&mut network, addr(3)), Outcome { answered: 9, updated: 9, failed: false });
    let (peers, outcome) = lookup(&mut network, addr(8));
    assert_eq!(found(&peers), [addr(3)].into());
    assert_eq!((outcome.updated, outcome.failed), (0, false));
    let peer = peers[0];
    assert!(peer.to == Some(addr(8)) && peer.referrer != addr(8));
}

#[test]
fn whoever_announces_does_not_find_itself() {
    let mut network = network(10, 1, Link::GOOD);
    announce(&mut network, addr(3));
    let query = network.with(addr(3), |node, now| node.announce(now, TOPIC, 0)).expect("there");
    assert!(finish(&mut network, addr(3), query).0.is_empty());
}

#[test]
fn a_port_of_ones_own_can_be_announced() {
    let mut network = network(10, 1, Link::GOOD);
    let query = network.with(addr(3), |node, now| node.announce(now, TOPIC, 999)).expect("there");
    finish(&mut network, addr(3), query);
    let (peers, _) = lookup(&mut network, addr(8));
    assert_eq!(found(&peers), [SocketAddrV4::new(*addr(3).ip(), 999)].into());
}

#[test]
fn who_unannounced_is_not_found() {
    let mut network = network(10, 1, Link::GOOD);
    announce(&mut network, addr(3));
    let query = network.with(addr(3), |node, now| node.unannounce(now, TOPIC, 0)).expect("there");
    let (peers, outcome) = finish(&mut network, addr(3), query);
    assert_eq!((peers.len(), outcome.updated, outcome.failed), (0, 9, false));
    assert!(lookup(&mut network, addr(8)).0.is_empty());
}

#[test]
fn an_announcement_not_repeated_is_forgotten_after_16_minutes() {
    let mut network = network(10, 1, Link::GOOD);
    announce(&mut network, addr(3));
    network.run(Duration::from_secs(7 * 60));
    assert_eq!(found(&lookup(&mut network, addr(8)).0), [addr(3)].into());
    network.run(Duration::from_secs(9 * 60));
    assert!(lookup(&mut network, addr(8)).0.is_empty());
}

#[test]
fn an_announcement_goes_to_the_20_closest_of_100_and_to_the_bootstrap_node() {
    let mut network = network(100, 2, Link::GOOD);
    assert_eq!(announce(&mut network, addr(33)).updated, 21);
    let mut by_distance: Vec<SocketAddrV4> = network.addresses();
    by_distance.retain(|at| *at != addr(33) && *at != addr(0));
    by_distance.sort_by_key(|at| network.machine(*at).expect("there").id().distance(&TOPIC.0));
    let mut holders = BTreeSet::new();
    for at in network.addresses() {
        let holds = network.machine(at).is_some_and(|node| node.storage.poll_timeout().is_some());
        if holds {
            holders.insert(at);
        }
    }
    let nearest: BTreeSet<SocketAddrV4> = by_distance.into_iter().take(20).collect();
    let right = holders.intersection(&nearest).count();
    assert!(
        holders.len() == 21 && holders.contains(&addr(0)) && right >= 19,
        "{right} of the 20 closest nodes hold it"
    );
}

/// 48 nodes beside the topic, on 12 hosts of 12 networks.
fn hiders() -> impl Iterator<Item = (SocketAddrV4, NodeId)> {
    (0..48u8).map(|n| {
        let mut id = TOPIC.0;
        id[31] ^= n + 1;
        (SocketAddrV4::new(Ipv4Addr::new(10, 1 + n % 12, 0, 9), 5000 + u16::from(n)), NodeId(id))
    })
}

/// A persistent node with an id of its choice.
fn node_with_id(now: Instant, id: NodeId) -> Node {
    let mut node = Node::new(now, config(&[], Ephemeral::Never), id.0);
    (node.id, node.table) = (id, Table::new(id));
    node.set_bootstrap(now, config(&[addr(0)], Ephemeral::Never).bootstrap);
    node
}

#[test]
fn nodes_beside_a_topic_that_keep_nothing_do_not_hide_it_from_those_who_share_a_bootstrap_node() {
    let seeds = 0..5;
    let mut met = 0;
    for seed in seeds.clone() {
        let mut network = network(40, seed, Link::GOOD);
        for (at, id) in hiders() {
            let node = node_with_id(network.now(), id);
            network.add(at, node);
            network.run(Duration::from_millis(100));
        }
        network.run(Duration::from_secs(60));
        announce(&mut network, addr(3));
        let mut hid = 0;
        for (at, _) in hiders() {
            network.with(at, |node, now| {
                hid += usize::from(node.storage.poll_timeout().is_some());
                node.storage = Storage::new(now);
            });
        }
        assert!(hid >= 20, "seed {seed}: only {hid} hiders were told");
        met += usize::from(found(&lookup(&mut network, addr(8)).0) == [addr(3)].into());
    }
    println!(
        "check 33: measured {met} of 5 lookups that meet the announcer beside 48 polite hiding nodes on 12 hosts, bar 5, seed {seeds:?}"
    );
    assert_eq!(met, 5);
}

#[test]
fn ephemeral_nodes_find_each_other_and_are_nobodys_contacts() {
    let mut network = network(10, 3, Link::GOOD);
    for n in [50, 51] {
        let node = Node::new(network.now(), config(&[addr(0)], Ephemeral::Always), seed(n));
        network.add(addr(n as usize), node);
    }
    network.run(Duration::from_secs(10));
    announce(&mut network, addr(50));
    assert_eq!(found(&lookup(&mut network, addr(51)).0), [addr(50)].into());
    for n in 0..10 {
        assert!(network.machine(addr(n)).expect("there").table_len() <= 9);
    }
}

#[test]
fn a_holepunch_reaches_its_peer_through_the_referrer() {
    let mut network = network(10, 4, Link::GOOD);
    let query = network.with(addr(3), |node, now| node.holepunch(now, addr(8), addr(5))).expect("there");
    network.run(Duration::from_secs(1));
    let reached: Vec<Event> = events(&mut network, addr(3));
    // A to R, R to B, B to A: three times 10 ms.
    let expected = Duration::from_millis(30);
    assert!(
        reached
            .iter()
            .any(|e| matches!(e, Event::Reached(id, Ok(time)) if *id == query && *time == expected)),
        "{reached:?}"
    );
}

#[test]
fn a_ping_of_nobody_fails_after_about_seven_seconds() {
    let mut network = network(3, 4, Link::GOOD);
    let query = network.with(addr(1), |node, now| node.ping(now, addr(99))).expect("there");
    network.run(Duration::from_millis(6700));
    assert!(events(&mut network, addr(1)).iter().all(|e| !matches!(e, Event::Reached(..))));
    network.run(Duration::from_millis(850));
    let failed = |e: &Event| matches!(e, Event::Reached(id, Err(Unreachable)) if *id == query);
    assert!(events(&mut network, addr(1)).iter().any(failed));
}

#[test]
fn values_are_stored_and_found() {
    let mut network = network(30, 5, Link::GOOD);
    let value = Bytes::from_static(b"immutable");
    let put =
        network.with(addr(3), |n, now| n.immutable_put(now, value.clone())).expect("there").expect("short");
    assert_eq!(finish(&mut network, addr(3), put).1.updated, 20);
    let hash = crate::crypto::blake2b_256(&[&value]);
    let get = network.with(addr(9), |n, now| n.immutable_get(now, hash)).expect("there");
    let values = values(&mut network, addr(9), get);
    assert!(values.len() >= 19 && values.iter().all(|v| v.value == value));
    let too_long = network.with(addr(3), |n, now| n.immutable_put(now, vec![0; 1001].into())).expect("there");
    assert_eq!(too_long, Err(hypersign::SignableError::ValueTooLong(1001)));
}

#[test]
fn signed_values_are_stored_renewed_and_found() {
    let mut network = network(30, 6, Link::GOOD);
    let pair = KeyPair::from_seed(&[1; 32]);
    let mut put = |value: &'static str, seq, salt: Option<&'static str>| {
        let (value, salt) = (Bytes::from(value), salt.map(Bytes::from));
        let put = network.with(addr(3), |n, now| n.mutable_put(now, &pair, value, seq, salt));
        finish(&mut network, addr(3), put.expect("there").expect("short")).1
    };
    assert_eq!(put("first", 1, None).updated, 20);
    assert_eq!(put("salted", 5, Some("salt")).updated, 20);
    assert_eq!(put("second", 2, None).updated, 20);
    let refused = put("older", 1, None);
    assert!(refused.failed && refused.updated == 0, "{refused:?}");
    let mut get = |seq, salt: Option<&'static str>| {
        let salt = salt.map(Bytes::from);
        let get =
            network.with(addr(9), |n, now| n.mutable_get(now, pair.public(), salt, seq)).expect("there");
        values(&mut network, addr(9), get)
    };
    assert!(get(0, None).iter().all(|v| v.value == "second" && v.seq == 2));
    assert!(get(2, None).len() >= 19);
    assert!(get(3, None).is_empty());
    assert!(get(0, Some("salt")).iter().all(|v| v.value == "salted" && v.seq == 5));
}

fn values(network: &mut Network<Node>, at: SocketAddrV4, query: QueryId) -> Vec<Value> {
    network.run(Duration::from_secs(10));
    let all = events(network, at);
    assert!(all.iter().any(|e| matches!(e, Event::Done(id, _) if *id == query)));
    all.into_iter().filter_map(|e| if let Event::Value(_, value) = e { Some(value) } else { None }).collect()
}

/// A network in which nodes come and go while topics are announced and looked up.
struct Churn {
    network: Network<Node>,
    rng: StdRng,
    alive: Vec<SocketAddrV4>,
    next: usize,
    /// Who announces each topic, and when next.
    topics: Vec<(Topic, SocketAddrV4, Instant)>,
}

impl Churn {
    fn new(nodes: usize, topics: u8, seed: u64) -> Self {
        let mut network = network(nodes, seed, Link::BAD);
        network.run(Duration::from_secs(30));
        let mut rng = StdRng::seed_from_u64(seed);
        let alive: Vec<SocketAddrV4> = (1..nodes).map(addr).collect();
        // Two announcers for each topic.
        let topics = (0..2 * topics)
            .map(|n| (Topic([n / 2; 32]), alive[rng.random_range(0..alive.len())], network.now()))
            .collect();
        Self { network, rng, alive, next: nodes, topics }
    }

    /// One node leaves without a word, another comes. An announcer that left is replaced by the newcomer.
    fn replace_one(&mut self) {
        let gone = self.alive.swap_remove(self.rng.random_range(0..self.alive.len()));
        self.network.remove(gone);
        let (at, n) = (addr(self.next), self.next as u64);
        self.next += 1;
        let node = Node::new(self.network.now(), config(&[addr(0)], Ephemeral::Never), seed(n << 20));
        self.network.add(at, node);
        self.alive.push(at);
        for (_, announcer, due) in &mut self.topics {
            if *announcer == gone {
                // It announces when it has bootstrapped.
                (*announcer, *due) = (at, self.network.now() + Duration::from_secs(10));
            }
        }
    }

    fn announce_due(&mut self) {
        let now = self.network.now();
        for (topic, at, due) in &mut self.topics {
            if *due <= now {
                self.network.with(*at, |node, now| node.announce(now, *topic, 0));
                *due = now + Duration::from_secs(300 + self.rng.random_range(0..300));
            }
        }
    }

    /// Looks a random topic up from a random node; whether a live announcer was among the peers found.
    fn lookup(&mut self) -> bool {
        let at = self.alive[self.rng.random_range(0..self.alive.len())];
        let (topic, ..) = self.topics[self.rng.random_range(0..self.topics.len())];
        let announcers: Vec<_> = self.topics.iter().filter(|t| t.0 == topic).map(|t| t.1).collect();
        events(&mut self.network, at);
        let query = self.network.with(at, |node, now| node.lookup(now, topic)).expect("alive");
        let (peers, _) = finish(&mut self.network, at, query);
        announcers.contains(&at) || announcers.iter().any(|a| found(&peers).contains(a))
    }

    /// Runs for ten minutes, replacing `percent` of the nodes; how many of how many lookups succeeded.
    fn ten_minutes(&mut self, percent: usize) -> (usize, usize) {
        let leaving = self.alive.len() * percent / 100;
        let (mut succeeded, mut replaced) = (0, 0);
        self.announce_due();
        self.network.run(Duration::from_secs(20));
        let lookups = 100;
        for n in 0..lookups {
            let until = self.network.now() + Duration::from_millis(5800);
            while replaced < leaving * (n + 1) / lookups {
                self.replace_one();
                replaced += 1;
            }
            self.announce_due();
            succeeded += usize::from(self.lookup());
            let rest = until.saturating_duration_since(self.network.now());
            self.network.run(rest);
        }
        (succeeded, lookups)
    }
}

#[test]
fn one_hundred_nodes_with_churn_and_loss_find_live_announcers() {
    let mut churn = Churn::new(100, 5, 11);
    let (mut succeeded, mut lookups) = (0, 0);
    for _ in 0..2 {
        let (s, l) = churn.ten_minutes(20);
        (succeeded, lookups) = (succeeded + s, lookups + l);
    }
    assert!(succeeded * 100 >= lookups * 99, "seed 11: {succeeded} of {lookups}");
}

#[test]
fn five_hundred_nodes_with_churn_and_loss_find_live_announcers() {
    let mut churn = Churn::new(500, 10, 12);
    let (succeeded, lookups) = churn.ten_minutes(20);
    println!(
        "check 10: measured {succeeded} of {lookups} lookups found a live announcer (500 nodes, 20 % churn, 5 % loss, {} datagrams), bar 99 %, seed 12",
        churn.network.sent()
    );
    assert!(succeeded * 100 >= lookups * 99);
}

/// A small network with everything in it, for a minute of bad weather.
fn scenario(seed: u64) -> Vec<Traced> {
    let mut churn = Churn::new(8, 2, seed);
    churn.network.record();
    churn.announce_due();
    churn.replace_one();
    churn.network.run(Duration::from_secs(10));
    churn.lookup();
    churn.network.with(addr(0), |node, now| node.holepunch(now, addr(1), addr(2)));
    churn.network.with(addr(0), |node, now| node.immutable_put(now, Bytes::from_static(b"value")));
    churn.network.run(Duration::from_secs(50));
    churn.network.trace().to_vec()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut datagrams = 0;
    for seed in 0..20 {
        let trace = scenario(seed);
        datagrams += trace.len();
        assert!(trace.len() > 50 && trace == scenario(seed), "seed {seed}");
        assert!(trace != scenario(seed + 1000), "seed {seed}");
    }
    println!("check 8: measured 20 scenarios with equal traces ({datagrams} datagrams), bar 20, seed 0..20");
}
