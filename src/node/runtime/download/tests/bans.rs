//! What wrong bytes of one load mean for the next: the key and the address from which they came.

use super::*;

/// A provider with this key: at an address, with the file or with zeros.
fn plays(world: &World, peer: PeerKey, address: u8, honest: bool) {
    let content = if honest { world.file.clone() } else { Bytes::new() };
    let part = Part { content, path: at(address), ..part(64 << 10, Duration::from_millis(10)) };
    world.environment.stage.add(peer, part);
}

#[tokio::test]
async fn a_key_in_whose_name_wrong_bytes_came_is_loaded_from_at_another_address() {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    plays(&world, peer, 1, false);
    let (outcome, _) = world.load(seconds(60)).await;
    assert!(matches!(outcome, Some(Err(LoadError::Verification { .. }))), "{outcome:?}");
    plays(&world, peer, 2, true);
    let (outcome, took) = world.load(seconds(60)).await;
    assert!(outcome.expect("found").is_ok());
    assert!(took < seconds(5), "{took:?}");
}

#[tokio::test]
async fn a_key_is_not_asked_where_wrong_bytes_came_from_while_bytes_come_from_others() {
    let mut world = World::new(8 * MIB).await;
    let liar = world.claim(8 * MIB as u64);
    plays(&world, liar, 1, false);
    world.environment.add_liar(liar, [10, 0, 0, 1].into());
    // 3 MiB/s for 30 s.
    let slow = Part { content: world.file.clone(), path: at(2), ..part(16 << 10, seconds(1) / 6) };
    world.provider(8 * MIB as u64, slow);
    let (outcome, took) = world.load(seconds(60)).await;
    let loaded = outcome.expect("found").expect("loaded");
    assert!(took > limits::SILENCE * 2, "{took:?}");
    assert_eq!(loaded.downloaded, loaded.size, "nothing wrong came");
}

/// A load whose search ends at once; and how long it took.
async fn load_from_known(world: &World) -> (Option<Result<Loaded, LoadError>>, Duration) {
    let began = now();
    let (search, _, running) = world.start(seconds(60));
    drop(search);
    (ended(running).await, now() - began)
}

/// Loads from one provider at whose address a stranger swaps bytes for so many seconds; the seconds until it is loaded
/// after that.
async fn seconds_after_liar(lying: u64) -> f64 {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    plays(&world, peer, 1, false);
    let began = now();
    while now() - began < seconds(lying) {
        let (outcome, _) = load_from_known(&world).await;
        let Some(Err(LoadError::Verification { liars })) = outcome else { panic!("{outcome:?}") };
        assert_eq!(liars.len(), 1);
    }
    plays(&world, peer, 1, true);
    let (outcome, took) = load_from_known(&world).await;
    println!("bans: a liar alone for {lying} s, then right bytes: measured {:.1} s", took.as_secs_f64());
    assert!(outcome.expect("found").is_ok());
    tokio::time::resume();
    took.as_secs_f64()
}

#[tokio::test]
async fn the_only_provider_is_loaded_from_within_ten_seconds_after_a_stranger_at_its_address_is_gone() {
    for lying in [1, 30, 300] {
        let took = seconds_after_liar(lying).await;
        assert!(took < 10.0, "{took}");
    }
}

#[tokio::test]
async fn one_load_goes_on_when_the_stranger_at_the_address_of_the_only_provider_is_gone() {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    plays(&world, peer, 1, false);
    let (_search, _, running) = world.start(seconds(60));
    tokio::time::sleep(seconds(5)).await;
    assert!(!running.is_finished(), "it is asked again");
    plays(&world, peer, 1, true);
    let began = now();
    assert!(ended(running).await.expect("found").is_ok());
    assert!(now() - began < seconds(10), "{:?}", now() - began);
}

#[tokio::test]
async fn a_liar_that_is_always_alone_costs_a_few_copies_of_the_file_and_ends_the_load_with_its_name() {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    plays(&world, peer, 1, false);
    let (outcome, took) = load_from_known(&world).await;
    let copies = world.environment.downloaded() as f64 / MIB as f64;
    println!("bans: a liar alone: measured {copies:.1} copies in {:.1} s, bar 4 copies", took.as_secs_f64());
    assert!(matches!(outcome, Some(Err(LoadError::Verification { .. }))), "{outcome:?}");
    assert!(copies <= f64::from(limits::LIES) && took < seconds(20), "{took:?}");
}

#[tokio::test]
async fn a_silent_stranger_keeps_nobody_from_a_provider_in_whose_name_wrong_bytes_came() {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    plays(&world, peer, 1, true);
    world.environment.add_liar(peer, [10, 0, 0, 1].into());
    world.provider(MIB as u64, Part { path: at(2), ..silent() });
    let (outcome, took) = load_from_known(&world).await;
    assert!(outcome.expect("found").is_ok() && took < limits::SILENCE + seconds(5), "{took:?}");
}

#[tokio::test]
async fn bytes_that_came_by_two_addresses_make_no_liar() {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    let moves = Some((Duration::from_millis(20), Reach::Reached(at(2))));
    let part = Part { path: at(1), moves, ..part(64 << 10, Duration::from_millis(10)) };
    world.environment.stage.add(peer, part);
    let (outcome, _) = load_from_known(&world).await;
    assert!(outcome.is_some_and(|outcome| outcome.is_err()));
    for address in [1, 2] {
        assert!(!world.environment.is_liar(peer, [10, 0, 0, address].into()), "{address}");
    }
}
