//! Handshakes at the beginning of a stream.

use super::*;
use crate::crypto::KeyPair;
use crate::crypto::noise::Handshake;
use crate::limits::MAX_NOISE_MESSAGE_BYTES;

fn seed(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

fn xx() -> (Handshake, Handshake) {
    let (ours, theirs) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    (Handshake::xx(true, &ours, b"", seed(3)), Handshake::xx(false, &theirs, b"", seed(4)))
}

fn ik() -> (Handshake, Handshake) {
    let (ours, theirs) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    (
        Handshake::ik_initiator(&ours, &theirs.public(), b"", seed(3)),
        Handshake::ik_responder(&theirs, b"", seed(4)),
    )
}

/// Exchanges messages until both are finished, delivering them in pieces of `size` bytes.
fn exchange((one, other): (Handshake, Handshake), size: usize) -> (Keys, Keys) {
    let (mut initiator, first) = Opening::new(one).expect("begins");
    let (mut responder, none) = Opening::new(other).expect("waits");
    assert_eq!(none, None);
    let mut wire = first.expect("the initiator begins");
    let mut to_responder = true;
    while !(initiator.is_finished() && responder.is_finished()) {
        let to = if to_responder { &mut responder } else { &mut initiator };
        let mut answer = None;
        while !wire.is_empty() {
            answer = to.receive(wire.split_to(size.min(wire.len()))).expect("a good message");
        }
        wire = answer.unwrap_or_default();
        to_responder = !to_responder;
    }
    (initiator.finish().expect("finished").0, responder.finish().expect("finished").0)
}

#[test]
fn both_sides_come_to_the_same_keys_however_the_bytes_are_cut() {
    for size in [1, 2, 3, 35, 96, 1000] {
        for handshakes in [xx(), ik()] {
            let (initiator, responder) = exchange(handshakes, size);
            assert_eq!(*initiator.tx, *responder.rx);
            assert_eq!(initiator.remote, KeyPair::from_seed(&[2; 32]).public());
            assert_eq!(responder.remote, KeyPair::from_seed(&[1; 32]).public());
        }
    }
}

#[test]
fn bytes_behind_the_last_message_are_kept_for_the_stream() {
    let (one, other) = ik();
    let (mut initiator, first) = Opening::new(one).expect("begins");
    let (mut responder, _) = Opening::new(other).expect("waits");
    let answer = responder.receive(first.expect("a message")).expect("good").expect("an answer");
    let (keys, _) = responder.finish().expect("finished");
    let (mut sender, header) = Sender::new(&keys, &[5; HEADER_BYTES]);
    let mut wire = [&answer[..], &header[..]].concat();
    sender.seal(b"early", &mut wire).expect("short");
    assert_eq!(initiator.receive(wire.into()), Ok(None));
    let (keys, rest) = initiator.finish().expect("finished");
    let mut receiver = Receiver::new(&keys, MAX_SECRET_FRAME_BYTES);
    receiver.receive(rest);
    assert_eq!(drain(&mut receiver).expect("authentic"), [Bytes::from("early")]);
}

#[test]
fn garbage_instead_of_a_handshake_message_is_an_error() {
    let (_, other) = ik();
    let (mut responder, _) = Opening::new(other).expect("waits");
    assert_eq!(
        responder.receive(Bytes::from_static(&[3, 0, 0, 1, 2, 3])),
        Err(Error::Handshake(HandshakeError::Truncated))
    );
    let (_, other) = ik();
    let (mut responder, _) = Opening::new(other).expect("waits");
    let zeros = Bytes::from([&[96, 0, 0][..], &[0; 96]].concat());
    assert_eq!(responder.receive(zeros), Err(Error::Handshake(HandshakeError::UnusablePoint)));
}

#[test]
fn a_handshake_frame_has_at_most_65535_bytes() {
    let receive = |length: usize| {
        let (mut responder, _) = Opening::new(xx().1).expect("waits");
        let [a, b, c, ..] = length.to_le_bytes();
        responder.receive(Bytes::copy_from_slice(&[a, b, c]))
    };
    assert_eq!(receive(MAX_NOISE_MESSAGE_BYTES), Ok(None));
    let limit = MAX_NOISE_MESSAGE_BYTES;
    assert_eq!(receive(limit + 1), Err(Error::FrameTooLong { length: limit + 1, limit }));
}
