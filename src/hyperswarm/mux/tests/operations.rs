//! RELIABILITY 4 for protomux: random operation lists.

use std::panic::catch_unwind;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::super::fuzz;

const SEED: u64 = 8;

/// FUZZ_LISTS sets how many.
#[test]
fn random_operations_lose_nothing_and_both_sides_agree() {
    let lists: u64 = std::env::var("FUZZ_LISTS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    for list in 0..lists {
        let mut rng = StdRng::seed_from_u64(SEED << 32 | list);
        let mut operations = vec![0; rng.random_range(10..600)];
        rng.fill_bytes(&mut operations);
        if catch_unwind(|| fuzz::operations(&operations)).is_err() {
            panic!("seed {SEED}, list {list}");
        }
    }
    println!(
        "check 4: measured {lists} operation lists on protomux without violation, bar 100000, seed {SEED}"
    );
}
