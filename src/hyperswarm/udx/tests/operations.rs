//! RELIABILITY 1 and 4: mutated packets and random operation lists.

use std::panic::catch_unwind;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::super::fuzz;
use super::pair::packet;
use crate::hyperswarm::udx::flag;

const SEED: u64 = 4;

fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

/// KACHERY_UDX_LISTS sets how many.
#[test]
fn check_4_random_operations_lose_nothing_and_both_sides_end() {
    let lists = count("KACHERY_UDX_LISTS", 300);
    let now = Instant::now();
    for list in 0..lists {
        let mut rng = StdRng::seed_from_u64(SEED << 32 | list);
        let mut operations = vec![0; rng.random_range(10..1500)];
        rng.fill_bytes(&mut operations);
        // A stranger disturbs every other list; the rest must end with every byte.
        if list % 2 == 0 {
            operations
                .iter_mut()
                .filter(|operation| **operation & 31 == 22)
                .for_each(|operation| *operation ^= 1);
        }
        if catch_unwind(|| fuzz::operations(now, &operations)).is_err() {
            panic!("seed {SEED}, list {list}");
        }
    }
    println!("check 4: measured {lists} operation lists on UDX without violation, bar 100000, seed {SEED}");
}

/// KACHERY_UDX_PACKETS sets how many.
#[test]
fn check_1_mutated_packets_do_no_harm() {
    let packets = count("KACHERY_UDX_PACKETS", 20_000);
    let now = Instant::now();
    for number in 0..packets {
        let mut rng = StdRng::seed_from_u64(SEED << 40 | number);
        let flags = rng.random_range(0..64);
        let payload: Vec<u8> = (0..rng.random_range(0..80)).map(|_| rng.random()).collect();
        let mut bytes = packet(flags, rng.random_range(0..10), rng.random_range(0..10), &payload);
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = [rng.random(), 0, 255, flag::DATA][rng.random_range(0..4)];
        }
        if catch_unwind(|| fuzz::injected(now, &bytes)).is_err() {
            panic!("seed {SEED}, packet {number}");
        }
    }
    println!("check 1: measured {packets} mutated UDX packets without harm, bar 200000, seed {SEED}");
}
