//! Which claims count, and who has a place among the candidates.

use crate::limits;
use crate::node::legacy::Dialect;
use crate::node::peer::{PeerKey, Unit, Via};
use crate::node::transfer::Offer;
use crate::node::transfer::candidates::{Candidates, Standing};
use hyperswarm::crypto::PublicKey;

fn offer(key: u16, dialect: Dialect, size: u64) -> Offer {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&key.to_le_bytes());
    Offer { peer: PeerKey(PublicKey(bytes)), via: Via::Legacy(dialect), size }
}

fn made_up(candidates: &mut Candidates, count: u16, size: impl Fn(u16) -> u64) {
    for key in 0..count {
        candidates.add(offer(1000 + key, Dialect::V021, size(key)), Standing::Claimed, false);
    }
}

#[test]
fn made_up_keys_do_not_keep_a_connected_peer_out() {
    let mut candidates = Candidates::default();
    made_up(&mut candidates, 300, |_| 5);
    assert_eq!(candidates.of_size(5).len(), limits::CANDIDATES);
    let honest = offer(1, Dialect::V021, 5);
    assert!(candidates.add(honest, Standing::Connected, false));
    assert_eq!(candidates.of_size(5).len(), limits::CANDIDATES);
    assert_eq!(candidates.of_size(5).first(), Some(&honest));
    assert!(!candidates.contains(&offer(1000, Dialect::V021, 5)), "the oldest made room");
    // Nor do they take its place.
    made_up(&mut candidates, 2000, |_| 5);
    assert!(candidates.contains(&honest));
}

#[test]
fn connected_peers_do_not_push_each_other_out() {
    let mut candidates = Candidates::default();
    for key in 0..limits::CANDIDATES as u16 {
        assert!(candidates.add(offer(key, Dialect::V021, 5), Standing::Connected, false));
    }
    assert!(!candidates.add(offer(60000, Dialect::V021, 5), Standing::Connected, false));
    candidates.give_up(5);
    let late = offer(60001, Dialect::V021, 6);
    assert!(!candidates.add(late, Standing::Connected, false), "they would be asked again");
}

#[test]
fn keys_that_were_tried_in_vain_make_room_for_others() {
    let mut candidates = Candidates::default();
    made_up(&mut candidates, 300, |_| 5);
    let late = offer(1, Dialect::V021, 5);
    assert!(!candidates.add(late, Standing::Claimed, false));
    candidates.drop_one(&offer(1007, Dialect::V021, 5));
    assert!(candidates.add(late, Standing::Claimed, false));
    assert!(!candidates.contains(&offer(1007, Dialect::V021, 5)));
}

#[test]
fn a_peer_that_connects_later_keeps_its_place() {
    let mut candidates = Candidates::default();
    made_up(&mut candidates, 256, |_| 5);
    let (first, second) = (offer(1000, Dialect::V021, 5), offer(1001, Dialect::V021, 5));
    candidates.raise(&first, Standing::Connected);
    // It says so again in a channel in which it is connected.
    candidates.add(second, Standing::Connected, false);
    for key in 0..100 {
        assert!(candidates.add(offer(key, Dialect::V021, 5), Standing::Connected, false));
    }
    assert!(candidates.contains(&first) && candidates.contains(&second));
}

#[test]
fn any_number_of_claims_without_a_connection_weigh_nothing_against_a_connected_one() {
    let mut candidates = Candidates::default();
    made_up(&mut candidates, 100, |_| 6);
    made_up(&mut candidates, 100, |key| 1000 + u64::from(key));
    candidates.add(offer(1, Dialect::V021, 5), Standing::Connected, false);
    assert_eq!(candidates.best_size(), Some(5));
    // Unless it had its turn.
    candidates.postpone(5);
    assert_eq!(candidates.best_size(), Some(6));
}

#[test]
fn a_connected_claim_of_the_same_size_does_not_lend_its_weight_to_another_size() {
    let mut candidates = Candidates::default();
    for (key, size, standing) in
        [(1, 6, Standing::Connected), (2, 5, Standing::Connected), (3, 5, Standing::Connected)]
    {
        candidates.add(offer(key, Dialect::V021, size), standing, false);
    }
    made_up(&mut candidates, 100, |_| 6);
    assert_eq!(candidates.best_size(), Some(5));
}

#[test]
fn those_that_answered_come_first() {
    let mut candidates = Candidates::default();
    let [claimed, connected, proven] = [1, 2, 3].map(|key| offer(key, Dialect::V021, 5));
    for (offer, standing) in [(claimed, Standing::Claimed), (connected, Standing::Connected)] {
        candidates.add(offer, standing, false);
    }
    candidates.add(proven, Standing::Claimed, false);
    candidates.raise(&proven, Standing::Proven);
    candidates.raise(&proven, Standing::Connected);
    assert_eq!(candidates.of_size(5), [proven, connected, claimed]);
}

#[test]
fn one_with_ranges_is_taken_for_an_original_until_it_offers_in_another_protocol_too() {
    for (first, second) in [(Dialect::V021, Dialect::V016), (Dialect::V016, Dialect::V021)] {
        let mut candidates = Candidates::default();
        let ranges = offer(1, Dialect::V021, 5);
        candidates.add(offer(1, first, 5), Standing::Connected, false);
        candidates.add(offer(2, Dialect::V021, 5), Standing::Connected, false);
        if first == Dialect::V021 {
            assert_eq!(candidates.unit(&ranges), Unit::LargeRanges);
        }
        candidates.add(offer(1, second, 5), Standing::Connected, false);
        assert_eq!(candidates.unit(&ranges), Unit::Ranges);
        assert_eq!(candidates.unit(&offer(2, Dialect::V021, 5)), Unit::LargeRanges);
        assert_eq!(candidates.unit(&offer(1, Dialect::V016, 5)), Unit::Whole);
    }
}
