//! The receive window: true to the reader, and kept by the writer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::limits::{UDX_WINDOW_BYTES, UDX_WINDOW_MAX_BYTES};
use crate::testkit::pair::{IDS, MS, Pair, SOCKET, address, packet, pattern};
use crate::udx::{Remote, flag};

#[test]
fn a_writer_stops_when_the_reader_does_and_goes_on_with_it() {
    let mut pair = Pair::connected(1);
    pair.reading[1] = false;
    pair.tracing = false;
    pair.write(0, pattern(6_000_000));
    pair.run_until(Duration::from_secs(60));
    let held = pair.stream(1).stats().buffered;
    assert!((UDX_WINDOW_BYTES - 8192..=UDX_WINDOW_BYTES).contains(&held), "{held} bytes are held");
    assert_eq!(pair.stream(1).stats().packets_ignored, 0, "nothing was sent beyond the window");
    pair.reading[1] = true;
    pair.run_for(Duration::from_secs(1));
    assert!(pair.received[1] == pattern(6_000_000));
}

/// Side 0 has sent something and heard that side 1 takes nothing more.
fn shut() -> Pair {
    let mut pair = Pair::connected(1);
    pair.write(0, "x");
    pair.drain();
    let mut ack = packet(0, 0, 1, b"");
    ack[8..12].fill(0);
    pair.flying.clear();
    pair.inject(0, &ack);
    pair.trace.clear();
    pair.filter = Some(Box::new(|_, _| false));
    pair
}

#[test]
fn a_closed_window_is_asked_about_at_once_and_then_again_and_again() {
    let mut pair = shut();
    pair.write(0, "more");
    pair.run_until(6000 * MS);
    let times: Vec<_> = pair.sent(0).iter().map(|(at, p)| (at.as_millis(), p.header.flags)).collect();
    assert_eq!(times, [0, 1000, 3000, 5000].map(|at| (at, flag::HEARTBEAT)));
    pair.inject(0, &packet(0, 0, 1, b""));
    let last = pair.sent(0).last().map(|(_, p)| (p.header.flags, p.payload.to_vec()));
    assert_eq!(last, Some((flag::DATA, b"more".to_vec())));
    pair.inject(0, &packet(0, 0, 2, b""));
    assert!(!pair.step(Duration::from_secs(100)), "nothing is asked any more");
}

#[test]
fn an_end_needs_no_window() {
    let mut pair = shut();
    pair.finish(0);
    pair.drain();
    assert_eq!(pair.sent(0)[0].1.header.flags, flag::END);
}

#[test]
fn an_older_packet_does_not_change_the_window() {
    let mut pair = Pair::connected(1);
    let window = |seq: u32, ack: u32, window: u32| {
        let mut bytes = packet(0, seq, ack, b"");
        bytes[8..12].copy_from_slice(&window.to_le_bytes());
        bytes
    };
    for (seq, ack, told, believed) in
        [(5, 0, 1000, 1000), (4, 0, 2000, 1000), (5, 0, 3000, 3000), (6, 0, 4000, 4000)]
    {
        pair.inject(0, &window(seq, ack, told));
        assert_eq!(pair.stream(0).stats().peer_window, believed);
    }
    pair.write(0, "x");
    pair.drain();
    pair.inject(0, &window(6, 1, 5000));
    assert_eq!(pair.stream(0).stats().peer_window, 5000);
    pair.inject(0, &window(7, 0, 6000));
    assert_eq!(pair.stream(0).stats().peer_window, 5000, "it acknowledges less");
}

/// An acknowledgement to side 0, with this window.
fn acknowledgement(ack: u32, window: u32, blocks: &[(u32, u32)]) -> Vec<u8> {
    let flags = if blocks.is_empty() { 0 } else { flag::SACK };
    let blocks: Vec<u8> =
        blocks.iter().flat_map(|(start, end)| [start.to_le_bytes(), end.to_le_bytes()].concat()).collect();
    let mut bytes = packet(flags, 1, ack, &blocks);
    bytes[8..12].copy_from_slice(&window.to_le_bytes());
    bytes
}

/// Bytes that side 0 sent, repetitions not counted.
fn bytes_sent(pair: &Pair) -> usize {
    let packets: BTreeMap<_, _> =
        pair.sent(0).iter().map(|(_, packet)| (packet.header.seq, packet.payload.len())).collect();
    packets.values().sum()
}

#[test]
fn no_peer_makes_a_writer_hold_more_than_the_largest_window() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(Box::new(|_, _| false));
    pair.write(0, vec![7; UDX_WINDOW_MAX_BYTES + (1 << 20)]);
    pair.drain();
    let mut next = 1;
    while pair.since_start() < Duration::from_secs(5) {
        // The first packet is never acknowledged, so nothing can be forgotten.
        pair.inject(0, &acknowledgement(0, u32::MAX, &[(1, next)]));
        pair.run_for(20 * MS);
        next = pair.sent(0).iter().map(|(_, packet)| packet.header.seq + 1).max().unwrap();
    }
    let sent = bytes_sent(&pair);
    assert!(sent <= UDX_WINDOW_MAX_BYTES, "{sent} bytes are held");
    assert!(sent > UDX_WINDOW_MAX_BYTES - (1 << 20), "{sent} bytes show nothing");
}

#[test]
fn packets_that_became_smaller_do_not_pass_the_window_in_bytes() {
    let mut pair = Pair::new(1);
    pair.path_mtu = 65_535;
    pair.connect();
    pair.write(1, "hello");
    pair.write(0, "hello");
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.stream(0).stats().mtu, 65_535);
    pair.inject(0, &acknowledgement(1, 200_000, &[]));
    pair.filter = Some(Box::new(|_, _| false));
    pair.trace.clear();
    pair.write(0, vec![7; 2_000_000]);
    pair.run_for(500 * MS);
    assert_eq!(bytes_sent(&pair), 3 * 65_487);
    let (now, remote) = (pair.now, Remote { id: IDS[1].0, address: address(1), path_mtu: 1500 });
    pair.stream(0).change_remote(now, SOCKET, remote).unwrap();
    pair.run_for(400 * MS);
    let sent = bytes_sent(&pair);
    assert!((198_000..=200_000).contains(&sent), "{sent} bytes of 200,000");
}

#[test]
fn a_window_smaller_than_a_packet_lets_one_packet_through() {
    let mut pair = Pair::connected(1);
    let mut small = packet(0, 0, 0, b"");
    small[8..12].copy_from_slice(&1u32.to_le_bytes());
    pair.inject(0, &small);
    pair.filter = Some(Box::new(|_, _| false));
    pair.write(0, pattern(5000));
    pair.drain();
    assert_eq!(pair.sent(0).len(), 1);
}

#[test]
fn the_window_grows_while_the_reader_keeps_up_and_no_further_than_its_limit() {
    let mut pair = Pair::connected(1);
    (pair.tracing, pair.delay) = (false, 50 * MS);
    let chunk = Bytes::from(pattern(1 << 20));
    let mut largest = 0;
    for _ in 0..400 {
        while pair.stream(0).send_room() > 0 {
            pair.write(0, chunk.clone());
        }
        pair.run_for(5 * MS);
        largest = largest.max(pair.stream(1).stats().window);
        pair.received[1].clear();
    }
    assert_eq!(largest as usize, UDX_WINDOW_MAX_BYTES);
    pair.reading[1] = false;
    for _ in 0..1000 {
        while pair.stream(0).send_room() > 0 {
            pair.write(0, chunk.clone());
        }
        pair.run_for(5 * MS);
    }
    let held = pair.stream(1).stats().buffered;
    assert!(held <= UDX_WINDOW_MAX_BYTES, "{held} bytes are held");
    assert_eq!(pair.stream(1).stats().window, 0);
    pair.reading[1] = true;
    pair.drain();
    assert_eq!(pair.stream(1).stats().window as usize, UDX_WINDOW_BYTES, "a reader that stopped starts anew");
}
