//! Honest companies: how much is asked of whom, and how much is sent twice.

use std::time::{Duration, Instant};

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
