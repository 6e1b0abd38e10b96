//! Messages of hyperdht: `hyperdht-messages.json`, and the request values of `signatures.json`.

use super::*;
use crate::codec::compact::Reader;

/// Decodes one message; gives its fields as the vectors write them, and the bytes that it encodes to.
fn decode(kind: &str, bytes: &[u8]) -> Result<(Value, Vec<u8>), DecodeError> {
    Ok(match kind {
        "handshake" => {
            let m = Handshake::decode(bytes)?;
            let fields = json!({
                "mode": m.mode.0,
                "noise": hex(m.noise),
                "peerAddress": optional_address(m.peer_address),
                "relayAddress": optional_address(m.relay_address),
            });
            (fields, encoded(|out| m.encode(out)))
        }
        "holepunch" => {
            let m = Holepunch::decode(bytes)?;
            let fields = json!({
                "mode": m.mode.0,
                "id": m.id,
                "payload": hex(m.payload),
                "peerAddress": optional_address(m.peer_address),
            });
            (fields, encoded(|out| m.encode(out)))
        }
        "noisePayload" => {
            let m = NoisePayload::decode(bytes)?;
            (noise_payload(&m), encoded(|out| m.encode(out)))
        }
        "holepunchPayload" => {
            let m = HolepunchPayload::decode(bytes)?;
            (holepunch_payload(&m), encoded(|out| m.encode(out)))
        }
        "peer" => {
            let m = Peer::decode(bytes)?;
            (peer(&m), encoded(|out| m.encode(out)))
        }
        "lookupRawReply" => {
            let m = LookupReply::decode(bytes)?;
            let records: Vec<_> = m.peers.iter().map(|peer| encoded(|out| peer.encode(out))).collect();
            let fields =
                json!({ "peers": m.peers.iter().map(|p| peer(&p)).collect::<Value>(), "bump": m.bump });
            (fields, encoded(|out| encode_lookup_reply(records.iter().map(Vec::as_slice), m.bump, out)))
        }
        "announce" => {
            let m = Announce::decode(bytes)?;
            let fields = json!({
                "peer": m.peer.as_ref().map_or(Value::Null, peer),
                "refresh": optional_hex(m.refresh),
                "signature": optional_hex(m.signature),
                "bump": m.bump,
            });
            (fields, encoded(|out| m.encode(out)))
        }
        "mutableSignable" => {
            let m = MutableSignable::decode(bytes)?;
            (json!({ "seq": m.seq, "value": hex(m.value) }), encoded(|out| m.encode(out)))
        }
        "mutablePutRequest" => {
            let m = MutablePut::decode(bytes)?;
            let mut fields = mutable(&m.stored);
            fields["publicKey"] = hex(&m.public_key);
            (fields, encoded(|out| m.encode(out)))
        }
        "mutableGetResponse" => {
            let m = MutableValue::decode(bytes)?;
            (mutable(&m), encoded(|out| m.encode(out)))
        }
        "uint" => {
            let seq = decode_minimum_seq(bytes)?;
            (json!(seq), encoded(|out| uint(out, seq)))
        }
        "pluginRequest" => {
            let m = PluginRequest::decode(bytes)?;
            let fields = json!({
                "plugin": m.plugin,
                "version": m.version,
                "command": m.command,
                "value": m.value.map_or(Value::Null, hex),
            });
            (fields, encoded(|out| m.encode(out)))
        }
        other => panic!("unknown message {other}"),
    })
}

pub(super) fn noise_payload(m: &NoisePayload<'_>) -> Value {
    let relay = |relay: RelayInfo| json!({ "relayAddress": address(relay.relay_address), "peerAddress": address(relay.peer_address) });
    let holepunch = m.holepunch.map(|info| {
        let relays: Value = info.relays.iter().map(relay).collect();
        json!({ "id": info.id, "relays": relays })
    });
    let udx = m.udx.map(|udx| {
        let reusable = udx.reusable_socket;
        json!({ "version": udx.version, "reusableSocket": reusable, "id": udx.id, "seq": udx.seq })
    });
    let relay_through = m.relay_through.map(|relay| {
        json!({
            "version": relay.version,
            "publicKey": hex(&relay.public_key),
            "token": hex(&relay.token),
        })
    });
    json!({
        "version": m.version,
        "error": m.error.0,
        "firewall": m.firewall.0,
        "holepunch": holepunch,
        "addresses4": addresses(m.addresses4),
        "addresses6": m.addresses6.iter().map(address6).collect::<Value>(),
        "udx": udx,
        "secretStream": m.secret_stream.map(|version| json!({ "version": version })),
        "relayThrough": relay_through,
        "relayAddresses": m.relay_addresses.map(addresses),
    })
}

pub(super) fn holepunch_payload(m: &HolepunchPayload<'_>) -> Value {
    json!({
        "error": m.error.0,
        "firewall": m.firewall.0,
        "round": m.round,
        "connected": m.connected,
        "punching": m.punching,
        "addresses": m.addresses.map(addresses),
        "remoteAddress": optional_address(m.remote_address),
        "token": optional_hex(m.token),
        "remoteToken": optional_hex(m.remote_token),
    })
}

fn peer(m: &Peer<'_>) -> Value {
    json!({ "publicKey": hex(&m.public_key), "relayAddresses": addresses(m.relay_addresses) })
}

fn mutable(m: &MutableValue<'_>) -> Value {
    json!({ "seq": m.seq, "value": hex(m.value), "signature": hex(&m.signature) })
}

#[test]
fn messages_are_those_of_the_original() {
    let vectors = vectors("hyperdht-messages.json");
    let cases = list(&vectors, "cases");
    assert_eq!(cases.len(), 37);
    for case in cases {
        let (kind, bytes) = (case["message"].as_str().expect("a name"), unhex(&case["hex"]));
        let (fields, encoded) = decode(kind, &bytes).unwrap_or_else(|error| panic!("{error}: {case}"));
        assert_eq!(fields, case["decoded"], "{case}");
        // Cases that the original only reads have no value to encode.
        if case.get("value").is_some() {
            assert_eq!(encoded, bytes, "{case}");
        }
    }
}

#[test]
fn every_prefix_of_a_message_is_an_error() {
    let vectors = vectors("hyperdht-messages.json");
    for case in list(&vectors, "cases").iter().filter(|case| case.get("value").is_some()) {
        let (kind, bytes) = (case["message"].as_str().expect("a name"), unhex(&case["hex"]));
        for length in 0..bytes.len() {
            // Old nodes leave the bump out, so that a reply may end before it.
            let old_reply = kind == "lookupRawReply" && Reader::new(&bytes[length..]).uint("bump").is_ok();
            let whole = old_reply && bytes[length..].len() == encoded(|out| uint(out, bump(&bytes))).len();
            assert_eq!(decode(kind, &bytes[..length]).is_ok(), whole, "{length} of {case}");
        }
    }
}

fn bump(bytes: &[u8]) -> u64 {
    LookupReply::decode(bytes).expect("a reply").bump
}

#[test]
fn bytes_after_a_message_are_ignored() {
    let vectors = vectors("hyperdht-messages.json");
    for case in list(&vectors, "cases").iter().filter(|case| case.get("value").is_some()) {
        let kind = case["message"].as_str().expect("a name");
        let bytes = [unhex(&case["hex"]), b"later".to_vec()].concat();
        assert_eq!(decode(kind, &bytes).map(|(fields, _)| fields), Ok(case["decoded"].clone()), "{case}");
    }
}

#[test]
fn modes_errors_and_firewalls_of_later_versions_are_no_errors() {
    let handshake = Handshake::decode(&[0, 9, 1, 7]).expect("a message");
    assert_eq!((handshake.mode, handshake.noise), (Mode(9), &[7][..]));
    let payload = NoisePayload::decode(&[1, 0x80, 77, 9]).expect("a payload");
    assert_eq!((payload.error, payload.firewall), (PeerError(77), Firewall(9)));
    assert!(payload.firewall > Firewall::RANDOM);
    assert_eq!(HolepunchPayload::decode(&[0xc0, 77, 9, 1]).expect("a payload").round, 1);
}

#[test]
fn a_payload_of_another_version_says_its_number_and_no_more() {
    let payload = NoisePayload::decode(&[2]).expect("a payload");
    assert_eq!(payload, NoisePayload { version: 2, ..NoisePayload::default() });
    assert_eq!(encoded(|out| payload.encode(out)), [2]);
}

#[test]
fn announcements_are_those_that_the_original_signed() {
    let vectors = vectors("signatures.json");
    let cases = list(&vectors, "announce");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let bytes = unhex(&case["request_value"]);
        let announce = Announce::decode(&bytes).expect("an announcement");
        let announced = announce.peer.expect("a peer");
        assert_eq!(peer(&announced), case["peer"], "{case}");
        assert_eq!(hex(&encoded(|out| announced.encode(out))), case["peer_encoded"], "{case}");
        assert_eq!(optional_hex(announce.refresh), case["refresh"], "{case}");
        assert_eq!(optional_hex(announce.signature), case["signature"], "{case}");
        assert_eq!(encoded(|out| announce.encode(out)), bytes, "{case}");
    }
}

#[test]
fn mutable_values_are_those_that_the_original_signed() {
    let vectors = vectors("signatures.json");
    let cases = list(&vectors, "mutable");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let bytes = unhex(&case["put_request_value"]);
        let put = MutablePut::decode(&bytes).expect("a put");
        assert_eq!(hex(&put.public_key), vectors["public_key"]);
        assert_eq!(
            (json!(put.stored.seq), hex(put.stored.value)),
            (case["seq"].clone(), case["value"].clone())
        );
        assert_eq!(hex(&encoded(|out| put.stored.signable().encode(out))), case["signable_encoded"]);
        assert_eq!(encoded(|out| put.encode(out)), bytes, "{case}");
    }
}
