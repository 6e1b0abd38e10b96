//! Who is looked for, who gives way, and what is told in the end.

use super::*;
use crate::node::legacy::Dialect;
use crate::node::peer::Via;
use hyperswarm::crypto::PublicKey;

fn candidate(key: u16, dialect: Dialect, size: u64) -> Offer {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&key.to_le_bytes());
    Offer { peer: PeerKey(PublicKey(bytes)), via: Via::Legacy(dialect), size }
}

/// From one stranger, who makes up keys.
fn stranger() -> Origin {
    origin(1, 99, false)
}

fn origin(host: u8, neighbour: u8, own: bool) -> Origin {
    Origin { host: Some([203, 0, host, 1].into()), neighbour: PeerKey(PublicKey([neighbour; 32])), own }
}

fn add(candidates: &mut Candidates, offer: Offer) -> bool {
    candidates.add(offer, stranger())
}

fn next(candidates: &mut Candidates, now: Instant) -> Option<Offer> {
    candidates.look_for_next(now).map(|(offer, _)| offer)
}

#[test]
fn a_size_counts_for_nothing_until_somebody_who_claims_it_is_reached() {
    let mut candidates = Candidates::default();
    for (key, size) in [(1, 9), (2, 9), (3, 7)] {
        assert!(add(&mut candidates, candidate(key, Dialect::V021, size)));
    }
    assert!(candidates.backed_sizes().is_empty());
    candidates.reached(&candidate(3, Dialect::V021, 7));
    assert_eq!(candidates.backed_sizes(), BTreeMap::from([(7, 1)]));
    candidates.refuse_size(7, "impossible");
    assert!(candidates.backed_sizes().is_empty() && candidates.is_hopeful());
}

#[test]
fn sizes_of_which_the_disk_can_hold_none_are_no_fault_of_the_peers() {
    let mut candidates = Candidates::default();
    for (key, size) in [(1, 3000), (2, 2000), (3, 1000)] {
        add(&mut candidates, candidate(key, Dialect::V021, size));
    }
    candidates.reached(&candidate(1, Dialect::V021, 3000));
    candidates.reached(&candidate(2, Dialect::V021, 2000));
    candidates.refuse_too_large(3000, "too large");
    assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { .. })), "2000 may fit");
    candidates.refuse_too_large(2000, "too large");
    candidates.note(&candidate(3, Dialect::V021, 1000), "no connection to it".to_owned());
    let Some(LoadError::StoreFull(text)) = candidates.verdict() else { panic!("the peers are blamed") };
    assert!(text.contains("2000 bytes"), "{text}");
}

#[test]
fn those_that_are_connected_are_looked_for_first_and_only_some_at_a_time() {
    let now = Instant::now();
    let mut candidates = Candidates::default();
    for key in 0..=limits::LOOKED_FOR as u16 {
        add(&mut candidates, candidate(key, Dialect::V021, 9));
    }
    let connected = candidate(1000, Dialect::V021, 9);
    candidates.add(connected, origin(1, 1, true));
    assert_eq!(next(&mut candidates, now), Some(connected));
    for key in 1..limits::LOOKED_FOR as u16 {
        assert_eq!(next(&mut candidates, now), Some(candidate(key - 1, Dialect::V021, 9)));
    }
    assert_eq!(next(&mut candidates, now), None, "at the limit");
    candidates.reached(&connected);
    assert!(candidates.look_for_next(now).is_some(), "who is reached is looked for no more");
}

#[test]
fn one_that_is_not_reached_lets_others_be_looked_for_and_has_another_turn_after_them() {
    let now = Instant::now();
    let mut candidates = Candidates::default();
    for key in 0..limits::LOOKED_FOR as u16 {
        add(&mut candidates, candidate(key, Dialect::V021, 9));
        assert!(candidates.look_for_next(now).is_some());
    }
    assert!(candidates.end_turns(now + LOOK).is_empty(), "nobody else waits");
    let other = candidate(1000, Dialect::V021, 9);
    add(&mut candidates, other);
    assert!(candidates.end_turns(now + LOOK - Duration::from_millis(1)).is_empty());
    assert_eq!(candidates.end_turns(now + LOOK).len(), limits::LOOKED_FOR);
    assert_eq!(next(&mut candidates, now + LOOK), Some(other));
    assert!(candidates.look_for_next(now + LOOK).is_some(), "another turn");
}

#[test]
fn an_original_that_would_die_of_the_request_is_never_asked() {
    let mut candidates = Candidates::default();
    assert!(add(&mut candidates, candidate(1, Dialect::V012, 378)));
    assert!(!add(&mut candidates, candidate(2, Dialect::V012, 379)));
    assert_eq!(candidates.left(), [candidate(1, Dialect::V012, 378)]);
}

#[test]
fn a_file_that_only_such_originals_offer_fails_with_who_offered_it_and_why_nobody_was_asked() {
    let mut candidates = Candidates::default();
    let spared = candidate(2, Dialect::V012, 379);
    add(&mut candidates, spared);
    let error = candidates.verdict().expect("somebody has it");
    let LoadError::NotAsked { providers, size: 379 } = &error else { panic!("{error}") };
    assert_eq!(*providers, [spared.id()]);
    let text = error.to_string();
    for part in [&spared.id(), "0.1.2", "die", "more than 378 bytes", "not asked"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    // Beside others that failed it is one reason of several.
    candidates.note(&candidate(3, Dialect::V021, 379), "sent nothing for 10 s".to_owned());
    let Some(LoadError::Transfer { reasons }) = candidates.verdict() else { panic!("no transfer") };
    assert_eq!(reasons.len(), 2);
    assert!(reasons[1].0 == spared.id() && reasons[1].1.contains("was not asked"));
}

#[test]
fn a_node_of_ours_that_failed_is_not_also_reported_under_its_oldest_id() {
    let mut candidates = Candidates::default();
    add(&mut candidates, candidate(1, Dialect::V012, 379));
    add(&mut candidates, candidate(1, Dialect::V021, 379));
    candidates.note(&candidate(1, Dialect::V021, 379), "sent nothing for 10 s".to_owned());
    assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { reasons }) if reasons.len() == 1));
}

#[test]
fn a_node_of_ours_is_used_once_and_with_ranges() {
    let mut candidates = Candidates::default();
    assert!(add(&mut candidates, candidate(1, Dialect::V021, 1000)));
    assert!(!add(&mut candidates, candidate(1, Dialect::V021, 1000)));
    assert!(!add(&mut candidates, candidate(1, Dialect::V016, 1000)));
    assert!(!add(&mut candidates, candidate(1, Dialect::V012, 1000)));
    assert_eq!(candidates.left().len(), 1);
}

#[test]
fn a_node_of_ours_is_known_by_its_answers_in_several_dialects_and_asked_in_small_ranges() {
    let (first, second) = (candidate(1, Dialect::V021, 1000), candidate(2, Dialect::V021, 1000));
    let mut candidates = Candidates::default();
    add(&mut candidates, first);
    add(&mut candidates, second);
    assert_eq!(candidates.unit(&first), Unit::LargeRanges);
    add(&mut candidates, candidate(1, Dialect::V012, 1000));
    assert_eq!(candidates.unit(&first), Unit::Ranges);
    assert_eq!(candidates.unit(&second), Unit::LargeRanges, "an original as far as is known");
}

#[test]
fn a_liar_is_asked_again_after_growing_pauses_and_a_few_times_only_while_nobody_else_can_be_asked() {
    let (mut candidates, mut now) = (Candidates::default(), Instant::now());
    let [liar, other] = [1, 2].map(|key| candidate(key, Dialect::V021, 1000));
    add(&mut candidates, liar);
    for pause in [2, 4, 8].map(Duration::from_secs) {
        assert_eq!(next(&mut candidates, now), Some(liar));
        candidates.reached(&liar);
        candidates.lied(&liar, now);
        assert_eq!(next(&mut candidates, now + pause - Duration::from_millis(1)), None);
        now += pause;
    }
    add(&mut candidates, other);
    assert_eq!(next(&mut candidates, now), Some(other), "somebody else can be asked");
    candidates.drop_one(&other);
    assert_eq!(next(&mut candidates, now), Some(liar));
    candidates.lied(&liar, now);
    assert!(!candidates.is_hopeful(), "it lied {} times", limits::LIES);
}

#[test]
fn any_number_of_liars_is_asked_again_a_bounded_number_of_times() {
    let (mut candidates, mut now) = (Candidates::default(), Instant::now());
    (0..100).for_each(|key| assert!(add(&mut candidates, candidate(key, Dialect::V021, 1000))));
    let mut asked = 0;
    while candidates.is_hopeful() {
        while let Some(liar) = next(&mut candidates, now) {
            asked += 1;
            candidates.reached(&liar);
            candidates.lied(&liar, now);
        }
        now += Duration::from_secs(8);
    }
    assert_eq!(asked, 100 + limits::REPEATED_LIARS);
}

#[test]
fn only_liars_make_a_failed_verification() {
    let mut candidates = Candidates::default();
    let liar = candidate(1, Dialect::V021, 1000);
    add(&mut candidates, liar);
    candidates.note_liar(&liar);
    candidates.drop_one(&liar);
    assert!(matches!(candidates.verdict(), Some(LoadError::Verification { liars }) if liars.len() == 1));
}

#[test]
fn candidates_are_bounded_and_made_up_ones_give_way_to_one_that_is_connected() {
    let mut candidates = Candidates::default();
    for key in 0..limits::CANDIDATES as u16 {
        assert!(add(&mut candidates, candidate(key, Dialect::V021, 5)));
    }
    assert!(!add(&mut candidates, candidate(60000, Dialect::V021, 5)));
    let connected = candidate(60001, Dialect::V021, 5);
    assert!(candidates.add(connected, origin(1, 1, true)));
    assert_eq!(candidates.left().len(), limits::CANDIDATES);
    assert_eq!(next(&mut candidates, Instant::now()), Some(connected));
}

#[test]
fn a_stranger_with_all_places_gives_way_to_another_origin_wherever_it_stands() {
    let now = Instant::now();
    let mut candidates = Candidates::default();
    for key in 0..limits::CANDIDATES as u16 {
        let offer = candidate(key, Dialect::V021, 5);
        assert!(add(&mut candidates, offer));
        // Half of them are reached, then as many are looked for as may be.
        if key < 128 {
            assert_eq!(next(&mut candidates, now), Some(offer));
            candidates.reached(&offer);
        }
    }
    while next(&mut candidates, now).is_some() {}
    assert!(candidates.end_turns(now).is_empty());
    let far = candidate(60000, Dialect::V021, 5);
    assert!(candidates.add(far, origin(2, 2, false)));
    assert_eq!(candidates.end_turns(now).len(), 2, "one made room for the claim, one for the look");
    assert_eq!(next(&mut candidates, now), Some(far));
    let own = candidate(60001, Dialect::V021, 5);
    assert!(candidates.add(own, origin(1, 1, true)), "at the address of the stranger");
    candidates.end_turns(now);
    assert_eq!(next(&mut candidates, now), Some(own));
}

#[test]
fn candidates_that_were_looked_for_in_vain_give_way_to_any() {
    let now = Instant::now();
    let mut candidates = Candidates::default();
    for key in 0..limits::CANDIDATES as u16 {
        add(&mut candidates, candidate(key, Dialect::V021, 5));
    }
    assert!(candidates.look_for_next(now).is_some());
    assert_eq!(candidates.end_turns(now + LOOK).len(), 1);
    assert!(add(&mut candidates, candidate(60000, Dialect::V021, 5)));
    assert!(!add(&mut candidates, candidate(60001, Dialect::V021, 5)));
}
