//! Whose file is verified next, in virtual time.

use super::*;
use crate::node::runtime::provide::tests::node;

const MB: u64 = 1_000_000;

fn sha1(number: usize) -> Sha1 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Sha1(bytes)
}

fn asker(number: usize, host: u8) -> Asker {
    Asker { peer: node(number), host: Some(IpAddr::from([192, 0, 2, host])) }
}

const HONEST: usize = 5000;

/// Every verification takes this long. What the honest asker wants is asked for after a while; the number of other files
/// that are verified after that and before it.
fn others_first(line: &mut Line, began: Instant, after: u32, size: u64, asker: Asker) -> usize {
    let each = Duration::from_millis(300);
    let mut now = began;
    for turn in 0.. {
        if turn == after {
            line.ask(now, sha1(HONEST), size, asker);
        }
        let (next, of) = line.take_next(now).expect("files wait");
        if next == sha1(HONEST) {
            return (turn - after) as usize;
        }
        now += each;
        line.had_turn(now, of);
    }
    unreachable!()
}

/// One peer asks for 250 files.
fn greedy(now: Instant, asker: Asker, size: u64) -> Line {
    let mut line = Line::default();
    (0..250).for_each(|number| line.ask(now, sha1(number), size, asker));
    line
}

#[test]
fn a_small_file_waits_for_none_of_the_many_large_ones_of_a_stranger() {
    let now = Instant::now();
    for host in [1, 2] {
        for after in [0, 10, 100] {
            let mut line = greedy(now, asker(1, 1), 180 * MB);
            assert_eq!(others_first(&mut line, now, after, 2 * MB, asker(2, host)), 0);
        }
    }
}

#[test]
fn a_file_waits_for_one_of_a_stranger_that_asks_for_many_of_its_size() {
    let now = Instant::now();
    for host in [1, 2] {
        for after in [0, 10, 100] {
            let mut line = greedy(now, asker(1, 1), 20 * MB);
            let others = others_first(&mut line, now, after, 20 * MB, asker(2, host));
            assert!(others <= 1, "{others} others first");
        }
    }
}

#[test]
fn a_file_waits_for_a_few_of_as_many_identities_as_a_stranger_wants_at_one_address() {
    let now = Instant::now();
    let mut line = Line::default();
    (0..250).for_each(|number| line.ask(now, sha1(number), 20 * MB, asker(number, 1)));
    let others = others_first(&mut line, now, 20, 20 * MB, asker(HONEST, 2));
    assert!(others <= 1, "{others} others first");
}

#[test]
fn a_large_file_has_its_turn_although_small_ones_are_asked_for_without_end() {
    let began = Instant::now();
    let mut line = Line::default();
    line.ask(began, sha1(HONEST), 100 * MB, asker(HONEST, 1));
    let mut now = began;
    for number in 0.. {
        line.ask(now, sha1(number), 0, asker(number, 1));
        let (next, of) = line.take_next(now).expect("files wait");
        if next == sha1(HONEST) {
            break;
        }
        now += Duration::from_millis(300);
        line.had_turn(now, of);
    }
    let waited = now - began;
    assert!(waited >= Duration::from_secs(9) && waited <= Duration::from_secs(11), "{waited:?}");
}

#[test]
fn all_that_want_a_file_share_one_verification() {
    let now = Instant::now();
    let mut line = Line::default();
    (0..10).for_each(|number| line.ask(now, sha1(1), MB, asker(number, 1)));
    assert!(line.take_next(now).is_some());
    assert!(line.is_empty());
}

#[test]
fn what_was_given_up_is_kept_for_a_while_and_once_for_each_peer() {
    let now = Instant::now();
    let mut line = Line::default();
    for number in 0..3 {
        line.ask(now, sha1(number), MB, asker(1, 1));
        line.ask(now, sha1(number), MB, asker(1, 1));
        line.leave(now, sha1(number), asker(1, 1));
    }
    assert_eq!(line.interests.len(), 3, "each has another request");
    (0..3).for_each(|number| line.leave(now, sha1(number), asker(1, 1)));
    assert_eq!(line.interests.len(), 1);
    line.prune(now + KEPT - Duration::from_millis(1));
    assert_eq!(line.interests.len(), 1);
    assert_eq!(line.take_next(now + KEPT), None);
}

#[test]
fn what_is_kept_for_one_address_and_for_all_is_bounded() {
    let now = Instant::now();
    let mut line = Line::default();
    let give_up = |line: &mut Line, number: usize, host: u8| {
        line.ask(now, sha1(number), MB, asker(number, host));
        line.leave(now, sha1(number), asker(number, host));
        line.interests.len()
    };
    let hosts = (limits::VERIFICATIONS_KEPT / limits::ADDRESS_VERIFICATIONS_KEPT) as u8;
    let mut number = 0;
    for host in 0..hosts {
        for _ in 0..=limits::ADDRESS_VERIFICATIONS_KEPT {
            give_up(&mut line, number, host);
            number += 1;
        }
        let kept = line.interests.iter().filter(|each| each.asker.host == asker(0, host).host).count();
        assert_eq!(kept, limits::ADDRESS_VERIFICATIONS_KEPT);
    }
    assert_eq!(line.interests.len(), limits::VERIFICATIONS_KEPT);
    assert_eq!(give_up(&mut line, number, hosts), limits::VERIFICATIONS_KEPT, "one beyond");
}
