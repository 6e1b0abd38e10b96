use super::*;
use crate::node::legacy::Dialect;

fn channel() -> Purpose {
    Purpose::Channel("test1".to_owned())
}

const FILE: Sha1 = Sha1([0xab; 20]);

fn seek(sim: &mut Simulation, machine: usize) -> SeekId {
    let now = sim.now;
    let seek = sim.machines[machine].swarm.seek(now, FILE, now + Duration::from_secs(4)).expect("room");
    sim.deliver();
    seek
}

fn seekings(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Seeking { .. })).count()
}

#[test]
fn a_seeking_goes_along_a_chain_and_the_answer_comes_back() {
    for protocol in Protocol::ALL {
        let mut sim = Simulation::of(3, protocol, &channel());
        sim.join(0, 1);
        sim.join(1, 2);
        sim.run(Duration::from_secs(2));
        seek(&mut sim, 0);
        let dialect = protocol.dialect(Style::Spki).unwrap();
        let asked = Event::Seeking { from: sim.id(0, Style::Spki), dialect, sha1: FILE };
        assert!(sim.take_events(2).contains(&asked));
        assert!(sim.take_events(1).contains(&asked));
        let now = sim.now;
        sim.machines[2].swarm.provide(now, Style::Spki, FILE, 4321);
        sim.deliver();
        let from = sim.id(2, Style::Spki);
        let by = sim.id(1, Style::Spki);
        let answer = Event::Providing { from, by, dialect, sha1: FILE, size: 4321 };
        assert_eq!(sim.take_events(0).iter().filter(|event| **event == answer).count(), 1);
        assert_eq!(sim.machines.iter().map(|m| m.closed.len()).sum::<usize>(), 0);
    }
}

#[test]
fn in_a_full_mesh_everybody_hears_a_seeking_once() {
    for protocol in Protocol::ALL {
        let mut sim = Simulation::of(5, protocol, &channel());
        for a in 0..5 {
            for b in a + 1..5 {
                sim.join(a, b);
            }
        }
        sim.run(Duration::from_secs(2));
        seek(&mut sim, 0);
        assert_eq!(seekings(&sim.take_events(0)), 0, "nobody answers itself");
        for machine in 1..5 {
            assert_eq!(seekings(&sim.take_events(machine)), 1);
        }
    }
}

/// A laboratory on one machine has one processor for all its daemons, and an answer of every provider to every search.
#[test]
fn in_a_crowded_channel_everybody_checks_a_message_once_however_many_copies_come() {
    const MEMBERS: u8 = 24;
    for protocol in Protocol::ALL {
        let mut sim = Simulation::of(MEMBERS, protocol, &channel());
        for a in 0..usize::from(MEMBERS) {
            for b in 0..a {
                sim.dial(a, b, false);
            }
        }
        sim.run(Duration::from_secs(2));
        let (checked, others) = (sim.checked, usize::from(MEMBERS) - 1);
        seek(&mut sim, 0);
        let checked = sim.checked - checked;
        println!(
            "check 30: measured {checked} checks of one message by {others} members, bar {others}, seed none"
        );
        assert_eq!(checked, others, "{protocol:?}");
    }
}

#[test]
fn nothing_passes_between_the_two_styles_of_one_topic() {
    // 0 and 2 are of both styles (ours), but the connections 0-1 and 1-2 differ in style.
    let mut sim = Simulation::of(3, Protocol::KacheryP2p3, &channel());
    sim.join(1, 2);
    sim.run(Duration::from_secs(2));
    // uTP with a remembered style makes the pair 0-1 speak the short form.
    let remote = "192.0.2.1:4000".parse().unwrap();
    sim.machines[0].swarm.connections.remember_style(remote, Style::Hypersign);
    sim.dial(0, 1, true);
    assert_eq!(sim.peers(0), [sim.id(1, Style::Hypersign)]);
    seek(&mut sim, 0);
    assert_eq!(seekings(&sim.take_events(1)), 1);
    assert_eq!(seekings(&sim.take_events(2)), 0, "2 could not check the signature");
}

#[test]
fn a_peer_that_connects_during_a_search_is_asked_too() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
    let search = seek(&mut sim, 0);
    sim.run(Duration::from_secs(3));
    sim.join(0, 1);
    assert_eq!(seekings(&sim.take_events(1)), 1, "on two sockets, but once");
    sim.machines[0].swarm.cancel_seek(search);
    let late = sim.add(3, Protocol::Daemon02, channel());
    sim.join(0, late);
    assert_eq!(seekings(&sim.take_events(late)), 0, "cancelled");
}

#[test]
fn a_search_ends_with_its_time() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
    seek(&mut sim, 0);
    sim.run(Duration::from_secs(4));
    assert!(sim.machines[0].swarm.seeks.is_empty());
    sim.join(0, 1);
    assert_eq!(seekings(&sim.take_events(1)), 0);
}

#[test]
fn searches_are_bounded() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &channel());
    let now = sim.now;
    let until = now + Duration::from_secs(4);
    for _ in 0..limits::SWARM_SEEKS_MAX {
        assert!(sim.machines[0].swarm.seek(now, FILE, until).is_some());
    }
    assert!(sim.machines[0].swarm.seek(now, FILE, until).is_none());
}

#[test]
fn the_style_of_an_answer_is_that_of_the_seeker() {
    let mut sim = Simulation::of(2, Protocol::KacheryP2p3, &channel());
    let remote = "192.0.2.1:4000".parse().unwrap();
    sim.machines[0].swarm.connections.remember_style(remote, Style::Hypersign);
    sim.dial(0, 1, true);
    seek(&mut sim, 0);
    let from = sim.id(0, Style::Hypersign);
    assert!(sim.take_events(1).contains(&Event::Seeking { from, dialect: Dialect::V012, sha1: FILE }));
}

#[test]
fn a_neighbour_that_does_not_read_loses_relayed_messages_and_is_closed_at_the_limit() {
    let mut sim = Simulation::of(3, Protocol::Daemon02, &channel());
    sim.join(0, 1);
    sim.join(1, 2);
    sim.machines[1].stuck = true;
    let one = 600 + 200;
    let mut dropped = 0;
    for round in 0..limits::CONNECTION_QUEUE_RELAY / one + 100 {
        let now = sim.now;
        let file = Sha1([(round % 251) as u8; 20]);
        let search = sim.machines[0].swarm.seek(now, file, now + Duration::from_secs(1)).unwrap();
        sim.machines[0].swarm.cancel_seek(search);
        sim.deliver();
        dropped += sim.take_events(1).iter().filter(|e| matches!(e, Event::Dropped { .. })).count();
    }
    assert!(dropped > 0, "relaying stopped");
    let queued: usize = sim.machines[1].unwritten.iter().map(|(_, weight)| weight).sum();
    assert!(queued <= limits::CONNECTION_QUEUE_RELAY + 2000, "{queued} bytes wait for one neighbour");
    // Its own messages still go until the hard limit, then the connection is given up.
    let now = sim.now;
    for _ in 0..limits::CONNECTION_QUEUE_MAX / 900 + 10 {
        sim.machines[1].swarm.provide(now, Style::Spki, FILE, 1);
        sim.deliver();
    }
    assert!(sim.machines[1].closed.iter().any(|(_, reason)| *reason == CloseReason::Stalled));
}

/// Machine 0 seeks, and machine 1 between it and machine 2 loses this percentage of the first seeking. The seekings that
/// machine 2 has heard after this time.
fn seekings_after(time: Duration, lost: u32, answers: bool) -> usize {
    let mut sim = Simulation::of(3, Protocol::Daemon02, &Purpose::Channel("one".to_owned()));
    sim.join(0, 1);
    sim.join(1, 2);
    sim.machines[1].loses = Some((lost, rand::SeedableRng::seed_from_u64(1)));
    let (now, sha1) = (sim.now, Sha1([7; 20]));
    sim.machines[0].swarm.seek(now, sha1, now + Duration::from_secs(60));
    sim.deliver();
    sim.machines[1].loses = None;
    if answers {
        sim.machines[2].swarm.provide(now, Style::Spki, sha1, 5);
    }
    sim.run(time);
    sim.take_events(2).iter().filter(|event| matches!(event, Event::Seeking { .. })).count()
}

#[test]
fn a_seeking_that_was_lost_at_a_relay_is_sent_once_more() {
    assert_eq!(seekings_after(Duration::from_millis(2900), 100, false), 0);
    assert_eq!(seekings_after(Duration::from_millis(3100), 100, false), 1);
    assert_eq!(seekings_after(Duration::from_secs(59), 100, false), 1);
}

#[test]
fn a_seeking_that_was_answered_is_not_sent_again() {
    assert_eq!(seekings_after(Duration::from_secs(59), 0, true), 1);
}
