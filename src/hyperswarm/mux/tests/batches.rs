//! Batches both ways, pauses and back-pressure.

use super::*;
use crate::limits::{MUX_BATCH_BYTES, MUX_MESSAGE_BYTES, MUX_SEND_BYTES, SECRET_DEFAULT_FRAME_BYTES};

/// Two sides with a channel open on both.
fn joined() -> (Side, ChannelId, Side, ChannelId) {
    let (mut a, mut b) = (Side::new(), Side::new());
    let (of_a, of_b) = (a.open("test"), b.open("test"));
    settle(&mut a, &mut b);
    a.events.clear();
    b.events.clear();
    (a, of_a, b, of_b)
}

#[test]
fn answers_to_a_batch_of_several_frames_are_a_batch() {
    let (mut a, of_a, mut b, _) = joined();
    let answer = |mux: &mut Mux, event: &Event| {
        if let Event::Message { channel, body, .. } = event {
            mux.send(*channel, 1, body).expect("is open");
        }
    };
    b.replies();
    b.mux
        .handle_message(Bytes::from(bytes("00000102006102006202 0063".replace(' ', "").as_str())))
        .expect("wants it");
    b.poll(answer);
    assert_eq!(b.replies(), ["000001020161020162020163"]);
    b.mux.handle_message(Bytes::from(bytes("000001020061"))).expect("wants it");
    b.poll(answer);
    assert_eq!(b.replies(), ["010161"], "a single item is answered without a batch");
    a.send(of_a, 0, b"still works");
    settle(&mut a, &mut b);
    assert_eq!(b.bodies().last(), Some(&(0, b"still works".as_slice())));
}

#[test]
fn what_is_sent_while_a_batch_waits_to_be_taken_apart_leaves() {
    let (_, _, mut b, of_b) = joined();
    b.replies();
    b.mux.handle_message(Bytes::from(bytes("000001020061020062"))).expect("wants it");
    assert!(matches!(b.mux.poll_event(), Some(Event::Message { .. })));
    b.send(of_b, 1, b"a");
    b.send(of_b, 1, b"b");
    assert_eq!(b.replies(), ["000001020161020162"]);
}

#[test]
fn corks_nest_and_an_empty_batch_is_not_sent() {
    let (mut a, of_a, ..) = joined();
    a.replies();
    a.mux.cork();
    a.mux.cork();
    a.send(of_a, 0, b"a");
    a.mux.uncork();
    assert_eq!(a.replies(), [""; 0]);
    a.mux.uncork();
    assert_eq!(a.replies(), ["000001020061"]);
    a.mux.cork();
    a.mux.uncork();
    a.mux.uncork();
    a.send(of_a, 0, b"b");
    assert_eq!(a.replies(), ["010062"], "one uncork too many does not matter");
}

#[test]
fn a_batch_is_sent_when_it_has_half_a_mebibyte_so_that_it_fits_the_default_frame() {
    const { assert!(2 * MUX_BATCH_BYTES <= SECRET_DEFAULT_FRAME_BYTES) };
    let (mut a, of_a, mut b, _) = joined();
    a.mux.cork();
    let body = vec![7; MUX_BATCH_BYTES / 8];
    for _ in 0..9 {
        a.send(of_a, 0, &body);
    }
    a.replies();
    assert_eq!(a.written.len() - a.delivered, 1, "sent while corked");
    assert!(a.written.last().expect("sent").len() >= MUX_BATCH_BYTES);
    a.mux.uncork();
    settle(&mut a, &mut b);
    assert_eq!(b.bodies().len(), 9);
}

#[test]
fn a_batch_never_outgrows_a_frame_of_the_secret_stream() {
    let (mut a, of_a, mut b, _) = joined();
    a.mux.cork();
    a.send(of_a, 0, &vec![1; MUX_BATCH_BYTES - 100]);
    a.send(of_a, 0, &vec![2; MUX_MESSAGE_BYTES - 36]);
    a.mux.uncork();
    settle(&mut a, &mut b);
    assert_eq!(b.bodies().len(), 2);
    assert!(a.written.iter().all(|message| message.len() <= MUX_MESSAGE_BYTES));
}

#[test]
fn a_close_inside_a_batch_ends_its_channel_before_the_items_that_follow() {
    let (_, _, mut b, of_b) = joined();
    b.feed("0000010200610000020301000102 0062".replace(' ', "").as_str());
    let body = Bytes::from_static(b"a");
    assert_eq!(
        b.events,
        [
            Event::Message { channel: of_b, kind: 0, body },
            Event::Closed { channel: of_b, reason: CloseReason::Remote }
        ]
    );
}

#[test]
fn a_channel_closed_by_its_owner_gets_nothing_more_of_the_batch() {
    let (_, _, mut b, _) = joined();
    b.mux.handle_message(Bytes::from(bytes("000001020061020062"))).expect("wants it");
    b.poll(|mux, event| {
        if let Event::Message { channel, .. } = event {
            mux.close(*channel);
        }
    });
    assert_eq!(b.bodies(), [(0, b"a".as_slice())]);
}

#[test]
fn a_sender_is_told_when_to_wait_and_when_there_is_room_again() {
    let (mut a, of_a, ..) = joined();
    let body = vec![0; MUX_SEND_BYTES / 2 - 2];
    assert_eq!(a.mux.send(of_a, 0, &body), Ok(true));
    assert_eq!(a.mux.send(of_a, 0, &body[1..]), Ok(true), "one byte below the mark");
    a.mux.poll_transmit().expect("the first");
    assert_eq!(a.mux.send(of_a, 0, &[0; 0]), Ok(true));
    assert_eq!(a.mux.send(of_a, 0, &body), Ok(false));
    assert!(!a.mux.has_room());
    a.poll(|_, _| {});
    assert_eq!(a.events, []);
    a.mux.poll_transmit().expect("the second");
    a.poll(|_, _| {});
    assert_eq!(a.events, [Event::Drained]);
    a.flush();
    a.poll(|_, _| {});
    assert_eq!(a.events.len(), 1, "told once");
}

#[test]
fn a_sender_that_does_not_ask_whether_there_is_room_is_told_once() {
    let (mut a, of_a, ..) = joined();
    for _ in 0..3 {
        assert_eq!(a.mux.send(of_a, 0, &vec![0; MUX_SEND_BYTES]), Ok(false));
        a.flush();
    }
    a.poll(|_, _| {});
    assert_eq!(a.events, [Event::Drained]);
}

#[test]
fn what_undecided_channels_send_ahead_pauses_the_connection_also_inside_a_batch() {
    let mut b = Side::pairing("test");
    b.feed("000101047465737400");
    // 32,768 bytes are 64 times the overhead: with the open itself, 64 empty messages are one too many.
    let batch = [bytes("000001"), bytes("0100").repeat(100)].concat();
    b.feed_bytes(&batch);
    assert!(!b.mux.wants_message());
    assert_eq!(b.mux.handle_message(Bytes::new()), Err(Bytes::new()));
    assert_eq!(b.bodies().len(), 0);
    let incoming = b.incoming(0);
    b.mux.accept(incoming, options()).expect("accepts");
    b.poll(|_, _| {});
    assert_eq!(b.bodies().len(), 100);
    assert!(b.mux.wants_message());
}

#[test]
fn a_rejected_channel_gives_its_buffer_back() {
    let mut b = Side::pairing("test");
    for channel in 1..4 {
        b.feed_bytes(&open_frame(channel, b"test", b"", b""));
        b.feed_bytes(&[&[channel as u8, 0], vec![0; 40_000].as_slice()].concat());
        assert!(!b.mux.wants_message());
        let incoming = b.incoming(channel as usize - 1);
        b.mux.reject(incoming);
        assert!(b.mux.wants_message());
    }
}
