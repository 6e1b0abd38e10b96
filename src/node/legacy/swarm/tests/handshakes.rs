use super::*;
use crate::node::legacy::{Direction, ReadError};
use serde_json::json;

fn channel() -> Purpose {
    Purpose::Channel("test1".to_owned())
}

fn frame(value: &serde_json::Value) -> Vec<u8> {
    let text = value.to_string();
    format!("{}#{text}", text.len()).into_bytes()
}

fn initial(from: &str, node: NodeId, protocol: Protocol) -> Vec<u8> {
    let node = node.to_string();
    frame(&json!({"type": "initial", "from": from, "nodeId": node, "protocolVersion": protocol.name()}))
}

#[test]
fn two_daemons_of_the_0_2_protocol_are_ready_at_once() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
    sim.join(0, 1);
    assert_eq!(sim.peers(0), [sim.id(1, Style::Spki)]);
    assert_eq!(sim.peers(1), [sim.id(0, Style::Spki)]);
    assert_eq!(sim.take_events(0), [Event::PeerConnected(sim.id(1, Style::Spki))], "two sockets, one peer");
}

#[test]
fn the_style_is_taken_from_the_initial_of_the_peer() {
    for style in [Style::Hypersign, Style::Spki] {
        for direction in [Direction::Accepted, Direction::Dialled] {
            let mut sim = Simulation::of(1, Protocol::KacheryP2p3, &channel());
            let peer = NodeId::new(key(9).public(), style);
            let connection = sim.open(0, direction, false);
            assert_eq!(sim.read(connection), [] as [serde_json::Value; 0], "waits for the peer's style");
            let (from, answer) = match direction {
                Direction::Accepted => ("server", "client"),
                Direction::Dialled => ("client", "server"),
            };
            sim.write(0, connection, &initial(from, peer, Protocol::KacheryP2p3));
            let sent = sim.read(connection);
            assert_eq!(sent[0]["from"], answer);
            assert_eq!(sent[0]["nodeId"], sim.id(0, style).to_string());
            assert_eq!(sent[1]["body"]["type"], "ready");
        }
    }
}

#[test]
fn two_of_ours_that_wait_for_each_other_speak_the_long_form_after_a_second() {
    let mut sim = Simulation::of(2, Protocol::KacheryP2p3, &channel());
    sim.join(0, 1);
    sim.run(Duration::from_millis(999));
    assert!(sim.peers(0).is_empty());
    sim.run(Duration::from_millis(1));
    assert_eq!(sim.peers(0), [sim.id(1, Style::Spki)]);
    assert_eq!(sim.peers(1), [sim.id(0, Style::Spki)]);
}

#[test]
fn on_utp_that_we_dialled_we_speak_first_and_remember_a_wrong_guess() {
    let mut sim = Simulation::of(1, Protocol::KacheryP2p3, &channel());
    let peer = NodeId::new(key(9).public(), Style::Hypersign);
    let connection = sim.open(0, Direction::Dialled, true);
    assert_eq!(sim.read(connection)[0]["nodeId"], sim.id(0, Style::Spki).to_string());
    sim.write(0, connection, &initial("client", peer, Protocol::KacheryP2p3));
    assert_eq!(sim.machines[0].closed, [(connection, CloseReason::WrongStyle)]);
    let again = sim.open(0, Direction::Dialled, true);
    assert_eq!(sim.read(again)[0]["nodeId"], sim.id(0, Style::Hypersign).to_string());
    sim.write(0, again, &initial("client", peer, Protocol::KacheryP2p3));
    assert_eq!(sim.read(again)[0]["body"]["type"], "ready");
}

#[test]
fn a_wrong_guess_after_a_silent_second_is_remembered_too() {
    let mut sim = Simulation::of(1, Protocol::KacheryP2p3, &channel());
    let peer = NodeId::new(key(9).public(), Style::Hypersign);
    let slow = |sim: &mut Simulation| {
        let connection = sim.open(0, Direction::Dialled, false);
        sim.run(Duration::from_secs(1));
        (connection, sim.read(connection)[0]["nodeId"].clone())
    };
    let (connection, guessed) = slow(&mut sim);
    assert_eq!(guessed, sim.id(0, Style::Spki).to_string());
    sim.write(0, connection, &initial("client", peer, Protocol::KacheryP2p3));
    assert_eq!(sim.machines[0].closed, [(connection, CloseReason::WrongStyle)]);
    let (_, guessed) = slow(&mut sim);
    assert_eq!(guessed, sim.id(0, Style::Hypersign).to_string());
}

#[test]
fn a_connection_to_ourselves_is_closed() {
    for style in [Style::Spki, Style::Hypersign] {
        let mut sim = Simulation::of(1, Protocol::KacheryP2p3, &channel());
        let connection = sim.open(0, Direction::Accepted, false);
        let own = sim.id(0, style);
        sim.write(0, connection, &initial("server", own, Protocol::KacheryP2p3));
        assert_eq!(sim.machines[0].closed, [(connection, CloseReason::OwnNode)]);
    }
}

#[test]
fn a_wrong_initial_ends_the_connection_and_names_the_field() {
    let peer = NodeId::new(key(9).public(), Style::Spki).to_string();
    let good = json!({"type": "initial", "from": "server", "nodeId": peer, "protocolVersion": "kachery-p2p-daemon-0.2"});
    let wrong = [
        ("type", json!("ready")),
        ("from", json!("client")),
        ("nodeId", json!("")),
        ("nodeId", json!(7)),
        ("nodeId", json!("0".repeat(300))),
        ("nodeId", json!(key(9).public().to_string())),
        ("protocolVersion", json!("kachery-p2p-3")),
        ("protocolVersion", json!(null)),
    ];
    for (field, value) in wrong {
        let mut sim = Simulation::of(1, Protocol::Daemon02, &channel());
        let connection = sim.open(0, Direction::Accepted, false);
        let mut message = good.clone();
        message[field] = value;
        sim.write(0, connection, &frame(&message));
        assert!(
            matches!(&sim.machines[0].read_errors[..], [ReadError::Initial(wrong)] if wrong.0 == field),
            "{message}: {:?}",
            sim.machines[0].read_errors
        );
    }
}

#[test]
fn an_error_frame_closes_and_is_not_answered() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &channel());
    let connection = sim.open(0, Direction::Accepted, false);
    let sent_before = sim.read(connection).len();
    assert_eq!(sent_before, 1);
    sim.write(0, connection, &frame(&json!({"success": false, "error": "Error: header\ntoo long"})));
    assert_eq!(
        sim.machines[0].closed,
        [(connection, CloseReason::PeerError("Error: headertoo long".to_owned()))]
    );
    assert!(sim.read(connection).is_empty());
}

#[test]
fn a_signature_of_another_node_ends_the_connection() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &channel());
    let connection = sim.open(0, Direction::Accepted, false);
    let peer = NodeId::new(key(9).public(), Style::Spki);
    sim.write(0, connection, &initial("server", peer, Protocol::Daemon02));
    let signature = data_encoding::HEXLOWER.encode(&key(8).sign(b"{\"type\":\"ready\"}").0);
    sim.write(0, connection, &frame(&json!({"body": {"type": "ready"}, "signature": signature})));
    assert_eq!(sim.machines[0].read_errors, [ReadError::Signature]);
    assert!(sim.peers(0).is_empty());
}

#[test]
fn keep_alives_hold_an_idle_pair_together_and_silence_ends_it() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
    sim.join(0, 1);
    let before = sim.bytes;
    sim.run(Duration::from_secs(61));
    assert_eq!(sim.peers(0).len(), 1);
    let keep_alives = (sim.bytes - before) / 176;
    assert!((22..=26).contains(&keep_alives), "{keep_alives} keepAlives in 61 s from two machines");
    sim.machines[1].stuck = true;
    sim.run(Duration::from_secs(10));
    assert!(sim.peers(0).is_empty());
    assert!(sim.machines[0].closed.iter().all(|(_, reason)| *reason == CloseReason::Silent));
    assert_eq!(sim.machines[0].closed.len(), 2);
}

#[test]
fn a_connection_without_handshake_is_closed_after_ten_seconds() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &channel());
    let connection = sim.open(0, Direction::Accepted, false);
    sim.run(Duration::from_millis(9999));
    assert!(sim.machines[0].closed.is_empty());
    sim.run(Duration::from_millis(1));
    assert_eq!(sim.machines[0].closed, [(connection, CloseReason::HandshakeTimeout)]);
}

#[test]
fn connections_per_swarm_are_bounded() {
    let mut sim = Simulation::of(1, Protocol::Daemon02, &channel());
    for _ in 0..limits::SWARM_CONNECTIONS_MAX {
        sim.open(0, Direction::Accepted, false);
    }
    assert!(sim.machines[0].closed.is_empty());
    let one_more = sim.open(0, Direction::Accepted, false);
    assert_eq!(sim.machines[0].closed, [(one_more, CloseReason::TooMany)]);
}

#[test]
fn connections_per_node_are_bounded() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
    for _ in 0..limits::NODE_CONNECTIONS_MAX {
        sim.dial(0, 1, false);
    }
    assert!(sim.machines[0].closed.is_empty() && sim.machines[1].closed.is_empty());
    sim.dial(0, 1, false);
    let reasons: Vec<_> = sim.machines.iter().flat_map(|m| m.closed.iter().map(|(_, r)| r.clone())).collect();
    assert!(reasons.contains(&CloseReason::TooMany), "{reasons:?}");
    assert_eq!(sim.peers(0).len(), 1);
}

#[test]
fn remembered_styles_are_bounded() {
    let mut connections = links::Connections::default();
    let address = |port: usize| std::net::SocketAddr::from(([192, 0, 2, 1], u16::try_from(port).unwrap()));
    for port in 0..limits::REMEMBERED_STYLES_MAX {
        connections.remember_style(address(port), Style::Hypersign);
    }
    assert_eq!(connections.remembered_style(address(0)), Some(Style::Hypersign));
    connections.remember_style(address(limits::REMEMBERED_STYLES_MAX), Style::Spki);
    assert_eq!(connections.remembered_style(address(0)), None);
    assert_eq!(connections.remembered_style(address(1)), Some(Style::Hypersign));
}

#[test]
fn a_replayed_ready_does_not_cut_the_real_node_off() {
    // The bytes of a ready are always the same: anybody who saw them can show them.
    let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
    sim.join(0, 1);
    let real = sim.id(1, Style::Spki);
    let impostor = sim.open(0, Direction::Accepted, false);
    sim.write(0, impostor, &initial("server", real, Protocol::Daemon02));
    let signature = data_encoding::HEXLOWER.encode(&key(2).sign(b"{\"type\":\"ready\"}").0);
    sim.write(0, impostor, &frame(&json!({"body": {"type": "ready"}, "signature": signature})));
    sim.take_events(1);
    let now = sim.now;
    sim.machines[0].swarm.seek(now, Sha1([7; 20]), now + Duration::from_secs(4)).unwrap();
    sim.deliver();
    assert!(sim.take_events(1).iter().any(|e| matches!(e, Event::Seeking { .. })), "the real node hears it");
}

/// A connection that claims to be of this node, and proves nothing.
fn impostor(sim: &mut Simulation, of: NodeId) -> ConnectionId {
    let connection = sim.open(0, Direction::Accepted, false);
    sim.write(0, connection, &initial("server", of, Protocol::Daemon02));
    connection
}

#[test]
fn connections_that_only_claim_a_name_do_not_keep_the_node_of_that_name_away() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
    let real = sim.id(1, Style::Spki);
    for _ in 0..limits::NODE_CONNECTIONS_MAX {
        impostor(&mut sim, real);
    }
    sim.join(0, 1);
    assert_eq!(sim.peers(0), [real]);
    assert_eq!(sim.machines[0].closed, []);
}

#[test]
fn a_node_is_silent_only_since_it_was_connected_itself() {
    for before in [Duration::from_millis(9_950), Duration::from_millis(9_850)] {
        let mut sim = Simulation::of(2, Protocol::Daemon02, &channel());
        let real = sim.id(1, Style::Spki);
        let impostor_connection = impostor(&mut sim, real);
        sim.run(before);
        // Its ready takes 100 ms: until before or after the ten seconds of the other connection.
        let connection = impostor(&mut sim, real);
        sim.run(Duration::from_millis(100));
        let signature = data_encoding::HEXLOWER.encode(&key(2).sign(b"{\"type\":\"ready\"}").0);
        let ready = frame(&json!({"body": {"type": "ready"}, "signature": signature}));
        sim.write(0, connection, &ready);
        sim.run(Duration::from_millis(4_000));
        assert_eq!(sim.peers(0), [real], "{before:?}");
        assert_eq!(sim.machines[0].closed, [(impostor_connection, CloseReason::HandshakeTimeout)]);
    }
}
