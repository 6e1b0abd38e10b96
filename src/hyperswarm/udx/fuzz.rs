//! Bodies of the fuzz targets: anything a stranger can send, and anything the owners of two endpoints and the network
//! between them can do. They panic when something is not as it should be.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::limits::{UDX_WINDOW_MAX_BYTES, UDX_WINDOW_SLACK_BYTES};

const SOCKETS: [SocketId; 2] = [SocketId(0), SocketId(1)];
const IDS: [StreamId; 2] = [StreamId(0x0102_0304), StreamId(0x0506_0708)];
/// Datagrams under way; further ones are lost.
const MAX_FLYING: usize = 2000;
/// Bytes held for the reader of one stream at most.
const MAX_HELD: usize = UDX_WINDOW_MAX_BYTES + UDX_WINDOW_MAX_BYTES / 8 + UDX_WINDOW_SLACK_BYTES;

/// Decodes `data`. Whether it was a packet.
pub fn packets(data: &[u8]) -> bool {
    let decoded = Packet::decode(data);
    if let Ok(packet) = &decoded {
        assert!(data.starts_with(&packet.header.encode()));
        assert!(packet.sack_blocks().count() <= data.len() / 8);
        if let Some(extension) = packet.extension() {
            assert_eq!(Extension::decode(&extension.encode()), Some(extension));
        }
    }
    decoded.is_ok()
}

/// Hands `data` to a stream that has sent something: as it is, as a packet of the stream, and in pieces (two length
/// bytes before each) that are packets of the stream. Whether the stream looked at one.
pub fn injected(now: Instant, data: &[u8]) -> bool {
    let mut duet = Duet::new(now, 0);
    duet.disturbed = true;
    duet.connect(0);
    duet.write(0, 5000);
    duet.transmit(0, 64);
    duet.inject(0, data);
    duet.inject(0, &addressed(data));
    let mut rest = data;
    while let Some((&[low, high], tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes([low, high]) % 2048);
        let (piece, tail) = tail.split_at(tail.len().min(length));
        duet.inject(0, &addressed(piece));
        duet.transmit(0, 64);
        duet.check();
        rest = tail;
    }
    duet.read(0, usize::MAX);
    duet.pass(Duration::from_secs(2));
    duet.transmit(0, 64);
    duet.check();
    duet.on(0, |stream, _| stream.stats()).is_none_or(|stats| stats.packets_received > 0)
}

/// Packets of one or two pieces for the stream of [`injected`], among them acknowledgements of what it sent.
pub fn injected_samples(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut samples = packets.to_vec();
    for (flags, seq, ack) in
        [(0, 0, 1), (0, 0, 4), (flag::DATA, 0, 2), (flag::END, 1, 4), (flag::DESTROY, 0, 0)]
    {
        let header = Header { flags, data_offset: 0, stream: 0, window: 1 << 20, seq, ack };
        let packet = [&header.encode()[..], b"data"].concat();
        let piece = [&(packet.len() as u16).to_le_bytes()[..], &packet].concat();
        samples.push(piece.repeat(2));
        samples.push(piece);
    }
    samples
}

/// These bytes as a packet for the first stream; zeros where the header is not complete.
fn addressed(bytes: &[u8]) -> Vec<u8> {
    let mut datagram = bytes.to_vec();
    datagram.resize(bytes.len().max(HEADER_BYTES), 0);
    let header = Header { flags: 0, data_offset: 0, stream: IDS[0].0, window: 0, seq: 0, ack: 0 }.encode();
    for place in [0..2, 4..8] {
        if let (Some(to), Some(from)) = (datagram.get_mut(place.clone()), header.get(place)) {
            to.copy_from_slice(from);
        }
    }
    datagram
}

/// A list of operations on two endpoints and the network between them: writes, reads, ends, messages, datagrams
/// delivered, lost, doubled and overtaken, time passing, remotes changing; sometimes a stranger's bytes in between.
/// What arrives is what was written, in order; and in the end, if nobody destroyed or disturbed them, both streams
/// end with everything.
pub fn operations(now: Instant, data: &[u8]) {
    let mut choices = data.iter().copied();
    let first = choices.next().unwrap_or(0);
    // Some begin just before the numbers wrap, some at 0.
    let mut duet = Duet::new(now, if first % 2 == 0 { 0 } else { u32::MAX - u32::from(first) });
    duet.connect(0);
    while let Some(operation) = choices.next() {
        let mut choose = || usize::from(choices.next().unwrap_or(0));
        duet.step(operation, &mut choose);
        duet.check();
    }
    if !duet.disturbed {
        duet.end();
    }
}

struct Duet {
    now: Instant,
    ends: [Endpoint; 2],
    connected: [bool; 2],
    /// To which side, and the datagram.
    flying: VecDeque<(usize, Bytes)>,
    written: [u64; 2],
    read: [u64; 2],
    finished: [bool; 2],
    destroyed: bool,
    /// A stranger's bytes were taken: what arrives may be anything.
    disturbed: bool,
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + side as u16))
}

/// The byte at this place of what a side writes.
fn byte_at(side: usize, at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8 ^ side as u8
}

impl Duet {
    fn new(now: Instant, initial_sequence: u32) -> Self {
        let config = Config { initial_sequence, ..Config::default() };
        let mut ends = [Endpoint::new(config, 1), Endpoint::new(config, 2)];
        for (end, id) in ends.iter_mut().zip(IDS) {
            let opened = end.open(now, StreamOptions { id: Some(id.0), ..StreamOptions::default() });
            assert_eq!(opened, Ok(id));
        }
        Self {
            now,
            ends,
            connected: [false; 2],
            flying: VecDeque::new(),
            written: [0; 2],
            read: [0; 2],
            finished: [false; 2],
            destroyed: false,
            disturbed: false,
        }
    }

    #[allow(clippy::indexing_slicing)] // Sides are 0 and 1.
    fn on<T>(&mut self, side: usize, act: impl FnOnce(&mut Stream, Instant) -> T) -> Option<T> {
        let mut stream = self.ends[side].stream(IDS[side])?;
        Some(act(&mut stream, self.now))
    }

    fn remote(side: usize, path_mtu: u16) -> Remote {
        let id = IDS.into_iter().rev().nth(side).map_or(0, |id| id.0);
        Remote { id, address: address(1 - side), path_mtu }
    }

    #[allow(clippy::indexing_slicing)] // Sides are 0 and 1.
    fn connect(&mut self, side: usize) {
        if !std::mem::replace(&mut self.connected[side], true) {
            self.on(side, |stream, now| stream.connect(now, SOCKETS[0], Self::remote(side, 65_535)));
        }
    }

    #[allow(clippy::indexing_slicing)] // Sides are 0 and 1.
    fn write(&mut self, side: usize, length: usize) {
        let room = self.on(side, |stream, _| stream.send_room()).unwrap_or(0);
        if self.finished[side] || room == 0 {
            return;
        }
        let at = self.written[side];
        let chunk: Vec<u8> = (at..at + length as u64).map(|at| byte_at(side, at)).collect();
        self.written[side] += length as u64;
        self.on(side, |stream, now| stream.write(now, chunk.into()));
    }

    #[allow(clippy::indexing_slicing)] // Sides are 0 and 1.
    fn read(&mut self, side: usize, max: usize) {
        let Some(Some(bytes)) = self.on(side, |stream, _| stream.read(max)) else { return };
        assert!(!bytes.is_empty() && bytes.len() <= max);
        for byte in bytes {
            let at = self.read[side];
            self.read[side] += 1;
            assert!(self.disturbed || byte == byte_at(1 - side, at), "wrong byte {at} at side {side}");
        }
    }

    #[allow(clippy::indexing_slicing)] // Sides are 0 and 1.
    fn transmit(&mut self, side: usize, max: usize) {
        let mut buffer = Vec::new();
        let socket = SOCKETS[usize::from(max.is_multiple_of(5))];
        while let Some(transmit) = self.ends[side].poll_transmit(self.now, socket, max, &mut buffer) {
            assert!(transmit.length == buffer.len() && (1..=65_507).contains(&buffer.len()));
            assert!(buffer.len().div_ceil(transmit.segment_size) <= max);
            for datagram in buffer.chunks(transmit.segment_size) {
                if self.flying.len() < MAX_FLYING {
                    self.flying.push_back((1 - side, Bytes::copy_from_slice(datagram)));
                }
            }
            buffer.clear();
        }
    }

    /// From the address of the other side.
    fn inject(&mut self, side: usize, datagram: &[u8]) {
        if let Some(end) = self.ends.get_mut(side) {
            end.handle_datagram(self.now, SOCKETS[0], address(1 - side), datagram);
        }
    }

    /// The datagram at this place under way arrives.
    fn deliver(&mut self, at: usize) {
        if let Some((side, datagram)) = self.flying.remove(at) {
            self.inject(side, &datagram);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for end in &mut self.ends {
            end.handle_timeout(self.now);
            assert!(
                end.poll_timeout().is_none_or(|at| at > self.now),
                "a deadline that passed is asked for again"
            );
        }
    }

    #[allow(clippy::indexing_slicing)] // Sides are 0 and 1.
    fn step(&mut self, operation: u8, choose: &mut impl FnMut() -> usize) {
        let side = usize::from(operation >> 7);
        match operation & 31 {
            0 => self.write(side, choose()),
            1 => self.write(side, 256 * choose()),
            2 | 3 => drop(self.on(side, |stream, _| stream.flush())),
            4 if choose() < 16 => {
                self.finished[side] = true;
                self.on(side, Stream::finish);
            }
            5 => {
                let message = vec![side as u8; 8 * choose()];
                let _ = self.on(side, |stream, _| stream.send_message(message.into()));
            }
            6 | 7 => self.read(side, 64 * (1 + choose())),
            8..=15 => (0..=choose() % 64).for_each(|_| self.deliver(0)),
            16 => drop(self.flying.pop_front()),
            17 => {
                if let Some(datagram) = self.flying.front().cloned() {
                    self.flying.push_back(datagram);
                }
            }
            18 => self.deliver(choose()),
            19 => self.pass(Duration::from_micros(choose() as u64 * 100)),
            20 => self.pass(Duration::from_millis(choose() as u64)),
            21 if choose() < 32 => self.pass(Duration::from_secs(1)),
            22 if choose() < 32 => self.disturb(side, choose),
            23 => {
                let path_mtu = [1200, 1500, 9000, 65_535][choose() % 4];
                let remote = Self::remote(side, path_mtu);
                let socket = SOCKETS[choose() % 2];
                let _ = self.on(side, |stream, now| stream.change_remote(now, socket, remote));
            }
            24 if choose() < 4 => {
                self.destroyed = true;
                self.on(side, |stream, _| stream.destroy());
            }
            25 => self.connect(1),
            26 => {
                let interval = Duration::from_millis(10 * choose() as u64);
                self.on(side, |stream, now| stream.keep_alive(now, Some(interval).filter(|i| !i.is_zero())));
            }
            27 => drop(self.on(side, |stream, _| stream.read_message())),
            _ => self.transmit(side, 1 + choose() % 64),
        }
        while self.ends[side].poll_event().is_some() {}
    }

    /// A stranger changes a datagram under way, or makes one up.
    fn disturb(&mut self, side: usize, choose: &mut impl FnMut() -> usize) {
        self.disturbed = true;
        let mut datagram = match self.flying.get(choose()) {
            Some((_, datagram)) => datagram.to_vec(),
            None => vec![0; HEADER_BYTES + choose()],
        };
        for _ in 0..choose() % 8 {
            let (at, byte) = (2 + choose() % datagram.len().max(3), choose() as u8);
            if let Some(place) = datagram.get_mut(at) {
                *place = byte;
            }
        }
        let id = if side == 0 { IDS[0] } else { IDS[1] };
        if let Some(place) = datagram.get_mut(4..8) {
            place.copy_from_slice(&id.0.to_le_bytes());
        }
        self.inject(side, &datagram);
    }

    /// What must always hold.
    fn check(&mut self) {
        for side in 0..2 {
            let stats = self.on(side, |stream, _| stream.stats()).unwrap_or_default();
            assert!(stats.buffered <= MAX_HELD, "{} bytes are held", stats.buffered);
            assert!(stats.in_flight <= stats.packets_sent * 65_507);
        }
    }

    /// The network behaves from now on; both sides write no more and read everything.
    #[allow(clippy::indexing_slicing)] // Sides are 0 and 1.
    fn end(&mut self) {
        for side in 0..2 {
            self.connect(side);
            // Heartbeats would keep the loop below busy while a stream waits for its pacer.
            self.on(side, |stream, now| stream.keep_alive(now, None));
            self.on(side, Stream::finish);
        }
        let given_up = [0, 1]
            .map(|side| matches!(self.closed(side), Some(CloseReason::TimedOut { .. })))
            .contains(&true);
        for _ in 0..20_000 {
            for side in 0..2 {
                self.transmit(side, 64);
                self.transmit(side, 60);
                while self.on(side, |stream, _| stream.unread()).unwrap_or(0) > 0 {
                    self.read(side, usize::MAX);
                }
            }
            if self.closed(0).is_some() && self.closed(1).is_some() {
                break;
            }
            let timeouts = self.ends.iter().filter_map(Endpoint::poll_timeout).min();
            match timeouts {
                _ if !self.flying.is_empty() => (0..self.flying.len()).for_each(|_| self.deliver(0)),
                Some(at) => self.pass(at.saturating_duration_since(self.now)),
                None => break,
            }
        }
        let reasons = [self.closed(0), self.closed(1)];
        if self.destroyed || given_up {
            return;
        }
        let stats = [0, 1].map(|side| self.on(side, |stream, _| stream.stats()));
        let (written, read) = (self.written, self.read);
        assert_eq!(reasons, [Some(CloseReason::Ended); 2], "{written:?} written, {read:?} read, {stats:?}");
        assert_eq!([self.read[1], self.read[0]], self.written);
    }

    fn closed(&mut self, side: usize) -> Option<CloseReason> {
        self.on(side, |stream, _| stream.closed()).flatten()
    }
}
