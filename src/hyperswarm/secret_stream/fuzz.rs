//! Bodies of the fuzz targets of this room.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::*;
use crate::crypto::PublicKey;
use crate::crypto::fuzz::{handshake, public};
use crate::crypto::noise::Pattern;
use crate::limits::{MAX_SECRET_FRAME_BYTES, SECRET_FRAME_HEADROOM};

/// `data` is what the other side of an established stream sends: its first byte says how it is cut into chunks.
/// True if a message came out.
pub fn stream(data: &[u8]) -> bool {
    let Some((cut, data)) = data.split_first() else { return false };
    let mut receiver = Receiver::new(&keys(false), MAX_SECRET_FRAME_BYTES);
    for chunk in data.chunks(usize::from(*cut) + 1) {
        receiver.receive(Bytes::copy_from_slice(chunk));
        loop {
            match receiver.next_message() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    assert!(receiver.end().is_err());
                    assert_eq!(receiver.memory(), 0);
                    return receiver.frames() > 0;
                }
            }
        }
        assert!(receiver.memory() <= 2 * data.len() + SECRET_FRAME_HEADROOM);
    }
    receiver.frames() > 0
}

/// `data` is what the other side of a stream without keys sends, in chunks of the size that its first byte says, to
/// each side of each pattern. Whether an answer came, or the keys.
pub fn opening(data: &[u8]) -> bool {
    let Some((cut, data)) = data.split_first() else { return false };
    let mut answered = false;
    for (pattern, initiator) in SIDES {
        let Ok((mut opening, _)) = Opening::new(handshake(pattern, initiator)) else { continue };
        // In the end no more bytes: a second message behind the first is looked at only then.
        for chunk in data.chunks(usize::from(*cut) + 1).chain([&[][..]]) {
            match opening.receive(Bytes::copy_from_slice(chunk)) {
                Ok(answer) => answered |= answer.is_some(),
                Err(_) => break,
            }
            if opening.is_finished() {
                break;
            }
        }
        if let Ok((keys, rest)) = opening.finish() {
            answered = true;
            assert_eq!(keys.remote, public(!initiator));
            assert!(data.len() > rest.len());
        }
    }
    answered
}

/// What each side of each pattern sends, and bytes behind it.
pub fn opening_samples() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for (pattern, initiator) in SIDES {
        let other = Opening::new(handshake(pattern, !initiator));
        let (Ok((mut one, first)), Ok((mut other, answer))) =
            (Opening::new(handshake(pattern, initiator)), other)
        else {
            continue;
        };
        // What arrives here, and what is sent there.
        let (mut arrived, mut sent) = (answer, first);
        let mut wire = Vec::new();
        while arrived.is_some() || sent.is_some() {
            wire.extend_from_slice(arrived.as_deref().unwrap_or_default());
            let answer = sent.and_then(|bytes| other.receive(bytes).ok().flatten());
            sent = arrived.and_then(|bytes| one.receive(bytes).ok().flatten());
            arrived = answer;
        }
        for cut in [0, 34, 35, 255] {
            samples.push([&[cut], &wire[..], &[59, 0, 0]].concat());
        }
    }
    samples
}

const SIDES: [(Pattern, bool); 4] =
    [(Pattern::Xx, true), (Pattern::Xx, false), (Pattern::Ik, true), (Pattern::Ik, false)];

/// `data` is an unordered message. Whether it opened.
pub fn unordered(data: &[u8]) -> bool {
    MessageOpener::new(&keys(false)).open(data).is_some()
}

/// Streams and messages that both bodies take, to begin from.
pub fn samples() -> Vec<Vec<u8>> {
    let (mut sender, header) = Sender::new(&keys(true), &[9; HEADER_BYTES]);
    let mut whole = [&[200], &header[..]].concat();
    for message in [&b"one"[..], b"", &[2; 40], b"four"] {
        // Far below the longest message.
        let _ = sender.seal(message, &mut whole);
    }
    let mut sealer = MessageSealer::new(&keys(true), 7);
    let mut samples: Vec<_> =
        (0..4).filter_map(|n| Some(sealer.seal(&vec![n; usize::from(n)]).ok()?.to_vec())).collect();
    samples.push(whole.get(1..).unwrap_or_default().to_vec());
    for cut in [0, 1, 20, 59] {
        if let Some(first) = whole.first_mut() {
            *first = cut;
        }
        samples.push(whole.clone());
    }
    samples
}

fn keys(initiator: bool) -> Keys {
    let (tx, rx) = if initiator { ([1; 32], [2; 32]) } else { ([2; 32], [1; 32]) };
    Keys {
        initiator,
        remote: PublicKey([3; 32]),
        handshake_hash: [4; 64],
        tx: Zeroizing::new(tx),
        rx: Zeroizing::new(rx),
    }
}
