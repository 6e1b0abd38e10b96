//! Body of the fuzz target of this room.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::KeyPair;
use super::noise::Handshake;

/// The keys of both sides, as in the vectors.
static SIDES: LazyLock<[KeyPair; 2]> =
    LazyLock::new(|| [KeyPair::from_seed(&[0x11; 32]), KeyPair::from_seed(&[0x22; 32])]);

/// `data` is a handshake message for somebody who waits for one. Whether it was taken.
pub fn noise(data: &[u8]) -> bool {
    let [initiator, responder] = &*SIDES;
    let mut taken = 0;
    let responders = [
        Handshake::ik_responder(responder, b"", Zeroizing::new([0x44; 32])),
        Handshake::xx(false, responder, b"", Zeroizing::new([0x44; 32])),
    ];
    for mut waiting in responders {
        if waiting.read(data).is_ok() {
            taken += 1;
            let _ = waiting.write(b"answer");
        }
    }
    let initiators = [
        Handshake::ik_initiator(initiator, &responder.public(), b"", Zeroizing::new([0x33; 32])),
        Handshake::xx(true, initiator, b"", Zeroizing::new([0x33; 32])),
    ];
    for mut waiting in initiators {
        let first = waiting.write(b"");
        if first.is_ok() && waiting.read(data).is_ok() {
            taken += 1;
        }
    }
    taken > 0
}
