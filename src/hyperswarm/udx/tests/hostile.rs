//! Peers that break the rules.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::testkit::pair::{IDS, MS, Pair, SOCKET, address, packet, pattern};
use crate::udx::{CloseReason, Extension, flag};

/// RELIABILITY 7: everywhere, near what is expected, and mostly empty.
#[test]
fn check_7_random_sequence_numbers_fill_no_more_than_the_window() {
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pair = Pair::connected(seed);
        (pair.reading[0], pair.tracing) = (false, false);
        let mut most = 0;
        for number in 0..10_000 {
            let seq = match seed {
                0 => rng.random(),
                1 => rng.random_range(0..30_000),
                2 => number,
                _ => rng.random_range(0..2000) * (1 + number / 2000),
            };
            let length = if seed == 1 { rng.random_range(0..2) } else { rng.random_range(0..1472) };
            let flags = flag::DATA | if seed == 3 { flag::MESSAGE } else { 0 };
            let bytes = packet(flags, seq, 0, &pattern(length));
            pair.ends[0].handle_datagram(pair.now, SOCKET, address(1), &bytes);
            most = most.max(pair.stream(0).stats().buffered);
        }
        println!("check 7: measured {most} bytes buffered, bar {}, seed {seed}", 4 << 20);
        assert!(most <= 4 << 20);
        assert!(seed == 0 || most > 1 << 19, "the test sends too little");
    }
}

#[test]
fn selective_acknowledgements_of_nonsense_are_skipped() {
    let mut pair = Pair::connected(1);
    pair.delay = Duration::from_secs(1);
    pair.write(0, pattern(8000));
    pair.drain();
    pair.inject(0, &packet(0, 0, 2, b""));
    let before = pair.stream(0).stats();
    for (start, end) in [(5, 5), (6, 5), (1, 4), (7, 8), (6, 9), (1 << 31, 6), (u32::MAX, 0), (0, u32::MAX)] {
        let block = [u32::to_le_bytes(start), u32::to_le_bytes(end)].concat();
        pair.inject(0, &packet(flag::SACK, 0, 2, &block));
        assert_eq!(pair.stream(0).stats().in_flight, before.in_flight, "block {start} to {end}");
    }
    let block = [u32::to_le_bytes(6), u32::to_le_bytes(7)].concat();
    pair.inject(0, &packet(flag::SACK, 0, 2, &block));
    assert!(pair.stream(0).stats().in_flight < before.in_flight);
}

#[test]
fn a_peer_that_acknowledges_only_selectively_is_given_up_like_a_dead_one() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(Box::new(|_, _| false));
    pair.write(0, "x");
    pair.drain();
    for second in 0..20 {
        pair.run_until(Duration::from_millis(second * 1000 + 500));
        if pair.stream(0).closed().is_some() {
            break;
        }
        pair.inject(0, &packet(flag::SACK, 0, 0, &[0, 0, 0, 0, 1, 0, 0, 0]));
    }
    assert_eq!(pair.stream(0).closed(), Some(CloseReason::TimedOut { seq: 0 }));
}

#[test]
fn a_flood_for_one_stream_does_not_disturb_another() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let victim = crate::udx::StreamOptions { id: Some(7), ..Default::default() };
    pair.ends[0].open(now, victim).unwrap();
    let mut rng = StdRng::seed_from_u64(9);
    pair.write(1, pattern(200_000));
    for _ in 0..200 {
        let mut bytes = packet(rng.random(), rng.random(), rng.random(), &pattern(100));
        bytes[4..8].copy_from_slice(&7u32.to_le_bytes());
        let now = pair.now;
        pair.ends[0].handle_datagram(now, SOCKET, address(1), &bytes);
        pair.ends[0].stream(crate::udx::StreamId(7)).unwrap();
        while pair.ends[0].poll_event().is_some() {}
        pair.run_for(MS);
    }
    pair.run_for(Duration::from_secs(1));
    assert!(pair.received[0] == pattern(200_000));
    assert_eq!(pair.stream(0).id(), IDS[0]);
}

#[test]
fn a_probe_that_was_cut_on_its_way_is_not_answered() {
    let mut pair = Pair::connected(1);
    let mut probe = packet(0, 0, 0, &Extension::Probe(9000).encode());
    probe[3] = Extension::BYTES as u8;
    for (length, answers) in [(2048, 0), (9001, 0), (9000, 1)] {
        probe.resize(length, 0);
        pair.inject(0, &probe);
        assert_eq!(pair.sent(0).len(), answers, "{length} of 9000 bytes");
    }
    assert_eq!(pair.sent(0)[0].1.extension(), Some(Extension::Reply(9000)));
}
