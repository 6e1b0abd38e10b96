//! What idle streams cost: at most 64 KiB each, fresh or after heavy use.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod counting;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use counting::{in_use, peak};
use hyperswarm::testkit::Endpoints;
use hyperswarm::udx::StreamId;

const STREAMS: u32 = 64;
const BAR: usize = 64 * 1024;

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + side as u16))
}

/// Two endpoints with the same streams, connected to each other.
fn connected() -> Endpoints {
    let mut world = Endpoints::new(Instant::now(), [0, 1].map(address));
    for (side, id) in [0, 1].into_iter().flat_map(|side| (0..STREAMS).map(move |id| (side, id))) {
        world.open(side, id, Some((1 - side, id))).expect("open");
    }
    world
}

/// A millisecond passes: everything that leaves arrives, and is read.
fn step(world: &mut Endpoints) {
    world.now += Duration::from_millis(1);
    for side in 0..2 {
        world.turn(
            side,
            64,
            |_, _| {},
            |_, end, id, _| {
                let mut stream = end.stream(id).expect("stream");
                while stream.read(usize::MAX).is_some() {}
            },
        );
    }
}

#[test]
fn an_idle_stream_costs_at_most_64_kib() {
    let before = in_use();
    let mut world = connected();
    let per_stream = |world: &Endpoints| {
        let bytes = usize::try_from(in_use() - before).expect("streams take memory");
        (bytes - world.buffered()) / (2 * STREAMS as usize)
    };
    println!("check memory: measured {} bytes per fresh stream, bar {BAR}, seed none", per_stream(&world));
    assert!(per_stream(&world) <= BAR);
    let chunk = Bytes::from(vec![7; 1 << 20]);
    let busy = peak(|| {
        for round in 0..4 {
            (0..STREAMS).for_each(|id| world.write(round % 2, id, chunk.clone()));
            (0..200).for_each(|_| step(&mut world));
        }
    });
    for id in 0..STREAMS {
        let stream = world.get(0).and_then(|end| end.stream(StreamId(id))).expect("stream");
        assert_eq!((stream.stats().in_flight, stream.stats().buffered), (0, 0), "stream {id} is not idle");
        assert!(stream.stats().packets_received > 1000, "stream {id} was not used");
    }
    drop(chunk);
    println!("{} bytes per stream at most while busy", busy / (2 * STREAMS as usize));
    println!("check memory: measured {} bytes per used stream, bar {BAR}, seed none", per_stream(&world));
    assert!(per_stream(&world) <= BAR);
}
