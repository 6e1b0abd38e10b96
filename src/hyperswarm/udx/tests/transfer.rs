//! Bytes arrive, whatever the network does.

use std::time::Duration;

use crate::testkit::pair::{Pair, pattern};
use crate::udx::{CloseReason, Config, Event};

/// Writes so many bytes each way and ends; panics unless both sides close in time with the right bytes.
fn exchange(pair: &mut Pair, bytes: usize) {
    pair.tracing = false;
    pair.connect();
    let data = pattern(bytes);
    for side in 0..2 {
        pair.write(side, data.clone());
        pair.finish(side);
    }
    pair.run_until(Duration::from_secs(300));
    for side in 0..2 {
        assert!(pair.received[side] == data, "side {side} got {} bytes", pair.received[side].len());
        assert_eq!(pair.events[side].last(), Some(&Event::Closed(CloseReason::Ended)), "side {side}");
    }
}

#[test]
fn bytes_arrive_in_both_directions() {
    exchange(&mut Pair::new(1), 1_000_000);
}

#[test]
fn bytes_arrive_whatever_is_lost_or_overtaken() {
    for (seed, loss, jitter) in [(1, 0.01, 0), (2, 0.05, 10), (3, 0.2, 3), (4, 0.0, 30), (5, 0.3, 0)] {
        println!("seed {seed}, loss {loss}, jitter {jitter} ms");
        let mut pair = Pair::new(seed);
        (pair.loss, pair.jitter) = (loss, Duration::from_millis(jitter));
        exchange(&mut pair, 300_000);
    }
}

#[test]
fn check_6_sequence_numbers_wrap() {
    let mut outcomes = Vec::new();
    for first in [0, u32::MAX - 999] {
        let mut pair = Pair::with(Config { initial_sequence: first, ..Config::default() }, 6);
        (pair.loss, pair.jitter) = (0.02, Duration::from_millis(2));
        exchange(&mut pair, 3_000_000);
        let stats = [0, 1].map(|side| pair.stream(side).stats());
        outcomes.push((stats, pair.events.clone()));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    println!("check 6: measured same outcome from 2^32 - 1000 as from 0, bar same, seed 6");
}
