//! RELIABILITY 4: random operation lists. Mutated packets are among the targets of `testkit::fuzz`.

use std::panic::catch_unwind;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::super::fuzz;

const SEED: u64 = 4;

fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

/// UDX_LISTS sets how many.
#[test]
fn check_4_random_operations_lose_nothing_and_both_sides_end() {
    let lists = count("UDX_LISTS", 300);
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
