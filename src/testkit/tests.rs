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
