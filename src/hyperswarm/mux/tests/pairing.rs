//! Who is paired with whom, and what happens to numbers.

use super::*;

/// Lets every open be accepted at once.
fn accept_all(mux: &mut Mux, event: &Event) {
    if let Event::RemoteOpen { incoming, .. } = event {
        mux.accept(*incoming, shared()).expect("accepts");
    }
}

#[test]
fn channels_with_the_same_key_are_paired_first_in_first_out() {
    let (mut a, mut b) = (Side::new(), Side::pairing("test"));
    let of_a: Vec<_> = (0..3).map(|_| a.mux.open("test", b"", shared()).expect("opens")).collect();
    for (n, channel) in of_a.iter().enumerate() {
        a.send(*channel, 0, &[n as u8]);
    }
    settle_with(&mut a, &mut b, accept_all);
    assert_eq!(b.bodies(), [(0, [0].as_slice()), (0, &[1]), (0, &[2])]);
    let opened: Vec<_> = b.events.iter().filter(|e| matches!(e, Event::Opened { .. })).collect();
    assert_eq!(opened.len(), 3);
    for channel in of_a {
        assert!(a.is_paired(channel));
    }
}

#[test]
fn incoming_channels_of_one_key_are_accepted_in_the_order_in_which_they_came() {
    let (mut a, mut b) = (Side::new(), Side::pairing("test"));
    let of_a: Vec<_> = (0..2).map(|_| a.mux.open("test", b"", shared()).expect("opens")).collect();
    settle(&mut a, &mut b);
    let (first, second) = (b.incoming(0), b.incoming(1));
    assert_eq!(b.mux.accept(second, shared()), Err(OpenError::OutOfTurn));
    b.mux.reject(first);
    b.mux.accept(second, shared()).expect("is the oldest now");
    assert_eq!(b.mux.accept(second, shared()), Err(OpenError::Gone));
    settle(&mut a, &mut b);
    assert!(!a.mux.is_open(of_a[0]) && a.is_paired(of_a[1]));
}

#[test]
fn a_second_channel_with_the_same_key_has_to_be_asked_for() {
    let mut a = Side::new();
    a.open("test");
    assert_eq!(a.mux.open("test", b"", options()), Err(OpenError::NotUnique));
    a.mux.open("test", b"x", options()).expect("another id");
    a.mux.open("test", b"", shared()).expect("asked for");
}

#[test]
fn an_alias_pairs_with_a_peer_that_uses_the_other_name() {
    let (mut a, mut b) = (Side::new(), Side::new());
    let of_a = a.open("old");
    let aliases = vec!["old".to_owned()];
    let of_b = b.mux.open("new", b"", ChannelOptions { aliases, ..options() }).expect("opens");
    // B calls its channel "new", which A does not know.
    b.flush();
    assert_eq!(HEXLOWER.encode(&b.written[0]), "000101036e657700");
    a.flush();
    b.feed_bytes(&a.written[0]);
    assert!(b.is_paired(of_b));
    assert!(!a.is_paired(of_a));
}

#[test]
fn an_unknown_protocol_is_rejected_and_its_messages_are_ignored() {
    let (mut a, mut b) = (Side::new(), Side::pairing("else"));
    let channel = a.open("test");
    a.send(channel, 0, b"lost");
    settle(&mut a, &mut b);
    assert_eq!(a.events, [Event::Closed { channel, reason: CloseReason::Rejected }]);
    assert_eq!(b.events, []);
}

#[test]
fn a_protocol_is_registered_for_one_id_or_for_any() {
    let mut b = Side::new();
    b.mux.pair("one", b"x");
    b.mux.pair("any", b"");
    for (n, (protocol, id)) in [("one", "x"), ("one", "y"), ("any", "x"), ("any", "")].into_iter().enumerate()
    {
        b.feed_bytes(&open_frame(n as u64 + 1, protocol.as_bytes(), id.as_bytes(), b""));
    }
    assert_eq!(b.replies(), ["000202"]);
    b.mux.unpair("any", b"");
    b.feed_bytes(&open_frame(2, b"any", b"z", b""));
    assert_eq!(b.replies(), ["000202"]);
}

#[test]
fn the_number_freed_last_is_used_first() {
    let (mut a, mut b) = (Side::new(), Side::pairing("test"));
    let of_a: Vec<_> = (0..4).map(|_| a.mux.open("test", b"", shared()).expect("opens")).collect();
    settle_with(&mut a, &mut b, accept_all);
    a.mux.close(of_a[0]);
    a.mux.close(of_a[2]);
    a.replies();
    for expected in ["000103047465737400", "000101047465737400", "000105047465737400"] {
        a.mux.open("test", b"", shared()).expect("opens");
        assert_eq!(a.replies(), [expected]);
    }
}

#[test]
fn a_number_closed_before_it_was_paired_is_free_when_the_peer_has_answered() {
    for answer in ["000201", "000101047465737400"] {
        let mut a = Side::new();
        let channel = a.open("test");
        a.mux.close(channel);
        a.open("other");
        assert_eq!(a.replies(), ["000101047465737400", "000301", "000102056f7468657200"]);
        a.feed(answer);
        a.replies();
        a.mux.open("third", b"", options()).expect("opens");
        assert_eq!(a.replies(), ["0001010574686972 6400".replace(' ', "")], "after {answer}");
        assert_eq!(a.events, [], "it was closed by its owner, who needs no event");
    }
}

#[test]
fn a_peer_that_opens_what_we_closed_meanwhile_is_told_again() {
    let mut a = Side::new();
    let channel = a.open("test");
    a.mux.close(channel);
    a.replies();
    a.feed("000101047465737400");
    assert_eq!(a.replies(), ["000301"]);
    a.feed("0100ff");
    assert_eq!(a.events, []);
}

#[test]
fn an_undecided_channel_that_is_closed_is_withdrawn_and_answered_with_a_reject() {
    let mut b = Side::pairing("test");
    b.feed("000101047465737400");
    b.feed("010061");
    b.feed("000301");
    let incoming = b.incoming(0);
    assert_eq!(b.events.last(), Some(&Event::Withdrawn { incoming }));
    assert_eq!(b.replies(), ["000201"]);
    assert_eq!(b.mux.accept(incoming, options()), Err(OpenError::Gone));
    b.mux.reject(incoming);
    assert_eq!(b.replies(), [""; 0]);
    b.feed("000101047465737400");
    assert!(b.error().is_none(), "the number can be used again");
}

#[test]
fn opening_a_channel_that_waits_undecided_accepts_it() {
    let mut b = Side::pairing("test");
    b.feed("000101047465737400");
    b.feed("010161");
    let channel = b.open("test");
    b.poll(|_, _| {});
    let body = Bytes::from_static(b"a");
    assert_eq!(
        b.events[1..],
        [Event::Opened { channel, handshake: Bytes::new() }, Event::Message { channel, kind: 1, body }]
    );
}

#[test]
fn closing_a_channel_hides_what_came_for_it() {
    let mut b = Side::pairing("test");
    b.feed("000101047465737400");
    b.feed("010061");
    let channel = b.open("test");
    b.mux.close(channel);
    b.poll(|_, _| {});
    assert_eq!(b.events.len(), 1, "only the open of the peer");
    assert_eq!(b.mux.send(channel, 0, b""), Err(SendError::Closed));
}

#[test]
fn an_end_closes_every_channel_and_forgets_undecided_ones() {
    let mut b = Side::pairing("test");
    let channel = b.open("mine");
    b.feed("000101047465737400");
    b.mux.end();
    b.poll(|_, _| {});
    assert_eq!(b.events.last(), Some(&Event::Closed { channel, reason: CloseReason::Connection }));
    let incoming = b.incoming(0);
    assert_eq!(b.mux.accept(incoming, options()), Err(OpenError::Gone));
    assert_eq!(b.mux.open("test", b"", options()), Err(OpenError::Closed));
    assert!(!b.mux.wants_message());
    assert_eq!(b.mux.groups.len(), 0);
}

#[test]
fn an_error_names_the_channel_and_the_reason() {
    let mut a = Side::new();
    let channel = a.open("test");
    a.feed("000101047465737400");
    a.mux.destroy(channel, "truncated seek: hash");
    a.poll(|_, _| {});
    let error = a.error().expect("failed").to_string();
    assert_eq!(error, "protomux: channel 1 (\"test\"): truncated seek: hash");
    assert_eq!(a.events[1], Event::Closed { channel, reason: CloseReason::Connection });
    let mut a = Side::new();
    a.feed("00010304746573740000");
    let error = a.error().expect("failed").to_string();
    assert_eq!(error, "protomux: the peer opened \"test\" as channel 3, which is 0, in use or out of order");
}

#[test]
fn nothing_is_remembered_of_channels_that_are_gone() {
    let (mut a, mut b) = (Side::new(), Side::pairing("test"));
    for round in 0..100u32 {
        let channel = a.mux.open("test", &round.to_le_bytes(), options()).expect("opens");
        settle_with(&mut a, &mut b, accept_all);
        a.mux.close(channel);
        let refused = a.open(&format!("unknown {round}"));
        settle_with(&mut a, &mut b, accept_all);
        assert!(!a.mux.is_open(refused));
    }
    assert_eq!((a.mux.groups.len(), b.mux.groups.len()), (0, 0));
    assert_eq!((a.mux.local.len(), b.mux.local.len()), (1, 1));
}
