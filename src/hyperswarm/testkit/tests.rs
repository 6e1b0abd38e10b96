use super::*;
use std::collections::VecDeque;
use std::net::Ipv4Addr;

/// Sends numbered datagrams to a peer, one per 10 ms, and keeps what it receives.
struct Counter {
    peer: SocketAddrV4,
    left: u8,
    next: Instant,
    out: VecDeque<(SocketAddrV4, Bytes)>,
    received: Vec<(Duration, u8)>,
    start: Instant,
}

impl Machine for Counter {
    fn handle_datagram(&mut self, now: Instant, _from: SocketAddrV4, bytes: &[u8]) {
        self.received.push((now - self.start, bytes[0]));
    }

    fn handle_timeout(&mut self, now: Instant) {
        while self.left > 0 && self.next <= now {
            self.left -= 1;
            self.next += Duration::from_millis(10);
            self.out.push_back((self.peer, Bytes::copy_from_slice(&[self.left])));
        }
    }

    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (self.left > 0).then_some(self.next)
    }
}

fn addr(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, n), 1)
}

fn received(seed: u64, link: Link) -> Vec<(Duration, u8)> {
    let start = Instant::now();
    let mut network = Network::new(start, seed, link);
    let counter =
        |peer, left| Counter { peer, left, next: start, out: VecDeque::new(), received: Vec::new(), start };
    network.add(addr(1), counter(addr(2), 100));
    network.add(addr(2), counter(addr(1), 0));
    network.run(Duration::from_secs(10));
    assert_eq!(network.now(), start + Duration::from_secs(10));
    network.remove(addr(2)).expect("still there").received
}

#[test]
fn a_good_link_delivers_everything_in_order_after_its_delay() {
    let got = received(1, Link::GOOD);
    let expected: Vec<_> =
        (0..100).map(|n| (Duration::from_millis(u64::from(n) * 10 + 10), 99 - n)).collect();
    assert_eq!(got, expected);
}

#[test]
fn a_bad_link_loses_reorders_and_duplicates() {
    let link = Link { loss: 0.2, duplication: 0.2, ..Link::BAD };
    let got: Vec<u8> = received(1, link).into_iter().map(|r| r.1).collect();
    let mut unique = got.clone();
    unique.sort_unstable();
    unique.dedup();
    assert!(unique.len() < 100, "nothing was lost");
    assert!(unique.len() < got.len(), "nothing was duplicated");
    assert!(got.windows(2).any(|pair| pair[0] < pair[1]), "nothing was reordered");
}

#[test]
fn the_same_seed_gives_the_same_weather() {
    assert_eq!(received(7, Link::BAD), received(7, Link::BAD));
    assert_ne!(received(7, Link::BAD), received(8, Link::BAD));
}

/// Hands a link `count` datagrams of 972 bytes (1000 on the link) at once; when each arrives.
fn burst(link: Link, count: usize) -> (Vec<Duration>, LinkStats) {
    let start = Instant::now();
    let mut network = Network::new(start, 3, Link::GOOD);
    let id = network.add_link(link);
    network.route(addr(1), addr(2), id);
    let silent =
        Counter { peer: addr(1), left: 0, next: start, out: VecDeque::new(), received: Vec::new(), start };
    network.add(addr(2), silent);
    for _ in 0..count {
        network.inject(addr(1), addr(2), Bytes::from_static(&[7; 972]));
    }
    network.run(Duration::from_secs(100));
    let received = network.remove(addr(2)).expect("there").received;
    (received.into_iter().map(|(at, _)| at).collect(), network.link_stats(id))
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_rate_spaces_datagrams_by_their_size() {
    let link = Link { rate: Some(1_000_000), delay: 10 * MS, ..Link::PERFECT };
    let (arrivals, stats) = burst(link, 3);
    assert_eq!(arrivals, [11 * MS, 12 * MS, 13 * MS]);
    assert_eq!((stats.passed, stats.longest_wait), (3000, 2 * MS));
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let link = Link { rate: Some(1_000_000), queue: 5000, ..Link::PERFECT };
    let (arrivals, stats) = burst(link, 8);
    assert_eq!(arrivals.len(), 5);
    assert_eq!(stats.dropped, 3);
}

#[test]
fn links_shared_by_pairs_share_their_rate() {
    let start = Instant::now();
    let mut network: Network<Counter> = Network::new(start, 3, Link::GOOD);
    let id = network.add_link(Link { rate: Some(1_000_000), ..Link::PERFECT });
    network.route(addr(1), addr(2), id);
    network.route(addr(3), addr(4), id);
    network.inject(addr(1), addr(2), Bytes::from_static(&[7; 972]));
    network.inject(addr(3), addr(4), Bytes::from_static(&[7; 972]));
    network.inject(addr(5), addr(6), Bytes::from_static(&[7; 972]));
    assert_eq!(network.queueing_delay(id), 2 * MS);
}

#[test]
fn a_black_hole_swallows_what_is_above_its_size() {
    assert_eq!(burst(Link { mtu: Some(1000), ..Link::PERFECT }, 1).0.len(), 1);
    let (arrivals, stats) = burst(Link { mtu: Some(999), ..Link::PERFECT }, 1);
    assert_eq!((arrivals.len(), stats.vanished), (0, 1));
}

#[test]
fn bursts_lose_datagrams_that_follow_each_other() {
    let bursts = Bursts { begin: 0.01, end: 0.1, loss: 1.0 };
    let link = Link { rate: Some(1_000_000), bursts: Some(bursts), ..Link::PERFECT };
    let (arrivals, stats) = burst(link, 10_000);
    let gaps = arrivals.windows(2).filter(|pair| pair[1] - pair[0] > MS).count();
    // A tenth of the time is bad, and a burst has ten datagrams.
    assert!((600..1400).contains(&stats.lost), "{} lost", stats.lost);
    assert!((5..20).contains(&(stats.lost as usize / gaps)), "{} lost in {gaps} bursts", stats.lost);
}

#[test]
fn a_datagram_held_back_is_overtaken() {
    let link = Link { rate: Some(1_000_000), reorder: 0.1, held_back: 5 * MS, ..Link::PERFECT };
    let (arrivals, stats) = burst(link, 1000);
    assert_eq!((arrivals.len(), stats.lost), (1000, 0));
    let together = arrivals.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!((30..200).contains(&together), "{together} came at the moment of another");
}

#[test]
fn batches_arrive_at_once() {
    let link = Link { rate: Some(1_000_000), batch: 4 * MS, ..Link::PERFECT };
    let (arrivals, _) = burst(link, 8);
    assert_eq!(arrivals, [4 * MS, 4 * MS, 4 * MS, 4 * MS, 8 * MS, 8 * MS, 8 * MS, 8 * MS]);
}
