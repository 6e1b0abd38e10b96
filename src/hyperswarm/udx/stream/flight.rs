//! Packets under way: found by number in a ring, looked through for losses in the order they were sent. No operation
//! looks at more packets than it changes, but the one that chooses a tail probe, once for each.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use rangemap::RangeSet;

use super::rate::Stamp;

/// A DATA or END packet that was sent and is not acknowledged cumulatively.
#[derive(Debug)]
pub(super) struct Sent {
    /// Where its payload begins in the stream.
    pub(super) offset: u64,
    /// Bytes of its payload.
    pub(super) length: u32,
    /// Bytes of the packet, header included.
    pub(super) size: u32,
    /// DATA, END or both.
    pub(super) flags: u8,
    pub(super) state: State,
    /// Padded to find out whether a larger packet gets through.
    pub(super) probe: bool,
    /// RTOs it has seen as the first packet.
    pub(super) timeouts: u8,
    pub(super) transmissions: u32,
    pub(super) sent_at: Instant,
    pub(super) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Under way.
    Flying,
    /// To be sent again.
    Lost,
    /// The peer has it, but not all before it.
    Sacked,
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    packets: VecDeque<Sent>,
    /// Number of the first of `packets`.
    base: u64,
    /// Transmissions in order: number, and which transmission of that packet. Those that were acknowledged, lost or
    /// repeated since are skipped when met.
    order: VecDeque<(u64, u32)>,
    /// Lost packets. The lowest is repeated first: the reader waits for it, and all others wait with it.
    lost: BTreeSet<u64>,
    sacked: RangeSet<u64>,
    sacked_count: usize,
    bytes: u64,
}

impl Flight {
    /// Number of the first packet not acknowledged cumulatively.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Number of the next new packet.
    pub(super) fn next(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    /// Packets not acknowledged cumulatively.
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets acknowledged selectively only.
    pub(super) fn sacked(&self) -> usize {
        self.sacked_count
    }

    pub(super) fn get(&self, number: u64) -> Option<&Sent> {
        self.packets.get(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Sent> {
        self.packets.get_mut(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut Sent> {
        self.packets.front_mut()
    }

    /// A new packet leaves; it gets the number [`next`](Self::next).
    pub(super) fn push(&mut self, packet: Sent) {
        self.order.push_back((self.next(), packet.transmissions));
        self.bytes += u64::from(packet.size);
        self.packets.push_back(packet);
    }

    /// A packet leaves again: one that was lost, or, as a probe, one that is under way.
    pub(super) fn repeat(&mut self, number: u64, now: Instant, size: u32, stamp: Stamp) {
        let Some(packet) = self.get_mut(number) else { return };
        let (state, old_size) = (packet.state, packet.size);
        packet.transmissions += 1;
        packet.state = State::Flying;
        packet.probe = false;
        (packet.size, packet.sent_at, packet.stamp) = (size, now, stamp);
        let transmission = packet.transmissions;
        match state {
            State::Lost => {}
            State::Flying => self.bytes -= u64::from(old_size),
            State::Sacked => self.sacked_count -= 1,
        }
        self.bytes += u64::from(size);
        self.order.push_back((number, transmission));
    }

    /// The lowest lost packet that was not sent again.
    pub(super) fn next_lost(&mut self) -> Option<u64> {
        while let Some(&number) = self.lost.first() {
            if self.get(number).is_some_and(|packet| packet.state == State::Lost) {
                return Some(number);
            }
            self.lost.pop_first();
        }
        None
    }

    /// Of all transmissions the one longest ago that is still under way: number and packet.
    pub(super) fn oldest(&mut self) -> Option<(u64, &Sent)> {
        while let Some(&(number, transmission)) = self.order.front() {
            let flying = self
                .get(number)
                .is_some_and(|packet| packet.state == State::Flying && packet.transmissions == transmission);
            if flying {
                return self.get(number).map(|packet| (number, packet));
            }
            self.order.pop_front();
        }
        None
    }

    /// The packet under way with the highest number.
    pub(super) fn last_flying(&self) -> Option<u64> {
        if self.bytes == 0 {
            return None;
        }
        let behind = self.packets.iter().rev().position(|packet| packet.state == State::Flying)?;
        Some(self.next() - 1 - behind as u64)
    }

    /// Marks a packet as lost, to be sent again; its bytes, or none if it was not under way.
    pub(super) fn lose(&mut self, number: u64) -> Option<u64> {
        let packet = self.get_mut(number)?;
        if packet.state != State::Flying {
            return None;
        }
        packet.state = State::Lost;
        let size = u64::from(packet.size);
        self.bytes -= size;
        self.lost.insert(number);
        Some(size)
    }

    /// All below `number` is acknowledged. Calls `delivered` for what was not acknowledged selectively before, and
    /// returns the offset in the stream up to which the peer has everything.
    pub(super) fn acknowledge(&mut self, number: u64, mut delivered: impl FnMut(u64, &Sent)) -> Option<u64> {
        let mut offset = None;
        while self.base < number {
            let Some(packet) = self.packets.pop_front() else { break };
            match packet.state {
                State::Flying => self.bytes -= u64::from(packet.size),
                State::Lost => {}
                State::Sacked => self.sacked_count -= 1,
            }
            if packet.state != State::Sacked {
                delivered(self.base, &packet);
            }
            offset = Some(packet.offset + u64::from(packet.length));
            self.base += 1;
        }
        if offset.is_some() && !self.sacked.is_empty() {
            self.sacked.remove(0..self.base);
        }
        if self.packets.is_empty() {
            self.rest();
        }
        offset
    }

    /// `[start, end)` is acknowledged selectively; calls `delivered` for what is new of it.
    pub(super) fn acknowledge_selectively(
        &mut self,
        start: u64,
        end: u64,
        mut delivered: impl FnMut(u64, &Sent),
    ) {
        let Self { packets, base, sacked, sacked_count, bytes, .. } = self;
        let block = start.max(*base)..end.min(*base + packets.len() as u64);
        if block.is_empty() {
            return;
        }
        // What was there already is stepped over as a whole: a peer that repeats large blocks costs nothing.
        let mut news = false;
        for number in sacked.gaps(&block).flatten() {
            news = true;
            if let Some(packet) = usize::try_from(number - *base).ok().and_then(|at| packets.get_mut(at)) {
                match packet.state {
                    State::Flying => *bytes -= u64::from(packet.size),
                    State::Lost => {}
                    State::Sacked => continue,
                }
                packet.state = State::Sacked;
                *sacked_count += 1;
                delivered(number, packet);
            }
        }
        if news {
            sacked.insert(block);
        }
    }

    /// Nothing is under way: a stream that now falls idle keeps no large rings.
    fn rest(&mut self) {
        self.order.clear();
        self.lost.clear();
        if self.packets.capacity() > 64 {
            self.packets = VecDeque::new();
        }
        if self.order.capacity() > 256 {
            self.order = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udx::packet::flag;
    use crate::udx::stream::rate::RateSampler;

    #[test]
    fn the_lowest_lost_packet_is_repeated_first_in_whatever_order_they_were_lost() {
        let now = Instant::now();
        let stamp = RateSampler::new(now).stamp(now, 0);
        let mut flight = Flight::default();
        for offset in 0..4 {
            flight.push(Sent {
                offset,
                length: 1,
                size: 21,
                flags: flag::DATA,
                state: State::Flying,
                probe: false,
                timeouts: 0,
                transmissions: 1,
                sent_at: now,
                stamp,
            });
        }
        for number in [2, 3, 0] {
            assert_eq!(flight.lose(number), Some(21));
        }
        for number in [0, 2, 3] {
            assert_eq!(flight.next_lost(), Some(number));
            flight.repeat(number, now, 21, stamp);
        }
        assert_eq!(flight.next_lost(), None);
    }
}
