//! Answers of which a part is lost on the way: asked again, and nobody is blamed.

use std::time::{Duration, Instant};

use super::{Manner, PIECE, World, direct, ranges};
use crate::limits;
use crate::node::peer::{Path, Unit};
use crate::node::transfer::keys::{ProviderKey, RequestKey};
use crate::node::transfer::plan::{Action, Failure, Outlook, Plan};

const MILLI: Duration = Duration::from_millis(1);

/// The requests that the plan wants to make.
fn requests(plan: &mut Plan) -> Vec<(RequestKey, ProviderKey, u64, u64)> {
    std::iter::from_fn(|| plan.poll_action())
        .filter_map(|action| match action {
            Action::Request { request, provider, start, end, .. } => Some((request, provider, start, end)),
            _ => None,
        })
        .collect()
}

/// A plan of a file of this size with one provider that is reachable.
fn one_provider(size: u64, relayed: bool, now: Instant) -> (Plan, ProviderKey) {
    let mut plan = Plan::new(size, &[], now);
    let key = plan.add_provider(Unit::Ranges, now);
    plan.set_path(key, if relayed { Path::Relayed } else { direct(1) }, now);
    plan.set_reachable(key, true, now);
    (plan, key)
}

#[test]
fn only_bytes_that_a_hash_proves_wrong_are_a_lie() {
    assert!(Failure::WrongBytes.is_lie());
    let short = Failure::Short { wanted: 2, got: 1 };
    let slow = Failure::Slow(limits::SILENCE);
    for why in
        [short, Failure::Long, slow, Failure::Silent(limits::SILENCE), Failure::Refused("no".to_owned())]
    {
        assert!(!why.is_lie(), "{why:?}");
    }
}

#[test]
fn wrong_bytes_that_came_through_other_peers_prove_no_lie_of_the_provider() {
    for (relayed, expected) in [(true, Failure::Garbled), (false, Failure::WrongBytes)] {
        let liar = ranges(Manner::LiesAt(9), 5_000_000);
        let liar = if relayed { liar.relayed() } else { liar };
        let mut world = World::new(500_000, 7, &[], vec![liar]);
        assert!(!world.run());
        assert_eq!(world.dropped.iter().map(|(_, why)| why).collect::<Vec<_>>(), [&expected]);
        // Also when an honest provider proves it later.
        let liar = ranges(Manner::LiesAt(9), 5_000_000);
        let liar = if relayed { liar.relayed() } else { liar };
        let mut world = World::new(500_000, 7, &[], vec![liar, ranges(Manner::Honest, 5_000_000)]);
        assert!(world.run());
        assert_eq!(world.dropped.iter().map(|(_, why)| why).collect::<Vec<_>>(), [&expected]);
    }
    assert!(!Failure::Garbled.is_lie());
}

#[test]
fn a_short_answer_is_asked_again_of_somebody_else_and_nobody_is_dropped() {
    let providers = vec![ranges(Manner::ShortAfter(100_000), 5_000_000), ranges(Manner::Honest, 5_000_000)];
    let mut world = World::new(3_000_000, 7, &[], providers);
    assert!(world.run());
    assert_eq!(world.dropped, []);
}

#[test]
fn a_lone_provider_whose_answers_are_always_short_is_given_up_but_no_liar() {
    let mut world = World::new(3_000_000, 7, &[], vec![ranges(Manner::ShortAfter(600_000), 5_000_000)]);
    assert!(!world.run());
    let [(_, why @ Failure::Short { .. })] = &world.dropped[..] else { panic!("{:?}", world.dropped) };
    assert!(!why.is_lie());
    assert_eq!(why.to_string().split(' ').next(), Some("sent"));
}

#[test]
fn a_provider_rests_after_a_short_answer_and_longer_after_each_further_one() {
    let mut now = Instant::now();
    let (mut plan, _) = one_provider(100, false, now);
    for rest in [250, 500, 1000, 2000, 4000, 8000, 8000] {
        let [(request, ..)] = requests(&mut plan)[..] else { panic!("one request") };
        plan.on_finished(request, now);
        plan.handle_timeout(now + rest * MILLI - MILLI);
        assert_eq!(requests(&mut plan), [], "before {rest} ms");
        now += rest * MILLI;
        assert_eq!(plan.poll_timeout(), Some(now));
        plan.handle_timeout(now);
    }
    let [(request, ..)] = requests(&mut plan)[..] else { panic!("one request") };
    plan.on_data(request, &[1; 100], now);
    assert_eq!(plan.outlook(), Outlook::Complete);
}

#[test]
fn a_whole_answer_ends_the_rests() {
    let now = Instant::now();
    let (mut plan, _) = one_provider(10_000_000, false, now);
    let [(first, ..), (second, _, start, end), ..] = requests(&mut plan)[..] else { panic!("requests") };
    plan.on_finished(first, now);
    assert_eq!(requests(&mut plan), []);
    plan.on_data(second, &vec![1; (end - start) as usize], now);
    assert!(!requests(&mut plan).is_empty());
}

/// Pieces have no offset: after a lost one, the others are in the wrong place.
#[test]
fn nothing_is_kept_of_an_answer_that_came_up_short() {
    let now = Instant::now();
    for relayed in [false, true] {
        let (mut plan, _) = one_provider(100_000, relayed, now);
        let (request, _, start, end) = requests(&mut plan)[0];
        plan.on_data(request, &vec![1; (end - start) as usize / 2], now);
        plan.on_finished(request, now);
        let forget = Action::Forget { start, end: start.midpoint(end) };
        assert_eq!(std::iter::from_fn(|| plan.poll_action()).filter(|a| *a == forget).count(), 1);
        assert_eq!(plan.bytes(), 0);
    }
}

#[test]
fn of_a_relayed_answer_that_ends_in_the_middle_nothing_is_kept() {
    let now = Instant::now();
    type End = fn(&mut Plan, ProviderKey, RequestKey, Instant);
    let ends: [End; 4] = [
        |plan, _, request, now| plan.on_lost(request, now),
        |plan, key, _, now| plan.set_reachable(key, false, now),
        |plan, _, _, now| plan.handle_timeout(now + limits::SILENCE * 2),
        |plan, _, request, now| plan.on_silence(request, now),
    ];
    for end in ends {
        let (mut plan, key) = one_provider(100_000, true, now);
        let (request, ..) = requests(&mut plan)[0];
        plan.on_data(request, &[1; 60_000], now);
        assert_eq!(plan.bytes(), 60_000);
        end(&mut plan, key, request, now);
        assert_eq!(plan.bytes(), 0);
    }
}

#[test]
fn an_answer_whose_way_became_a_relay_meanwhile_is_not_kept_either() {
    let now = Instant::now();
    let (mut plan, key) = one_provider(100_000, false, now);
    let (request, ..) = requests(&mut plan)[0];
    plan.set_path(key, Path::Relayed, now);
    plan.on_data(request, &[1; 60_000], now);
    plan.set_path(key, direct(1), now);
    plan.on_lost(request, now);
    assert_eq!(plan.bytes(), 0);
}

#[test]
fn a_file_is_not_complete_with_part_of_a_relayed_answer() {
    let now = Instant::now();
    let (mut plan, relayed) = one_provider(100_000, true, now);
    let (half, ..) = requests(&mut plan)[0];
    plan.on_data(half, &[1; 50_000], now);
    let direct = plan.add_provider(Unit::Ranges, now);
    plan.set_reachable(direct, true, now);
    let [(rest, _, 50_000, 100_000)] = requests(&mut plan)[..] else { panic!("the rest") };
    plan.on_data(rest, &[2; 50_000], now);
    assert_eq!(plan.outlook(), Outlook::Working);
    assert_eq!(plan.bytes(), 50_000);
    assert!(plan.is_usable(relayed));
    assert!(requests(&mut plan).iter().all(|(_, _, start, end)| (*start, *end) == (0, 50_000)));
}

#[test]
fn a_file_whose_last_missing_byte_is_relayed_waits_for_the_end_of_that_answer() {
    let now = Instant::now();
    let (mut plan, key) = one_provider(400_000, false, now);
    let (all, ..) = requests(&mut plan)[0];
    plan.set_path(key, Path::Relayed, now);
    let direct = plan.add_provider(Unit::Ranges, now);
    plan.set_reachable(direct, true, now);
    let [(half, _, 200_000, 400_000)] = requests(&mut plan)[..] else { panic!("a half") };
    plan.on_data(half, &[2; 200_000], now);
    plan.on_data(all, &[1; 200_000], now);
    assert_eq!((plan.outlook(), plan.bytes()), (Outlook::Working, 200_000));
}

#[test]
fn a_relayed_provider_is_asked_for_what_a_relay_holds_and_for_more_once_it_is_direct() {
    let now = Instant::now();
    let (mut plan, key) = one_provider(50_000_001, true, now);
    let first = requests(&mut plan);
    let in_flight = |list: &[(RequestKey, ProviderKey, u64, u64)]| -> u64 {
        list.iter().map(|(_, _, start, end)| end - start).sum()
    };
    assert_eq!(in_flight(&first), limits::RELAYED_BYTES);
    // However fast it is.
    let (mut open, mut now) = (first, now);
    for _ in 0..20 {
        let (request, _, start, end) = open.remove(0);
        now += MILLI;
        plan.on_data(request, &vec![1; (end - start) as usize], now);
        open.extend(requests(&mut plan));
        assert!(in_flight(&open) <= limits::RELAYED_BYTES, "{open:?}");
    }
    plan.set_path(key, direct(1), now);
    open.extend(requests(&mut plan));
    assert!(in_flight(&open) > limits::RELAYED_BYTES);
}

#[test]
fn a_file_comes_right_through_a_relay_that_reorders_the_pieces_of_each_answer() {
    for count in 1..3 {
        let reordered = || ranges(Manner::Reversed, 5_000_000).relayed();
        let mut world = World::new(3_000_000, 7, &[], (0..count).map(|_| reordered()).collect());
        assert!(world.run(), "{count}: {:?}", world.dropped);
        assert_eq!(world.dropped, [], "{count}");
        // Once as usual, and once in single pieces.
        assert!(world.received <= 3 * 3_000_000, "{count}: {}", world.received);
    }
}

#[test]
fn after_a_garbled_hash_a_relayed_provider_is_asked_for_one_piece_at_a_time_until_it_is_direct() {
    let now = Instant::now();
    let (mut plan, key) = one_provider(200_000, true, now);
    for (request, _, start, end) in requests(&mut plan) {
        plan.on_data(request, &vec![1; (end - start) as usize], now);
    }
    assert_eq!(plan.outlook(), Outlook::Complete);
    plan.on_wrong_hash(now);
    let [(_, _, 0, PIECE)] = requests(&mut plan)[..] else { panic!("one piece") };
    plan.set_path(key, direct(1), now);
    let rest: Vec<_> = requests(&mut plan).into_iter().map(|(_, _, start, end)| (start, end)).collect();
    assert_eq!(rest, [(PIECE, 2 * PIECE), (2 * PIECE, 200_000)]);
}

/// RELIABILITY 25, the part of the plan.
#[test]
fn loads_through_a_relay_that_loses_messages_complete_and_blame_nobody() {
    const BASE: u64 = 250_000;
    let (mut completed, mut blamed, mut slowest) = (0, 0, 0.0f64);
    let sizes = [100_000, 1 << 20, (2 << 20) + 1, 4 << 20];
    for seed in BASE..BASE + 36 {
        let size = sizes[(seed % 4) as usize];
        let manner =
            [Manner::Honest, Manner::LosesOneOf(100), Manner::LosesOneOf(20)][(seed % 3) as usize].clone();
        let mut world = World::new(size, seed, &[], vec![ranges(manner, 10_000_000).relayed()]);
        completed += usize::from(world.run());
        blamed += world.dropped.len();
        let pieces = size as f64 / PIECE as f64;
        slowest = slowest.max(world.seconds() / pieces.max(16.0));
    }
    println!(
        "check 25 (plan): measured {completed} of 36 completed, {blamed} blamed, {:.0} ms per piece, bar 36, 0, seed {BASE}",
        slowest * 1000.0
    );
    assert_eq!((completed, blamed), (36, 0));
}
