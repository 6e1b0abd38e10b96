//! Companies, most of them honest: how much is asked of whom, and how much is sent twice.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Manner, Simulated, World, ranges};
use crate::node::peer::Unit;
use crate::node::transfer::keys::ProviderKey;
use crate::node::transfer::plan::{Action, Plan};

#[test]
fn an_original_is_asked_for_two_large_ranges_at_a_time() {
    let now = Instant::now();
    let mut plan = Plan::new(64 << 20, &[], now);
    let key = plan.add_provider(Unit::LargeRanges, now);
    plan.set_reachable(key, true, now);
    let mut asked = Vec::new();
    let mut at = now;
    for _ in 0..16 {
        while let Some(Action::Request { request, start, end, .. }) = plan.poll_action() {
            asked.push((request, start, end));
        }
        assert!(asked.len() <= 2);
        let (request, start, end) = asked.remove(0);
        assert_eq!(end - start, 4 << 20);
        // However slow it is.
        at += Duration::from_secs(8);
        plan.on_data(request, &vec![1; (end - start) as usize], at);
    }
}

#[test]
fn several_originals_share_a_small_file() {
    let four = (0..4).map(|_| Simulated::new(Manner::Honest, Unit::LargeRanges, 4_000_000));
    let mut world = World::new(8_000_000, 3, &[], four.collect());
    assert!(world.run());
    assert!(world.seconds() < 8.0 / 4.0 / 4.0 * 1.5, "{} s", world.seconds());
    assert!(world.received < 10_000_000, "{} bytes", world.received);
}

#[test]
fn many_idle_providers_do_not_send_a_small_file_again_and_again() {
    for count in [2, 8, 32] {
        let all = (0..count).map(|_| ranges(Manner::Honest, 2_000_000)).collect();
        let mut world = World::new(1_000_000, 4, &[], all);
        assert!(world.run());
        assert!(world.received <= 2_500_000, "{count}: {} bytes", world.received);
    }
}

#[test]
fn what_is_found_out_of_a_provider_later_counts_for_its_next_request() {
    let now = Instant::now();
    let mut plan = Plan::new(64 << 20, &[], now);
    let key = plan.add_provider(Unit::LargeRanges, now);
    plan.set_kind(key, Unit::Ranges);
    plan.set_reachable(key, true, now);
    let mut sizes = Vec::new();
    while let Some(Action::Request { provider: ProviderKey(0), start, end, .. }) = plan.poll_action() {
        sizes.push(end - start);
    }
    assert_eq!(sizes, [512 << 10; 3]);
}

#[test]
fn a_hundred_mixed_companies_all_end_right() {
    let (mut completed, mut wrong) = (0, 0);
    for seed in 0..100u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let size = random.random_range(1..1_000_000usize);
        let bad = random.random_range(1..4);
        let mut providers = vec![ranges(Manner::Honest, random.random_range(200_000..20_000_000))];
        for _ in 0..bad {
            let offset = random.random_range(0..size as u64);
            let manner = match random.random_range(0..6) {
                0 | 1 => Manner::LiesAt(offset),
                2 => Manner::OtherFile,
                3 => Manner::StallsAfter(offset),
                4 => Manner::ShortAfter(offset),
                _ => Manner::Long,
            };
            let place = random.random_range(0..=providers.len());
            providers.insert(place, ranges(manner, random.random_range(200_000..20_000_000)));
        }
        let manners: Vec<_> = providers.iter().map(|p| p.manner.clone()).collect();
        let mut world = World::new(size, seed, &[], providers);
        assert!(world.run(), "seed {seed}: {manners:?} {:?}", world.dropped);
        completed += 1;
        for (key, _) in &world.dropped {
            if world.providers[key].manner == Manner::Honest {
                wrong += 1;
            }
        }
    }
    println!("planner: {completed} of 100 complete, {wrong} honest providers dropped, seeds 0..100");
    assert_eq!(wrong, 0);
}
