//! One address takes all places of a swarm, and others still get theirs.

use super::hostile::{broadcast, envelope, greet, node, own_transfer};
use super::*;
use serde_json::json;

const STRANGERS: &str = "192.0.2.9:4000";
const ELSEWHERE: &str = "192.0.2.7:4000";

/// A connection of the node of this seed at this address.
fn join(sim: &mut Simulation, seed: u8, address: &str) -> ConnectionId {
    let connection = sim.open_from(0, address);
    greet(sim, connection, seed);
    connection
}

/// The node of this seed makes one more request.
fn ask(sim: &mut Simulation, connection: ConnectionId, seed: u8, number: usize) {
    let sha1 = Sha1([7; 20]).to_string();
    let request = json!({
        "type": "requestToNode", "toNodeId": node(1).to_string(), "requestId": format!("r{number}"),
        "requestBody": {"type": "downloadFile", "fileKey": {"sha1": sha1}, "startByte": 0, "endByte": 1_000_000},
    });
    sim.write(0, connection, &envelope(seed, &broadcast(seed, seed, &format!("m{number}"), &request)));
}

/// So many identities at one address ask for all that they may; none reads.
fn filled_by(identities: u8) -> Simulation {
    let mut sim = own_transfer();
    let each = limits::NODE_REQUESTS_MAX.min(limits::SWARM_REQUESTS_MAX / usize::from(identities) + 1);
    for seed in 100..100 + identities {
        let connection = join(&mut sim, seed, STRANGERS);
        (0..each).for_each(|number| ask(&mut sim, connection, seed, number));
    }
    assert_eq!(sim.machines[0].swarm.serving(), limits::SWARM_REQUESTS_MAX);
    sim.take_events(0);
    sim
}

/// An honest node makes so many requests; how many of them are served.
fn served(sim: &mut Simulation, seed: u8, address: &str, requests: usize) -> usize {
    let connection = join(sim, seed, address);
    (0..requests).for_each(|number| ask(sim, connection, seed, number));
    assert_eq!(sim.machines[0].swarm.serving(), limits::SWARM_REQUESTS_MAX);
    let of_seed = |key: &RequestKey| key.from == node(seed);
    let events = sim.take_events(0);
    let begun = events.iter().filter(|e| matches!(e, Event::Requested { key, .. } if of_seed(key))).count();
    let lost = events.iter().filter(|e| matches!(e, Event::RequestAbandoned(key) if of_seed(key))).count();
    begun - lost
}

#[test]
fn an_asker_from_elsewhere_finds_room_however_many_identities_of_one_address_fill_all_places() {
    for identities in [12, 40] {
        let mut sim = filled_by(identities);
        assert_eq!(served(&mut sim, 8, ELSEWHERE, 8), 8, "{identities} identities");
        assert_eq!(served(&mut sim, 9, "192.0.2.8:4000", 8), 8, "{identities} identities, another");
    }
}

#[test]
fn an_asker_at_the_address_that_fills_all_places_finds_room_too() {
    for identities in [12, 40] {
        let mut sim = filled_by(identities);
        assert_eq!(served(&mut sim, 8, STRANGERS, 3), 3, "{identities} identities");
    }
}

#[test]
fn a_request_that_gives_way_hears_busy_and_is_abandoned() {
    let mut sim = own_transfer();
    let connections: Vec<_> = (100..108).map(|seed| join(&mut sim, seed, STRANGERS)).collect();
    for (seed, connection) in (100..).zip(&connections) {
        (0..limits::NODE_REQUESTS_MAX).for_each(|number| ask(&mut sim, *connection, seed, number));
    }
    connections.iter().for_each(|connection| drop(sim.read(*connection)));
    sim.take_events(0);
    let connection = join(&mut sim, 8, ELSEWHERE);
    ask(&mut sim, connection, 8, 0);
    let gone = |event: Event| if let Event::RequestAbandoned(key) = event { Some(key) } else { None };
    let gone: Vec<_> = sim.take_events(0).into_iter().filter_map(gone).collect();
    assert_eq!(gone.iter().map(|key| key.from).collect::<Vec<_>>(), [node(100)], "served longest ago");
    let told = sim.read(connections[0]);
    assert_eq!(told.last().unwrap()["body"]["body"]["message"]["messageBody"]["errorString"], BUSY);
}

#[test]
fn an_address_gets_no_more_than_its_share_from_another_one() {
    let mut sim = filled_by(12);
    for seed in 10..10 + (limits::SWARM_REQUESTS_MAX / limits::NODE_REQUESTS_MAX) as u8 {
        let connection = join(&mut sim, seed, ELSEWHERE);
        (0..limits::NODE_REQUESTS_MAX).for_each(|number| ask(&mut sim, connection, seed, number));
    }
    let of_strangers = |from: NodeId| (100..112).any(|seed| from == node(seed));
    let gave_way = |event: &Event| matches!(event, Event::RequestAbandoned(key) if of_strangers(key.from));
    let gave_way = sim.take_events(0).into_iter().filter(gave_way).count();
    assert_eq!(gave_way, limits::SWARM_REQUESTS_MAX / 2);
}
