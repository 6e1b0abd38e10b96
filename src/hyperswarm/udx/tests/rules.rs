//! What a peer can observe: section 6 of the protocol, rule by rule.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::testkit::pair::{IDS, MS, Pair, SOCKET, address, packet, pattern};
use crate::udx::{
    CloseReason, Config, Disposition, Endpoint, Event, Firewall, MessageError, Packet, Remote, StateError,
    StreamId, StreamOptions, flag,
};

/// Flags, seq and ack of the packets that side 0 sent since `from` entries of its trace.
fn answers(pair: &Pair, from: usize) -> Vec<(u8, u32, u32)> {
    let sent = pair.sent(0);
    sent[from..]
        .iter()
        .map(|(_, packet)| (packet.header.flags, packet.header.seq, packet.header.ack))
        .collect()
}

#[test]
fn every_data_packet_is_acknowledged_at_once_even_an_old_one() {
    let mut pair = Pair::connected(1);
    pair.inject(0, &packet(flag::DATA, 0, 0, b"one"));
    assert_eq!(answers(&pair, 0), [(0, 0, 1)]);
    pair.inject(0, &packet(flag::DATA, 0, 0, b"one"));
    assert_eq!(answers(&pair, 1), [(0, 0, 1)]);
    pair.inject(0, &packet(0, 1, 0, b""));
    assert_eq!(answers(&pair, 2), [], "an acknowledgement is not acknowledged");
    assert_eq!(pair.received[0], b"one");
}

#[test]
fn a_gap_is_acknowledged_selectively() {
    let mut pair = Pair::connected(1);
    for seq in [0, 2, 3, 5] {
        pair.inject(0, &packet(flag::DATA, seq, 0, b"x"));
    }
    let sent = pair.sent(0);
    let (_, last) = sent.last().unwrap();
    assert_eq!((last.header.flags, last.header.data_offset, last.header.ack), (flag::SACK, 0, 1));
    assert_eq!(last.sack_blocks().collect::<Vec<_>>(), [(2, 4), (5, 6)]);
}

#[test]
fn several_datagrams_of_one_batch_are_acknowledged_together() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    for seq in 0..5 {
        pair.ends[0].handle_datagram(now, SOCKET, address(1), &packet(flag::DATA, seq, 0, b"x"));
    }
    pair.drain();
    assert_eq!(answers(&pair, 0), [(0, 0, 5)]);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_ignored() {
    let mut pair = Pair::connected(1);
    pair.inject(0, &packet(flag::DATA, 0, 1, b"data"));
    assert_eq!(answers(&pair, 0), []);
    assert_eq!(pair.received[0], b"data", "its data counts all the same");
    assert_eq!(pair.stream(0).stats().packets_ignored, 1);
    pair.inject(0, &packet(flag::DATA, 1, 0, b"more"));
    assert_eq!(answers(&pair, 0), [(0, 0, 2)]);
}

#[test]
fn an_empty_data_packet_uses_a_number() {
    let mut pair = Pair::connected(1);
    pair.inject(0, &packet(flag::DATA, 0, 0, b""));
    pair.inject(0, &packet(flag::DATA, 1, 0, b"x"));
    assert_eq!(answers(&pair, 0), [(0, 0, 1), (0, 0, 2)]);
}

#[test]
fn padding_before_the_data_is_skipped_and_too_much_of_it_drops_the_packet() {
    let mut pair = Pair::connected(1);
    let mut bytes = packet(flag::DATA, 0, 0, b"\0\0\0data");
    bytes[3] = 8;
    assert_eq!(pair.inject(0, &bytes), Disposition::Handled);
    assert_eq!(answers(&pair, 0), []);
    bytes[3] = 3;
    pair.inject(0, &bytes);
    assert_eq!(answers(&pair, 0), [(0, 0, 1)]);
    assert_eq!(pair.received[0], b"data");
}

#[test]
fn a_destroy_below_the_expected_number_is_ignored() {
    let mut pair = Pair::connected(1);
    pair.inject(0, &packet(flag::DATA, 0, 0, b"x"));
    pair.inject(0, &packet(flag::DESTROY, 0, 0, b""));
    assert_eq!(pair.stream(0).closed(), None);
    pair.inject(0, &packet(flag::DESTROY, 1, 0, b""));
    assert_eq!(pair.stream(0).closed(), Some(CloseReason::Reset));
    assert_eq!(answers(&pair, 1), [], "nothing answers it");
    assert_eq!(pair.inject(0, &packet(flag::DATA, 1, 0, b"x")), Disposition::NotUdx);
}

#[test]
fn destroy_sends_one_packet_with_the_next_number() {
    let mut pair = Pair::connected(1);
    pair.write(0, "abc");
    pair.run_for(20 * MS);
    pair.stream(0).destroy();
    pair.run_for(20 * MS);
    let last = answers(&pair, 1);
    assert_eq!(last, [(flag::DESTROY, 1, 0)]);
    assert_eq!(pair.events[0], [Event::Closed(CloseReason::Destroyed)]);
    assert_eq!(pair.events[1], [Event::Readable, Event::Closed(CloseReason::Reset)]);
    assert_eq!(pair.received[1], b"abc");
}

#[test]
fn a_stream_that_is_not_connected_is_destroyed_silently() {
    let mut pair = Pair::new(1);
    pair.stream(0).destroy();
    pair.drain();
    assert!(pair.trace.is_empty());
}

#[test]
fn the_end_rides_on_the_last_data_and_both_sides_close_when_both_ended() {
    let mut pair = Pair::connected(1);
    pair.write(0, "bye");
    pair.finish(0);
    pair.run_for(50 * MS);
    let flags_seq_ack: Vec<_> = answers(&pair, 0);
    assert_eq!(
        flags_seq_ack,
        [(flag::DATA | flag::END, 0, 0), (0, 1, 0)],
        "and once more when it is acknowledged"
    );
    assert_eq!(pair.events[0], [Event::Finished]);
    assert_eq!(pair.events[1], [Event::Readable, Event::Ended]);
    pair.finish(1);
    pair.run_for(50 * MS);
    assert_eq!(answers(&pair, 2), [(0, 1, 1)]);
    assert_eq!(pair.events[0].last(), Some(&Event::Closed(CloseReason::Ended)));
    assert_eq!(pair.events[1].last(), Some(&Event::Closed(CloseReason::Ended)));
}

#[test]
fn a_lost_last_acknowledgement_is_repeated_after_the_stream_is_over() {
    let mut pair = Pair::connected(1);
    pair.finish(0);
    pair.run_for(50 * MS);
    let mut lost = false;
    pair.filter = Some(Box::new(move |side, _| side == 1 || std::mem::replace(&mut lost, true)));
    pair.finish(1);
    pair.run_for(50 * MS);
    assert_eq!(pair.stream(0).closed(), Some(CloseReason::Ended));
    assert_eq!(pair.stream(1).closed(), None);
    pair.run_for(2000 * MS);
    assert_eq!(pair.stream(1).closed(), Some(CloseReason::Ended));
}

#[test]
fn data_behind_the_end_is_dropped() {
    let mut pair = Pair::connected(1);
    pair.inject(0, &packet(flag::DATA, 2, 0, b"never"));
    pair.inject(0, &packet(flag::DATA | flag::END, 0, 0, b"last"));
    pair.inject(0, &packet(flag::DATA, 1, 0, b"no"));
    assert_eq!(pair.received[0], b"last");
    assert!(pair.stream(0).is_ended());
    assert_eq!(pair.stream(0).stats().buffered, 0);
}

#[test]
fn a_closed_stream_keeps_only_what_its_reader_has_not_read() {
    let mut pair = Pair::connected(1);
    pair.reading[0] = false;
    pair.inject(0, &packet(flag::DATA, 0, 0, b"unread"));
    pair.inject(0, &packet(flag::DATA, 2, 0, b"early"));
    pair.stream(0).destroy();
    assert_eq!(pair.stream(0).stats().buffered, 6);
    assert_eq!(pair.stream(0).read(100).unwrap(), "unread");
}

#[test]
fn writes_of_one_turn_share_a_packet() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let mut stream = pair.stream(0);
    for part in ["one", "two", "three"] {
        stream.write(now, Bytes::from_static(part.as_bytes()));
    }
    drop(stream);
    pair.drain();
    assert_eq!(pair.trace, [], "a partial packet waits for the flush");
    pair.stream(0).flush();
    pair.run_for(10 * MS);
    assert_eq!(pair.sent(0).len(), 1);
    assert_eq!(pair.received[1], b"onetwothree");
}

#[test]
fn messages_use_no_numbers_and_are_not_acknowledged() {
    let mut pair = Pair::connected(1);
    for message in ["first", "", "third"] {
        pair.stream(0).send_message(Bytes::from_static(message.as_bytes())).unwrap();
    }
    pair.run_for(20 * MS);
    assert_eq!(answers(&pair, 0), [(flag::MESSAGE, 0, 0); 3]);
    assert_eq!(pair.sent(1).len(), 0);
    assert_eq!(pair.messages[1], ["first", "", "third"]);
    pair.write(0, "x");
    pair.drain();
    assert_eq!(answers(&pair, 3), [(flag::DATA, 0, 0)]);
}

#[test]
fn a_message_beyond_one_packet_is_refused() {
    let mut pair = Pair::connected(1);
    assert_eq!(pair.stream(0).send_message(vec![0; 1152].into()), Ok(()));
    let error = pair.stream(0).send_message(vec![0; 1153].into()).unwrap_err();
    assert_eq!(error, MessageError::TooLong { stream: IDS[0], length: 1153, limit: 1152 });
    assert_eq!(error.to_string(), "udx stream 1001: message of 1153 bytes, at most 1152");
}

#[test]
fn a_heartbeat_is_answered_and_its_other_fields_are_not_looked_at() {
    let mut pair = Pair::connected(1);
    pair.inject(0, &packet(flag::HEARTBEAT | flag::DATA, 0, 77, b"x"));
    assert_eq!(answers(&pair, 0), [(0, 0, 0)]);
    assert_eq!(pair.received[0], b"");
}

#[test]
fn an_idle_stream_keeps_itself_alive_if_asked() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    pair.stream(0).keep_alive(now, Some(100 * MS));
    pair.run_until(350 * MS);
    let times: Vec<_> = pair.sent(0).iter().map(|(at, p)| (at.as_millis(), p.header.flags)).collect();
    assert_eq!(times, [(100, flag::HEARTBEAT), (200, flag::HEARTBEAT), (300, flag::HEARTBEAT)]);
    assert_eq!(pair.sent(1).len(), 3, "each is answered");
    pair.stream(0).keep_alive(now, None);
    assert!(!pair.step(Duration::from_secs(100)));
}

#[test]
fn an_interval_of_zero_or_for_ever_is_no_keep_alive() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    for interval in [Duration::ZERO, Duration::MAX] {
        pair.stream(0).keep_alive(now, Some(interval));
        assert!(!pair.step(Duration::from_secs(100)), "{interval:?}");
        assert_eq!(pair.sent(0).len(), 0, "{interval:?}");
    }
}

#[test]
fn data_before_connecting_is_delivered_and_acknowledged_by_connecting() {
    let mut pair = Pair::new(1);
    pair.connect_side(0);
    pair.write(0, "early");
    pair.run_for(31 * MS);
    assert_eq!(pair.received[1], b"early");
    let contact = Event::FirstContact { socket: SOCKET, from: address(0) };
    assert_eq!(pair.events[1], [contact, Event::Readable]);
    assert_eq!(pair.sent(1).len(), 0);
    pair.connect_side(1);
    pair.drain();
    assert_eq!(pair.sent(1).iter().map(|(_, p)| p.header.ack).collect::<Vec<_>>(), [1]);
}

#[test]
fn the_firewall_hides_a_stream() {
    let mut pair = Pair::new(1);
    let now = pair.now;
    let only = |allowed: SocketAddr| Firewall::Only([allowed].into());
    let any_port = |side: usize| SocketAddr::new(address(side).ip(), 0);
    for (id, firewall, heard) in [
        (1, Firewall::Reject, false),
        (2, only(address(0)), false),
        (3, only(address(1)), true),
        (4, Firewall::Accept, true),
        (5, only(any_port(0)), false),
        (6, only(any_port(1)), true),
    ] {
        let id = pair.ends[0]
            .open(now, StreamOptions { id: Some(id), firewall, ..StreamOptions::default() })
            .unwrap();
        let mut bytes = packet(flag::DATA, 0, 0, b"x");
        bytes[4..8].copy_from_slice(&id.0.to_le_bytes());
        let disposition = pair.ends[0].handle_datagram(now, SOCKET, address(1), &bytes);
        assert_eq!(disposition, Disposition::Handled);
        assert_eq!(pair.ends[0].stream(id).unwrap().read(9).is_some(), heard, "stream {id}");
    }
}

#[test]
fn a_firewall_can_be_changed_at_any_time() {
    let mut pair = Pair::new(1);
    let options = |id| StreamOptions { id, firewall: Firewall::Reject, ..StreamOptions::default() };
    let now = pair.now;
    let id = pair.ends[0].open(now, options(Some(7))).unwrap();
    let mut bytes = packet(flag::DATA, 0, 0, b"x");
    bytes[4..8].copy_from_slice(&id.0.to_le_bytes());
    for (firewall, heard) in
        [(Firewall::Reject, false), (Firewall::Only([address(1)].into()), true), (Firewall::Reject, false)]
    {
        pair.ends[0].stream(id).unwrap().set_firewall(firewall);
        pair.ends[0].handle_datagram(now, SOCKET, address(1), &bytes);
        let contact = std::iter::from_fn(|| pair.ends[0].poll_event())
            .any(|(_, event)| matches!(event, Event::FirstContact { .. }));
        assert_eq!(contact, heard);
    }
}

#[test]
fn a_connected_stream_takes_packets_from_any_address_of_its_socket() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let stranger = "192.0.2.1:9".parse().unwrap();
    pair.ends[0].handle_datagram(now, SOCKET, stranger, &packet(flag::DATA, 0, 0, b"x"));
    pair.drain();
    assert_eq!(pair.received[0], b"x");
}

#[test]
fn datagrams_of_no_stream_are_left_to_others() {
    let mut pair = Pair::connected(1);
    for datagram in [b"".as_slice(), b"d1:ad2:id20:", &packet(0, 0, 0, b"")[..19]] {
        assert_eq!(pair.inject(0, datagram), Disposition::NotUdx);
    }
    let mut other = packet(flag::DATA, 0, 0, b"x");
    other[4] ^= 1;
    assert_eq!(pair.inject(0, &other), Disposition::NotUdx);
    other[4] ^= 1;
    assert_eq!(pair.inject(0, &other), Disposition::Handled);
}

#[test]
fn what_a_state_does_not_allow_says_so() {
    let mut pair = Pair::new(1);
    let now = pair.now;
    let remote = Remote { id: 1, address: address(1), path_mtu: 0 };
    let mut stream = pair.stream(0);
    assert_eq!(stream.change_remote(now, SOCKET, remote), Err(StateError::NotConnected(IDS[0])));
    assert_eq!(stream.connect(now, SOCKET, remote), Ok(()));
    let error = stream.connect(now, SOCKET, remote).unwrap_err();
    assert_eq!(error.to_string(), "udx stream 1001: already connected");
    stream.destroy();
    assert_eq!(stream.send_message(Bytes::new()), Err(StateError::Closed(StreamId(1001)).into()));
}

#[test]
fn a_dead_peer_is_noticed_by_seven_transmissions_within_13_seconds() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(Box::new(|_, _| false));
    pair.write(0, "ping");
    pair.run_until(Duration::from_secs(60));
    let times: Vec<_> = pair.sent(0).iter().map(|(at, packet)| (at.as_secs(), packet.header.seq)).collect();
    assert_eq!(times, [0, 1, 3, 5, 7, 9, 11].map(|at| (at, 0)));
    let reason = CloseReason::TimedOut { seq: 0 };
    assert_eq!(pair.events[0], [Event::Closed(reason)]);
    let closed = crate::udx::Closed { stream: IDS[0], reason };
    assert_eq!(
        closed.to_string(),
        "udx stream 1001: the peer acknowledged nothing for seven transmissions of packet 0"
    );
}

#[test]
fn a_time_out_comes_13_seconds_after_the_first_transmission() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(Box::new(|_, _| false));
    pair.write(0, "ping");
    pair.run_until(12_999 * MS);
    assert_eq!(pair.stream(0).closed(), None);
    pair.run_until(13_000 * MS);
    assert!(pair.stream(0).closed().is_some());
}

/// Sequence numbers and sizes (with 28 bytes for IP and UDP) of the data packets from side 0, with their padding.
fn sizes(pair: &Pair) -> Vec<(usize, u8)> {
    let size = |packet: &Packet<'_>| 48 + usize::from(packet.header.data_offset) + packet.payload.len();
    pair.sent(0).iter().map(|(_, packet)| (size(packet), packet.header.data_offset)).collect()
}

#[test]
fn packets_grow_to_1500_bytes_by_padded_probes() {
    let mut pair = Pair::connected(1);
    pair.write(0, pattern(20_000_000));
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.received[1].len(), 20_000_000);
    let sizes = sizes(&pair);
    let probes: Vec<_> = sizes[1..].iter().filter(|(_, padding)| *padding > 0).copied().collect();
    let expected = [1232, 1264, 1296, 1328, 1360, 1392, 1424, 1456, 1488].map(|size| (size, 32));
    assert_eq!(probes[..9], expected);
    assert_eq!(probes[9..], [(1500, 12)]);
    assert_eq!(sizes[0], (1200, 8), "the first packet carries the announcement");
    assert_eq!(pair.stream(0).stats().mtu, 1500);
}

#[test]
fn a_path_that_takes_1300_bytes_is_found_out_without_losing_data() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(Box::new(|_, datagram| datagram.len() + 28 <= 1300));
    pair.write(0, pattern(20_000_000));
    pair.run_for(Duration::from_secs(5));
    assert!(pair.received[1] == pattern(20_000_000));
    let tries = sizes(&pair).iter().filter(|(size, _)| *size == 1328).count();
    assert_eq!(tries, 3);
    assert_eq!(pair.stream(0).stats().mtu, 1296);
}

#[test]
fn a_route_with_small_packets_is_not_probed() {
    let mut pair = Pair::new(1);
    pair.path_mtu = 1200;
    pair.connect();
    pair.write(0, pattern(100_000));
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.received[1].len(), 100_000);
    assert!(sizes(&pair)[1..].iter().all(|(_, padding)| *padding == 0));
}

#[test]
fn between_our_own_peers_packets_fill_what_the_route_promises() {
    let mut pair = Pair::new(1);
    pair.path_mtu = 65_535;
    pair.connect();
    pair.write(1, "hello");
    pair.write(0, pattern(2_000_000));
    pair.run_for(Duration::from_secs(5));
    assert!(pair.received[1] == pattern(2_000_000));
    assert_eq!(pair.stream(0).stats().mtu, 65_535);
}

#[test]
fn a_broken_promise_of_the_route_falls_back_to_jumbo_frames() {
    let mut pair = Pair::new(1);
    pair.path_mtu = 65_535;
    pair.connect();
    pair.filter = Some(Box::new(|_, datagram| datagram.len() <= 8972));
    pair.write(1, "hello");
    pair.write(0, pattern(2_000_000));
    pair.run_for(Duration::from_secs(5));
    assert!(pair.received[1] == pattern(2_000_000));
    assert_eq!(pair.stream(0).stats().mtu, 9000);
}

/// Side 0 has written 300,000 bytes, in the largest packets of a path that has just become this small.
fn shrunk(before: u16, after: u16, largest_at_peer: u16) -> Pair {
    let mut pair = Pair::new(1);
    pair.path_mtu = before;
    let (config, now) = (Config { largest_datagram: largest_at_peer, ..Config::default() }, pair.now);
    pair.ends[1] = Endpoint::new(config, 1);
    pair.ends[1].open(now, StreamOptions { id: Some(IDS[1].0), ..StreamOptions::default() }).unwrap();
    pair.connect();
    pair.write(1, "hello");
    for _ in 0..20 {
        pair.write(0, pattern(20_000));
        pair.run_for(20 * MS);
    }
    assert_eq!(pair.stream(0).stats().mtu, usize::from(before));
    pair.received[1].clear();
    pair.path_mtu = after;
    pair.write(0, pattern(300_000));
    pair
}

#[test]
fn a_stream_survives_when_its_path_shrinks_and_its_packets_become_smaller() {
    for (before, after, largest_at_peer) in [(9000, 1500, 65_507), (9000, 1400, 65_507), (1500, 1300, 0)] {
        let mut pair = shrunk(before, after, largest_at_peer);
        pair.run_for(Duration::from_secs(20));
        assert_eq!(pair.stream(0).closed(), None);
        assert!(pair.received[1] == pattern(300_000), "{before} to {after}");
        pair.trace.clear();
        for _ in 0..20 {
            pair.write(0, pattern(20_000));
            pair.run_for(20 * MS);
        }
        let mtu = pair.stream(0).stats().mtu;
        println!("check black hole: measured MTU {mtu} after {before} became {after}, bar {after}, seed 1");
        assert!((usize::from(after) - 31..=usize::from(after)).contains(&mtu), "{mtu} of {after}");
        assert_eq!(pair.received[1].len(), 700_000);
    }
}

#[test]
fn a_packet_larger_than_the_path_is_sent_alone_and_may_be_cut_into_fragments() {
    let mut pair = shrunk(9000, 1400, 65_507);
    pair.run_for(2000 * MS);
    assert!(pair.received[1].is_empty());
    let mut cut = 0;
    while pair.step(Duration::from_secs(6)) {
        cut += pair.fragmented.drain(..).inspect(|datagrams| assert_eq!(*datagrams, 1)).count();
    }
    assert!(cut > 10, "{cut} packets");
}

#[test]
fn an_outage_does_not_take_jumbo_frames_away_for_good() {
    let mut pair = shrunk(9000, 9000, 65_507);
    pair.filter = Some(Box::new(|_, _| false));
    pair.run_for(Duration::from_secs(8));
    assert_eq!(pair.stream(0).stats().mtu, 1200);
    pair.filter = None;
    pair.run_for(Duration::from_secs(10));
    assert!(pair.received[1] == pattern(300_000));
    assert_eq!(pair.stream(0).stats().mtu, 9000);
}

#[test]
fn a_peer_that_announced_nothing_gets_no_more_than_1500_bytes() {
    let mut pair = Pair::new(1);
    pair.path_mtu = 65_535;
    let now = pair.now;
    pair.ends[1] = Endpoint::new(Config { largest_datagram: 0, ..Config::default() }, 1);
    pair.ends[1].open(now, StreamOptions { id: Some(IDS[1].0), ..StreamOptions::default() }).unwrap();
    pair.connect();
    pair.write(1, "no announcement");
    pair.write(0, pattern(20_000_000));
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.stream(0).stats().mtu, 1500);
    assert!(sizes(&pair).iter().all(|(size, _)| *size <= 1500));
}

/// Payload bytes of the last 26 data packets from side 0 of a framed stream, with frames of 14,000 bytes.
fn packets_of_frames(largest_at_peer: u16) -> Vec<usize> {
    let mut pair = Pair::new(1);
    pair.path_mtu = 1200;
    let now = pair.now;
    for (side, largest_datagram) in
        [Config::default().largest_datagram, largest_at_peer].into_iter().enumerate()
    {
        pair.ends[side] = Endpoint::new(Config { largest_datagram, ..Config::default() }, 1);
        let options = StreamOptions { id: Some(IDS[side].0), framed: true, ..StreamOptions::default() };
        pair.ends[side].open(now, options).unwrap();
    }
    pair.connect();
    pair.write(1, "\x02\0\0hi");
    let frame = [&13_997_u32.to_le_bytes()[..3], &[7; 13_997]].concat();
    pair.write(0, frame.repeat(50));
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.received[1].len(), 700_000);
    let lengths: Vec<_> =
        pair.sent(0).iter().map(|(_, packet)| packet.payload.len()).filter(|n| *n > 0).collect();
    lengths[lengths.len() - 26..].to_vec()
}

#[test]
fn packets_of_a_framed_stream_end_with_frames() {
    let of_a_frame = [vec![1152; 12], vec![176]].concat();
    assert_eq!(packets_of_frames(0), of_a_frame.repeat(2));
}

#[test]
fn packets_to_our_own_kind_are_filled_whatever_frames_there_are() {
    let packets = packets_of_frames(65_507);
    assert!(packets[..25].iter().all(|length| *length == 1152), "{packets:?}");
}
