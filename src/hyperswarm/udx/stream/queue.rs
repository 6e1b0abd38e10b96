//! Bytes written: kept, without copying, until the peer has them. Packets name ranges of it by offset.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frames::Frames;
use crate::limits::UDX_SEND_QUEUE_BYTES;

#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// Chunks that are not acknowledged as a whole, with the offset of their first byte.
    chunks: VecDeque<(u64, Bytes)>,
    /// The chunk with the first unsent byte; as many as there are chunks if everything was sent.
    cursor: usize,
    /// Offset of the first byte that was never sent.
    unsent: u64,
    /// Offset behind the last byte written.
    written: u64,
    /// Everything below may leave in a packet that is not full.
    flushed: u64,
    /// On a framed stream: packets end with frames.
    frames: Option<Frames>,
    /// A writer was told that there is no room.
    full: bool,
}

impl SendQueue {
    /// For a stream that is framed or not.
    pub(super) fn new(framed: bool) -> Self {
        Self { frames: framed.then(Frames::default), ..Self::default() }
    }

    /// Packets are filled from now on, whatever frames there are.
    pub(super) fn ignore_frames(&mut self) {
        self.frames = None;
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            let start = self.written;
            if let Some(frames) = &mut self.frames {
                frames.written(start, &chunk);
            }
            self.written += chunk.len() as u64;
            self.chunks.push_back((start, chunk));
        }
    }

    pub(super) fn flush(&mut self) {
        self.flushed = self.written;
    }

    /// Bytes that should be written at most now.
    pub(super) fn room(&mut self) -> usize {
        let room = UDX_SEND_QUEUE_BYTES.saturating_sub(self.unsent());
        self.full |= room == 0;
        room
    }

    /// True once after there was no room, when half of it is there.
    pub(super) fn has_room_again(&mut self) -> bool {
        let again = self.full && self.unsent() <= UDX_SEND_QUEUE_BYTES / 2;
        self.full &= !again;
        again
    }

    /// Bytes never sent.
    pub(super) fn unsent(&self) -> usize {
        usize::try_from(self.written - self.unsent).unwrap_or(usize::MAX)
    }

    /// Offset of the first byte never sent.
    pub(super) fn offset(&self) -> u64 {
        self.unsent
    }

    /// Bytes the next packet of at most `full` can have now: full, or up to a frame's end that more follows, or all
    /// there is if that was flushed.
    pub(super) fn ready(&self, full: usize) -> usize {
        let unsent = self.unsent();
        let most = full.min(unsent);
        let end = self.frames.as_ref().and_then(|frames| frames.end_within(self.unsent, most));
        let length = end.unwrap_or(most);
        if length == full || length < unsent || self.flushed > self.unsent { length } else { 0 }
    }

    /// Appends the next `length` unsent bytes to `out`, of at most `full` in a packet; they count as sent.
    pub(super) fn take(&mut self, length: usize, full: usize, out: &mut Vec<u8>) {
        self.copy_unsent(length, out);
        let room = self.unsent().min(full.saturating_sub(length));
        if self.frames.as_mut().is_some_and(|frames| !frames.sent(self.unsent, room)) {
            self.frames = None;
        }
    }

    fn copy_unsent(&mut self, length: usize, out: &mut Vec<u8>) {
        let mut missing = length;
        while missing > 0 {
            let Some((start, chunk)) = self.chunks.get(self.cursor) else { return };
            let from = usize::try_from(self.unsent - start).unwrap_or(usize::MAX);
            let rest = chunk.get(from..).unwrap_or_default();
            let part = rest.get(..missing).unwrap_or(rest);
            out.extend_from_slice(part);
            self.unsent += part.len() as u64;
            missing -= part.len();
            if part.len() == rest.len() {
                self.cursor += 1;
            }
        }
    }

    /// Appends `length` bytes at `offset`, sent before, to `out`.
    pub(super) fn copy(&self, offset: u64, length: usize, out: &mut Vec<u8>) {
        let first = self.chunks.partition_point(|(start, chunk)| start + chunk.len() as u64 <= offset);
        let (mut offset, mut missing) = (offset, length);
        for (start, chunk) in self.chunks.range(first.min(self.chunks.len())..) {
            let from = usize::try_from(offset.saturating_sub(*start)).unwrap_or(usize::MAX);
            let rest = chunk.get(from..).unwrap_or_default();
            let part = rest.get(..missing).unwrap_or(rest);
            out.extend_from_slice(part);
            offset += part.len() as u64;
            missing -= part.len();
            if missing == 0 {
                return;
            }
        }
    }

    /// The peer has everything below `offset`.
    pub(super) fn release(&mut self, offset: u64) {
        while let Some((start, chunk)) = self.chunks.front() {
            if start + chunk.len() as u64 > offset {
                return;
            }
            self.chunks.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        if self.chunks.capacity() > 256 {
            self.chunks = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_cut_across_chunks_and_can_be_copied_again() {
        let mut queue = SendQueue::default();
        for part in ["one", "", "two", "three", "four"] {
            queue.push(Bytes::from_static(part.as_bytes()));
        }
        let mut out = Vec::new();
        queue.take(7, 7, &mut out);
        queue.take(3, 7, &mut out);
        assert_eq!(out, b"onetwothre");
        assert_eq!((queue.unsent(), queue.offset()), (5, 10));
        queue.release(5);
        out.clear();
        queue.copy(5, 4, &mut out);
        queue.take(5, 7, &mut out);
        assert_eq!(out, b"othrefour");
    }

    #[test]
    fn a_partial_packet_waits_for_a_flush() {
        let mut queue = SendQueue::default();
        queue.push(Bytes::from_static(b"abcde"));
        assert_eq!((queue.ready(5), queue.ready(6)), (5, 0));
        queue.flush();
        assert_eq!(queue.ready(6), 5);
        queue.push(Bytes::from_static(b"f"));
        assert_eq!(queue.ready(7), 6);
    }

    #[test]
    fn on_a_framed_stream_packets_end_with_frames() {
        let mut queue = SendQueue::new(true);
        queue.push(Bytes::from_static(b"\x03\0\0abc\x02\0\0de"));
        let mut out = Vec::new();
        assert_eq!((queue.ready(4), queue.ready(6), queue.ready(7)), (4, 6, 6));
        queue.take(6, 7, &mut out);
        assert_eq!((queue.ready(7), queue.ready(5)), (0, 5), "a last one that is not full waits for a flush");
        queue.flush();
        assert_eq!(queue.ready(7), 5);
    }

    #[test]
    fn many_small_frames_at_once_share_packets() {
        let mut queue = SendQueue::new(true);
        queue.push(Bytes::from([[2, 0, 0, 8, 9]; 10_000].concat()));
        let mut out = Vec::new();
        let mut packets = 0;
        while queue.unsent() > 1000 {
            let length = queue.ready(1000);
            queue.take(length, 1000, &mut out);
            packets += 1;
        }
        assert!((50..80).contains(&packets), "{packets} packets");
    }
}
