//! Datagrams recorded between originals: `connect-trace.json`.

use super::hyperdht::{holepunch_payload, noise_payload};
use super::*;
use crate::crypto::v4::SecurePayload;

/// All datagrams of dht-rpc of the traces.
fn datagrams(vectors: &Value) -> Vec<&Value> {
    let scenarios = list(vectors, "scenarios").iter();
    let kinds = ["request", "response"].map(|kind| json!(kind));
    let all = scenarios
        .flat_map(|scenario| list(scenario, "announce_packets").iter().chain(list(scenario, "packets")));
    all.filter(|packet| kinds.contains(&packet["kind"])).collect()
}

#[test]
fn recorded_datagrams_decode_and_encode_to_the_same_bytes() {
    let vectors = vectors("connect-trace.json");
    let datagrams = datagrams(&vectors);
    assert!(datagrams.len() > 60, "{}", datagrams.len());
    for case in datagrams {
        let bytes = unhex(&case["hex"]);
        let packet = Packet::decode(&bytes).unwrap_or_else(|error| panic!("{error}: {case}"));
        assert_eq!(encoded(|out| packet.encode(out)), bytes, "{case}");
        let tid = match packet {
            Packet::Request(request) => request.tid,
            Packet::Reply(reply) => reply.tid,
        };
        assert_eq!(json!(tid), case["tid"], "{case}");
        if let Packet::Request(request) = packet {
            check_value(&request, case);
        }
    }
}

/// Compares the value of a request with what the trace says of it, and with what it encodes to.
fn check_value(request: &Request<'_>, case: &Value) {
    let value = request.value.expect("a value");
    let modes = ["FROM_CLIENT", "FROM_SERVER", "FROM_RELAY", "FROM_SECOND_RELAY", "REPLY"];
    let mode = |mode: Mode| json!(modes[mode.0 as usize]);
    let again = match request.command {
        Command::PEER_HANDSHAKE => {
            let m = Handshake::decode(value).expect("a handshake");
            assert_eq!((mode(m.mode), optional_address(m.peer_address)), mode_and_address(case));
            encoded(|out| m.encode(out))
        }
        Command::PEER_HOLEPUNCH => {
            let m = Holepunch::decode(value).expect("a holepunch message");
            assert_eq!((mode(m.mode), optional_address(m.peer_address)), mode_and_address(case));
            assert_eq!(json!(m.id), case["id"], "{case}");
            encoded(|out| m.encode(out))
        }
        Command::ANNOUNCE => encoded(|out| Announce::decode(value).expect("an announcement").encode(out)),
        other => panic!("{other:?} in {case}"),
    };
    assert_eq!(again, value, "{case}");
}

fn mode_and_address(case: &Value) -> (Value, Value) {
    (case["mode"].clone(), case["peerAddress"].clone())
}

#[test]
fn recorded_payloads_of_holepunch_messages_open_and_decode() {
    let vectors = vectors("connect-trace.json");
    let cases = list(&vectors, "scenarios")
        .iter()
        .flat_map(|scenario| list(scenario, "holepunch_payloads_decrypted"))
        .collect::<Vec<_>>();
    assert!(cases.len() >= 5, "{}", cases.len());
    for case in cases {
        let key: [u8; 32] = unhex(&case["key"]).try_into().expect("32 bytes");
        let plaintext =
            SecurePayload::new(key.into()).open(&unhex(&case["encrypted"])).expect("the right key");
        let payload = HolepunchPayload::decode(&plaintext).expect("a payload");
        assert_eq!(holepunch_payload(&payload), case["decoded"], "{case}");
        assert_eq!(encoded(|out| payload.encode(out)), plaintext, "{case}");
    }
}

#[test]
fn recorded_payloads_of_handshakes_are_encoded_and_decoded_without_loss() {
    let vectors = vectors("connect-trace.json");
    let mut count = 0;
    for scenario in list(&vectors, "scenarios") {
        for message in list(scenario, "noise_messages_decrypted") {
            let case = &message["payload"];
            let relays: Vec<_> = list_or_none(&case["holepunch"]["relays"])
                .iter()
                .map(|relay| RelayInfo {
                    relay_address: read_address(&relay["relayAddress"]),
                    peer_address: read_address(&relay["peerAddress"]),
                })
                .collect();
            let addresses4: Vec<_> = list_or_none(&case["addresses4"]).iter().map(read_address).collect();
            let relay_addresses: Vec<_> =
                list_or_none(&case["relayAddresses"]).iter().map(read_address).collect();
            let number = |value: &Value| value.as_u64().expect("a number");
            let payload = NoisePayload {
                error: PeerError(number(&case["error"])),
                firewall: Firewall(number(&case["firewall"])),
                holepunch: case["holepunch"]
                    .get("id")
                    .map(|id| HolepunchInfo { id: number(id), relays: relays.as_slice().into() }),
                addresses4: addresses4.as_slice().into(),
                udx: case["udx"].get("id").map(|id| UdxInfo {
                    version: 1,
                    reusable_socket: case["udx"]["reusableSocket"] == true,
                    id: number(id),
                    seq: 0,
                }),
                secret_stream: case["secretStream"].get("version").map(number),
                relay_addresses: case["relayAddresses"].as_array().map(|_| relay_addresses.as_slice().into()),
                ..NoisePayload::default()
            };
            let bytes = encoded(|out| payload.encode(out));
            let decoded = NoisePayload::decode(&bytes).expect("a payload");
            assert_eq!(noise_payload(&decoded), *case);
            // The payload is all of a Noise message but keys and MACs: 96 bytes of the first, 48 of the second.
            let overhead = if message["by"] == "server" { 96 } else { 48 };
            assert_eq!(bytes.len() + overhead, unhex(&message["noise_message"]).len(), "{message}");
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
}

fn list_or_none(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
