//! What a peer, or somebody between, may try.

use std::time::{Duration, Instant};

use super::*;
use crate::limits::SECRET_FRAME_HEADROOM;

#[test]
fn a_changed_message_ends_the_stream_for_good() {
    let mut pipe = pipe();
    pipe.send(b"one").send(b"two");
    let last = pipe.wire.len() - 1;
    pipe.wire[last] ^= 1;
    let wire = std::mem::take(&mut pipe.wire);
    pipe.receiver.receive(wire.into());
    assert_eq!(pipe.receiver.next_message(), Ok(Some(Bytes::from("one"))));
    assert_eq!(pipe.receiver.next_message(), Err(Error::Forged(1)));
    pipe.send(b"three");
    assert_eq!(pipe.deliver(), Err(Error::Forged(1)));
    assert_eq!(pipe.receiver.end(), Err(Error::Forged(1)));
    assert_eq!(pipe.receiver.memory(), 0, "nothing is collected any more");
}

#[test]
fn a_repeated_a_left_out_and_an_early_message_are_forged() {
    let mut pipe = pipe();
    pipe.deliver().expect("the header");
    let mut frame = |message: &[u8]| {
        let mut frame = Vec::new();
        pipe.sender.seal(message, &mut frame).expect("short");
        frame
    };
    let (one, two, three) = (frame(b"one"), frame(b"two"), frame(b"three"));
    for (order, number) in [([&one, &one], 1), ([&one, &three], 1), ([&two, &one], 0)] {
        let mut receiver = super::pipe().receiver;
        receiver.receive(super::pipe().wire.into());
        assert_eq!(drain(&mut receiver), Ok(Vec::new()));
        receiver.receive(order.map(Vec::as_slice).concat().into());
        assert_eq!(drain(&mut receiver), Err(Error::Forged(number)));
    }
}

#[test]
fn a_second_header_is_no_message() {
    let mut pipe = pipe();
    let header = pipe.wire.clone();
    pipe.wire.extend_from_slice(&header);
    assert_eq!(pipe.deliver(), Err(Error::Forged(0)));
}

#[test]
fn a_header_of_the_same_role_or_of_another_handshake_is_foreign() {
    let (_, own_role) = Sender::new(&keys(false), &[9; HEADER_BYTES]);
    let mut other = keys(true);
    other.handshake_hash[0] ^= 1;
    let (_, other_handshake) = Sender::new(&other, &[9; HEADER_BYTES]);
    for header in [own_role, other_handshake] {
        let mut receiver = pipe().receiver;
        receiver.receive(header);
        assert_eq!(receiver.next_message(), Err(Error::ForeignHeader));
    }
}

#[test]
fn a_header_has_exactly_56_bytes() {
    for length in [0, 55, 57] {
        let mut header = pipe().wire;
        header[0] = length;
        header.push(0);
        let mut receiver = pipe().receiver;
        receiver.receive(header.into());
        assert_eq!(receiver.next_message(), Err(Error::HeaderLength(length.into())));
    }
}

#[test]
fn a_message_under_another_key_is_forged() {
    let mut keys = keys(true);
    keys.tx[0] ^= 1;
    let (mut sender, header) = Sender::new(&keys, &[9; HEADER_BYTES]);
    let mut wire = header.to_vec();
    sender.seal(b"message", &mut wire).expect("short");
    let mut receiver = pipe().receiver;
    receiver.receive(wire.into());
    assert_eq!(receiver.next_message(), Err(Error::Forged(0)));
}

#[test]
fn a_frame_of_16_bytes_is_too_short_and_of_17_an_empty_message() {
    let mut pipe = pipe();
    pipe.wire.extend_from_slice(&[16, 0, 0]);
    pipe.wire.extend_from_slice(&[0; 16]);
    assert_eq!(pipe.deliver(), Err(Error::FrameTooShort(16)));
    let mut pipe = super::pipe();
    pipe.send(b"");
    assert_eq!(pipe.wire.len(), 59 + 20);
    assert_eq!(pipe.deliver(), Ok(vec![Bytes::new()]));
}

#[test]
fn the_stream_may_not_end_inside_a_frame_or_before_the_header() {
    let mut pipe = pipe();
    assert_eq!(pipe.receiver.end(), Err(Error::Cut));
    pipe.send(b"message");
    let wire = Bytes::from(std::mem::take(&mut pipe.wire));
    for length in 0..=wire.len() {
        let mut receiver = super::pipe().receiver;
        receiver.receive(wire.slice(..length));
        drain(&mut receiver).expect("authentic so far");
        let expected = if length == 59 || length == wire.len() { Ok(()) } else { Err(Error::Cut) };
        assert_eq!(receiver.end(), expected, "after {length} bytes");
    }
}

#[test]
fn frames_are_taken_up_to_the_limit_that_was_set() {
    let deliver = |length: usize| {
        let mut pipe = pipe();
        pipe.receiver = Receiver::new(&keys(false), 1017);
        pipe.send(&vec![7; length]).deliver().map(|messages| messages[0].len())
    };
    assert_eq!(deliver(1000), Ok(1000));
    assert_eq!(deliver(1001), Err(Error::FrameTooLong { length: 1018, limit: 1017 }));
}

#[test]
fn the_longest_message_is_that_of_three_bytes_of_length() {
    let mut pipe = pipe();
    let longest = vec![7; MAX_MESSAGE_BYTES];
    pipe.send(&longest);
    assert_eq!(pipe.wire.len(), 59 + 3 + MAX_SECRET_FRAME_BYTES);
    assert_eq!(pipe.deliver(), Ok(vec![Bytes::from(longest)]));
    let longer = vec![7; MAX_MESSAGE_BYTES + 1];
    assert_eq!(pipe.sender.seal(&longer, &mut pipe.wire), Err(MessageTooLong(MAX_MESSAGE_BYTES + 1)));
    assert!(pipe.wire.is_empty(), "nothing of it was sealed");
    pipe.send(b"next");
    assert_eq!(pipe.deliver(), Ok(vec![Bytes::from("next")]));
}

#[test]
fn an_announced_frame_of_16_mib_reserves_no_more_than_twice_what_came_of_it() {
    let mut pipe = pipe();
    pipe.deliver().expect("the header");
    pipe.receiver.receive(Bytes::from_static(&[0xff, 0xff, 0xff]));
    assert_eq!(pipe.receiver.next_message(), Ok(None));
    let (mut arrived, piece) = (3, Bytes::from(vec![0; 1400]));
    while arrived + piece.len() < MAX_SECRET_FRAME_BYTES {
        let memory = pipe.receiver.memory();
        assert!(memory <= 2 * arrived + SECRET_FRAME_HEADROOM, "{memory} bytes for {arrived}");
        pipe.receiver.receive(piece.clone());
        assert_eq!(pipe.receiver.next_message(), Ok(None));
        arrived += piece.len();
    }
    assert!(pipe.receiver.memory() <= MAX_SECRET_FRAME_BYTES + 3);
}

#[test]
fn an_idle_stream_holds_no_buffer() {
    let mut pipe = pipe();
    let message = vec![1; 1 << 20];
    pipe.send(&message);
    let wire = Bytes::from(std::mem::take(&mut pipe.wire));
    for at in (0..wire.len()).step_by(1400) {
        pipe.receiver.receive(wire.slice(at..wire.len().min(at + 1400)));
        drain(&mut pipe.receiver).expect("authentic");
    }
    assert_eq!((pipe.receiver.frames(), pipe.receiver.memory()), (1, 0));
}

#[test]
fn bytes_are_cut_into_frames_of_64_kib_and_come_out_in_order() {
    let mut pipe = pipe();
    let bytes: Vec<u8> = (0..3 * BULK_FRAME_BYTES + 5).map(|n| (n % 251) as u8).collect();
    pipe.sender.seal_bytes(&bytes, &mut pipe.wire);
    let messages = pipe.deliver().expect("authentic");
    assert_eq!(messages.iter().map(Bytes::len).collect::<Vec<_>>(), [65_536, 65_536, 65_536, 5]);
    assert_eq!(messages.concat(), bytes);
}

#[test]
fn unordered_messages_that_are_short_changed_or_of_another_direction_are_ignored() {
    let mut sealer = MessageSealer::new(&keys(true), 5);
    let opener = MessageOpener::new(&keys(false));
    let envelope = sealer.seal(b"message").expect("a counter");
    assert_eq!(opener.open(&envelope).expect("authentic"), b"message"[..]);
    for length in 0..envelope.len() {
        assert_eq!(opener.open(&envelope[..length]), None, "cut to {length}");
    }
    for at in 0..envelope.len() {
        let mut changed = envelope.to_vec();
        changed[at] ^= 1;
        assert_eq!(opener.open(&changed), None, "byte {at}");
    }
    assert_eq!(MessageOpener::new(&keys(true)).open(&envelope), None, "own direction");
    assert!(opener.open(&sealer.seal(b"").expect("a counter")).expect("authentic").is_empty());
}

#[test]
fn counters_of_unordered_messages_wrap_and_never_repeat() {
    let mut sealer = MessageSealer::new(&keys(true), u64::MAX - 1);
    let mut counters = Vec::new();
    for _ in 0..3 {
        counters.push(sealer.seal(b"").expect("a counter")[..8].to_vec());
    }
    let expected = [u64::MAX, 0, 1].map(|counter| counter.to_le_bytes().to_vec());
    assert_eq!(counters, expected);
    sealer.skip_to(u64::MAX - 2);
    assert_eq!(sealer.seal(b""), Err(SealError));
    assert_eq!(sealer.seal(b""), Err(SealError), "for ever");
}

#[test]
fn a_keep_alive_is_due_one_interval_after_the_last_message() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let mut keep_alive = KeepAlive::new(start, Some(5 * second));
    assert!(!keep_alive.is_due(start + 4 * second));
    keep_alive.sent(start + 4 * second);
    assert!(!keep_alive.is_due(start + 8 * second));
    assert_eq!(keep_alive.deadline(), Some(start + 9 * second));
    assert!(keep_alive.is_due(start + 9 * second));
    keep_alive.stop();
    assert_eq!(keep_alive.deadline(), None);
    assert_eq!(KeepAlive::new(start, Some(Duration::ZERO)).deadline(), None);
}
