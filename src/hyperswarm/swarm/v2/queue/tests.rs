use std::net::Ipv4Addr;

use rand::SeedableRng;

use super::*;

fn queue() -> (Instant, Queue) {
    let now = Instant::now();
    (now, Queue::new(now, StdRng::seed_from_u64(5)))
}

fn addr(n: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), n)
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
    while queue.take().is_some() {
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
    let order: Vec<_> = std::iter::from_fn(|| queue.take()).map(|c| c.addr.port()).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn equals_are_taken_in_random_order() {
    let (now, mut queue) = queue();
    for n in 1..=20 {
        queue.add(now, remote(n), false);
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.take()).map(|c| c.addr.port()).collect();
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
        queue.take().unwrap();
        queue.release(now, addr(1));
        now = queue.poll_timeout().unwrap();
        queue.handle_timeout(now);
    }
    queue.take().unwrap();
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
    queue.take();
    queue.take();
    queue.connected(addr(1));
    queue.release(now, addr(1));
    queue.release(now, addr(2));
    queue.add(now, local(3), false);
    queue.handle_timeout(now + Duration::from_secs(2));
    let order: Vec<_> = std::iter::from_fn(|| queue.take()).map(|c| c.addr.port()).collect();
    assert_eq!(order, [1, 3, 2]);
}

#[test]
fn discovering_a_known_peer_again_changes_nothing() {
    let (now, mut queue) = queue();
    assert!(queue.add(now, local(1), false));
    assert!(!queue.add(now, remote(1), false), "queued");
    assert_eq!(queue.take(), Some(local(1)), "the first record is kept");
    assert!(!queue.add(now, remote(1), false), "active");
    queue.release(now, addr(1));
    assert!(!queue.add(now, remote(1), false), "waiting");
    assert_eq!(queue.take(), None);
}

#[test]
fn a_banned_peer_stays_away() {
    let (now, mut queue) = queue();
    queue.add(now, remote(1), false);
    queue.take();
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
