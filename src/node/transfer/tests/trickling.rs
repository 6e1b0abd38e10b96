//! Providers that send next to nothing: they keep nobody from finishing.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Manner, ONE_BYTE, Simulated, World, ranges};
use crate::limits;
use crate::node::peer::Unit;
use crate::node::transfer::keys::ProviderKey;
use crate::node::transfer::plan::{Action, Failure, Plan};

const SECOND: Duration = Duration::from_secs(1);

/// Seconds of a load that ends right.
fn time(size: usize, seed: u64, providers: Vec<Simulated>) -> f64 {
    let mut world = World::new(size, seed, &[], providers);
    assert!(world.run(), "seed {seed}: {:?}", world.dropped);
    world.seconds()
}

/// The load that came closest to its bar: twice the time of the honest provider alone, and 15 s.
#[derive(Default)]
struct Worst(Option<(f64, f64, u64)>);

impl Worst {
    fn add(&mut self, crowded: f64, alone: f64, seed: u64) {
        let bar = 2.0 * alone + 15.0;
        if self.0.is_none_or(|(measured, other, _)| crowded - bar > measured - other) {
            self.0 = Some((crowded, bar, seed));
        }
    }

    fn judge(self, check: u32) {
        let (measured, bar, seed) = self.0.expect("a load");
        println!("check {check}: measured {measured:.1} s at worst, bar {bar:.1} s, seed {seed}");
        assert!(measured <= bar);
    }
}

/// RELIABILITY 26.
#[test]
fn any_number_of_trickling_identities_leave_the_honest_provider_its_speed() {
    const BASE: u64 = 2_600_000;
    let mut worst = Worst::default();
    for seed in BASE..BASE + 32 {
        let mut random = StdRng::seed_from_u64(seed);
        let identities = 1 + seed % 32;
        let size = random.random_range(100_000..3_000_000usize);
        let rate = random.random_range(300_000..20_000_000);
        let after = Duration::from_millis(random.random_range(1..2000));
        let trickle = [
            ONE_BYTE,
            // Just fast enough not to be dropped.
            Manner::Trickles { after: 0, bytes: 1700, every: SECOND },
            Manner::Trickles { after: random.random_range(0..1_000_000), bytes: 1, every: 4 * SECOND },
        ];
        let mut providers: Vec<_> = (0..identities)
            .map(|i| ranges(trickle[((seed + i * (seed % 2)) % 3) as usize].clone(), rate))
            .collect();
        providers.push(ranges(Manner::Honest, rate).after(after));
        let alone = time(size, seed, vec![ranges(Manner::Honest, rate)]);
        let crowded = time(size, seed, providers);
        worst.add(crowded, alone, seed);
    }
    worst.judge(26);
}

#[test]
fn a_provider_far_faster_than_all_others_takes_their_work_at_its_full_rate() {
    for (bytes, every) in [(1, 4), (1700, 1), (20_000, 1)] {
        let slow = || ranges(Manner::Trickles { after: 0, bytes, every: every * SECOND }, 1_000_000);
        let mut providers: Vec<_> = (0..8).map(|_| slow()).collect();
        providers.push(ranges(Manner::Honest, 2_000_000).after(SECOND / 1000));
        let seconds = time(3_000_000, 4, providers);
        // It needs 1.5 s, and until the others have shown for a second how slow they are it is asked for less.
        assert!(seconds < 2.5, "{bytes} bytes: {seconds} s");
    }
}

/// RELIABILITY 28.
#[test]
fn fast_liars_that_trickle_once_they_are_asked_alone_lose_their_turn() {
    const BASE: u64 = 2_800_000;
    let mut worst = Worst::default();
    for seed in BASE..BASE + 32 {
        let mut random = StdRng::seed_from_u64(seed);
        let liars = 1 + seed % 3;
        let size = random.random_range(500_000..2_500_000usize);
        let rate = random.random_range(300_000..5_000_000);
        let faster = random.random_range(1..20);
        let mut providers: Vec<_> =
            (0..liars).map(|_| ranges(Manner::OtherFileThenTrickles, rate * faster)).collect();
        providers.insert(random.random_range(0..=providers.len()), ranges(Manner::Honest, rate));
        let alone = time(size, seed, vec![ranges(Manner::Honest, rate)]);
        let crowded = time(size, seed, providers);
        worst.add(crowded, alone, seed);
    }
    worst.judge(28);
}

#[test]
fn liars_that_were_fast_beside_the_others_do_not_keep_a_slow_honest_provider_from_its_turn() {
    for liars in 1..4 {
        let mut providers: Vec<_> =
            (0..liars).map(|_| ranges(Manner::OtherFileThenTrickles, 100_000_000)).collect();
        // 25 s alone.
        providers.push(ranges(Manner::Honest, 200_000));
        let mut world = World::new(5_000_000, 1, &[], providers);
        assert!(world.run(), "{liars}: {:?}", world.dropped);
        assert!(world.seconds() < 2.0 * 25.0 + 15.0, "{liars}: {} s", world.seconds());
    }
}

#[test]
fn whole_file_providers_that_trickle_keep_no_other_from_being_asked() {
    let whole = |manner, rate| Simulated::new(manner, Unit::Whole, rate);
    let mut providers: Vec<_> = (0..32).map(|_| whole(ONE_BYTE, 1_000_000)).collect();
    providers.push(whole(Manner::Honest, 1_000_000).after(SECOND));
    assert!(time(2_000_000, 1, providers) < 2.0 * 3.0 + 15.0);
}

#[test]
fn an_honest_whole_file_provider_is_asked_alone() {
    let whole = |rate| Simulated::new(Manner::Honest, Unit::Whole, rate);
    let mut world = World::new(2_000_000, 1, &[], (0..8).map(|_| whole(100_000)).collect());
    assert!(world.run());
    assert_eq!(world.received, 2_000_000);
}

/// A plan that has asked its only provider for all of a file.
fn lone(size: u64, now: Instant) -> (Plan, ProviderKey, u64) {
    let mut plan = Plan::new(size, &[], now);
    let key = plan.add_provider(Unit::Whole, now);
    plan.set_reachable(key, true, now);
    let Some(Action::Request { request, .. }) = plan.poll_action() else { panic!("a request") };
    (plan, key, request.0)
}

#[test]
fn bytes_that_were_there_already_are_not_written_again() {
    let now = Instant::now();
    let mut plan = Plan::new(200_000, &[(0, 100_000)], now);
    let key = plan.add_provider(Unit::Whole, now);
    plan.set_reachable(key, true, now);
    let Some(Action::Request { request, .. }) = plan.poll_action() else { panic!("a request") };
    assert!(plan.on_data(request, &[1; 100_000], now + SECOND).is_empty());
    assert_eq!(plan.on_data(request, &[1; 50_000], now + SECOND).len(), 1);
}

#[test]
fn a_provider_is_kept_at_the_minimum_rate_and_dropped_below_it() {
    let now = Instant::now();
    let due = limits::MINIMUM_RATE * limits::SILENCE.as_secs();
    for (bytes, kept) in [(due + 1, true), (due, false)] {
        let (mut plan, key, request) = lone(1 << 30, now);
        let other = plan.add_provider(Unit::Whole, now);
        plan.set_reachable(other, true, now);
        plan.on_data(super::RequestKey(request), &vec![1; bytes as usize], now + limits::SILENCE * 3 / 2);
        plan.handle_timeout(now + limits::SILENCE * 2);
        assert_eq!(plan.is_usable(key), kept, "{bytes} bytes");
    }
}

#[test]
fn a_provider_that_trickles_is_dropped_with_its_reason_while_another_is_there() {
    let providers = vec![ranges(ONE_BYTE, 1_000_000), ranges(Manner::Honest, 100_000)];
    let mut world = World::new(2_000_000, 1, &[], providers);
    assert!(world.run());
    assert_eq!(world.dropped, [(ProviderKey(0), Failure::Slow(limits::SILENCE))]);
    assert_eq!(world.dropped[0].1.to_string(), "sent less than 4096 bytes per second for 10 s");
}
