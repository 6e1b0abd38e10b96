//! Datagrams of dht-rpc: `dht-rpc.json`.

use std::time::Duration;

use super::*;
use crate::limits::v4::MAX_PING_DELAY;

/// The fields of a request as the vectors write them.
fn request_fields(request: &Request<'_>) -> Value {
    json!({
        "tid": request.tid,
        "to": address(request.to),
        "id": optional_hex(request.id),
        "token": optional_hex(request.token),
        "internal": request.command.internal,
        "command": request.command.number,
        "target": optional_hex(request.target),
        "value": request.value.map_or(Value::Null, hex),
    })
}

/// The fields of a reply; ids of nodes are never sent.
fn reply_fields(reply: &Reply<'_>) -> Value {
    let node = |node| {
        let mut value = address(node);
        value["id"] = Value::Null;
        value
    };
    let nodes: Vec<Value> = reply.closer_nodes.iter().map(node).collect();
    json!({
        "tid": reply.tid,
        "to": node(reply.to),
        "id": optional_hex(reply.id),
        "token": optional_hex(reply.token),
        "closerNodes": if nodes.is_empty() { Value::Null } else { json!(nodes) },
        "error": reply.error.0,
        "value": reply.value.map_or(Value::Null, hex),
    })
}

/// Compares every field with the one of the vector.
fn assert_fields(fields: &Value, case: &Value) {
    for (name, value) in fields.as_object().expect("fields") {
        assert_eq!(value, &case[name], "{name} of {case}");
    }
}

#[test]
fn requests_are_those_of_the_original() {
    let vectors = vectors("dht-rpc.json");
    let cases = list(&vectors, "requests");
    assert_eq!(cases.len(), 11);
    for case in cases {
        let bytes = unhex(&case["hex"]);
        let Ok(Packet::Request(request)) = Packet::decode(&bytes) else { panic!("{case}") };
        assert_fields(&request_fields(&request), case);
        assert_eq!(encoded(|out| Packet::Request(request).encode(out)), bytes, "{case}");
        prefixes_fail(&bytes, |bytes| Packet::decode(bytes).is_ok());
    }
}

#[test]
fn replies_are_those_of_the_original() {
    let vectors = vectors("dht-rpc.json");
    let cases = list(&vectors, "responses");
    assert_eq!(cases.len(), 7);
    for case in cases {
        let bytes = unhex(&case["hex"]);
        let Ok(Packet::Reply(reply)) = Packet::decode(&bytes) else { panic!("{case}") };
        assert_fields(&reply_fields(&reply), case);
        assert_eq!(encoded(|out| Packet::Reply(reply).encode(out)), bytes, "{case}");
        prefixes_fail(&bytes, |bytes| Packet::decode(bytes).is_ok());
        // The same from values of our own instead of what was decoded.
        let nodes = reply.closer_nodes.iter().collect::<Vec<_>>();
        let own = Reply { closer_nodes: nodes.as_slice().into(), ..reply };
        assert_eq!(own, reply);
        assert_eq!(encoded(|out| own.encode(out)), bytes, "{case}");
        // The requests that they answer.
        let request = unhex(&case["request"]);
        assert!(matches!(Packet::decode(&request), Ok(Packet::Request(asked)) if asked.tid == reply.tid));
    }
}

#[test]
fn commands_have_the_numbers_of_the_original() {
    let vectors = vectors("hyperdht-messages.json");
    let table = [
        ("PEER_HANDSHAKE", Command::PEER_HANDSHAKE),
        ("PEER_HOLEPUNCH", Command::PEER_HOLEPUNCH),
        ("FIND_PEER", Command::FIND_PEER),
        ("LOOKUP", Command::LOOKUP),
        ("ANNOUNCE", Command::ANNOUNCE),
        ("UNANNOUNCE", Command::UNANNOUNCE),
        ("MUTABLE_PUT", Command::MUTABLE_PUT),
        ("MUTABLE_GET", Command::MUTABLE_GET),
        ("IMMUTABLE_PUT", Command::IMMUTABLE_PUT),
        ("IMMUTABLE_GET", Command::IMMUTABLE_GET),
        ("PLUGIN", Command::PLUGIN),
    ];
    assert_eq!(vectors["commands"].as_object().expect("a table").len(), table.len());
    for (name, command) in table {
        assert_eq!(vectors["commands"][name], json!(command.number), "{name}");
        assert!(!command.internal, "{name}");
    }
}

#[test]
fn errors_and_firewalls_have_the_numbers_of_the_original() {
    let vectors = vectors("hyperdht-messages.json");
    let errors = json!({
        "NONE": PeerError::NONE.0,
        "ABORTED": PeerError::ABORTED.0,
        "VERSION_MISMATCH": PeerError::VERSION_MISMATCH.0,
        "TRY_LATER": PeerError::TRY_LATER.0,
        "SEQ_REUSED": ErrorCode::SEQ_REUSED.0,
        "SEQ_TOO_LOW": ErrorCode::SEQ_TOO_LOW.0,
    });
    assert_eq!(vectors["errors"], errors);
    let firewalls = json!({
        "UNKNOWN": Firewall::UNKNOWN.0,
        "OPEN": Firewall::OPEN.0,
        "CONSISTENT": Firewall::CONSISTENT.0,
        "RANDOM": Firewall::RANDOM.0,
    });
    assert_eq!(vectors["firewall"], firewalls);
}

#[test]
fn commands_of_dht_rpc_are_told_from_those_of_hyperdht() {
    let vectors = vectors("dht-rpc.json");
    let command = |name: &str| {
        let case = list(&vectors, "requests").iter().find(|case| case["name"] == name).expect(name);
        match Packet::decode(&unhex(&case["hex"])) {
            Ok(Packet::Request(request)) => request.command,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(command("FIND_NODE"), Command::FIND_NODE);
    assert_eq!(command("hyperdht FIND_PEER"), Command::FIND_PEER);
    assert_eq!(command("PING ephemeral"), Command::PING);
}

#[test]
fn values_of_the_commands_of_dht_rpc_are_those_of_the_original() {
    let vectors = vectors("dht-rpc.json");
    let value = |command: Command| {
        let cases = list(&vectors, "requests").iter();
        let wanted = |case: &&Value| case["internal"] == true && case["command"] == command.number;
        unhex(&cases.clone().rfind(wanted).expect("a case")["value"])
    };
    let port = value(Command::PING_NAT);
    assert_eq!((decode_nat_port(Some(&port)), encode_nat_port(49737).to_vec()), (Some(49737), port));
    let (hint, node) = (value(Command::DOWN_HINT), SocketAddrV4::new([192, 0, 2, 1].into(), 4001));
    assert_eq!((decode_down_hint(Some(&hint)), encode_down_hint(node).to_vec()), (Some(node), hint));
    let (delay, time) = (value(Command::DELAYED_PING), Duration::from_millis(2500));
    assert_eq!((decode_ping_delay(Some(&delay)), encode_ping_delay(time).to_vec()), (Some(time), delay));
}

#[test]
fn values_that_are_absent_short_or_of_port_0_are_refused_and_longer_ones_cut() {
    assert_eq!(decode_nat_port(None), None);
    assert_eq!(decode_nat_port(Some(&[7])), None);
    assert_eq!(decode_nat_port(Some(&[0, 0])), None);
    assert_eq!(decode_nat_port(Some(&[7, 0, 1])), Some(7));
    assert_eq!(decode_down_hint(None), None);
    assert_eq!(decode_down_hint(Some(&[1; 5])), None);
    assert_eq!(decode_down_hint(Some(&[1; 7])), Some(SocketAddrV4::new([1; 4].into(), 0x0101)));
    assert_eq!(decode_ping_delay(None), None);
    assert_eq!(decode_ping_delay(Some(&[1; 3])), None);
    assert_eq!(decode_ping_delay(Some(&[7, 0, 0, 0, 9])), Some(Duration::from_millis(7)));
}

#[test]
fn pings_are_delayed_by_at_most_ten_seconds() {
    let longest = encode_ping_delay(MAX_PING_DELAY);
    assert_eq!(decode_ping_delay(Some(&longest)), Some(Duration::from_secs(10)));
    assert_eq!(decode_ping_delay(Some(&10_001u32.to_le_bytes())), None);
    assert_eq!(encode_ping_delay(Duration::MAX), longest);
}

#[test]
fn other_protocols_and_versions_are_told_apart_from_broken_packets() {
    assert_eq!(Packet::decode(&[]), Err(PacketError::Kind));
    for first in (0..=255).filter(|first| ![0x03, 0x13].contains(first)) {
        assert_eq!(Packet::decode(&[first; 60]), Err(PacketError::Kind), "{first:#x}");
    }
    assert_eq!(Packet::decode(&[0x03, 0]), Err(DecodeError::Truncated("tid").into()));
}

#[test]
fn unknown_flags_and_bytes_after_a_packet_are_ignored() {
    // Bits 5 to 7 and, in the long form of a number, bit 8.
    for flags in [vec![0xe4], vec![0xfd, 0x04, 0x01]] {
        let ping = [&[0x03], &flags[..], &[1, 0, 88, 99, 3, 86, 0x49, 0xc2, 0, 9, 9]].concat();
        let Ok(Packet::Request(request)) = Packet::decode(&ping) else { panic!("{flags:?}") };
        assert_eq!(request, Request::new(1, "88.99.3.86:49737".parse().unwrap(), Command::PING));
    }
}

#[test]
fn an_empty_value_is_not_an_absent_one() {
    let to = SocketAddrV4::new([10, 0, 0, 1].into(), 1);
    let empty = Request { value: Some(&[]), ..Request::new(7, to, Command::PING) };
    let bytes = encoded(|out| empty.encode(out));
    assert_eq!(Packet::decode(&bytes), Ok(Packet::Request(empty)));
    let empty = Reply { value: Some(&[]), ..Reply::new(7, to) };
    let bytes = encoded(|out| empty.encode(out));
    assert_eq!(Packet::decode(&bytes), Ok(Packet::Reply(empty)));
}

#[test]
fn a_buffer_is_used_for_one_packet_after_the_other() {
    let to = SocketAddrV4::new([10, 0, 0, 1].into(), 1);
    let mut out = Writer::with_capacity(64);
    Request::new(1, to, Command::PING).encode(&mut out);
    let first = out.as_slice().to_vec();
    out.clear();
    assert!(out.is_empty());
    Request::new(1, to, Command::PING).encode(&mut out);
    assert_eq!(out.as_slice(), first);
}
