use super::*;
use rand::SeedableRng;
use std::collections::BTreeSet;

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const MINUTE: Duration = Duration::from_secs(60);

/// A record of a host of its own, as most are.
fn record(key: u32) -> Record<u32, ()> {
    Record { host: Ipv4Addr::from(0x0a00_0000 + key), key, value: () }
}

fn records(capacity: usize) -> (Records<u8, u32, ()>, Instant, StdRng) {
    let now = Instant::now();
    (Records::new(now, V2_TURN, capacity, 1000), now, StdRng::seed_from_u64(1))
}

#[test]
fn a_record_lives_between_8_and_16_minutes() {
    let (mut records, now, mut rng) = records(100);
    records.add(now, 1, record(10), &mut rng);
    records.add(now + 7 * MINUTE, 1, record(11), &mut rng);
    let mut keys = |at: Instant| {
        let mut keys: Vec<u32> = records.sample(at, &1, 50, &mut rng).iter().map(|r| r.key).collect();
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
        records.add(now + round * 5 * MINUTE, 1, record(10), &mut rng);
    }
    assert_eq!(records.sample(now + 50 * MINUTE, &1, 50, &mut rng).len(), 1);
    assert_eq!(records.len(), 1, "never in both generations");
}

#[test]
fn a_long_silence_empties_both_generations() {
    let (mut records, now, mut rng) = records(100);
    records.add(now, 1, record(10), &mut rng);
    records.expire(now + 24 * 60 * MINUTE);
    assert!(records.is_empty());
    assert_eq!(records.poll_timeout(), None);
}

#[test]
fn a_full_fresh_generation_turns_early_and_at_most_twice_the_capacity_is_kept() {
    let (mut records, now, mut rng) = records(100);
    for key in 0..100 {
        records.add(now, 1, record(key), &mut rng);
    }
    assert_eq!((records.fresh.len, records.stale.len), (100, 0), "at the limit");
    records.add(now, 1, record(100), &mut rng);
    assert_eq!((records.fresh.len, records.stale.len), (0, 101), "one beyond");
    for key in 0..10_000 {
        records.add(now, (key % 7) as u8, record(key), &mut rng);
        assert!(records.len() <= 201);
    }
}

#[test]
fn an_early_turn_takes_the_place_of_the_next_turn_in_time() {
    let (mut records, now, mut rng) = records(1);
    records.add(now, 1, record(1), &mut rng);
    records.add(now, 1, record(2), &mut rng);
    assert_eq!(records.sample(now + 9 * MINUTE, &1, 50, &mut rng).len(), 2);
    assert!(records.sample(now + 16 * MINUTE, &1, 50, &mut rng).is_empty());
}

#[test]
fn a_sample_has_no_repetitions_and_covers_both_generations() {
    let (mut records, now, mut rng) = records(1000);
    for key in 0..60 {
        records.add(now, 1, record(key), &mut rng);
    }
    for key in 60..120 {
        records.add(now + 9 * MINUTE, 1, record(key), &mut rng);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let keys: BTreeSet<u32> =
            records.sample(now + 9 * MINUTE, &1, 50, &mut rng).iter().map(|r| r.key).collect();
        assert_eq!(keys.len(), 50);
        seen.extend(keys);
    }
    assert_eq!(seen.len(), 120);
}

#[test]
fn a_removed_record_is_gone_from_either_generation() {
    let (mut records, now, mut rng) = records(100);
    records.add(now, 1, record(10), &mut rng);
    records.add(now + 9 * MINUTE, 1, record(11), &mut rng);
    records.remove(now + 9 * MINUTE, &1, record(10).host, &10);
    records.remove(now + 9 * MINUTE, &1, record(11).host, &11);
    records.remove(now + 9 * MINUTE, &2, record(11).host, &11);
    assert!(records.is_empty());
    assert!(records.fresh.names.is_empty() && records.stale.names.is_empty());
}

#[test]
fn used_values_stay_and_unused_ones_go() {
    let mut recent: Recent<u32, u32> = Recent::new(10);
    recent.set(0, HOST, 100);
    for key in 1..1000 {
        recent.set(key, HOST, key);
        assert_eq!(recent.find(&0), Some(100), "after {key}");
        assert!(recent.len() <= 20);
    }
    assert_eq!(recent.find(&1), None);
    recent.set(0, HOST, 101);
    assert_eq!(recent.find(&0), Some(101));
}

#[test]
fn at_most_twice_the_capacity_of_values_is_kept() {
    let mut recent: Recent<u32, u32> = Recent::new(10);
    for key in 0..9 {
        recent.set(key, HOST, key);
    }
    assert_eq!((recent.fresh.len(), recent.stale.len()), (9, 0));
    recent.set(9, HOST, 9);
    assert_eq!((recent.fresh.len(), recent.stale.len()), (0, 10));
}

fn from(host: Ipv4Addr, key: u32) -> Record<u32, ()> {
    Record { host, key, value: () }
}

#[test]
fn one_host_with_thousands_of_records_neither_evicts_nor_hides_those_of_others() {
    for seed in 0..20 {
        let (mut records, now, _) = records(100);
        let mut rng = StdRng::seed_from_u64(seed);
        records.add(now, 1, record(7), &mut rng);
        for key in 0..10_000 {
            // Half of them in the same name, the others each in one of its own.
            records.add(now, (key % 2 * key) as u8, from(HOST, key), &mut rng);
            assert!(records.len() <= 101, "seed {seed}: {}", records.len());
        }
        let found = records.sample(now, &1, 2, &mut rng);
        assert!(found.contains(&record(7)), "seed {seed}: {found:?}");
    }
}

#[test]
fn a_network_of_hosts_counts_as_one_and_its_hosts_share_its_part() {
    let (mut records, now, mut rng) = records(100);
    let neighbour = from(Ipv4Addr::new(203, 0, 113, 250), 1);
    records.add(now, 1, record(7), &mut rng);
    records.add(now, 1, neighbour, &mut rng);
    for key in 0..10_000 {
        let host = Ipv4Addr::new(203, 0, 113, (key % 200) as u8);
        records.add(now, 1, from(host, key), &mut rng);
    }
    for _ in 0..20 {
        assert!(records.sample(now, &1, 2, &mut rng).contains(&record(7)));
    }
    assert!(records.sample(now, &1, 1000, &mut rng).contains(&neighbour));
}

#[test]
fn many_records_behind_one_address_are_all_kept_and_named_while_there_is_room() {
    let (mut records, now, mut rng) = records(100);
    (0..60).for_each(|key| records.add(now, 1, from(HOST, key), &mut rng));
    let found: BTreeSet<u32> = records.sample(now, &1, 60, &mut rng).iter().map(|r| r.key).collect();
    assert_eq!(found.len(), 60);
}

#[test]
fn a_name_holds_no_more_than_its_limit_and_newcomers_still_get_in() {
    let (mut records, now, mut rng) = records(5000);
    let full = 1000;
    (0..full).for_each(|key| records.add(now, 1, record(key), &mut rng));
    assert_eq!(records.len(), full as usize, "at the limit");
    for key in full..full + 500 {
        records.add(now, 1, record(key), &mut rng);
        assert_eq!(records.len(), full as usize, "one beyond");
    }
    let found = records.sample(now, &1, 2000, &mut rng);
    assert!(found.iter().filter(|r| r.key >= full).count() > 200);
}

#[test]
fn one_host_with_thousands_of_values_does_not_evict_those_of_others() {
    let mut recent: Recent<u32, u32> = Recent::new(100);
    recent.set(1_000_000, Ipv4Addr::new(10, 0, 0, 1), 7);
    for key in 0..10_000 {
        recent.set(key, HOST, key);
        assert!(recent.len() <= 200);
    }
    assert_eq!(recent.find(&1_000_000), Some(7));
}

#[test]
fn one_host_with_thousands_of_values_does_not_evict_stale_ones_of_others() {
    let now = Instant::now();
    let mut recent: Recent<u32, u32> = Recent::turning(now, MINUTE, 100);
    recent.set(1_000_000, Ipv4Addr::new(10, 0, 0, 1), 7);
    recent.expire(now + MINUTE);
    (0..10_000).for_each(|key| recent.set(key, HOST, key));
    assert_eq!(recent.find(&1_000_000), Some(7));
}

#[test]
fn values_that_are_not_used_for_two_turns_are_dropped_and_looking_at_them_is_no_use() {
    let now = Instant::now();
    let mut recent: Recent<u32, u32> = Recent::turning(now, MINUTE, 100);
    (1..=2).for_each(|key| recent.set(key, HOST, key));
    assert_eq!(recent.poll_timeout(), Some(now + MINUTE));
    recent.expire(now + MINUTE);
    assert_eq!((recent.find(&1), recent.look_at(&2)), (Some(1), Some(&2)));
    recent.expire(now + 2 * MINUTE);
    assert_eq!((recent.look_at(&1), recent.look_at(&2)), (Some(&1), None));
    recent.expire(now + 9 * MINUTE);
    assert!(recent.is_empty() && recent.poll_timeout().is_none());
}

#[test]
fn a_key_is_forgotten_whichever_hosts_sent_it() {
    let (mut records, now, mut rng) = records(100);
    (1..=3).for_each(|n| records.add(now, 1, Record { key: 7, ..record(n) }, &mut rng));
    records.add(now + 9 * MINUTE, 1, Record { key: 7, ..record(4) }, &mut rng);
    records.add(now + 9 * MINUTE, 1, record(5), &mut rng);
    records.forget(now + 9 * MINUTE, &1, &7);
    let left = records.sample(now + 9 * MINUTE, &1, 50, &mut rng);
    assert_eq!((left, records.len()), (vec![record(5)], 1));
}
