//! The receiving half: packets put in order, within bounds in bytes and in number; and messages.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rangemap::RangeSet;

use super::budget::{Budget, Share};
use super::buffer::ReadBuffer;
use super::window::Window;
use crate::limits::{
    MAX_UDX_MESSAGE_BYTES, MAX_UDX_MESSAGES, MAX_UDX_OUT_OF_ORDER, MAX_UDX_SACK_BLOCKS,
    UDX_GUARANTEED_WINDOW_BYTES, UDX_OUT_OF_ORDER_OVERHEAD, UDX_RECENT_SACK_BLOCKS,
};
use crate::udx::packet::flag;

/// Sequence numbers are counted from the stream's start, in 64 bits; the wire has the lower 32 of them, shifted by
/// the first one.
#[derive(Debug)]
pub(super) struct Receiver {
    first: u32,
    /// Number of the packet expected next.
    next: u64,
    buffer: ReadBuffer,
    window: Window,
    /// What is held, out of the endpoint's budget.
    share: Share,
    early: BTreeMap<u64, Early>,
    /// Bytes in `early`, overhead included.
    early_bytes: usize,
    /// The numbers of `early`.
    ranges: RangeSet<u64>,
    /// Numbers in `ranges` that arrived since the last acknowledgement, one of each run, the latest.
    recent: VecDeque<u64>,
    end: Option<u64>,
    received: u64,
    messages: VecDeque<Bytes>,
    message_bytes: usize,
}

#[derive(Debug)]
struct Early {
    flags: u8,
    payload: Bytes,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// There is more to read, or the end was reached.
    InOrder,
    /// Kept, or known already.
    Kept,
    /// Beyond what the stream takes.
    Refused,
}

impl Receiver {
    pub(super) fn new(first: u32, budget: Budget) -> Self {
        Self {
            first,
            next: 0,
            buffer: ReadBuffer::default(),
            window: Window::new(),
            share: Share::new(budget),
            early: BTreeMap::new(),
            early_bytes: 0,
            ranges: RangeSet::new(),
            recent: VecDeque::new(),
            end: None,
            received: 0,
            messages: VecDeque::new(),
            message_bytes: 0,
        }
    }

    /// The number of a packet, as the distance from the expected one. Negative: an old one.
    pub(super) fn distance(&self, seq: u32) -> i32 {
        seq.wrapping_sub(self.wire(self.next)) as i32
    }

    /// The `ack` field.
    pub(super) fn ack(&self) -> u32 {
        self.wire(self.next)
    }

    /// The window field, of a packet about to leave.
    pub(super) fn advertise(&mut self) -> u32 {
        self.window.advertise(self.received, self.buffer.len(), self.share.window())
    }

    /// Bytes the reader leaves room for.
    pub(super) fn free(&self) -> u32 {
        self.window.free(self.buffer.len(), self.share.window())
    }

    /// A DATA or END packet.
    pub(super) fn accept(&mut self, seq: u32, flags: u8, payload: &[u8]) -> Accepted {
        let Ok(ahead) = u64::try_from(self.distance(seq)) else { return Accepted::Kept };
        let number = self.next + ahead;
        if self.end.is_some_and(|end| number > end || self.next > end) {
            return Accepted::Kept;
        }
        if ahead == 0 {
            // The guarantee is for what is in order only: packets that came too early must not keep out the one that
            // the reader waits for.
            let guaranteed = self.buffer.len() + payload.len() <= UDX_GUARANTEED_WINDOW_BYTES;
            let paid = guaranteed || self.share.takes(payload.len());
            if !paid || self.held() + payload.len() > self.hard_limit() {
                return Accepted::Refused;
            }
            self.deliver(flags, payload);
            self.drain();
            self.account();
            return Accepted::InOrder;
        }
        self.keep(number, ahead, flags, payload)
    }

    /// True if the peer's end was reached.
    pub(super) fn ended(&self) -> bool {
        self.end.is_some_and(|end| self.next > end)
    }

    /// SACK blocks, ascending, if something is kept out of order. If there are more than fit: what arrived since the
    /// last time, and the lowest. A sender that is not told of a packet soon takes it for lost, and all before it.
    pub(super) fn sack_blocks(&mut self) -> impl Iterator<Item = (u32, u32)> {
        let recent = std::mem::take(&mut self.recent);
        let mut high = Vec::new();
        if self.ranges.len() > MAX_UDX_SACK_BLOCKS {
            high.extend(recent.iter().filter_map(|number| self.ranges.get(number).cloned()));
            high.sort_unstable_by_key(|block| block.start);
            high.dedup();
        }
        let low = MAX_UDX_SACK_BLOCKS - high.len();
        let last = self.ranges.iter().take(low).last().map_or(0, |block| block.start);
        high.retain(|block| block.start > last);
        let low = self.ranges.iter().take(low).cloned();
        low.chain(high).map(|block| (self.wire(block.start), self.wire(block.end)))
    }

    /// Whether packets are kept out of order.
    pub(super) fn has_gaps(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// Bytes in order, and whether the peer should hear that there is room again.
    pub(super) fn read(&mut self, max: usize) -> (Option<Bytes>, bool) {
        let bytes = self.buffer.read(max);
        let length = bytes.as_ref().map_or(0, Bytes::len);
        self.account();
        let (unread, most) = (self.buffer.len(), self.share.window());
        let update = self.window.on_read(length, self.received, unread, most);
        (bytes, update && !self.ended())
    }

    /// Bytes that can be read.
    pub(super) fn unread(&self) -> usize {
        self.buffer.len()
    }

    /// Adapts the window to the reader.
    pub(super) fn tune(&mut self, now: Instant, rtt: Option<Duration>) {
        self.window.tune(now, rtt, self.buffer.len(), self.share.window());
    }

    /// Nothing will bring in order any more what came too early.
    pub(super) fn drop_early(&mut self) {
        self.early.clear();
        self.early_bytes = 0;
        self.ranges.clear();
        self.account();
    }

    /// Keeps a message for the reader; false if it was dropped because too many wait.
    pub(super) fn accept_message(&mut self, payload: &[u8]) -> bool {
        let bytes = self.message_bytes + payload.len();
        let full = self.messages.len() >= MAX_UDX_MESSAGES || bytes > MAX_UDX_MESSAGE_BYTES;
        if full || !self.share.takes(payload.len()) {
            return false;
        }
        self.message_bytes = bytes;
        self.messages.push_back(Bytes::copy_from_slice(payload));
        self.account();
        true
    }

    pub(super) fn read_message(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.message_bytes -= message.len();
        self.account();
        Some(message)
    }

    /// Bytes held, with overhead.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.early_bytes
    }

    /// Tells the budget what is held now.
    fn account(&mut self) {
        self.share.set(self.held() + self.message_bytes);
    }

    fn hard_limit(&self) -> usize {
        self.window.hard_limit(self.received, self.buffer.len())
    }

    fn wire(&self, number: u64) -> u32 {
        self.first.wrapping_add(number as u32)
    }

    fn deliver(&mut self, flags: u8, payload: &[u8]) {
        if flags & flag::DATA != 0 {
            self.buffer.append(payload);
            self.received += payload.len() as u64;
        }
        if flags & flag::END != 0 {
            self.end = Some(self.next);
            // A peer may have sent packets beyond its own end.
            self.drop_early();
        }
        self.next += 1;
    }

    fn drain(&mut self) {
        if self.early.is_empty() {
            return;
        }
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() != self.next {
                break;
            }
            let early = entry.remove();
            self.early_bytes -= early.payload.len() + UDX_OUT_OF_ORDER_OVERHEAD;
            self.deliver(early.flags, &early.payload);
        }
        self.ranges.remove(0..self.next);
    }

    fn note(&mut self, number: u64) {
        match self.recent.back_mut() {
            Some(last) if *last + 1 == number => *last = number,
            _ => {
                if self.recent.len() >= UDX_RECENT_SACK_BLOCKS {
                    self.recent.pop_front();
                }
                self.recent.push_back(number);
            }
        }
    }

    /// Keeps a packet that came too early, unless it is too far ahead or there is no room: a peer that ignores the
    /// window, or invents numbers, would otherwise fill the memory.
    fn keep(&mut self, number: u64, ahead: u64, flags: u8, payload: &[u8]) -> Accepted {
        if self.early.contains_key(&number) {
            return Accepted::Kept;
        }
        let cost = payload.len() + UDX_OUT_OF_ORDER_OVERHEAD;
        // Each number is kept once, so this bounds how many are kept too.
        let far = ahead > MAX_UDX_OUT_OF_ORDER as u64;
        if far || self.held() + cost > self.hard_limit() || !self.share.takes(cost) {
            return Accepted::Refused;
        }
        let data = if flags & flag::DATA != 0 { payload } else { &[] };
        self.early.insert(number, Early { flags, payload: Bytes::copy_from_slice(data) });
        self.early_bytes += data.len() + UDX_OUT_OF_ORDER_OVERHEAD;
        self.ranges.insert(number..number + 1);
        self.note(number);
        self.account();
        Accepted::Kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{UDX_RECEIVE_BUDGET_BYTES, UDX_WINDOW_BYTES};

    fn receiver() -> Receiver {
        Receiver::new(0, Budget::new(UDX_RECEIVE_BUDGET_BYTES))
    }

    fn blocks(receiver: &mut Receiver) -> Vec<(u32, u32)> {
        receiver.sack_blocks().collect()
    }

    #[test]
    fn a_window_that_shrank_still_takes_what_was_promised_before() {
        let (mut receiver, mut now, mut seq) = (receiver(), Instant::now(), 0);
        let mut arrive = |receiver: &mut Receiver, now: Instant| {
            receiver.tune(now, Some(Duration::from_millis(100)));
            let accepted = receiver.accept(seq, flag::DATA, &[0; 1024]);
            seq += u32::from(accepted == Accepted::InOrder);
            accepted
        };
        while (receiver.free() as usize) < 3 * UDX_WINDOW_BYTES {
            arrive(&mut receiver, now);
            receiver.read(usize::MAX);
        }
        // The reader stops, the peer fills the window, and its last two packets are late.
        for _ in 2..receiver.advertise() / 1024 {
            assert_eq!(arrive(&mut receiver, now), Accepted::InOrder);
        }
        for _ in 0..3 {
            now += Duration::from_secs(2);
            receiver.tune(now, None);
        }
        assert_eq!(receiver.free(), 0);
        assert_eq!(arrive(&mut receiver, now), Accepted::InOrder);
        // It reads some, not enough to make room for more, and stops again.
        for _ in 0..UDX_WINDOW_BYTES / 1024 {
            receiver.read(1024);
        }
        assert_eq!(receiver.advertise(), 0);
        assert_eq!(arrive(&mut receiver, now), Accepted::InOrder);
    }

    #[test]
    fn of_more_gaps_than_fit_the_lowest_and_those_that_arrived_last_are_told() {
        let mut receiver = receiver();
        let gaps = MAX_UDX_SACK_BLOCKS as u32;
        for gap in 1..=gaps {
            receiver.accept(2 * gap, flag::DATA, b"x");
        }
        let all: Vec<_> = (1..=gaps).map(|gap| (2 * gap, 2 * gap + 1)).collect();
        assert_eq!(blocks(&mut receiver), all);
        receiver.accept(1000, flag::DATA, b"x");
        receiver.accept(1001, flag::DATA, b"x");
        let mut expected = all[..all.len() - 1].to_vec();
        expected.push((1000, 1002));
        assert_eq!(blocks(&mut receiver), expected);
        assert_eq!(blocks(&mut receiver), all, "nothing arrived since");
        for n in 0..100 {
            receiver.accept(2000 + 2 * n, flag::DATA, b"x");
        }
        let told = blocks(&mut receiver);
        assert_eq!(told.len(), MAX_UDX_SACK_BLOCKS);
        assert_eq!(told[..told.len() - UDX_RECENT_SACK_BLOCKS], all[..all.len() - UDX_RECENT_SACK_BLOCKS]);
        assert_eq!(told.last(), Some(&(2198, 2199)));
    }

    /// A receiver that has told of as many gaps as fit, and of no more.
    fn crowded() -> Receiver {
        let mut receiver = receiver();
        for gap in 1..=MAX_UDX_SACK_BLOCKS as u32 {
            receiver.accept(2 * gap, flag::DATA, b"x");
        }
        assert_eq!(receiver.sack_blocks().count(), MAX_UDX_SACK_BLOCKS);
        receiver
    }

    #[test]
    fn of_the_gaps_that_arrived_last_so_many_are_told_and_the_latest_ones() {
        let most = UDX_RECENT_SACK_BLOCKS as u32;
        for (arrived, first) in [(most, 1000), (most + 1, 1002)] {
            let mut receiver = crowded();
            for n in 0..arrived {
                receiver.accept(1000 + 2 * n, flag::DATA, b"x");
            }
            let told: Vec<_> =
                blocks(&mut receiver).into_iter().map(|(start, _)| start).filter(|n| *n >= 1000).collect();
            assert_eq!((told.len(), told[0]), (UDX_RECENT_SACK_BLOCKS, first));
        }
    }

    #[test]
    fn no_block_is_told_twice_and_all_ascend() {
        let mut receiver = crowded();
        for number in [3, 1000, 7, 3000] {
            receiver.accept(number, flag::DATA, b"x");
        }
        receiver.accept(2000, flag::DATA, b"x");
        let told = blocks(&mut receiver);
        assert_eq!(told[..2], [(2, 5), (6, 9)]);
        assert!(told.is_sorted_by(|(_, end), (start, _)| end < start));
    }
}
