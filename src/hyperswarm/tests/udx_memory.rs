//! What idle streams cost: at most 64 KiB each, fresh or after heavy use.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod counting;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use counting::{in_use, peak};
use hyperswarm::udx::{Config, Endpoint, Remote, SocketId, StreamId, StreamOptions};

const SOCKET: SocketId = SocketId(0);
const STREAMS: u32 = 64;
const BAR: usize = 64 * 1024;

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + side as u16))
}

struct Pair {
    now: Instant,
    ends: [Endpoint; 2],
    buffer: Vec<u8>,
}

impl Pair {
    /// Opens the same streams on both sides and connects them.
    fn new() -> Self {
        let now = Instant::now();
        let mut ends = [Endpoint::new(Config::default(), 1), Endpoint::new(Config::default(), 2)];
        for (side, end) in ends.iter_mut().enumerate() {
            for id in 0..STREAMS {
                let id =
                    end.open(now, StreamOptions { id: Some(id), ..StreamOptions::default() }).expect("open");
                let remote = Remote { id: id.0, address: address(1 - side), path_mtu: 1500 };
                end.stream(id).expect("stream").connect(now, SOCKET, remote).expect("connect");
            }
        }
        Self { now, ends, buffer: Vec::with_capacity(1 << 16) }
    }

    fn write(&mut self, side: usize, id: u32, chunk: Bytes) {
        let mut stream = self.ends[side].stream(StreamId(id)).expect("stream");
        stream.write(self.now, chunk);
        stream.flush();
    }

    /// A millisecond passes: everything that leaves arrives, and is read.
    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        for side in 0..2 {
            self.ends[side].handle_timeout(self.now);
            while let Some(transmit) = self.ends[side].poll_transmit(self.now, SOCKET, 64, &mut self.buffer) {
                for datagram in self.buffer.chunks(transmit.segment_size) {
                    self.ends[1 - side].handle_datagram(self.now, SOCKET, address(side), datagram);
                }
                self.buffer.clear();
            }
            while let Some((id, _)) = self.ends[1 - side].poll_event() {
                let mut stream = self.ends[1 - side].stream(id).expect("stream");
                while stream.read(usize::MAX).is_some() {}
            }
        }
    }
}

#[test]
fn an_idle_stream_costs_at_most_64_kib() {
    let before = in_use();
    let mut pair = Pair::new();
    let per_stream = |pair: &Pair| {
        let bytes = usize::try_from(in_use() - before).expect("streams take memory");
        (bytes - pair.buffer.capacity()) / (2 * STREAMS as usize)
    };
    println!("check memory: measured {} bytes per fresh stream, bar {BAR}, seed none", per_stream(&pair));
    assert!(per_stream(&pair) <= BAR);
    let chunk = Bytes::from(vec![7; 1 << 20]);
    let busy = peak(|| {
        for round in 0..4 {
            (0..STREAMS).for_each(|id| pair.write(round % 2, id, chunk.clone()));
            (0..200).for_each(|_| pair.step());
        }
    });
    for id in 0..STREAMS {
        let stream = pair.ends[0].stream(StreamId(id)).expect("stream");
        assert_eq!((stream.stats().in_flight, stream.stats().buffered), (0, 0), "stream {id} is not idle");
        assert!(stream.stats().packets_received > 1000, "stream {id} was not used");
    }
    drop(chunk);
    println!("{} bytes per stream at most while busy", busy / (2 * STREAMS as usize));
    println!("check memory: measured {} bytes per used stream, bar {BAR}, seed none", per_stream(&pair));
    assert!(per_stream(&pair) <= BAR);
}
