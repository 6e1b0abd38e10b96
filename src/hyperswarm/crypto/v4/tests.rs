use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::*;
use crate::codec::compact::Writer;
use crate::codec::v4::{MutableSignable, Peer};
use crate::crypto::{KeyPair, Signature, vectors};

fn unhex<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("the right length")
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hex")
}

fn hex(bytes: &[u8]) -> Value {
    json!(HEXLOWER.encode(bytes))
}

fn host(value: &Value) -> Ipv4Addr {
    value.as_str().expect("a string").parse().expect("an address")
}

fn list<'v>(vectors: &'v Value, name: &str) -> &'v [Value] {
    vectors[name].as_array().expect("a list")
}

#[test]
fn node_ids_are_those_of_the_original() {
    let vectors = vectors("peer-id.json");
    let nodes = list(&vectors, "ids").iter().chain(list(&vectors["routing_table"], "nodes"));
    let mut count = 0;
    for case in nodes {
        let port = case["port"].as_u64().expect("a port") as u16;
        assert_eq!(hex(&node_id(SocketAddrV4::new(host(&case["host"]), port))), case["id"], "{case}");
        count += 1;
    }
    assert_eq!(count, 68);
}

#[test]
fn tokens_are_those_of_the_original() {
    let vectors = vectors("dht-rpc.json");
    assert_eq!(list(&vectors, "tokens").len(), 6);
    for case in list(&vectors, "tokens") {
        assert_eq!(hex(&host_token(&unhex(&case["secret"]), host(&case["host"]))), case["token"], "{case}");
    }
}

#[test]
fn tokens_of_the_longest_and_shortest_addresses_cover_all_of_their_text() {
    for (host, text) in [([255; 4], "255.255.255.255"), ([0; 4], "0.0.0.0")] {
        assert_eq!(host_token(&[7; 32], host.into()), keyed_blake2b_256(&[7; 32], &[text.as_bytes()]));
    }
}

#[test]
fn signatures_of_announcements_are_those_of_the_original() {
    let vectors = vectors("signatures.json");
    let keys = KeyPair::from_seed(&unhex(&vectors["seed"]));
    assert_eq!(list(&vectors, "announce").len(), 5);
    let mut withdrawn = 0;
    for case in list(&vectors, "announce") {
        let [target, node, token] = ["target", "node_id", "token"].map(|name| unhex::<32>(&case[name]));
        let refresh = case["refresh"].as_str().map(|_| unhex::<32>(&case["refresh"]));
        let encoded = bytes(&case["peer_encoded"]);
        let announcement = Announcement {
            target: &target,
            node: &node,
            token: &token,
            peer: &encoded,
            refresh: refresh.as_ref(),
        };
        let (announce, unannounce) = (announcement.announce_signable(), announcement.unannounce_signable());
        assert_ne!(announce, unannounce);
        let withdraws = hex(&Namespace::Unannounce.bytes()) == case["namespace"];
        withdrawn += usize::from(withdraws);
        let signable = if withdraws { unannounce } else { announce };
        assert_eq!(hex(&signable), case["signable"], "{case}");
        let signature = Signature(unhex(&case["signature"]));
        assert_eq!(keys.sign(&signable), signature, "{case}");
        assert!(keys.public().verify(&signable, &signature));
        // What is signed is the peer that is sent.
        let mut out = Writer::new();
        Peer::decode(&encoded).expect("a peer").encode(&mut out);
        assert_eq!(out.as_slice(), encoded);
    }
    assert!(withdrawn > 0);
}

#[test]
fn a_signature_covers_every_part_of_an_announcement() {
    let [target, node, token, refresh] = [1u8, 2, 3, 4].map(|byte| [byte; 32]);
    let signed =
        Announcement { target: &target, node: &node, token: &token, peer: b"peer", refresh: Some(&refresh) };
    let other = [9; 32];
    let changed = [
        Announcement { target: &other, ..signed },
        Announcement { node: &other, ..signed },
        Announcement { token: &other, ..signed },
        Announcement { peer: b"reep", ..signed },
        Announcement { refresh: Some(&other), ..signed },
        Announcement { refresh: None, ..signed },
    ];
    for changed in changed {
        assert_ne!(changed.announce_signable(), signed.announce_signable(), "{changed:?}");
    }
}

#[test]
fn signatures_of_mutable_values_are_those_of_the_original() {
    let vectors = vectors("signatures.json");
    let keys = KeyPair::from_seed(&unhex(&vectors["seed"]));
    assert_eq!(list(&vectors, "mutable").len(), 4);
    for case in list(&vectors, "mutable") {
        let value = bytes(&case["value"]);
        let mut out = Writer::new();
        MutableSignable { seq: case["seq"].as_u64().expect("a number"), value: &value }.encode(&mut out);
        let signable = mutable_signable(out.as_slice());
        assert_eq!(hex(&signable), case["signable"], "{case}");
        assert_eq!(hex(&keys.sign(&signable).0), case["signature"], "{case}");
        assert_eq!(hex(&blake2b_256(&[&keys.public().0])), case["target"], "{case}");
    }
    for case in list(&vectors, "immutable") {
        assert_eq!(hex(&blake2b_256(&[&bytes(&case["value"])])), case["target"], "{case}");
    }
}

/// The first payload of the vectors: sealer, plaintext, sealed.
fn sealed() -> (SecurePayload, Vec<u8>, Vec<u8>) {
    let vectors = vectors("secure-payload.json");
    let case = &list(&vectors, "payloads")[0];
    (SecurePayload::new(unhex(&vectors["key"]).into()), bytes(&case["plaintext"]), bytes(&case["encrypted"]))
}

#[test]
fn holepunch_payloads_are_sealed_and_opened_as_in_the_original() {
    let vectors = vectors("secure-payload.json");
    let payloads = SecurePayload::new(unhex(&vectors["key"]).into());
    assert_eq!(list(&vectors, "payloads").len(), 2);
    for case in list(&vectors, "payloads") {
        let (plaintext, encrypted) = (bytes(&case["plaintext"]), bytes(&case["encrypted"]));
        assert_eq!(payloads.seal(&unhex(&case["nonce"]), &plaintext), encrypted, "{case}");
        assert_eq!(payloads.open(&encrypted), Ok(plaintext), "{case}");
    }
    let token = &vectors["token"];
    assert_eq!(hex(&host_token(&unhex(&token["local_secret"]), host(&token["host"]))), token["token"]);
}

#[test]
fn the_key_of_holepunch_payloads_comes_from_the_handshake() {
    let handshake = &vectors("noise.json")["hyperdht_IK"];
    let hash = unhex(&handshake["final"]["handshake_hash"]);
    assert_eq!(hex(&*holepunch_secret(&hash)), vectors("secure-payload.json")["key"]);
}

#[test]
fn a_changed_short_or_empty_payload_is_refused() {
    let (payloads, plaintext, sealed) = sealed();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(payloads.open(&changed), Err(Forged), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert_eq!(payloads.open(&sealed[..length]), Err(Forged), "{length} bytes");
    }
    assert_eq!(SecurePayload::new([5; 32].into()).open(&sealed), Err(Forged), "another key");
    assert_eq!(sealed.len() - plaintext.len(), SecurePayload::OVERHEAD);
    assert_eq!(payloads.open(&payloads.seal(&[1; 24], b"")), Err(Forged), "41 bytes are the least");
    assert_eq!(payloads.open(&payloads.seal(&[1; 24], b"x")), Ok(b"x".to_vec()));
}
