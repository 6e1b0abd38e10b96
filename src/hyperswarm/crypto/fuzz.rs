//! Bodies of the fuzz targets of this room.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::noise::{Handshake, Pattern};
use super::secretbox::{Forged, NONCE_BYTES};
use super::v4::SecurePayload;
use super::{KeyPair, PublicKey};

/// The keys of both sides, as in the vectors.
static SIDES: LazyLock<[KeyPair; 2]> =
    LazyLock::new(|| [KeyPair::from_seed(&[0x11; 32]), KeyPair::from_seed(&[0x22; 32])]);

/// The messages of each pattern between these sides, as in the vectors without prologue and payloads.
static MESSAGES: LazyLock<[(Pattern, Vec<Vec<u8>>); 2]> =
    LazyLock::new(|| [Pattern::Xx, Pattern::Ik].map(|pattern| (pattern, messages(pattern))));

/// `data` is a handshake message for somebody who waits for one: each message of each pattern. Whether one took it.
/// Only who knows the keys can finish a handshake, so that nothing but the right message does.
pub fn noise(data: &[u8]) -> bool {
    let mut taken = false;
    for (pattern, messages) in &*MESSAGES {
        for (n, right) in messages.iter().enumerate() {
            let mut waiting = handshake(*pattern, n % 2 == 1);
            for earlier in messages.iter().take(n) {
                if waiting.is_our_turn() {
                    assert_eq!(waiting.write(b"").as_ref(), Ok(earlier));
                } else {
                    assert_eq!(waiting.read(earlier), Ok(Vec::new()));
                }
            }
            if waiting.read(data).is_err() {
                continue;
            }
            taken = true;
            // Only now the other side's ephemeral key is multiplied, if it came with the first message of XX.
            if waiting.is_our_turn() && waiting.write(b"").is_err() {
                continue;
            }
            if let Ok(keys) = waiting.finish() {
                assert_eq!(data, right);
                assert_eq!(keys.remote, public(n % 2 == 0));
            }
        }
    }
    taken
}

/// A side of a handshake of empty prologue, always with the same keys.
pub fn handshake(pattern: Pattern, initiator: bool) -> Handshake {
    let [one, other] = &*SIDES;
    let seed = |byte| Zeroizing::new([byte; 32]);
    match (pattern, initiator) {
        (Pattern::Xx, true) => Handshake::xx(true, one, b"", seed(0x33)),
        (Pattern::Xx, false) => Handshake::xx(false, other, b"", seed(0x44)),
        (Pattern::Ik, true) => Handshake::ik_initiator(one, &other.public(), b"", seed(0x33)),
        (Pattern::Ik, false) => Handshake::ik_responder(other, b"", seed(0x44)),
    }
}

/// The key of a side.
pub fn public(initiator: bool) -> PublicKey {
    let [one, other] = &*SIDES;
    if initiator { one.public() } else { other.public() }
}

/// What a target starts from.
pub fn samples() -> Vec<Vec<u8>> {
    MESSAGES.iter().flat_map(|(_, messages)| messages.clone()).collect()
}

fn messages(pattern: Pattern) -> Vec<Vec<u8>> {
    let mut sides = [true, false].map(|initiator| handshake(pattern, initiator));
    let mut messages = Vec::new();
    loop {
        let [from, to] = &mut sides;
        let Ok(message) = from.write(b"") else { return messages };
        let read = to.read(&message);
        assert_eq!(read, Ok(Vec::new()));
        messages.push(message);
        sides.reverse();
    }
}

/// `data` is a sealed payload of a holepunch message, and one to be sealed. Only what was sealed under the key opens.
pub fn secure_payload(data: &[u8]) -> bool {
    let payloads = SecurePayload::new(Zeroizing::new([0x55; 32]));
    assert_eq!(payloads.open(data), Err(Forged));
    let (first, payload) = data.split_first().unwrap_or((&0, data));
    let mut sealed = payloads.seal(&[*first; NONCE_BYTES], payload);
    let opened = payloads.open(&sealed);
    let changed = usize::from(*first) % sealed.len();
    if let Some(byte) = sealed.get_mut(changed) {
        *byte ^= 1;
    }
    assert_eq!(payloads.open(&sealed), Err(Forged));
    // An empty payload is no payload.
    assert_eq!(opened.is_err(), payload.is_empty());
    opened.is_ok_and(|opened| opened == payload)
}
