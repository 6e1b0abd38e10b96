//! Every cap of the room, at its limit and one beyond.

use super::*;
use crate::limits::*;

#[test]
fn a_connection_carries_4096_channels_of_ours() {
    let mut a = Side::new();
    for n in 0..MUX_CHANNELS as u32 {
        a.mux.open("test", &n.to_le_bytes(), options()).expect("opens");
    }
    assert_eq!(a.mux.open("test", b"more", options()), Err(OpenError::TooManyChannels));
    assert_eq!(a.mux.groups.len(), MUX_CHANNELS);
}

#[test]
fn a_peer_may_have_4096_channels_and_no_more() {
    let mut a = Side::new();
    for n in 1..=MUX_CHANNELS as u64 {
        a.feed_bytes(&open_frame(n, b"test", b"", b""));
        a.flush();
        a.poll(|_, _| {});
    }
    assert!(a.error().is_none());
    a.feed_bytes(&open_frame(MUX_CHANNELS as u64 + 1, b"test", b"", b""));
    assert_eq!(a.error(), Some(&Error::TooManyChannels { protocol: "test".to_owned() }));
}

#[test]
fn sixty_four_channels_may_wait_for_a_decision() {
    assert_eq!(MUX_UNDECIDED * MUX_PENDING_OVERHEAD, MUX_BUFFERED_BYTES, "so that they fit the buffer");
    let mut b = Side::pairing("test");
    for n in 1..=MUX_UNDECIDED as u64 {
        b.feed_bytes(&open_frame(n, b"test", b"", b""));
    }
    assert_eq!(b.replies(), [""; 0]);
    b.feed_bytes(&open_frame(MUX_UNDECIDED as u64 + 1, b"test", b"", b""));
    assert_eq!(b.replies(), ["000241"]);
    assert_eq!(b.events.len(), MUX_UNDECIDED);
}

#[test]
fn undecided_channels_may_send_32768_bytes_ahead() {
    let mut b = Side::pairing("test");
    b.feed("000101047465737400");
    let most = MUX_BUFFERED_BYTES - 2 * MUX_PENDING_OVERHEAD;
    b.feed_bytes(&[&[1, 0], vec![0; most].as_slice()].concat());
    assert!(b.mux.wants_message());
    let mut b = Side::pairing("test");
    b.feed("000101047465737400");
    b.feed_bytes(&[&[1, 0], vec![0; most + 1].as_slice()].concat());
    assert!(!b.mux.wants_message());
}

#[test]
fn names_and_ids_have_at_most_255_bytes() {
    let long = "x".repeat(MUX_NAME_BYTES + 1);
    let longest = &long[..MUX_NAME_BYTES];
    for (name, id, welcome) in
        [(longest, longest, true), (&long, longest, false), (longest, &long, false), (&long, "", false)]
    {
        let mut b = Side::new();
        b.mux.pair(name, b"");
        b.feed_bytes(&open_frame(1, name.as_bytes(), id.as_bytes(), b""));
        assert_eq!(b.events.len(), usize::from(welcome));
        assert_eq!(b.replies().len(), usize::from(!welcome));
        let opened = Side::new().mux.open(name, id.as_bytes(), options()).map(drop);
        assert_eq!(opened, if welcome { Ok(()) } else { Err(OpenError::NameTooLong) });
    }
    let options = ChannelOptions { aliases: vec![long], ..options() };
    assert_eq!(Side::new().mux.open("x", b"", options), Err(OpenError::NameTooLong));
}

#[test]
fn handshakes_have_at_most_16384_bytes() {
    for (length, fits) in [(MUX_HANDSHAKE_BYTES, true), (MUX_HANDSHAKE_BYTES + 1, false)] {
        let handshake = vec![9; length];
        let mut b = Side::new();
        b.open("test");
        b.feed_bytes(&open_frame(1, b"test", b"", &handshake));
        assert_eq!(b.error().is_none(), fits);
        let options = ChannelOptions { handshake: handshake.into(), ..options() };
        assert_eq!(Side::new().mux.open("x", b"", options).is_ok(), fits);
    }
}

#[test]
fn batches_are_nested_four_deep() {
    // A batch for channel 0 whose item is a batch: 00 00 00 LL 00 ...
    let inside = |depth: usize| {
        let mut item = bytes("00070100");
        for _ in 1..depth {
            item = [&[0, 0, item.len() as u8], item.as_slice()].concat();
        }
        [&[0], item.as_slice()].concat()
    };
    for (depth, fits) in [(MUX_BATCH_DEPTH, true), (MUX_BATCH_DEPTH + 1, false), (60, false)] {
        let mut b = Side::new();
        b.feed_bytes(&inside(depth));
        assert_eq!(b.error(), if fits { None } else { Some(&Error::BatchTooDeep) }, "{depth}");
    }
}

#[test]
fn the_longest_message_fits_a_frame_of_the_secret_stream() {
    let mut a = Side::new();
    let channel = a.open("test");
    a.flush();
    let body = vec![0; MUX_MESSAGE_BYTES - 35];
    a.send(channel, u64::from(u32::MAX), &body[..body.len() - 1]);
    a.flush();
    assert!(a.written[1].len() <= MUX_MESSAGE_BYTES);
    assert_eq!(a.mux.send(channel, 0, &body), Err(SendError::TooLong));
}

#[test]
fn a_peer_that_does_not_take_its_rejects_is_no_longer_read() {
    let mut b = Side::new();
    // Opens are 9 bytes, rejects 3.
    let mut sent = 0;
    while b.mux.wants_message() {
        b.feed("000101047465737400");
        sent += 3;
        assert!(sent <= MUX_REPLY_BYTES + 3);
    }
    assert!(sent > MUX_REPLY_BYTES);
    b.flush();
    assert!(b.mux.wants_message());
}

#[test]
fn a_peer_that_does_not_take_the_opens_that_answer_its_own_is_no_longer_read() {
    let mut b = Side::pairing("test");
    while b.mux.wants_message() {
        b.mux.handle_message(open_frame(1, b"test", b"", b"")).expect("wants it");
        b.poll(|mux, event| {
            if let Event::RemoteOpen { incoming, .. } = event {
                mux.accept(*incoming, options()).expect("accepts");
            }
        });
        if b.mux.wants_message() {
            b.feed_bytes(&[0, 3, 1]);
        }
        assert!(b.mux.pending_bytes() <= MUX_REPLY_BYTES + 9);
    }
    assert!(b.error().is_none());
    assert!(b.mux.pending_bytes() > MUX_REPLY_BYTES);
    b.flush();
    assert!(b.mux.wants_message());
}

#[test]
fn a_batch_of_a_million_opens_does_not_become_as_many_rejects_at_once() {
    let mut b = Side::new();
    let open = bytes("080101047465737400");
    let batch = [bytes("000000"), open.repeat(1_000_000)].concat();
    b.mux.handle_message(batch.into()).expect("wants it");
    let (mut largest, mut all) = (0, 0);
    loop {
        b.poll(|_, _| {});
        largest = largest.max(b.mux.pending_bytes());
        let Some(message) = b.mux.poll_transmit() else { break };
        all += message.len();
    }
    assert!(b.error().is_none());
    assert!(all >= 3_000_000, "{all}");
    assert!(largest <= MUX_REPLY_BYTES + 64, "{largest}");
}

#[test]
fn a_small_part_of_a_long_message_does_not_keep_it_in_memory() {
    for (filler, shared) in [(MUX_SHARED_BYTES - 20, true), (MUX_SHARED_BYTES, false)] {
        let mut b = Side::new();
        b.open("test");
        b.feed("000101047465737400");
        let mut writer = crate::codec::compact::Writer::new();
        writer.uint(0).uint(0).uint(1).buffer(b"\x00part").uint(0).uint(9).buffer(&vec![0; filler]);
        let message = writer.finish();
        b.mux.handle_message(message.clone()).expect("wants it");
        b.poll(|_, _| {});
        let Some(Event::Message { body, .. }) = b.events.last() else { panic!("no message") };
        assert_eq!(&**body, b"part");
        assert_eq!(message.as_ptr_range().contains(&body.as_ptr()), shared);
    }
}
