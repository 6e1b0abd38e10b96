use std::net::Ipv4Addr;

use rand::SeedableRng;

use super::*;
use crate::limits::v2::{DIALS_PER_HOST, FAILED_DIALS_PER_HOST};

fn queue() -> (Instant, Queue) {
    let now = Instant::now();
    (now, Queue::new(now, StdRng::seed_from_u64(5)))
}

/// Each on a host and in a network of its own; the port tells them apart.
fn addr(n: u16) -> SocketAddrV4 {
    let [high, low] = n.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(100, high, low, 1), n)
}

/// The `n`th candidate of one host.
fn of_host(n: u16) -> Candidate {
    Candidate { addr: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), n), ..remote(n) }
}

fn take(queue: &mut Queue, now: Instant) -> Option<Candidate> {
    queue.take(now, |_| true)
}

fn remote(n: u16) -> Candidate {
    Candidate { addr: addr(n), local: false, referrer: Some(addr(1)) }
}

fn local(n: u16) -> Candidate {
    Candidate { addr: addr(n), local: true, referrer: None }
}

/// Fails `n` as often as it is offered; the waits until it came back, in milliseconds.
fn failures(queue: &mut Queue, mut now: Instant, n: u16) -> Vec<u128> {
    let mut waits = Vec::new();
    while take(queue, now).is_some() {
        queue.ended(addr(n), false);
        queue.release(now, addr(n));
        let next = queue.poll_timeout().unwrap();
        waits.push((next - now).as_millis());
        now = next;
        queue.handle_timeout(now);
    }
    waits
}

fn assert_near(waits: &[u128], nominal: &[u128]) {
    assert_eq!(waits.len(), nominal.len(), "{waits:?}");
    for (wait, nominal) in waits.iter().zip(nominal) {
        assert!((nominal * 66 / 100..=nominal * 133 / 100).contains(wait), "{waits:?}");
    }
}

#[test]
fn local_peers_go_before_others_and_peers_behind_our_own_nat_come_last() {
    let (now, mut queue) = queue();
    assert!(queue.add(now, remote(1), true));
    assert!(queue.add(now, remote(2), false));
    assert!(queue.add(now, local(3), false));
    let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, now)).map(|c| c.addr.port()).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn equals_are_taken_in_random_order() {
    let (now, mut queue) = queue();
    for n in 1..=20 {
        queue.add(now, remote(n), false);
    }
    let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, now)).map(|c| c.addr.port()).collect();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=20).collect::<Vec<_>>());
    assert_ne!(order, sorted);
}

#[test]
fn a_dead_peer_is_tried_four_times_with_growing_waits_and_then_forgotten() {
    let (now, mut queue) = queue();
    queue.add(now, remote(1), false);
    assert_near(&failures(&mut queue, now, 1), &[1000, 5000, 15_000, 7500]);
    assert_eq!((queue.candidates(), queue.entries.len()), (0, 0));
    assert!(queue.add(now, remote(1), false), "a later discovery starts afresh");
}

#[test]
fn a_peer_behind_our_own_nat_is_tried_once() {
    let (now, mut queue) = queue();
    queue.add(now, remote(1), true);
    assert_near(&failures(&mut queue, now, 1), &[7500]);
}

#[test]
fn success_starts_the_waits_from_the_beginning() {
    let (mut now, mut queue) = queue();
    queue.add(now, remote(1), false);
    for _ in 0..3 {
        take(&mut queue, now).unwrap();
        queue.ended(addr(1), false);
        queue.release(now, addr(1));
        now = queue.poll_timeout().unwrap();
        queue.handle_timeout(now);
    }
    take(&mut queue, now).unwrap();
    queue.connected(addr(1));
    queue.release(now, addr(1));
    assert_near(&[(queue.poll_timeout().unwrap() - now).as_millis()], &[1000]);
}

#[test]
fn a_peer_that_was_connected_before_goes_first_and_one_that_never_was_goes_last() {
    let (now, mut queue) = queue();
    for n in [1, 2] {
        queue.add(now, remote(n), false);
    }
    take(&mut queue, now);
    take(&mut queue, now);
    queue.connected(addr(1));
    queue.release(now, addr(1));
    queue.release(now, addr(2));
    queue.add(now, local(3), false);
    queue.handle_timeout(now + Duration::from_secs(2));
    let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, now)).map(|c| c.addr.port()).collect();
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn discovering_a_known_peer_again_changes_nothing() {
    let (now, mut queue) = queue();
    assert!(queue.add(now, local(1), false));
    assert!(!queue.add(now, remote(1), false), "queued");
    assert_eq!(take(&mut queue, now), Some(local(1)), "the first record is kept");
    assert!(!queue.add(now, remote(1), false), "active");
    queue.release(now, addr(1));
    assert!(!queue.add(now, remote(1), false), "waiting");
    assert_eq!(take(&mut queue, now), None);
}

#[test]
fn a_banned_peer_stays_away() {
    let (now, mut queue) = queue();
    queue.add(now, remote(1), false);
    take(&mut queue, now);
    queue.ban(addr(1));
    assert!(!queue.add(now, remote(1), false));
}

#[test]
fn bans_are_remembered_up_to_the_limit() {
    let (now, mut queue) = queue();
    for n in 0..=QUEUE_BANNED as u16 {
        queue.ban(addr(n));
    }
    assert_eq!(queue.banned.len(), QUEUE_BANNED);
    assert!(queue.add(now, remote(0), false), "the oldest ban is forgotten");
    assert!(!queue.add(now, remote(1), false));
}

#[test]
fn strangers_in_the_dht_fill_only_their_share() {
    let (now, mut queue) = queue();
    let taken = (0..=QUEUE_REMOTE as u16).filter(|n| queue.add(now, remote(*n), false)).count();
    assert_eq!(taken, QUEUE_REMOTE);
    assert!(queue.add(now, local(9999), false));
}

#[test]
fn strangers_in_the_local_network_fill_only_their_share_and_slowly() {
    let (now, mut queue) = queue();
    let mut add = |now, from: u16| (from..from + 1000).filter(|n| queue.add(now, local(*n), false)).count();
    assert_eq!(add(now, 0), QUEUE_LOCAL_PER_MINUTE);
    let mut total = QUEUE_LOCAL_PER_MINUTE;
    for minute in 1..5 {
        total += add(now + Duration::from_secs(60 * minute), 1000 * minute as u16);
    }
    assert_eq!(total, QUEUE_LOCAL);
    assert!(queue.add(now, remote(9999), false));
}

#[test]
fn one_host_with_many_ports_leaves_room_and_turns_to_the_others() {
    for seed in 0..20 {
        let now = Instant::now();
        let mut queue = Queue::new(now, StdRng::seed_from_u64(seed));
        for n in 0..2 * QUEUE_REMOTE as u16 {
            queue.add(now, of_host(n + 1), false);
        }
        assert!(queue.add(now, remote(5), false), "seed {seed}");
        assert!(!queue.add(now, of_host(60_000), false), "and not back");
        let turn = (0..DIALS_PER_HOST + 1).find(|_| take(&mut queue, now) == Some(remote(5)));
        assert!(turn.is_some(), "seed {seed}: it has its turn at once");
    }
}

#[test]
fn ten_thousand_ports_of_one_host_are_few_dials() {
    let (start, mut queue) = queue();
    let (mut dials, mut named) = (0, 0);
    for millis in (0..56_000).step_by(100) {
        let now = start + Duration::from_millis(millis);
        queue.handle_timeout(now);
        while named < 10_000 && queue.add(now, of_host(named + 1), false) {
            named += 1;
        }
        while let Some(candidate) = take(&mut queue, now) {
            queue.ended(candidate.addr, false);
            queue.release(now, candidate.addr);
            dials += 1;
        }
    }
    println!("measured {dials} dials to one host in 56 s (787 ports without the limit), seed 5");
    assert!(dials <= FAILED_DIALS_PER_HOST + 56, "{dials}");
    let next = queue.poll_timeout().expect("there are more");
    assert!(next > start + Duration::from_millis(55_900), "it does not spin");
}

#[test]
fn hosts_that_may_not_be_dialled_are_left_for_later() {
    let (now, mut queue) = queue();
    queue.add(now, remote(1), false);
    assert_eq!(queue.take(now, |_| false), None);
    assert_eq!(take(&mut queue, now), Some(remote(1)));
}
