//! Packets on their way out: acknowledgements, repetitions, messages, new data; in batches of equal size that one
//! system call can send.

use std::time::Instant;

use super::flight::{Sent, State};
use super::mtu;
use super::path::Path;
use super::receive::Receiver;
use super::sending::{Notes, Sending};
use crate::udx::packet::{Extension, HEADER_BYTES, Header, flag};
use crate::udx::types::{Event, LARGEST_DATAGRAM, SocketId, Transmit};

/// Bytes of one batch: what a kernel segments at most.
const MAX_BATCH: usize = LARGEST_DATAGRAM as usize;

/// Bytes under way from when on small remainders of the window wait for more room: four batches, so that waiting for
/// one never leaves the path idle.
const PATIENT_FROM: u64 = 4 * MAX_BATCH as u64;

/// Packets without data that are due.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) ack: bool,
    pub(super) heartbeat: bool,
    /// A probe of so many bytes is to be answered.
    pub(super) reply: Option<u16>,
}

/// What goes along with every packet: the receiving half's acknowledgement; and what is to be told.
pub(super) struct With<'a> {
    pub(super) receiver: &'a mut Receiver,
    pub(super) notes: &'a mut Notes,
}

/// A batch being filled.
struct Batch {
    start: usize,
    segment: usize,
    count: usize,
    max: usize,
    /// Its one packet is larger than the path is believed to take.
    oversized: bool,
}

impl Batch {
    fn new(out: &[u8], max: usize) -> Self {
        Self { start: out.len(), segment: 0, count: 0, max: max.max(1), oversized: false }
    }

    /// True if a packet of `size` bytes can follow those in the batch.
    fn takes(&self, size: usize) -> bool {
        self.count == 0
            || (self.count < self.max
                && size <= self.segment
                && self.segment * self.count + size <= MAX_BATCH)
    }

    /// A packet of `size` bytes was appended. False if it must be the last.
    fn add(&mut self, size: usize) -> bool {
        if self.count == 0 {
            self.segment = size;
        }
        self.count += 1;
        size == self.segment
    }

    fn finish(&self, path: &Path, out: &[u8]) -> Option<Transmit> {
        let length = out.len() - self.start;
        let (destination, segment_size) = (path.remote.address, self.segment);
        let may_fragment = self.oversized;
        (self.count > 0).then_some(Transmit { destination, segment_size, length, may_fragment })
    }
}

impl Sending {
    /// The next packets from this socket, appended to `out`.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        socket: SocketId,
        max: usize,
        out: &mut Vec<u8>,
        with: &mut With<'_>,
    ) -> Option<Transmit> {
        let path = self.paths.current().filter(|path| path.socket == socket);
        // Data carries the acknowledgement along; the blocks of gaps need a packet of their own.
        if let Some(path) = path
            && (!with.notes.control.ack || with.receiver.has_gaps())
            && let Some(transmit) = self.transmit_control(now, &path, out, with)
        {
            return Some(transmit);
        }
        let transmit = self.transmit_lost(now, socket, max, out, with).or_else(|| {
            let path = path?;
            // What was lost goes first, also if it waits for another socket or for a larger allowance than new data
            // would: that would leave it none until it timed out.
            self.transmit_messages(&path, max, out, with).or_else(|| match self.flight.next_lost() {
                Some(_) => None,
                None => self.transmit_new(now, &path, max, out, with),
            })
        });
        match transmit {
            Some(transmit) => {
                self.timers.touch_keep_alive(now);
                Some(transmit)
            }
            None => self.transmit_control(now, &path?, out, with),
        }
    }

    /// A header of this stream, with the newest acknowledgement and window.
    pub(super) fn header(
        &self,
        flags: u8,
        number: u64,
        data_offset: u8,
        path: Path,
        receiver: &mut Receiver,
    ) -> Header {
        Header {
            flags,
            data_offset,
            stream: path.remote.id,
            window: receiver.advertise(),
            seq: self.wire(number),
            ack: receiver.ack(),
        }
    }

    /// The controller's rate may have changed.
    pub(super) fn set_pace(&mut self, now: Instant) {
        self.pacer.set_rate(now, self.controller.pacing_rate(), self.mtu.packet() as u64);
    }

    fn transmit_control(
        &mut self,
        now: Instant,
        path: &Path,
        out: &mut Vec<u8>,
        with: &mut With<'_>,
    ) -> Option<Transmit> {
        let mut batch = Batch::new(out, 1);
        let next = self.flight.next();
        if std::mem::take(&mut with.notes.control.ack) {
            let flags = if with.receiver.has_gaps() { flag::SACK } else { 0 };
            out.extend_from_slice(&self.header(flags, next, 0, *path, with.receiver).encode());
            for (start, end) in with.receiver.sack_blocks() {
                out.extend_from_slice(&start.to_le_bytes());
                out.extend_from_slice(&end.to_le_bytes());
            }
        } else if std::mem::take(&mut with.notes.control.heartbeat) {
            out.extend_from_slice(&self.header(flag::HEARTBEAT, next, 0, *path, with.receiver).encode());
            self.timers.touch_keep_alive(now);
        } else if let Some(size) = with.notes.control.reply.take() {
            out.extend_from_slice(
                &self.header(0, next, Extension::BYTES as u8, *path, with.receiver).encode(),
            );
            mtu::append_extension(Extension::Reply(size), 0, out);
        } else if let Some(size) = self.mtu.jumbo_due() {
            self.mtu.jumbo_sent(now, self.recovery.rtt.smoothed());
            out.extend_from_slice(
                &self.header(0, next, Extension::BYTES as u8, *path, with.receiver).encode(),
            );
            let padding = usize::from(size).saturating_sub(HEADER_BYTES + Extension::BYTES);
            mtu::append_extension(Extension::Probe(size), padding, out);
        } else {
            return None;
        }
        batch.add(out.len() - batch.start);
        batch.finish(path, out)
    }

    /// Bytes that may leave now: what the window and the pacer allow, if that is worth it; sets a timer if it is the
    /// pacer's turn. A packet may start while anything is left.
    fn allowance(&mut self, now: Instant, wanted: u64) -> u64 {
        let in_flight = self.flight.bytes();
        let window = self.controller.window();
        let by_window = if in_flight == 0 { window.max(1) } else { window.saturating_sub(in_flight) };
        if by_window == 0 {
            return 0;
        }
        // Acknowledgements will make room for a whole batch soon: half of one costs a system call as well.
        let waits = by_window < wanted && by_window < MAX_BATCH as u64;
        if waits && in_flight >= PATIENT_FROM {
            return 0;
        }
        let wanted = wanted.min(by_window);
        let worth = self.pacer.quantum().min(wanted).max(1);
        let by_pacer = self.pacer.budget(now);
        if by_pacer < worth {
            self.timers.pace = Some(self.pacer.next_release(now, worth));
            return 0;
        }
        by_window.min(by_pacer)
    }

    fn on_sent(&mut self, now: Instant, bytes: u64, packets: usize, with: &mut With<'_>) {
        with.notes.counters.sent += packets as u64;
        with.notes.control.ack &= with.receiver.has_gaps();
        self.pacer.on_sent(now, bytes);
        self.controller.on_sent(now, bytes, self.flight.bytes());
        self.set_pace(now);
        if self.timers.rto.is_none() {
            self.timers.rto = Some(now + self.recovery.rtt.rto());
        }
        self.timers.tail = self.recovery.tail_deadline(now, &self.flight, self.timers.rto);
    }

    /// Lost packets again, and the last one if it is to be probed for.
    fn transmit_lost(
        &mut self,
        now: Instant,
        socket: SocketId,
        max: usize,
        out: &mut Vec<u8>,
        with: &mut With<'_>,
    ) -> Option<Transmit> {
        let mut batch = Batch::new(out, max);
        let mut way = None;
        let probe = self.tail_to_repeat();
        let mut left = if probe.is_some() {
            1
        } else {
            self.flight.next_lost()?;
            self.allowance(now, self.mtu.packet() as u64)
        };
        while left > 0
            && let Some(number) = probe.or_else(|| self.flight.next_lost())
        {
            let Some(path) = self.paths.of(number).filter(|path| path.socket == socket) else { break };
            let Some(packet) = self.flight.get(number) else { break };
            if *way.get_or_insert(path) != path {
                break;
            }
            let size = HEADER_BYTES + self.extension_bytes(number) + packet.length as usize;
            let oversized = self.mtu.exceeded_by(size);
            if !batch.takes(size) || (oversized && batch.count > 0) {
                break;
            }
            batch.oversized = oversized;
            self.repeat(now, number, path, out, with);
            left = left.saturating_sub(size as u64);
            if !batch.add(size) || probe.is_some() || oversized {
                break;
            }
        }
        if batch.count > 0 {
            self.recovery.tail_probe &= probe.is_none();
            with.notes.counters.retransmitted += batch.count as u64;
            self.on_sent(now, (out.len() - batch.start) as u64, batch.count, with);
        }
        batch.finish(&way?, out)
    }

    /// The packet to repeat as a tail probe: what was lost, as the window may be full of repetitions that were lost
    /// too; else the last packet, unless something new can be sent instead.
    fn tail_to_repeat(&mut self) -> Option<u64> {
        if !self.recovery.tail_probe {
            return None;
        }
        self.flight.next_lost().or_else(|| match self.new_packet() {
            Some(_) => None,
            None => self.flight.last_flying(),
        })
    }

    fn repeat(&mut self, now: Instant, number: u64, path: Path, out: &mut Vec<u8>, with: &mut With<'_>) {
        let Some(packet) = self.flight.get(number) else { return };
        let (offset, length, flags) = (packet.offset, packet.length as usize, packet.flags);
        let start = out.len();
        self.append_header(number, flags, 0, path, out, with);
        self.queue.copy(offset, length, out);
        let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        let stamp = self.rate.stamp(now, self.flight.bytes());
        self.flight.repeat(number, now, size, stamp);
    }

    fn transmit_messages(
        &mut self,
        path: &Path,
        max: usize,
        out: &mut Vec<u8>,
        with: &mut With<'_>,
    ) -> Option<Transmit> {
        let mut batch = Batch::new(out, max);
        while let Some(message) = self.messages.front() {
            let size = HEADER_BYTES + message.len();
            if !batch.takes(size) {
                break;
            }
            let Some(message) = self.messages.pop_front() else { break };
            let header = self.header(flag::MESSAGE, self.flight.next(), 0, *path, with.receiver);
            out.extend_from_slice(&header.encode());
            out.extend_from_slice(&message);
            if !batch.add(size) {
                break;
            }
        }
        batch.finish(path, out)
    }

    fn transmit_new(
        &mut self,
        now: Instant,
        path: &Path,
        max: usize,
        out: &mut Vec<u8>,
        with: &mut With<'_>,
    ) -> Option<Transmit> {
        let mut batch = Batch::new(out, max);
        let probe = std::mem::take(&mut self.recovery.tail_probe);
        self.new_packet()?;
        let wanted = (self.queue.unsent() + HEADER_BYTES) as u64;
        let mut left = if probe { 1 } else { self.allowance(now, wanted) };
        while left > 0
            && let Some(length) = self.new_packet()
        {
            let padding = if batch.count == 0 { self.probe_padding(length) } else { 0 };
            let size =
                HEADER_BYTES + self.extension_bytes(self.flight.next()) + usize::from(padding) + length;
            if !batch.takes(size) {
                break;
            }
            self.append_new(now, length, padding, *path, out, with);
            left = left.saturating_sub(size as u64);
            if !batch.add(size) || padding > 0 || probe {
                break;
            }
        }
        if batch.count > 0 {
            self.on_sent(now, (out.len() - batch.start) as u64, batch.count, with);
            if self.queue.has_room_again() {
                with.notes.events.push(Event::Writable);
            }
        }
        self.notice_want();
        batch.finish(path, out)
    }

    /// If nothing but want of data, or of the peer's window, keeps more from leaving, what is under way does not measure
    /// the path.
    fn notice_want(&mut self) {
        let room = self.flight.bytes() < self.controller.window();
        if room && self.new_packet().is_none() && self.flight.next_lost().is_none() {
            self.rate.limited(self.flight.bytes());
        }
    }

    /// Payload bytes of the next new packet; none if nothing may be sent for want of data or of the peer's window.
    fn new_packet(&self) -> Option<usize> {
        let full = self.mtu.payload() - self.extension_bytes(self.flight.next());
        let length = self.queue.ready(full);
        if length == 0 {
            // An end of its own takes no room at the peer.
            let ends = self.ending.wanted && self.ending.number.is_none() && self.queue.unsent() == 0;
            return ends.then_some(0);
        }
        let window = self.peer_window.bytes as usize;
        if self.flight.is_empty() {
            return (window > 0).then_some(length);
        }
        let fits = self.queue.offset() + length as u64 <= self.peer_window.limit
            && self.flight.len() < window / self.mtu.payload();
        fits.then_some(length)
    }

    fn probe_padding(&self, length: usize) -> u8 {
        if self.paths.changing() || self.recovery.recovering() || self.flight.next() == 0 {
            return 0;
        }
        self.mtu.padding(length).unwrap_or(0)
    }

    fn append_new(
        &mut self,
        now: Instant,
        length: usize,
        padding: u8,
        path: Path,
        out: &mut Vec<u8>,
        with: &mut With<'_>,
    ) {
        let number = self.flight.next();
        let (start, offset) = (out.len(), self.queue.offset());
        let last = self.ending.wanted && self.ending.number.is_none() && self.queue.unsent() == length;
        let mut flags = if length > 0 { flag::DATA } else { 0 };
        if last {
            flags |= flag::END;
            self.ending.number = Some(number);
        }
        self.append_header(number, flags, padding, path, out, with);
        self.queue.take(length, self.mtu.payload(), out);
        if padding > 0 {
            self.mtu.probe_sent();
        }
        let stamp = self.rate.stamp(now, self.flight.bytes());
        self.flight.push(Sent {
            offset,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            size: u32::try_from(out.len() - start).unwrap_or(u32::MAX),
            flags,
            state: State::Flying,
            probe: padding > 0,
            timeouts: 0,
            transmissions: 1,
            sent_at: now,
            stamp,
        });
    }

    /// The header of a DATA or END packet, with the announcement on the first one, or padding.
    fn append_header(
        &mut self,
        number: u64,
        flags: u8,
        padding: u8,
        path: Path,
        out: &mut Vec<u8>,
        with: &mut With<'_>,
    ) {
        let announce = self.extension_bytes(number);
        let data_offset = if announce > 0 { announce as u8 } else { padding };
        out.extend_from_slice(&self.header(flags, number, data_offset, path, with.receiver).encode());
        if announce > 0 {
            mtu::append_extension(Extension::Announce(self.largest_datagram), 0, out);
        } else {
            out.resize(out.len() + usize::from(padding), 0);
        }
    }

    /// Bytes of the announcement that this packet carries: the first one does, so it arrives for certain.
    fn extension_bytes(&self, number: u64) -> usize {
        if number == 0 && self.largest_datagram > 0 { Extension::BYTES } else { 0 }
    }
}
