//! Many claimed sizes, each of a reached identity of one stranger, before the honest provider answers.

use std::sync::atomic::Ordering;

use super::*;

const HONEST: usize = 8 * MIB;

/// Seconds of a load beside so many sizes that are claimed from address 1 through one neighbour, all smaller than the true one.
async fn seconds_beside(name: &str, count: u64, liar: Part, honest: Path, timeout: u64) -> f64 {
    seconds_beside_claims(name, count, liar, (honest, false), timeout).await
}

/// The same; `own`: the honest provider is a neighbour.
async fn seconds_beside_claims(
    name: &str,
    count: u64,
    liar: Part,
    (honest, own): (Path, bool),
    timeout: u64,
) -> f64 {
    let mut world = World::new(HONEST).await;
    (1..=count).for_each(|number| world.provider(number * 1000, liar.clone()));
    let (search, _, running) = world.start(seconds(timeout));
    let began = now();
    tokio::time::sleep(Duration::from_millis(150)).await;
    let content = world.file.clone();
    let honest = Part { content, path: honest, ..part(64 << 10, Duration::from_millis(10)) };
    world.provider(HONEST as u64, honest);
    let claim = if own { world.own() } else { world.claims.last().expect("claimed").clone() };
    search.send(claim).await.expect("it goes on");
    let outcome = ended(running).await;
    let took = (now() - began).as_secs_f64();
    println!("sizes: {count} {name}, time-out {timeout} s: measured {took:.1} s, seed {SEED}");
    let loaded = outcome.expect("found").unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(std::fs::read(loaded.path).expect("file") == world.file, "{name}");
    // For the next world, which pauses it again.
    tokio::time::resume();
    took
}

#[tokio::test]
async fn silent_sizes_of_one_address_cost_a_provider_at_another_one_a_turn() {
    for count in [16, 60, 100] {
        let took = seconds_beside("silent, another address", count, silent(), at(2), 20).await;
        assert!(took < 5.0, "{took}");
    }
}

#[tokio::test]
async fn trickled_sizes_of_one_address_cost_a_provider_at_another_one_a_turn() {
    for count in [60, 100] {
        let took = seconds_beside("trickled, another address", count, trickling(), at(2), 20).await;
        assert!(took < 5.0, "{took}");
    }
}

#[tokio::test]
async fn silent_sizes_at_the_address_of_the_provider_cost_a_second_for_four() {
    for (count, timeout) in [(60, 60), (100, 60), (60, 20), (100, 20)] {
        let took = seconds_beside("silent, the same address", count, silent(), at(1), timeout).await;
        assert!(took < 35.0, "{took}");
    }
}

#[tokio::test]
async fn trickled_sizes_at_the_address_of_the_provider_cost_a_second_for_four() {
    for (count, timeout) in [(60, 60), (100, 60), (60, 20)] {
        let took = seconds_beside("trickled, the same address", count, trickling(), at(1), timeout).await;
        assert!(took < 35.0, "{took}");
    }
}

/// They fill all that a download remembers, and are all reached.
#[tokio::test]
async fn six_hundred_sizes_of_one_address_cost_a_neighbour_anywhere_a_few_seconds() {
    for (name, liar) in [("silent", silent as fn() -> Part), ("trickled", trickling)] {
        for (honest, timeout) in [(1, 60), (1, 20), (2, 60), (2, 20)] {
            let name = format!("{name}, honest neighbour at address {honest}");
            let took = seconds_beside_claims(&name, 600, liar(), (at(honest), true), timeout).await;
            assert!(took < 5.0, "{took}");
        }
    }
}

/// The stranger's sizes had many turns, and long ones, when the honest provider appears.
#[tokio::test]
async fn sizes_that_had_many_turns_give_way_at_once_to_a_size_of_another_place() {
    let mut world = World::new(MIB).await;
    (1..=12).for_each(|number| world.provider(number * 1000, silent()));
    let (search, _, running) = world.start(seconds(100));
    tokio::time::sleep(seconds(22)).await;
    world.honest();
    let began = now();
    search.send(world.own()).await.expect("it goes on");
    assert!(ended(running).await.expect("found").is_ok());
    let took = now() - began;
    println!("sizes: after 22 s of 12 silent ones: measured {:.1} s, seed {SEED}", took.as_secs_f64());
    assert!(took < seconds(5), "{took:?}");
}

#[tokio::test]
async fn sizes_that_have_not_had_a_turn_put_off_the_end_by_the_time_out_at_most() {
    let mut world = World::new(1).await;
    (1..=200).for_each(|number| world.provider(number * 1000, silent()));
    let (outcome, took) = world.load(seconds(10)).await;
    println!("sizes: 200 silent and nobody else, time-out 10 s: measured {:.1} s", took.as_secs_f64());
    assert!(matches!(outcome, Some(Err(LoadError::Transfer { .. }))), "{outcome:?}");
    assert!(took > seconds(15) && took < seconds(21), "{took:?}");
}

#[tokio::test]
async fn a_provider_that_begins_late_has_longer_turns_later_on() {
    // Its first byte comes only 3 s after it was asked.
    let mut world = World::new(64 << 10).await;
    (1..=12).for_each(|number| world.provider(number * 1000, silent()));
    let late = Part { content: world.file.clone(), path: at(2), ..part(64 << 10, seconds(3)) };
    world.provider(64 << 10, late);
    let (outcome, took) = world.load(seconds(60)).await;
    println!("sizes: 12 silent beside one that takes 3 s: measured {:.1} s", took.as_secs_f64());
    assert!(outcome.expect("found").is_ok() && took < seconds(20), "{took:?}");
}

/// A world in which a download had to wait until the only peer it had reached was gone; and that download.
async fn peer_gone_before_its_turn(timeout: u64) -> (World, mpsc::Sender<Heard>, Running) {
    let mut world = World::new(MIB).await;
    let moves = Some((seconds(1), Reach::Connecting));
    world.provider(MIB as u64, Part { moves, ..silent() });
    let turns = world.turns.clone();
    let others = turns.acquire_many(limits::ACTIVE_DOWNLOADS as u32).await.expect("never closed");
    let (search, _, running) = world.start(seconds(timeout));
    tokio::time::sleep(seconds(2)).await;
    drop(others);
    (world, search, running)
}

#[tokio::test]
async fn a_size_whose_peer_is_gone_is_tried_only_when_somebody_who_claims_it_is_reached() {
    let (mut world, search, running) = peer_gone_before_its_turn(60).await;
    let began = now();
    while now() - began < seconds(10) {
        // While the disk works, the clock goes on only when it is turned. Here the disk has time to work.
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::fs::metadata(world.folder.path()).await.expect("folder");
    }
    let starts = || world.environment.stage.attempts.load(Ordering::Relaxed);
    println!("sizes: started {} times within 10 s while nobody could be asked", starts());
    assert_eq!(starts(), 0);
    world.honest();
    search.send(world.claims.last().expect("claimed").clone()).await.expect("it goes on");
    assert!(ended(running).await.expect("found").is_ok());
    assert_eq!(world.environment.stage.attempts.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_size_whose_peer_is_gone_does_not_put_off_the_end() {
    let (_world, _search, running) = peer_gone_before_its_turn(20).await;
    let began = now() - seconds(2);
    let outcome = ended(running).await;
    assert!(matches!(outcome, Some(Err(LoadError::Transfer { .. }))), "{outcome:?}");
    assert!(now() - began < seconds(21), "{:?}", now() - began);
}
