//! Providers that say that they have too much to do.

use std::time::{Duration, Instant};

use crate::node::peer::Unit;
use crate::node::transfer::keys::{ProviderKey, RequestKey};
use crate::node::transfer::plan::{Action, Outlook, Plan};

const SIZE: u64 = 64 << 20;

fn plan(units: &[Unit], now: Instant) -> Plan {
    let mut plan = Plan::new(SIZE, &[], now);
    for unit in units {
        let key = plan.add_provider(*unit, now);
        plan.set_reachable(key, true, now);
    }
    plan
}

/// What is asked now. Nobody is dropped.
fn requests(plan: &mut Plan) -> Vec<(RequestKey, ProviderKey, u64)> {
    std::iter::from_fn(|| plan.poll_action())
        .filter_map(|action| match action {
            Action::Request { request, provider, start, end, .. } => Some((request, provider, end - start)),
            Action::Drop { why, .. } => panic!("dropped: {why}"),
            _ => None,
        })
        .collect()
}

#[test]
fn a_busy_provider_is_asked_again_after_rests_that_grow_up_to_a_few_seconds() {
    let mut now = Instant::now();
    let mut plan = plan(&[Unit::Ranges], now);
    let mut rests = Vec::new();
    for _ in 0..20 {
        let asked = requests(&mut plan);
        assert_eq!(asked.len(), 3);
        for (request, ..) in asked {
            plan.on_busy(request, now);
        }
        assert_eq!((requests(&mut plan), plan.outlook()), (vec![], Outlook::Working));
        let began = now;
        while plan.active() == 0 {
            now = plan.poll_timeout().expect("it is asked again");
            plan.handle_timeout(now);
        }
        rests.push(now - began);
    }
    assert_eq!(rests[..3], [250, 500, 1000].map(Duration::from_millis));
    assert_eq!(rests[19], Duration::from_secs(8));
}

#[test]
fn a_provider_that_was_busy_and_answers_is_as_good_as_new() {
    let mut now = Instant::now();
    let mut plan = plan(&[Unit::Ranges], now);
    for round in 0..5 {
        let asked = requests(&mut plan);
        let (first, _, bytes) = asked[0];
        for (request, ..) in &asked[1..] {
            plan.on_busy(*request, now);
        }
        assert_eq!(requests(&mut plan), []);
        plan.on_data(first, &vec![1; bytes as usize], now);
        assert_eq!(requests(&mut plan).len(), 3, "round {round}");
        plan.set_reachable(ProviderKey(0), false, now);
        now += Duration::from_secs(1);
        plan.set_reachable(ProviderKey(0), true, now);
    }
}

#[test]
fn what_a_busy_provider_was_asked_goes_to_another_one() {
    let now = Instant::now();
    let mut plan = plan(&[Unit::Ranges, Unit::Ranges], now);
    let asked = requests(&mut plan);
    for (request, ..) in asked.iter().filter(|(_, provider, _)| *provider == ProviderKey(0)) {
        plan.on_busy(*request, now);
    }
    let (request, _, bytes) =
        *asked.iter().find(|(_, provider, _)| *provider == ProviderKey(1)).expect("asked");
    plan.on_data(request, &vec![1; bytes as usize], now);
    assert!(requests(&mut plan).iter().all(|(_, provider, _)| *provider == ProviderKey(1)));
}

#[test]
fn a_provider_that_stays_busy_keeps_no_whole_file_provider_out() {
    let began = Instant::now();
    let mut now = began;
    let mut plan = plan(&[Unit::Ranges, Unit::Whole], now);
    loop {
        let asked = requests(&mut plan);
        if asked.iter().any(|(_, provider, _)| *provider == ProviderKey(1)) {
            break;
        }
        assert!(now - began < Duration::from_secs(5), "it is not asked");
        for (request, ..) in asked {
            plan.on_busy(request, now);
        }
        now = plan.poll_timeout().expect("somebody is asked");
        plan.handle_timeout(now);
    }
}
