//! Section 10 of the protocol description: what the originals fall for, and what may be sent to hurt us.

use super::super::links::SILENCE;
use super::*;
use crate::node::legacy::{ConnectionReader, Direction, ReadError, frame, reader::Broadcast};
use serde_json::{Value, json};

const SHA1: &str = "58ac22564e311f416069450ea36b2d08072753af";

pub(super) fn node(seed: u8) -> NodeId {
    NodeId::new(key(seed).public(), Style::Spki)
}

fn sign(seed: u8, text: &str) -> String {
    data_encoding::HEXLOWER.encode(&key(seed).sign(text.as_bytes()).0)
}

pub(super) fn envelope(seed: u8, body: &str) -> Vec<u8> {
    let text = format!("{{\"body\":{body},\"signature\":\"{}\"}}", sign(seed, body));
    frame::encode(text.as_bytes()).to_vec()
}

pub(super) fn initial(seed: u8) -> Vec<u8> {
    let protocol = Protocol::Daemon02.name();
    let text = json!({"type": "initial", "from": "server", "nodeId": node(seed).to_string(), "protocolVersion": protocol});
    frame::encode(text.to_string().as_bytes()).to_vec()
}

/// A connection of the test, as the node of this seed, ready.
pub(super) fn neighbour(sim: &mut Simulation, seed: u8) -> ConnectionId {
    let connection = sim.open(0, Direction::Accepted, false);
    greet(sim, connection, seed);
    sim.read(connection);
    sim.take_events(0);
    connection
}

/// Makes a connection of the test ready.
pub(super) fn greet(sim: &mut Simulation, connection: ConnectionId, seed: u8) {
    sim.write(0, connection, &initial(seed));
    sim.write(0, connection, &envelope(seed, "{\"type\":\"ready\"}"));
}

/// A broadcast text: `from` claims to have made it, `signer` did.
pub(super) fn broadcast(from: u8, signer: u8, id: &str, message: &Value) -> String {
    let inner = format!("{{\"messageId\":\"{id}\",\"message\":{message}}}");
    let signature = sign(signer, &inner);
    format!(
        "{{\"type\":\"broadcast\",\"fromNodeId\":\"{}\",\"body\":{inner},\"signature\":\"{signature}\"}}",
        node(from)
    )
}

fn channel() -> Simulation {
    Simulation::of(1, Protocol::Daemon02, &Purpose::Channel("test1".to_owned()))
}

pub(super) fn own_transfer() -> Simulation {
    Simulation::of(1, Protocol::Daemon02, &Purpose::Transfer(node(1)))
}

pub(super) fn seeking(sha1: &str) -> Value {
    json!({"type": "seeking", "fileKey": {"sha1": sha1}})
}

fn providing(primary: NodeId, swarm: NodeId) -> Value {
    json!({
        "type": "providing", "fileKey": {"sha1": SHA1}, "primaryNodeId": primary.to_string(),
        "swarmName": swarm.to_string(), "fileInfo": {"size": 100, "sha1": SHA1},
    })
}

#[test]
fn a_sha1_that_is_none_never_gets_further() {
    let mut sim = channel();
    let (bad, good) = (neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    let upper = SHA1.to_uppercase();
    for (at, sha1) in
        ["$(touch /tmp/x)", "; reboot;", "../../etc/passwd", "", &upper, &SHA1[1..]].iter().enumerate()
    {
        sim.write(0, bad, &envelope(8, &broadcast(8, 8, &format!("m{at}"), &seeking(sha1))));
        assert_eq!(
            sim.take_events(0),
            [Event::Dropped { neighbour: Some(node(8)), why: "fileKey.sha1" }],
            "{sha1}"
        );
    }
    sim.write(0, bad, &envelope(8, &broadcast(8, 8, "m9", &json!({"type": "seeking"}))));
    assert_eq!(sim.take_events(0), [Event::Dropped { neighbour: Some(node(8)), why: "fileKey" }]);
    assert!(sim.read(good).is_empty(), "nor is it relayed: it would end a 0.1.x daemon");
    assert_eq!(sim.peers(0).len(), 2);
}

/// A channel of many members brings as many copies of each message as one has neighbours.
#[test]
fn a_copy_of_a_known_broadcast_is_a_sign_of_life_and_costs_no_signature_check() {
    let mut sim = channel();
    let [first, second] = [8, 9].map(|seed| neighbour(&mut sim, seed));
    sim.write(0, first, &envelope(8, &broadcast(7, 7, "m1", &seeking(SHA1))));
    assert!(matches!(sim.take_events(0)[..], [Event::Seeking { .. }]));
    // Were a signature looked at, this would end the connection: the neighbour is 9, and the originator 7.
    let copy = envelope(10, &broadcast(7, 11, "m1", &seeking(SHA1)));
    for _ in 0..4 {
        sim.run(SILENCE / 2);
        sim.write(0, second, &copy);
    }
    assert_eq!(sim.peers(0), [node(9)]);
    assert_eq!(sim.take_events(0), [Event::PeerGone(node(8))], "handled once");
    sim.write(0, second, &envelope(10, &broadcast(7, 7, "m2", &seeking(SHA1))));
    assert_eq!(sim.machines[0].read_errors, [ReadError::Signature], "what is new is checked");
}

#[test]
fn nobody_can_provide_in_another_nodes_name() {
    for (primary, swarm, why) in [
        (node(7), node(8), "primaryNodeId"),
        (node(8), node(7), "swarmName"),
        (node(7), node(7), "primaryNodeId"),
    ] {
        let mut sim = channel();
        let connection = neighbour(&mut sim, 8);
        sim.write(0, connection, &envelope(8, &broadcast(8, 8, "m1", &providing(primary, swarm))));
        assert_eq!(sim.take_events(0), [Event::Dropped { neighbour: Some(node(8)), why }]);
    }
    let mut sim = channel();
    let connection = neighbour(&mut sim, 8);
    sim.write(0, connection, &envelope(8, &broadcast(8, 8, "m1", &providing(node(8), node(8)))));
    assert!(matches!(sim.take_events(0)[..], [Event::Providing { size: 100, .. }]));
}

#[test]
fn sizes_that_are_no_counts_are_refused() {
    for size in [json!(-1), json!(1.5), json!(1e300), json!("100"), json!(null), json!([100])] {
        let mut sim = channel();
        let connection = neighbour(&mut sim, 8);
        let mut message = providing(node(8), node(8));
        message["fileInfo"]["size"] = size;
        // Signed over the JavaScript form of the numbers.
        let value = message.to_string();
        let value = crate::node::legacy::json::parse(value.as_bytes()).unwrap();
        let mut text = Vec::new();
        crate::node::legacy::json::write_value(&value, &mut text);
        let message = String::from_utf8(text).unwrap();
        let inner = format!("{{\"messageId\":\"m1\",\"message\":{message}}}");
        let body = format!(
            "{{\"type\":\"broadcast\",\"fromNodeId\":\"{}\",\"body\":{inner},\"signature\":\"{}\"}}",
            node(8),
            sign(8, &inner)
        );
        sim.write(0, connection, &envelope(8, &body));
        assert_eq!(
            sim.take_events(0),
            [Event::Dropped { neighbour: Some(node(8)), why: "fileInfo.size" }],
            "{message}"
        );
    }
}

#[test]
fn a_neighbour_cannot_speak_for_another_node() {
    let mut sim = channel();
    let connection = neighbour(&mut sim, 8);
    sim.write(0, connection, &envelope(8, &broadcast(9, 8, "m1", &seeking(SHA1))));
    assert_eq!(sim.take_events(0), [Event::Dropped { neighbour: Some(node(8)), why: "body.signature" }]);
    sim.write(0, connection, &envelope(8, &broadcast(9, 9, "m1", &seeking(SHA1))));
    assert!(matches!(sim.take_events(0)[..], [Event::Seeking { .. }]), "relayed with the real signature");
}

#[test]
fn what_its_originator_signed_wrongly_is_not_relayed() {
    let mut sim = channel();
    let (bad, other) = (neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    // The neighbour signs the envelope, so it did say this; but nobody else could know.
    sim.write(0, bad, &envelope(8, &broadcast(8, 7, "m1", &seeking(SHA1))));
    assert!(sim.read(other).is_empty());
    sim.write(0, bad, &envelope(8, &broadcast(8, 8, "m2", &seeking(SHA1))));
    assert_eq!(sim.read(other).len(), 1);
}

#[test]
fn a_replayed_broadcast_is_handled_and_relayed_once() {
    let mut sim = channel();
    let (first, second) = (neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    let body = broadcast(8, 8, "m1", &seeking(SHA1));
    for _ in 0..3 {
        sim.write(0, first, &envelope(8, &body));
        sim.write(0, second, &envelope(9, &body));
    }
    assert_eq!(sim.take_events(0).len(), 1);
    assert_eq!(sim.read(second).len(), 1);
    assert!(sim.read(first).is_empty());
}

#[test]
fn a_replayed_request_is_served_once() {
    let mut sim = own_transfer();
    let connection = neighbour(&mut sim, 8);
    for round in 0..3 {
        let request = json!({
            "type": "requestToNode", "toNodeId": node(1).to_string(), "requestId": "r1",
            "requestBody": {"type": "downloadFile", "fileKey": {"sha1": SHA1}, "startByte": 0, "endByte": 10},
        });
        sim.write(0, connection, &envelope(8, &broadcast(8, 8, &format!("m{round}"), &request)));
    }
    let requested = |event: &&Event| matches!(event, Event::Requested { .. });
    assert_eq!(sim.take_events(0).iter().filter(requested).count(), 1);
}

#[test]
fn wrong_request_fields_get_the_error_of_0_2_1() {
    for (start, end) in
        [(json!(null), json!(10)), (json!("0"), json!(10)), (json!(0), json!(1.5)), (json!(-1), json!(10))]
    {
        let mut sim = own_transfer();
        let connection = neighbour(&mut sim, 8);
        let request = json!({
            "type": "requestToNode", "toNodeId": node(1).to_string(), "requestId": "r1",
            "requestBody": {"type": "downloadFile", "fileKey": {"sha1": SHA1}, "startByte": start, "endByte": end},
        });
        sim.write(0, connection, &envelope(8, &broadcast(8, 8, "m1", &request)));
        let sent = sim.read(connection);
        let body = |at: usize| sent[at]["body"]["body"]["message"]["messageBody"].clone();
        assert_eq!(body(0)["type"], "requestToNodeReceived");
        assert_eq!(body(1)["type"], "requestToNodeError");
        assert_eq!(body(1)["errorString"], "Missing or incorrect fields in request: startByte, endByte.");
    }
}

#[test]
fn a_request_of_another_type_gets_received_and_nothing_more() {
    let mut sim = own_transfer();
    let connection = neighbour(&mut sim, 8);
    let request = json!({
        "type": "requestToNode", "toNodeId": node(1).to_string(), "requestId": "r1", "requestBody": {"type": "rm"},
    });
    sim.write(0, connection, &envelope(8, &broadcast(8, 8, "m1", &request)));
    assert_eq!(sim.read(connection).len(), 1);
    assert_eq!(sim.take_events(0), []);
}

#[test]
fn an_unknown_message_type_is_relayed_but_not_handled() {
    let mut sim = channel();
    let (first, second) = (neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    sim.write(0, first, &envelope(8, &broadcast(8, 8, "m1", &json!({"type": "future", "x": [1]}))));
    assert_eq!(sim.take_events(0), []);
    assert_eq!(sim.read(second)[0]["body"]["body"]["message"]["x"], json!([1]));
}

#[test]
fn a_node_that_is_excluded_gets_no_relay_and_ours_is_added_to_the_list() {
    let mut sim = channel();
    let (first, excluded, other) = (neighbour(&mut sim, 7), neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    let mut body: Value = serde_json::from_str(&broadcast(7, 7, "m1", &seeking(SHA1))).unwrap();
    body["excludeNodeIds"] = json!({node(7).to_string(): true, node(8).to_string(): true});
    sim.write(0, first, &envelope(7, &body.to_string()));
    assert!(sim.read(excluded).is_empty());
    let relayed = sim.read(other);
    let list = relayed[0]["body"]["excludeNodeIds"].as_object().unwrap();
    let ids: Vec<_> = list.keys().cloned().collect();
    assert_eq!(ids, [node(7).to_string(), node(8).to_string(), node(1).to_string()]);
}

#[test]
fn a_message_to_another_node_goes_to_that_node_only() {
    let mut sim = own_transfer();
    let (from, to, other) = (neighbour(&mut sim, 7), neighbour(&mut sim, 8), neighbour(&mut sim, 9));
    let message = json!({
        "type": "messageToNode", "toNodeId": node(8).to_string(),
        "messageBody": {"type": "requestToNodeResponse", "requestId": "r", "responseBody": {"data_b64": "QUJD"}},
    });
    sim.write(0, from, &envelope(7, &broadcast(7, 7, "m1", &message)));
    assert_eq!(sim.read(to).len(), 1);
    assert!(sim.read(other).is_empty());
    assert_eq!(sim.take_events(0), []);
}

#[test]
fn data_that_is_no_base64_fails_the_request() {
    for data in [json!("?"), json!("QUI"), json!(7), json!(null)] {
        let mut sim = Simulation::of(1, Protocol::Daemon02, &Purpose::Transfer(node(8)));
        let connection = neighbour(&mut sim, 8);
        let now = sim.now;
        let range = FileRequest::Range { sha1: Sha1([1; 20]), start: 0, end: 10 };
        let id = sim.machines[0].swarm.request(now, node(8), range);
        let message = json!({
            "type": "messageToNode", "toNodeId": node(1).to_string(), "messageBody": {
                "type": "requestToNodeResponse", "requestId": id.to_string(), "responseBody": {"data_b64": data},
            },
        });
        sim.write(0, connection, &envelope(8, &broadcast(8, 8, "m1", &message)));
        let events = sim.take_events(0);
        assert!(
            matches!(&events[..], [Event::Received(_), Event::RequestFailed { request, .. }] if *request == id)
        );
    }
}

/// A connection's reader that has read these frames as the node of seed 8 sent them, and what the last one is.
fn read(
    frames: &[&[u8]],
) -> (ConnectionReader, std::ops::Range<*const u8>, Result<Option<Incoming>, ReadError>) {
    let mut reader = ConnectionReader::new(Protocol::Daemon02, key(1).public(), Direction::Accepted);
    let (last, before) = frames.split_last().unwrap();
    for frame in before {
        reader.buffer().extend_from_slice(frame);
        assert!(reader.next_message().unwrap().is_some());
    }
    reader.buffer().extend_from_slice(last);
    let buffer = reader.buffer().as_ptr_range();
    let message = reader.next_message();
    (reader, buffer, message)
}

#[test]
fn a_small_message_that_waits_does_not_keep_the_buffer_it_was_read_into() {
    let of_size = |size: usize| {
        let empty = json!({"type": "future", "x": ""});
        let rest = format!("{{\"messageId\":\"m1\",\"message\":{empty}}}").len();
        let message = json!({"type": "future", "x": "a".repeat(size - rest)});
        envelope(8, &broadcast(8, 8, "m1", &message))
    };
    for (size, shared) in
        [(limits::BROADCAST_COPIED_BYTES, false), (limits::BROADCAST_COPIED_BYTES + 1, true)]
    {
        let (_reader, buffer, message) = read(&[&initial(8), &of_size(size)]);
        let Ok(Some(Incoming::Broadcast(broadcast))) = message else { panic!("{message:?}") };
        assert_eq!(broadcast.text.len(), size);
        assert_eq!(buffer.contains(&broadcast.text.as_ptr()), shared, "{size} bytes");
    }
    assert!(size_of::<Broadcast>() < 400, "{}", size_of::<Broadcast>());
    assert!(size_of::<Event>() < 200, "{}", size_of::<Event>());
}

/// A broadcast frame of so many JSON values.
fn of_values(values: usize) -> Vec<u8> {
    envelope(8, &broadcast(8, 8, "m1", &json!({"type": "future", "x": vec![1; values - 11]})))
}

/// A broadcast frame that is nested so deeply.
fn of_depth(depth: usize) -> Vec<u8> {
    let mut x = json!([]);
    for _ in 0..depth - 5 {
        x = json!([x]);
    }
    envelope(8, &broadcast(8, 8, "m1", &json!({"type": "future", "x": x})))
}

#[test]
fn a_frame_with_more_values_than_are_read_is_passed_over() {
    let ready = envelope(8, "{\"type\":\"ready\"}");
    for (most, beyond) in [
        (of_values(limits::JSON_MAX_VALUES), of_values(limits::JSON_MAX_VALUES + 1)),
        (of_depth(limits::JSON_MAX_DEPTH), of_depth(limits::JSON_MAX_DEPTH + 1)),
    ] {
        assert!(matches!(read(&[&initial(8), &most]).2, Ok(Some(Incoming::Broadcast(_)))));
        let (_, _, after) = read(&[&initial(8), &beyond, &ready]);
        assert!(matches!(after, Ok(Some(Incoming::Ready))), "{after:?}");
        let (_, _, first) = read(&[&beyond]);
        assert!(matches!(first, Err(ReadError::Json(_))), "it is no greeting: {first:?}");
    }
}

#[test]
fn a_broadcast_at_the_limit_of_values_does_not_part_the_neighbours_it_is_relayed_to() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Channel("test1".to_owned()));
    sim.join(0, 1);
    let hostile = neighbour(&mut sim, 8);
    sim.write(0, hostile, &of_values(limits::JSON_MAX_VALUES));
    assert_eq!(sim.machines[1].read_errors, []);
    assert_eq!((sim.peers(0).len(), sim.peers(1).len()), (2, 1));
}

#[test]
fn a_broadcast_that_grows_beyond_the_longest_frame_is_not_relayed() {
    let mut sim = Simulation::of(2, Protocol::Daemon02, &Purpose::Channel("test1".to_owned()));
    sim.join(0, 1);
    let hostile = neighbour(&mut sim, 8);
    // As it comes 600 kB, all of it letters that are sent on as six characters each.
    let grows = json!({"type": "future", "x": "\u{e9}".repeat(300_000)});
    sim.write(0, hostile, &envelope(8, &broadcast(8, 8, "m1", &grows)));
    assert_eq!(sim.machines[1].read_errors, []);
    assert_eq!((sim.peers(0).len(), sim.peers(1).len()), (2, 1));
}
