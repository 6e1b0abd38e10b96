//! What all streams of an endpoint hold for their readers together.

use std::time::{Duration, Instant};

use crate::limits::{
    MAX_UDX_MESSAGE_BYTES, UDX_GUARANTEED_WINDOW_BYTES, UDX_RECEIVE_BUDGET_BYTES, UDX_WINDOW_BYTES,
};
use crate::testkit::pair::{Pair, SOCKET, address, packet, pattern};
use crate::udx::{Config, Endpoint, Remote, StreamId, StreamOptions, flag};

/// An endpoint whose owner reads nothing.
struct Crowd {
    now: Instant,
    endpoint: Endpoint,
}

impl Crowd {
    fn new(config: Config) -> Self {
        Self { now: Instant::now(), endpoint: Endpoint::new(config, 1) }
    }

    fn open(&mut self, id: u32) -> StreamId {
        let id = self.endpoint.open(self.now, StreamOptions { id: Some(id), ..Default::default() }).unwrap();
        let remote = Remote { id: 9, address: address(1), path_mtu: 1500 };
        self.endpoint.stream(id).unwrap().connect(self.now, SOCKET, remote).unwrap();
        id
    }

    fn inject(&mut self, id: StreamId, flags: u8, seq: u32, length: usize) {
        let mut bytes = packet(flags, seq, 0, &vec![7; length]);
        bytes[4..8].copy_from_slice(&id.0.to_le_bytes());
        self.endpoint.handle_datagram(self.now, SOCKET, address(1), &bytes);
    }

    fn buffered(&mut self, id: StreamId) -> usize {
        self.endpoint.stream(id).unwrap().stats().buffered
    }

    /// Streams with 2 MiB each until `bytes` are held, the last one with less.
    fn fill(&mut self, bytes: usize) -> Vec<StreamId> {
        const EACH: usize = 32;
        const LENGTH: usize = 64_000;
        let mut ids = Vec::new();
        while self.endpoint.held() < bytes {
            let id = self.open(100 + ids.len() as u32);
            ids.push(id);
            for seq in 0..EACH as u32 {
                let length = LENGTH.min(bytes - self.endpoint.held());
                self.inject(id, flag::DATA, seq, length);
            }
        }
        assert_eq!(self.endpoint.held(), bytes);
        ids
    }
}

#[test]
fn all_streams_hold_the_budget_and_a_guaranteed_window_each_and_not_a_byte_more() {
    let mut crowd = Crowd::new(Config::default());
    crowd.fill(UDX_RECEIVE_BUDGET_BYTES - 1000);
    let [late, later] = [1, 2].map(|id| crowd.open(id));
    crowd.inject(late, flag::DATA, 1, 1001 - 128);
    assert_eq!(crowd.buffered(late), 0, "out of order there is no guarantee: one byte too many");
    crowd.inject(late, flag::DATA, 1, 1000 - 128);
    assert_eq!(crowd.endpoint.held(), UDX_RECEIVE_BUDGET_BYTES);
    crowd.inject(later, flag::DATA, 0, 60_000);
    crowd.inject(later, flag::DATA, 1, UDX_GUARANTEED_WINDOW_BYTES - 60_000 + 1);
    assert_eq!(crowd.buffered(later), 60_000, "one byte beyond the guaranteed window is refused");
    crowd.inject(later, flag::DATA, 1, UDX_GUARANTEED_WINDOW_BYTES - 60_000);
    assert_eq!(crowd.buffered(later), UDX_GUARANTEED_WINDOW_BYTES);
    crowd.inject(later, flag::MESSAGE, 2, 1);
    assert!(crowd.endpoint.stream(later).unwrap().read_message().is_none(), "messages count as well");
    let held = crowd.endpoint.held();
    println!("check 13: measured {held} bytes in buffers that nobody reads, bar 64 MiB and 64 KiB, seed 1");
    assert_eq!(held, UDX_RECEIVE_BUDGET_BYTES + UDX_GUARANTEED_WINDOW_BYTES);
}

#[test]
fn what_is_read_or_forgotten_is_given_back() {
    let mut crowd = Crowd::new(Config::default());
    let id = crowd.open(1);
    crowd.inject(id, flag::DATA, 0, 1000);
    crowd.inject(id, flag::DATA, 2, 1000);
    crowd.inject(id, flag::MESSAGE, 0, 500);
    assert_eq!(crowd.endpoint.held(), 1000 + 1128 + 500);
    let mut stream = crowd.endpoint.stream(id).unwrap();
    stream.read(400);
    stream.read_message();
    drop(stream);
    assert_eq!(crowd.endpoint.held(), 600 + 1128);
    crowd.endpoint.forget(id);
    assert_eq!(crowd.endpoint.held(), 0);
}

#[test]
fn windows_shrink_as_the_budget_fills_and_grow_as_it_empties() {
    let mut crowd = Crowd::new(Config::default());
    let id = crowd.open(1);
    let window = |crowd: &mut Crowd| crowd.endpoint.stream(id).unwrap().stats().window as usize;
    assert_eq!(window(&mut crowd), UDX_WINDOW_BYTES);
    // Three quarters are promised, half of what is left of them to each stream.
    let ids = crowd.fill(UDX_RECEIVE_BUDGET_BYTES * 3 / 4 - (2 << 20));
    assert_eq!(window(&mut crowd), 1 << 20);
    for more in ids.iter().take(2) {
        (32..64).for_each(|seq| crowd.inject(*more, flag::DATA, seq, 60_000));
    }
    assert_eq!(window(&mut crowd), UDX_GUARANTEED_WINDOW_BYTES);
    for id in ids {
        crowd.endpoint.forget(id);
    }
    assert_eq!(window(&mut crowd), UDX_WINDOW_BYTES);
}

/// A pair whose side 1 has a small budget, filled by a stream that nobody reads.
fn crowded() -> Pair {
    let mut pair = Pair::with(Config { receive_budget: MAX_UDX_MESSAGE_BYTES, ..Config::default() }, 1);
    (pair.tracing, pair.loss) = (false, 0.02);
    let now = pair.now;
    let other = pair.ends[1].open(now, StreamOptions { id: Some(5), ..Default::default() }).unwrap();
    for seq in 0..60 {
        let mut bytes = packet(flag::DATA, seq, 0, &[7; 60_000]);
        bytes[4..8].copy_from_slice(&other.0.to_le_bytes());
        pair.ends[1].handle_datagram(now, SOCKET, address(0), &bytes);
    }
    while pair.ends[1].poll_event().is_some() {}
    assert!(pair.ends[1].held() > MAX_UDX_MESSAGE_BYTES - 60_000, "{} bytes held", pair.ends[1].held());
    pair.connect();
    pair
}

#[test]
fn a_stream_that_is_read_does_not_starve_while_others_fill_the_budget() {
    let mut pair = crowded();
    pair.write(0, pattern(2_000_000));
    pair.run_until(Duration::from_secs(20));
    assert!(pair.received[1] == pattern(2_000_000), "{} bytes", pair.received[1].len());
}

#[test]
fn a_reader_that_pauses_in_a_full_budget_goes_on_later() {
    let mut pair = crowded();
    pair.reading[1] = false;
    pair.write(0, pattern(1_000_000));
    pair.run_until(Duration::from_secs(60));
    assert!(pair.stream(1).stats().buffered <= UDX_GUARANTEED_WINDOW_BYTES + 8192);
    assert_eq!(pair.stream(0).closed(), None, "the writer knows that it has to wait");
    pair.reading[1] = true;
    pair.run_for(Duration::from_secs(20));
    assert!(pair.received[1] == pattern(1_000_000), "{} bytes", pair.received[1].len());
}
