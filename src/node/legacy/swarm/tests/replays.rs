//! The texts of `ready` and `keepAlive` are constant in the protocol of 2020: anybody who saw them can show them.

use super::downloads::{FILE, content, received, serve};
use super::hostile::{broadcast, envelope, initial, node, seeking};
use super::*;
use crate::node::legacy::Direction;
use bytes::Bytes;

const IMPOSTORS: usize = 16;
/// Seed of the node that is impersonated; machine 1 of the simulation.
const REAL: u8 = 2;

/// A connection that shows what the real node once said.
fn impostor(sim: &mut Simulation, remote: &str) -> ConnectionId {
    let connection = sim.open_from(0, remote);
    replay(sim, connection);
    connection
}

fn replay(sim: &mut Simulation, connection: ConnectionId) {
    for bytes in
        [initial(REAL), envelope(REAL, "{\"type\":\"ready\"}"), envelope(REAL, "{\"type\":\"keepAlive\"}")]
    {
        sim.write(0, connection, &bytes);
    }
}

/// Impostors on one host of their own, or on that of the real node, or each on another.
fn impostors(sim: &mut Simulation, host: impl Fn(usize) -> String) -> Vec<ConnectionId> {
    (0..IMPOSTORS).map(|at| impostor(sim, &host(at))).collect()
}

fn hosts() -> [fn(usize) -> String; 3] {
    [
        |_| "192.0.2.1:4000".to_owned(),
        |_| "192.0.2.66:4000".to_owned(),
        |at| format!("192.0.2.{}:4000", 10 + at),
    ]
}

/// Bytes of file data among what arrived at these connections.
fn data_at(sim: &mut Simulation, connections: &[ConnectionId]) -> usize {
    let frames: Vec<_> = connections.iter().flat_map(|connection| sim.read(*connection)).collect();
    let data = |frame: &serde_json::Value| {
        let body = &frame["body"]["body"]["message"]["messageBody"]["responseBody"]["data_b64"];
        body.as_str().map_or(0, str::len)
    };
    frames.iter().map(data).sum()
}

#[test]
fn the_real_node_is_served_however_many_impostors_show_its_ready() {
    for host in hosts() {
        let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Transfer(node(1)));
        let before = impostors(&mut sim, host);
        sim.dial(1, 0, false);
        let file = content(300_000);
        let (now, to) = (sim.now, sim.id(0, Style::Spki));
        let id =
            sim.machines[1].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 300_000 });
        sim.deliver();
        let after = impostors(&mut sim, host);
        serve(&mut sim, &file);
        let (bytes, finished) = received(&sim.take_events(1), id);
        assert!(bytes == file && finished, "{}: {} bytes arrived", host(0), bytes.len());
        let stolen = data_at(&mut sim, &before) + data_at(&mut sim, &after);
        println!(
            "check 31: measured served {finished}, {stolen} bytes of data at {} impostors, bar served, 0, seed 0",
            2 * IMPOSTORS
        );
        assert_eq!(stolen, 0, "impostors got data");
    }
}

#[test]
fn the_real_node_is_asked_and_gives_however_many_impostors_show_its_ready() {
    for host in hosts() {
        let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Transfer(node(REAL)));
        let before = impostors(&mut sim, host);
        // Dialled by us: the original's rule would prefer the accepted connections, all of them impostors'.
        sim.dial(0, 1, false);
        impostors(&mut sim, host);
        let (now, to) = (sim.now, sim.id(1, Style::Spki));
        let id = sim.machines[0].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 5 });
        sim.deliver();
        let requested = sim.take_events(1).into_iter().find_map(|event| match event {
            Event::Requested { key, .. } => Some(key),
            _ => None,
        });
        let key = requested.unwrap_or_else(|| panic!("{}: the real node was not asked", host(0)));
        let now = sim.now;
        assert_eq!(
            sim.machines[1].swarm.respond(now, &key, Reply::Data(Bytes::from_static(b"hello"))),
            Room::More
        );
        sim.deliver();
        let (bytes, finished) = received(&sim.take_events(0), id);
        assert!(bytes == b"hello" && finished);
        // From now on it is known which connection is its own.
        before.iter().for_each(|connection| drop(sim.read(*connection)));
        let now = sim.now;
        sim.machines[0].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 5, end: 10 });
        sim.deliver();
        let asks = sim.take_events(1).iter().filter(|event| matches!(event, Event::Requested { .. })).count();
        assert_eq!(asks, 1);
        let copies: usize = sim.outside.values().flatten().filter(|frame| is_request(frame)).count();
        assert_eq!(copies, 0, "what is meant for it goes to nobody else");
    }
}

#[test]
fn the_address_of_a_node_is_where_its_answers_come_from_and_not_that_of_impostors() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Transfer(node(REAL)));
    let to = sim.id(1, Style::Spki);
    assert_eq!(sim.machines[0].swarm.address_of(to), None);
    impostors(&mut sim, |_| "192.0.2.66:4000".to_owned());
    // From 192.0.2.1.
    sim.dial(0, 1, false);
    impostors(&mut sim, |_| "192.0.2.66:4000".to_owned());
    let now = sim.now;
    sim.machines[0].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 5 });
    sim.deliver();
    let requested = sim.take_events(1).into_iter().find_map(|event| match event {
        Event::Requested { key, .. } => Some(key),
        _ => None,
    });
    let answer = Reply::Data(Bytes::from_static(b"hello"));
    let _ = sim.machines[1].swarm.respond(now, &requested.expect("it is asked"), answer);
    sim.deliver();
    assert_eq!(sim.machines[0].swarm.address_of(to), Some([192, 0, 2, 1].into()));
}

#[test]
fn a_node_behind_another_is_reached_although_impostors_hold_connections_in_its_name() {
    let mut sim = Simulation::of(3, Protocol::Daemon02, &Purpose::Transfer(node(REAL)));
    impostors(&mut sim, |_| "192.0.2.66:4000".to_owned());
    sim.join(0, 2);
    sim.join(2, 1);
    let (now, to) = (sim.now, sim.id(1, Style::Spki));
    sim.machines[0].swarm.request(now, to, FileRequest::Range { sha1: FILE, start: 0, end: 5 });
    sim.run(Duration::from_secs(1));
    assert!(sim.take_events(1).iter().any(|event| matches!(event, Event::Requested { .. })));
}

fn is_request(frame: &[u8]) -> bool {
    frame.windows(13).any(|window| window == b"requestToNode")
        && frame.windows(11).any(|w| w == b"startByte\":5")
}

#[test]
fn a_search_reaches_the_real_node_beside_impostors() {
    for host in hosts() {
        let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Channel("test1".to_owned()));
        impostors(&mut sim, host);
        let now = sim.now;
        sim.machines[0].swarm.seek(now, FILE, now + Duration::from_secs(60)).unwrap();
        sim.join(0, 1);
        let seekings =
            |events: &[Event]| events.iter().filter(|e| matches!(e, Event::Seeking { .. })).count();
        assert_eq!(seekings(&sim.take_events(1)), 1, "{}: the search that was under way", host(0));
        let now = sim.now;
        sim.machines[0].swarm.seek(now, Sha1([7; 20]), now + Duration::from_secs(60)).unwrap();
        sim.deliver();
        assert_eq!(seekings(&sim.take_events(1)), 1, "{}: a new search", host(0));
    }
}

#[test]
fn impostors_from_one_host_push_out_each_other_and_not_the_real_node() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Channel("test1".to_owned()));
    let (_, real) = sim.dial(1, 0, false);
    for _ in 0..4 {
        impostors(&mut sim, |_| "192.0.2.66:4000".to_owned());
    }
    assert!(!sim.machines[0].closed.iter().any(|(connection, _)| *connection == real));
    assert_eq!(sim.machines[0].closed.len(), 4 * IMPOSTORS + 1 - limits::NODE_CONNECTIONS_MAX);
}

#[test]
fn a_message_that_was_replayed_proves_nothing() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &Purpose::Transfer(node(1)));
    let request = serde_json::json!({
        "type": "requestToNode", "toNodeId": node(1).to_string(), "requestId": "r1",
        "requestBody": {"type": "downloadFile", "fileKey": {"sha1": "00".repeat(20)}, "startByte": 0, "endByte": 10},
    });
    let body = envelope(REAL, &broadcast(REAL, REAL, "m1", &request));
    let real = impostor(&mut sim, "192.0.2.1:4000");
    sim.write(0, real, &body);
    let other = impostor(&mut sim, "192.0.2.2:4000");
    sim.write(0, other, &body);
    sim.read(real);
    sim.read(other);
    let key = RequestKey { from: node(REAL), id: WireId::from_bytes(b"r1").unwrap() };
    let now = sim.now;
    assert_eq!(sim.machines[0].swarm.respond(now, &key, Reply::Data(Bytes::from_static(b"x"))), Room::More);
    sim.deliver();
    assert_eq!((sim.read(real).len(), sim.read(other).len()), (1, 0));
}

#[test]
fn what_any_neighbour_of_a_node_could_pass_on_counts_less_than_its_answer_to_us() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &Purpose::Transfer(node(REAL)));
    let real = impostor(&mut sim, "192.0.2.1:4000");
    let other = impostor(&mut sim, "192.0.2.2:4000");
    let ask = |sim: &mut Simulation| {
        let now = sim.now;
        let range = FileRequest::Range { sha1: FILE, start: 0, end: 10 };
        let id = sim.machines[0].swarm.request(now, node(REAL), range);
        sim.deliver();
        let heard = [real, other].map(|connection| {
            let requests =
                |frame: &&serde_json::Value| frame["body"]["body"]["message"]["type"] == "requestToNode";
            sim.read(connection).iter().filter(requests).count()
        });
        (id, heard)
    };
    let (id, heard) = ask(&mut sim);
    assert_eq!(heard, [1, 1], "nothing tells them apart");
    let received = serde_json::json!({
        "type": "messageToNode", "toNodeId": node(1).to_string(),
        "messageBody": {"type": "requestToNodeReceived", "requestId": id.to_string()},
    });
    sim.write(0, real, &envelope(REAL, &broadcast(REAL, REAL, "m1", &received)));
    sim.write(0, other, &envelope(REAL, &broadcast(REAL, REAL, "m2", &seeking(&"ab".repeat(20)))));
    assert_eq!(ask(&mut sim).1, [1, 0]);
}

#[test]
fn of_too_many_connections_that_brought_news_the_one_that_brought_none_for_longest_is_closed() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &Purpose::Transfer(node(1)));
    let connections: Vec<_> = (0..=limits::NODE_CONNECTIONS_MAX)
        .map(|at| {
            let connection = impostor(&mut sim, "192.0.2.1:4000");
            let request = serde_json::json!({
                "type": "requestToNode", "toNodeId": node(1).to_string(), "requestId": format!("r{at}"),
                "requestBody": {"type": "other"},
            });
            assert_eq!(sim.machines[0].closed, []);
            sim.write(0, connection, &envelope(REAL, &broadcast(REAL, REAL, &format!("m{at}"), &request)));
            sim.now += Duration::from_millis(1);
            connection
        })
        .collect();
    assert_eq!(sim.machines[0].closed, [(connections[0], CloseReason::TooMany)]);
}

/// How many of `count` seekings, sent by neighbour 8 in this time, machine 0 handled and relayed.
fn flood(count: usize, time: Duration) -> (usize, usize, Simulation) {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &Purpose::Channel("test1".to_owned()));
    let (flooder, other) = (super::hostile::neighbour(&mut sim, 8), super::hostile::neighbour(&mut sim, 9));
    for at in 0..count {
        let body = broadcast(8, 8, &format!("m{at}"), &seeking(&"ab".repeat(20)));
        sim.write(0, flooder, &envelope(8, &body));
        let share = time / u32::try_from(count).unwrap();
        sim.now += share;
    }
    let handled = sim.take_events(0).iter().filter(|event| matches!(event, Event::Seeking { .. })).count();
    let relayed = sim.read(other).len();
    (handled, relayed, sim)
}

#[test]
fn seekings_beyond_the_rate_of_a_peer_are_dropped_and_others_are_heard() {
    let seconds = 1;
    let count = limits::SEEKINGS_BURST + 3 * limits::SEEKINGS_PER_SECOND;
    let (handled, relayed, mut sim) = flood(count, Duration::from_secs(seconds));
    let most = limits::SEEKINGS_BURST + limits::SEEKINGS_PER_SECOND * seconds as usize;
    assert!((most - 2..=most).contains(&handled), "{handled} of {count} handled, at most {most} should be");
    assert_eq!(relayed, handled);
    let connection = sim.open(0, Direction::Accepted, false);
    super::hostile::greet(&mut sim, connection, 10);
    sim.take_events(0);
    sim.write(0, connection, &envelope(10, &broadcast(10, 10, "m", &seeking(&"cd".repeat(20)))));
    assert_eq!(sim.take_events(0).len(), 1, "another peer is heard");
}

#[test]
fn a_peer_may_ask_for_all_files_of_its_running_searches_at_once() {
    let (handled, ..) = flood(limits::SWARM_SEEKS_MAX, Duration::ZERO);
    assert_eq!(handled, limits::SWARM_SEEKS_MAX);
}
