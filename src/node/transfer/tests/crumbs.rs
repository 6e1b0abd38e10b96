//! Resumed downloads of which many small parts are missing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Manner, World, ranges};
use crate::node::peer::Unit;
use crate::node::transfer::plan::{Action, Outlook, Plan};

const CRUMBS: u64 = 20_000;

/// A plan of which `CRUMBS` parts of `missing` bytes are missing, with `present` bytes on disk after each.
fn crumbs(missing: u64, present: u64, now: Instant) -> Plan {
    let step = missing + present;
    let on_disk: Vec<_> = (0..CRUMBS).map(|i| (i * step + missing, (i + 1) * step)).collect();
    Plan::new(CRUMBS * step, &on_disk, now)
}

/// Completes a plan with some providers, each of which answers each request at once, or a late one after two seconds.
/// Returns the number of requests and the time that this took.
fn complete(mut plan: Plan, providers: u32, late: u32, mut now: Instant) -> (usize, Duration) {
    for _ in 0..providers {
        let key = plan.add_provider(Unit::Ranges, now);
        plan.set_reachable(key, true, now);
    }
    let began = Instant::now();
    let (mut asked, mut open, mut kept) = (0, VecDeque::new(), VecDeque::new());
    while plan.outlook() != Outlook::Complete {
        while let Some(action) = plan.poll_action() {
            let Action::Request { request, provider, start, end, .. } = action else { continue };
            asked += 1;
            let list = if provider.0 < late { &mut kept } else { &mut open };
            list.push_back((request, vec![1; (end - start) as usize]));
        }
        let next = match open.pop_front() {
            Some(next) => Some(next),
            None => {
                now += Duration::from_secs(2);
                plan.handle_timeout(now);
                kept.pop_front()
            }
        };
        let Some((request, bytes)) = next else { continue };
        now += Duration::from_micros(100);
        plan.on_data(request, &bytes, now);
        assert!(asked < 10 * CRUMBS as usize, "it does not end");
    }
    (asked, began.elapsed())
}

#[test]
fn a_plan_of_many_crumbs_takes_time_in_proportion_to_their_number() {
    let now = Instant::now();
    for (providers, late) in [(1, 0), (8, 4)] {
        let (asked, took) = complete(crumbs(100, 128 << 10, now), providers, late, now);
        println!(
            "crumbs: {CRUMBS} far from each other, {providers} providers, {late} of them late: {asked} requests, {took:?}, bar 60 s"
        );
        assert!(took < Duration::from_secs(60));
    }
}

#[test]
fn crumbs_that_are_near_each_other_are_asked_for_together() {
    let now = Instant::now();
    let (asked, took) = complete(crumbs(50, 2000, now), 1, 0, now);
    println!("crumbs: {CRUMBS} near each other: {asked} requests, {took:?}, bar 200 requests");
    assert!(asked < 200);
    // What was there already is neither written again nor taken for its new sender's.
    let present: Vec<_> = (0..400u64).map(|i| (i * 5000 + 1000, (i + 1) * 5000)).collect();
    let mut world = World::new(2_000_000, 3, &present, vec![ranges(Manner::Honest, 1_000_000)]);
    assert!(world.run());
    assert!(world.dropped.is_empty());
}
