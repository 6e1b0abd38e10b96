//! The transcripts of `noise.json`, the points of `keys.json`, and hostile messages.

use data_encoding::HEXLOWER;
use libsodium_rs::crypto_core::ed25519 as points;
use serde_json::Value;
use snow::types::Dh;

use super::*;
use crate::crypto::{Namespace, keyed_blake2b_256, vectors};

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hex")
}

fn hex32(value: &Value) -> [u8; 32] {
    hex(value).try_into().expect("32 bytes")
}

fn key_pair(value: &Value) -> KeyPair {
    KeyPair::from_seed(&hex32(value))
}

/// Both sides of a transcript, before the first message.
fn sides(transcript: &Value) -> (Handshake, Handshake) {
    let (initiator, responder) = (&transcript["initiator"], &transcript["responder"]);
    let prologue = hex(&transcript["prologue"]);
    let ephemeral = |side: &Value| Zeroizing::new(hex32(&side["ephemeral_seed"]));
    let (own, other) = (key_pair(&initiator["static_seed"]), key_pair(&responder["static_seed"]));
    if transcript["protocol_name"].as_str().expect("a name").contains("_XX_") {
        (
            Handshake::xx(true, &own, &prologue, ephemeral(initiator)),
            Handshake::xx(false, &other, &prologue, ephemeral(responder)),
        )
    } else {
        (
            Handshake::ik_initiator(&own, &other.public(), &prologue, ephemeral(initiator)),
            Handshake::ik_responder(&other, &prologue, ephemeral(responder)),
        )
    }
}

/// Plays a transcript through; every message must be the recorded one.
fn play(transcript: &Value) -> (Keys, Keys) {
    let (mut initiator, mut responder) = sides(transcript);
    for message in transcript["messages"].as_array().expect("a list") {
        let (from, to) = match message["from"].as_str() {
            Some("initiator") => (&mut initiator, &mut responder),
            _ => (&mut responder, &mut initiator),
        };
        assert!(from.is_our_turn() && !to.is_our_turn());
        let payload = hex(&message["payload"]);
        let written = from.write(&payload).expect("writes");
        assert_eq!(written, hex(&message["message"]));
        assert_eq!(to.read(&written), Ok(payload));
    }
    (initiator.finish().expect("finished"), responder.finish().expect("finished"))
}

const TRANSCRIPTS: [&str; 3] = ["hyperdht_IK", "secretstream_IK_empty_prologue", "secretstream_XX"];

#[test]
fn messages_and_keys_are_those_of_the_original() {
    let vectors = vectors("noise.json");
    for name in TRANSCRIPTS {
        let transcript = &vectors[name];
        let (initiator, responder) = play(transcript);
        let last = &transcript["final"];
        assert_eq!(initiator.tx.to_vec(), hex(&last["initiator_tx"]), "{name}");
        assert_eq!(initiator.rx.to_vec(), hex(&last["initiator_rx"]), "{name}");
        assert_eq!(initiator.handshake_hash.to_vec(), hex(&last["handshake_hash"]), "{name}");
        assert_eq!(*initiator.tx, *responder.rx);
        assert_eq!(*initiator.rx, *responder.tx);
        assert_eq!(initiator.handshake_hash, responder.handshake_hash);
        assert!(initiator.initiator && !responder.initiator);
        assert_eq!(initiator.remote.0.to_vec(), hex(&transcript["responder"]["static_public"]));
        assert_eq!(responder.remote.0.to_vec(), hex(&transcript["initiator"]["static_public"]));
    }
}

#[test]
fn the_keys_derived_from_a_handshake_are_those_of_the_original() {
    let vectors = vectors("noise.json");
    let (keys, _) = play(&vectors["hyperdht_IK"]);
    let derived = &vectors["hyperdht_IK"]["derived"];
    for (namespace, name) in [
        (Namespace::PeerHolepunch, "holepunch_secret"),
        (Namespace::Initiator, "stream_id_initiator"),
        (Namespace::Responder, "stream_id_responder"),
    ] {
        let hash = keyed_blake2b_256(&keys.handshake_hash, &[&namespace.bytes()]);
        assert_eq!(hash.to_vec(), hex(&derived[name]), "{name}");
    }
}

fn diffie_hellman(seed: [u8; 32], public: &[u8]) -> Result<[u8; 32], snow::Error> {
    let primitives = Primitives::new(Zeroizing::new([0; 32]));
    let mut dh =
        snow::resolvers::CryptoResolver::resolve_dh(&primitives, &DHChoice::Curve25519).expect("ours");
    Dh::set(&mut *dh, &seed);
    let mut shared = [0; 32];
    dh.dh(public, &mut shared).map(|()| shared)
}

#[test]
fn scalars_and_shared_points_are_those_of_the_original() {
    let vectors = vectors("keys.json");
    for pair in vectors["key_pairs"].as_array().expect("a list") {
        let ours = key_pair(&pair["seed"]);
        assert_eq!(ours.public().0.to_vec(), hex(&pair["public_key"]));
        assert_eq!(ours.secret_bytes().to_vec(), hex(&pair["secret_key"]));
        assert_eq!(ours.dh_scalar().to_vec(), hex(&pair["dh_scalar"]));
    }
    for case in vectors["dh"].as_array().expect("a list") {
        let shared = diffie_hellman(hex32(&case["local_seed"]), &hex(&case["remote_public_key"]));
        assert_eq!(shared.expect("a good point").to_vec(), hex(&case["shared"]));
    }
}

#[test]
fn bad_points_are_refused_and_a_handshake_with_them_fails() {
    let vectors = vectors("keys.json");
    let cases = vectors["dh_rejects"].as_array().expect("a list");
    assert!(cases.len() >= 7);
    for case in cases {
        let point = hex32(&case["public_key"]);
        assert_eq!(diffie_hellman([1; 32], &point), Err(snow::Error::Dh), "{}", case["name"]);
        let own = KeyPair::from_seed(&[1; 32]);
        let mut to_bad_key = Handshake::ik_initiator(&own, &PublicKey(point), b"", Zeroizing::new([2; 32]));
        assert_eq!(to_bad_key.write(b""), Err(HandshakeError::UnusablePoint), "{}", case["name"]);
        let mut responder = Handshake::ik_responder(&own, b"", Zeroizing::new([2; 32]));
        let message = [&point[..], &[0; 64]].concat();
        assert_eq!(responder.read(&message), Err(HandshakeError::UnusablePoint), "{}", case["name"]);
    }
}

#[test]
fn a_good_point_plus_one_of_small_order_is_refused() {
    let small = hex32(&vectors("keys.json")["dh_rejects"][2]["public_key"]);
    let good = KeyPair::from_seed(&[5; 32]).public().0;
    let mixed = points::add(&good, &small).expect("a point");
    assert!(diffie_hellman([1; 32], &good).is_ok());
    assert_eq!(diffie_hellman([1; 32], &mixed), Err(snow::Error::Dh));
}

#[test]
fn every_cut_and_every_changed_byte_of_a_message_fails_the_handshake() {
    let vectors = vectors("noise.json");
    for name in TRANSCRIPTS {
        let transcript = &vectors[name];
        let first = hex(&transcript["messages"][0]["message"]);
        let cut_short = if name.contains("XX") { 0..32 } else { 0..first.len() };
        for length in cut_short {
            assert!(sides(transcript).1.read(&first[..length]).is_err(), "{name} cut to {length}");
        }
        // What was changed in the first message of XX, which is not encrypted, shows with the next one.
        for at in 0..first.len() {
            let (mut initiator, mut responder) = sides(transcript);
            let mut changed = initiator.write(&hex(&transcript["messages"][0]["payload"])).expect("writes");
            changed[at] ^= 1;
            let failed = responder.read(&changed).is_err()
                || responder.write(b"").map(|message| initiator.read(&message).is_err()).unwrap_or(true);
            assert!(failed, "{name}, byte {at}");
        }
    }
}

#[test]
fn a_handshake_for_another_key_or_prologue_does_not_decrypt() {
    let (own, other) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    let seed = || Zeroizing::new([3; 32]);
    let message = Handshake::ik_initiator(&own, &other.public(), b"a", seed()).write(b"").expect("writes");
    let read = |own: &KeyPair, prologue: &[u8]| Handshake::ik_responder(own, prologue, seed()).read(&message);
    assert_eq!(read(&other, b"a"), Ok(Vec::new()));
    assert_eq!(read(&other, b"b"), Err(HandshakeError::Undecryptable));
    assert_eq!(read(&own, b"a"), Err(HandshakeError::Undecryptable));
}

#[test]
fn messages_out_of_turn_and_keys_too_early_are_errors() {
    let own = KeyPair::from_seed(&[1; 32]);
    let mut initiator = Handshake::xx(true, &own, b"", Zeroizing::new([3; 32]));
    assert_eq!(initiator.read(&[0; 32]), Err(HandshakeError::OutOfTurn));
    let mut responder = Handshake::xx(false, &own, b"", Zeroizing::new([4; 32]));
    assert_eq!(responder.write(b""), Err(HandshakeError::OutOfTurn));
    responder.read(&initiator.write(b"").unwrap()).unwrap();
    assert_eq!(responder.finish().err(), Some(HandshakeError::Unfinished));
}

#[test]
fn messages_have_at_most_65535_bytes() {
    let own = KeyPair::from_seed(&[1; 32]);
    let xx = |initiator, seed| Handshake::xx(initiator, &own, b"", Zeroizing::new([seed; 32]));
    let longest = vec![0; MAX_NOISE_MESSAGE_BYTES - 32];
    let message = xx(true, 3).write(&longest).expect("at the limit");
    assert_eq!(message.len(), MAX_NOISE_MESSAGE_BYTES);
    assert_eq!(xx(false, 4).read(&message), Ok(longest.clone()));
    let longer = [&message[..], &[0]].concat();
    assert_eq!(xx(false, 4).read(&longer), Err(HandshakeError::TooLong(65_536)));
    assert!(matches!(xx(true, 3).write(&[&longest[..], &[0]].concat()), Err(HandshakeError::TooLong(_))));
}
