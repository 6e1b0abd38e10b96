//! Bytes written: kept, without copying, until the peer has them. Packets name ranges of it by offset.

use std::collections::VecDeque;

use bytes::Bytes;

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
}

impl SendQueue {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            let start = self.written;
            self.written += chunk.len() as u64;
            self.chunks.push_back((start, chunk));
        }
    }

    pub(super) fn flush(&mut self) {
        self.flushed = self.written;
    }

    /// Bytes never sent.
    pub(super) fn unsent(&self) -> usize {
        usize::try_from(self.written - self.unsent).unwrap_or(usize::MAX)
    }

    /// Offset of the first byte never sent.
    pub(super) fn offset(&self) -> u64 {
        self.unsent
    }

    /// Bytes the next packet of at most `full` can have now: full, or all there is if that was flushed.
    pub(super) fn ready(&self, full: usize) -> usize {
        let unsent = self.unsent();
        if unsent >= full {
            full
        } else if self.flushed > self.unsent {
            unsent
        } else {
            0
        }
    }

    /// Appends the next `length` unsent bytes to `out`; they count as sent.
    pub(super) fn take(&mut self, length: usize, out: &mut Vec<u8>) {
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
        queue.take(7, &mut out);
        queue.take(3, &mut out);
        assert_eq!(out, b"onetwothre");
        assert_eq!((queue.unsent(), queue.offset()), (5, 10));
        queue.release(5);
        out.clear();
        queue.copy(5, 4, &mut out);
        queue.take(5, &mut out);
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
}
