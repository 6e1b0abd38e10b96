//! Two UDX endpoints with a stream each and the way between them, in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::udx::{
    Config, Endpoint, Event, Header, Packet, Remote, SocketId, StreamId, StreamOptions, Transmit,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SOCKET: SocketId = SocketId(0);
pub(crate) const IDS: [StreamId; 2] = [StreamId(1001), StreamId(2002)];

/// On loopback, where packets may be as large as the route promises.
pub(crate) fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1 + side as u8], 4000))
}

/// What becomes of a datagram: from which side, and its bytes. False drops it.
pub(crate) type Filter = Box<dyn FnMut(usize, &[u8]) -> bool>;

pub(crate) struct Pair {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) ends: [Endpoint; 2],
    pub(crate) delay: Duration,
    pub(crate) path_mtu: u16,
    pub(crate) loss: f64,
    pub(crate) jitter: Duration,
    pub(crate) filter: Option<Filter>,
    /// Sent datagrams: when, from which side.
    pub(crate) trace: Vec<(Duration, usize, Bytes)>,
    pub(crate) tracing: bool,
    pub(crate) events: [Vec<Event>; 2],
    pub(crate) received: [Vec<u8>; 2],
    pub(crate) messages: [Vec<Bytes>; 2],
    /// Whether each side reads what arrives.
    pub(crate) reading: [bool; 2],
    /// Datagrams in each batch that may be cut into fragments.
    pub(crate) fragmented: Vec<usize>,
    pub(crate) flying: BTreeMap<(Instant, u64), (usize, Bytes)>,
    count: u64,
    rng: StdRng,
}

impl Pair {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(Config::default(), seed)
    }

    pub(crate) fn with(config: Config, seed: u64) -> Self {
        let start = Instant::now();
        let mut ends = [Endpoint::new(config, seed), Endpoint::new(config, seed + 1)];
        for (end, id) in ends.iter_mut().zip(IDS) {
            end.open(start, StreamOptions { id: Some(id.0), ..StreamOptions::default() }).unwrap();
        }
        Self {
            start,
            now: start,
            ends,
            delay: Duration::from_millis(5),
            path_mtu: 1500,
            loss: 0.0,
            jitter: Duration::ZERO,
            filter: None,
            trace: Vec::new(),
            tracing: true,
            events: Default::default(),
            received: Default::default(),
            messages: Default::default(),
            reading: [true; 2],
            fragmented: Vec::new(),
            flying: BTreeMap::new(),
            count: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Both connected to each other.
    pub(crate) fn connected(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.connect();
        pair
    }

    pub(crate) fn connect(&mut self) {
        self.connect_side(0);
        self.connect_side(1);
    }

    pub(crate) fn connect_side(&mut self, side: usize) {
        let remote = Remote { id: IDS[1 - side].0, address: address(1 - side), path_mtu: self.path_mtu };
        let now = self.now;
        self.stream(side).connect(now, SOCKET, remote).unwrap();
    }

    pub(crate) fn stream(&mut self, side: usize) -> crate::udx::StreamGuard<'_> {
        self.ends[side].stream(IDS[side]).unwrap()
    }

    pub(crate) fn write(&mut self, side: usize, bytes: impl Into<Bytes>) {
        let now = self.now;
        let mut stream = self.stream(side);
        stream.write(now, bytes.into());
        stream.flush();
    }

    pub(crate) fn finish(&mut self, side: usize) {
        let now = self.now;
        self.stream(side).finish(now);
    }

    /// Hands a datagram to a side, as if the other had sent it.
    pub(crate) fn inject(&mut self, side: usize, datagram: &[u8]) -> crate::udx::Disposition {
        let disposition = self.ends[side].handle_datagram(self.now, SOCKET, address(1 - side), datagram);
        self.drain();
        disposition
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.now - self.start
    }

    /// Takes events and bytes, and lets everything leave that can.
    pub(crate) fn drain(&mut self) {
        for side in 0..2 {
            self.take_events(side);
            let mut buffer = Vec::new();
            while let Some(transmit) = self.ends[side].poll_transmit(self.now, SOCKET, 64, &mut buffer) {
                assert_eq!(transmit.length, buffer.len());
                assert!(transmit.segment_size > 0 && buffer.len() <= 65_507);
                if transmit.may_fragment {
                    self.fragmented.push(buffer.len().div_ceil(transmit.segment_size));
                }
                for datagram in buffer.chunks(transmit.segment_size) {
                    self.send(side, datagram, &transmit);
                }
                buffer.clear();
            }
            self.take_events(side);
        }
    }

    fn take_events(&mut self, side: usize) {
        while let Some((id, event)) = self.ends[side].poll_event() {
            assert_eq!(id, IDS[side]);
            self.events[side].push(event);
        }
        let Some(mut stream) = self.ends[side].stream(IDS[side]) else { return };
        while self.reading[side]
            && let Some(bytes) = stream.read(usize::MAX)
        {
            self.received[side].extend_from_slice(&bytes);
        }
        while let Some(message) = stream.read_message() {
            self.messages[side].push(message);
        }
    }

    fn send(&mut self, side: usize, datagram: &[u8], transmit: &Transmit) {
        if self.tracing {
            self.trace.push((self.since_start(), side, Bytes::copy_from_slice(datagram)));
        }
        let dropped = self.filter.as_mut().is_some_and(|filter| !filter(side, datagram));
        let too_big = !transmit.may_fragment && datagram.len() + 28 > usize::from(self.path_mtu);
        let astray = transmit.destination != address(1 - side);
        if dropped || too_big || self.rng.random_bool(self.loss) || astray {
            return;
        }
        let jitter = self.jitter.mul_f64(self.rng.random());
        self.count += 1;
        let at = self.now + self.delay + jitter;
        self.flying.insert((at, self.count), (1 - side, Bytes::copy_from_slice(datagram)));
    }

    /// Goes to the next thing that happens; false if nothing will within `limit` of the start.
    pub(crate) fn step(&mut self, limit: Duration) -> bool {
        self.drain();
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let timers = self.ends.iter().filter_map(Endpoint::poll_timeout);
        let Some(next) = timers.chain(arrival).min() else { return false };
        if next > self.start + limit {
            self.now = self.start + limit;
            return false;
        }
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (side, datagram) = entry.remove();
            self.ends[side].handle_datagram(self.now, SOCKET, address(1 - side), &datagram);
        }
        for end in &mut self.ends {
            end.handle_timeout(self.now);
        }
        self.drain();
        true
    }

    /// Until this time since the start.
    pub(crate) fn run_until(&mut self, limit: Duration) {
        while self.step(limit) {}
        self.now = self.now.max(self.start + limit);
    }

    /// For so long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let limit = self.since_start() + time;
        self.run_until(limit);
    }

    /// The packets that a side sent, with when.
    pub(crate) fn sent(&self, side: usize) -> Vec<(Duration, Packet<'_>)> {
        self.trace
            .iter()
            .filter(|(_, from, _)| *from == side)
            .map(|(at, _, bytes)| (*at, Packet::decode(bytes).unwrap()))
            .collect()
    }
}

/// A packet for side 0, as its peer would write it.
pub(crate) fn packet(flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { flags, data_offset: 0, stream: IDS[0].0, window: 4 << 20, seq, ack };
    [&header.encode(), payload].concat()
}

/// Bytes that repeat late, so that misplaced ones are noticed.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}
