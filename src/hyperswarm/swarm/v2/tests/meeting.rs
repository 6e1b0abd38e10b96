//! How long two members take to meet, alone and under attack (RELIABILITY 33).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::world::{Host, Liar, TOPIC, World};
use crate::codec::v2::{Kind, Message, PeersInput};
use crate::dht::v2::Node;
use crate::testkit::Link;

fn addr(text: &str) -> SocketAddrV4 {
    text.parse().expect("an address")
}

#[test]
fn fifty_of_fifty_pairs_that_start_together_meet_within_two_seconds() {
    let link = Link { delay: Duration::from_micros(200), ..Link::PERFECT };
    let mut times = Vec::new();
    for seed in 0..50 {
        let mut world = World::new(seed, link);
        let (one, other) = (addr("192.0.2.1:5000"), addr("192.0.3.1:5000"));
        world.start(one);
        // Up to a second apart, most of them far less.
        world.network.run(Duration::from_micros(if seed < 40 { seed * 50 } else { seed * 20_000 }));
        world.start(other);
        let met = world.until(Duration::from_secs(60), |world| world.connected(one, other));
        times.push(met.unwrap_or(Duration::from_secs(60)));
    }
    let (worst, bar) = (*times.iter().max().expect("a time"), Duration::from_secs(2));
    let within = times.iter().filter(|time| **time <= bar).count();
    println!("measured {within} of 50 pairs met within 2 s, the last after {worst:?}, bar 50, seed 0..50");
    assert_eq!(within, 50, "{times:?}");
}

const ATTACKER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

fn peers(kind: Kind, topic: [u8; 32], port: u16) -> Message {
    let input = PeersInput { port: Some(port.into()), ..PeersInput::default() };
    let command = Some("peers".to_owned());
    Message { target: Some(topic), command, value: Some(input.encode()), ..Message::new(kind, 1) }
}

fn other_topic(n: u32) -> [u8; 32] {
    let mut topic = [0x55; 32];
    topic[..4].copy_from_slice(&n.to_be_bytes());
    topic
}

/// Announces so much from one host with a token got honestly: a tenth for the topic of the others.
fn announce_much(node: &mut Node, now: std::time::Instant, count: u32) {
    let from = SocketAddrV4::new(ATTACKER, 1000);
    node.handle_datagram(now, from, &peers(Kind::Query, TOPIC.0, 1).encode());
    let answer = std::iter::from_fn(|| node.poll_transmit()).find(|t| t.to == from).expect("an answer");
    let token = Message::decode(&answer.payload).expect("a message").token;
    for n in 0..count {
        let topic = if n % 10 == 0 { TOPIC.0 } else { other_topic(n) };
        let update = Message { token, ..peers(Kind::Update, topic, 10_000 + (n / 10 % 10_000) as u16) };
        node.handle_datagram(now, from, &update.encode());
        assert!(node.poll_transmit().is_some(), "announcement {n} was not taken");
    }
}

/// A DHT node that one host attacks: 20,000 announcements, and 50 nodes with ids beside the topic. They name each other,
/// or addresses of theirs at which nobody answers.
fn attacked(seed: u64, name_nobody: bool) -> World {
    let mut world = World::new(seed, Link::GOOD);
    world.with_dht(|node, now| announce_much(node, now, 20_000));
    for n in 0..50 {
        let liar = Liar::new(world.network.now(), ATTACKER, n, name_nobody, world.dht);
        world.network.add(SocketAddrV4::new(ATTACKER, 5000 + n), Host::Liar(Box::new(liar)));
    }
    world.network.run(Duration::from_secs(30));
    let known = world.with_dht(|node, _| node.table_len());
    assert!(known >= 20, "the liars must surround the topic: {known} known");
    world
}

/// The longest time that two nodes take to meet in such a world, and the most ports of the attacker that one of them
/// dials in a minute.
fn meet_under_attack(name_nobody: bool) -> (Duration, usize) {
    let (mut worst, mut ports) = (Duration::ZERO, 0);
    for seed in 0..5 {
        let mut world = attacked(seed, name_nobody);
        let (one, other) = (addr("192.0.2.1:5000"), addr("192.0.3.1:5000"));
        world.start(one);
        world.network.run(Duration::from_millis(300));
        world.start(other);
        let most = Duration::from_secs(60);
        worst = worst.max(world.until(most, |world| world.connected(one, other)).unwrap_or(most));
        world.network.run(Duration::from_secs(56));
        ports = ports.max(world.member(one).dialled.iter().filter(|addr| *addr.ip() == ATTACKER).count());
    }
    (worst, ports)
}

#[test]
fn two_nodes_meet_though_one_host_surrounds_and_fills_their_topic() {
    let (worst, ports) = meet_under_attack(false);
    println!(
        "check 33: measured {:.2} s until two nodes meet (50 nodes of one host beside the topic, 20,000 announcements, {ports} of its ports dialled in a minute), bar 5, seed 0..5",
        worst.as_secs_f64()
    );
    assert!(worst <= Duration::from_secs(5));
    assert!(ports < 100, "{ports}");
}

#[test]
fn two_nodes_meet_though_one_host_names_nodes_that_never_answer() {
    let (worst, _) = meet_under_attack(true);
    println!(
        "check 33: measured {:.2} s until two nodes meet (50 nodes of one host beside the topic name ever more that are not there), bar 5, seed 0..5",
        worst.as_secs_f64()
    );
    assert!(worst <= Duration::from_secs(5));
}

#[test]
fn an_honest_record_survives_200_000_announcements_of_one_host() {
    let mut world = World::new(1, Link::GOOD);
    let (one, other) = (addr("192.0.2.1:5000"), addr("192.0.3.1:5000"));
    world.start(one);
    world.network.run(Duration::from_secs(5));
    world.with_dht(|node, now| announce_much(node, now, 200_000));
    // The record has to be there: the other cannot be found by the one, who looks up rarely now.
    world.start(other);
    let met = world.until(Duration::from_secs(60), |world| world.connected(one, other));
    let met = met.unwrap_or(Duration::from_secs(60));
    println!(
        "check 33: measured {:.2} s to find an honest record after 200,000 announcements of one host, bar 5, seed 1",
        met.as_secs_f64()
    );
    assert!(met <= Duration::from_secs(5));
}
