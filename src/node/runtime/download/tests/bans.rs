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
async fn a_key_is_not_asked_again_where_wrong_bytes_came_from() {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    plays(&world, peer, 1, false);
    let (outcome, _) = world.load(seconds(60)).await;
    assert!(matches!(outcome, Some(Err(LoadError::Verification { .. }))), "{outcome:?}");
    plays(&world, peer, 1, true);
    let (search, _, running) = world.start(seconds(60));
    drop(search);
    let outcome = ended(running).await;
    let Some(Err(LoadError::Transfer { reasons })) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reasons[0].1, "sent wrong bytes not long ago");
}

#[tokio::test]
async fn bytes_that_came_by_two_addresses_make_no_liar() {
    let mut world = World::new(MIB).await;
    let peer = world.claim(MIB as u64);
    let moves = Some((Duration::from_millis(20), Reach::Reached(at(2))));
    let part = Part { path: at(1), moves, ..part(64 << 10, Duration::from_millis(10)) };
    world.environment.stage.add(peer, part);
    let (outcome, _) = world.load(seconds(60)).await;
    assert!(outcome.is_some_and(|outcome| outcome.is_err()));
    for address in [1, 2] {
        assert!(!world.environment.is_liar(peer, [10, 0, 0, address].into()), "{address}");
    }
}
