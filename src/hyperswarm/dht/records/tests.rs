use super::*;
use rand::SeedableRng;
use std::collections::BTreeSet;

const MINUTE: Duration = Duration::from_secs(60);

fn records(capacity: usize) -> (Records<u8, u32, ()>, Instant, StdRng) {
    let now = Instant::now();
    (Records::new(now, capacity), now, StdRng::seed_from_u64(1))
}

#[test]
fn a_record_lives_between_8_and_16_minutes() {
    let (mut records, now, mut rng) = records(100);
    records.add(now, 1, 10, ());
    records.add(now + 7 * MINUTE, 1, 11, ());
    let mut keys = |at: Instant| {
        let mut keys: Vec<u32> = records.sample(at, &1, 50, &mut rng).iter().map(|r| r.0).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys(now + 15 * MINUTE), [10, 11]);
    assert!(keys(now + 16 * MINUTE).is_empty());
}

#[test]
fn announcing_again_keeps_a_record() {
    let (mut records, now, mut rng) = records(100);
    for round in 0..10 {
        records.add(now + round * 5 * MINUTE, 1, 10, ());
    }
    assert_eq!(records.sample(now + 50 * MINUTE, &1, 50, &mut rng).len(), 1);
    assert_eq!(records.len(), 1, "never in both generations");
}

#[test]
fn a_long_silence_empties_both_generations() {
    let (mut records, now, _) = records(100);
    records.add(now, 1, 10, ());
    records.expire(now + 24 * 60 * MINUTE);
    assert!(records.is_empty());
    assert_eq!(records.poll_timeout(), None);
}

#[test]
fn a_full_fresh_generation_turns_early_and_at_most_twice_the_capacity_is_kept() {
    let (mut records, now, _) = records(100);
    for key in 0..100 {
        records.add(now, 1, key, ());
    }
    assert_eq!((records.fresh.len, records.stale.len), (100, 0), "at the limit");
    records.add(now, 1, 100, ());
    assert_eq!((records.fresh.len, records.stale.len), (0, 101), "one beyond");
    for key in 0..10_000 {
        records.add(now, (key % 7) as u8, key, ());
        assert!(records.len() <= 201);
    }
}

#[test]
fn an_early_turn_takes_the_place_of_the_next_turn_in_time() {
    let (mut records, now, mut rng) = records(1);
    records.add(now, 1, 1, ());
    records.add(now, 1, 2, ());
    assert_eq!(records.sample(now + 9 * MINUTE, &1, 50, &mut rng).len(), 2);
    assert!(records.sample(now + 16 * MINUTE, &1, 50, &mut rng).is_empty());
}

#[test]
fn a_sample_has_no_repetitions_and_covers_both_generations() {
    let (mut records, now, mut rng) = records(1000);
    for key in 0..60 {
        records.add(now, 1, key, ());
    }
    for key in 60..120 {
        records.add(now + 9 * MINUTE, 1, key, ());
    }
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let keys: BTreeSet<u32> =
            records.sample(now + 9 * MINUTE, &1, 50, &mut rng).iter().map(|r| r.0).collect();
        assert_eq!(keys.len(), 50);
        seen.extend(keys);
    }
    assert_eq!(seen.len(), 120);
}

#[test]
fn a_removed_record_is_gone_from_either_generation() {
    let (mut records, now, _) = records(100);
    records.add(now, 1, 10, ());
    records.add(now + 9 * MINUTE, 1, 11, ());
    records.remove(now + 9 * MINUTE, &1, &10);
    records.remove(now + 9 * MINUTE, &1, &11);
    records.remove(now + 9 * MINUTE, &2, &11);
    assert!(records.is_empty());
    assert!(records.fresh.names.is_empty() && records.stale.names.is_empty());
}

#[test]
fn used_values_stay_and_unused_ones_go() {
    let mut recent: Recent<u32, u32> = Recent::new(10);
    recent.set(0, 100);
    for key in 1..1000 {
        recent.set(key, key);
        assert_eq!(recent.find(&0), Some(100), "after {key}");
        assert!(recent.len() <= 20);
    }
    assert_eq!(recent.find(&1), None);
    recent.set(0, 101);
    assert_eq!(recent.find(&0), Some(101));
}

#[test]
fn at_most_twice_the_capacity_of_values_is_kept() {
    let mut recent: Recent<u32, u32> = Recent::new(10);
    for key in 0..9 {
        recent.set(key, key);
    }
    assert_eq!((recent.fresh.len(), recent.stale.len()), (9, 0));
    recent.set(9, 9);
    assert_eq!((recent.fresh.len(), recent.stale.len()), (0, 10));
}
