//! Losses are found and repaired when they should be.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::testkit::pair::{Filter, MS, Pair, packet};
use crate::udx::{Header, flag};

/// Loses the `count`th transmission of each data packet in `numbers` from side 0.
fn losing(numbers: &'static [u32]) -> Filter {
    let mut lost = Vec::new();
    Box::new(move |side, datagram| {
        let header = Header::decode(datagram).unwrap();
        let keep = side == 1
            || !header.has(flag::DATA)
            || !numbers.contains(&header.seq)
            || lost.contains(&header.seq);
        lost.push(if keep { u32::MAX } else { header.seq });
        keep
    })
}

/// Writes a packet of 40 bytes every millisecond; when side 0 sent which number.
fn trickle(pair: &mut Pair, count: usize) -> Vec<(u128, u32)> {
    for _ in 0..count {
        pair.write(0, vec![7; 40]);
        pair.run_for(MS);
    }
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.received[1].len(), 40 * count);
    pair.sent(0).iter().map(|(at, packet)| (at.as_millis(), packet.header.seq)).collect()
}

#[test]
fn a_single_gap_is_repaired_a_moment_after_the_first_selective_acknowledgement() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(losing(&[1]));
    let sent = trickle(&mut pair, 3);
    // 0 at 0 ms, 1 lost at 1 ms, 2 at 2 ms: its SACK arrives at 12 ms; a quarter of the 10 ms for overtaking.
    assert_eq!(sent, [(0, 0), (1, 1), (2, 2), (13, 1)]);
    assert_eq!(pair.stream(0).stats().packets_lost, 1);
}

#[test]
fn after_three_selective_acknowledgements_nothing_is_waited_for() {
    let mut pair = Pair::connected(1);
    (pair.filter, pair.delay) = (Some(losing(&[1])), 50 * MS);
    let sent = trickle(&mut pair, 6);
    // The third SACK is that of number 4, sent at 4 ms; a quarter of the round trip would have ended at 126 ms.
    assert_eq!(sent[6..], [(104, 1)]);
}

#[test]
fn a_lost_tail_is_probed_for_after_two_round_trips_and_not_before_one_was_measured() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(losing(&[0, 2]));
    let now = pair.now;
    pair.write(0, "first");
    pair.run_for(1500 * MS);
    assert_eq!(
        pair.sent(0).iter().map(|(at, _)| at.as_millis()).collect::<Vec<_>>(),
        [0, 1000],
        "by the RTO"
    );
    pair.write(0, "second, which measures");
    pair.run_for(500 * MS);
    pair.write(0, "third");
    pair.run_for(500 * MS);
    let sent: Vec<_> = pair.sent(0)[3..].iter().map(|(at, p)| (at.as_millis(), p.header.seq)).collect();
    assert_eq!(sent, [(2000, 2), (2022, 2)], "two round trips and 2 ms");
    assert!(pair.now > now);
}

#[test]
fn probes_for_the_tail_double_their_wait_until_the_retransmission_timer_and_end_with_it() {
    let mut pair = Pair::connected(1);
    pair.write(0, "measures 10 ms");
    pair.run_for(500 * MS);
    pair.filter = Some(Box::new(|_, _| false));
    pair.trace.clear();
    pair.write(0, "lost");
    pair.run_for(Duration::from_secs(4));
    let sent: Vec<_> = pair.sent(0).iter().map(|(at, _)| at.as_millis() - 500).collect();
    // Two round trips and 2 ms, twice and four times as long, ...; the RTO after a second, the next after two more.
    assert_eq!(sent, [0, 22, 66, 154, 330, 682, 1000, 3000]);
}

/// How long after the network works again the reader gets something new; most of it the wait for the next probe.
fn standstill(pair: &mut Pair) -> Duration {
    pair.filter = None;
    let (before, back) = (pair.received[1].len(), pair.since_start());
    assert!(before > 100_000, "{before} bytes are too few to be a window");
    while pair.received[1].len() == before {
        assert!(pair.step(back + Duration::from_secs(5)));
    }
    pair.since_start() - back
}

#[test]
fn a_window_that_was_lost_is_repaired_before_the_retransmission_timer() {
    for outage in [20, 40, 80, 160, 320] {
        let mut pair = Pair::connected(1);
        pair.write(0, vec![7; 16_000_000]);
        pair.run_for(80 * MS);
        pair.filter = Some(Box::new(|side, _| side == 1));
        pair.run_for(outage * MS);
        let took = standstill(&mut pair);
        assert!(took <= (2 * outage).max(60) * MS, "{took:?} after {outage} ms");
    }
}

#[test]
fn a_window_full_of_repetitions_that_were_lost_is_repaired_before_the_retransmission_timer() {
    let mut pair = Pair::connected(1);
    pair.write(0, vec![7; 16_000_000]);
    pair.run_for(60 * MS);
    // Loses most packets of a window, then, from the first repetition on, everything.
    let first = pair.sent(0).len() as u32;
    let out = Rc::new(Cell::new(false));
    let mut highest = first;
    pair.filter = Some(Box::new({
        let out = Rc::clone(&out);
        move |side, datagram| {
            let header = Header::decode(datagram).unwrap();
            out.set(out.get() || (side == 0 && header.seq < highest));
            highest = highest.max(header.seq);
            side == 1 || !(out.get() || (first..first + 300).contains(&header.seq))
        }
    }));
    while !out.get() {
        pair.run_for(MS);
    }
    pair.run_for(40 * MS);
    let stats = pair.stream(0).stats();
    assert!(stats.in_flight >= stats.congestion_window && stats.packets_lost > stats.packets_retransmitted);
    let took = standstill(&mut pair);
    assert!(took <= 80 * MS, "{took:?}");
}

#[test]
fn overtaking_within_a_quarter_of_a_round_trip_is_no_loss() {
    let mut pair = Pair::connected(1);
    pair.delay = Duration::ZERO;
    pair.filter = Some(Box::new(|side, _| side == 1));
    for _ in 0..2 {
        pair.write(0, vec![7; 40]);
        pair.run_for(MS);
    }
    pair.run_for(38 * MS);
    let block = [1u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
    pair.inject(0, &packet(flag::SACK, 0, 0, &block));
    pair.run_for(5 * MS);
    pair.inject(0, &packet(0, 0, 2, b""));
    pair.run_for(100 * MS);
    assert_eq!(pair.sent(0).len(), 2);
    assert_eq!(pair.stream(0).stats().packets_lost, 0);
}

#[test]
fn an_acknowledgement_restarts_the_retransmission_timer() {
    let mut pair = Pair::connected(1);
    pair.filter = Some(Box::new(|_, _| false));
    pair.write(0, "a");
    pair.run_until(MS);
    pair.write(0, "b");
    pair.run_until(500 * MS);
    pair.inject(0, &packet(0, 0, 1, b""));
    // The round trip of half a second makes the tail probe due with the retransmission timer, at 500 ms + RTO.
    pair.run_until(1400 * MS);
    assert_eq!(pair.sent(0).len(), 2);
    pair.run_until(2100 * MS);
    assert!(pair.sent(0).len() > 2);
}
