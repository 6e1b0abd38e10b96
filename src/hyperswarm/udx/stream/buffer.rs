//! Bytes in order, waiting for the reader: appended once, handed out without copying.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes allocated at a time for a quiet stream: what it can hold on to while idle.
const SMALL_CHUNK: usize = 16 * 1024;
/// Bytes allocated at a time for a busy stream, so that large frames are mostly in one piece.
const LARGE_CHUNK: usize = 128 * 1024;
/// Bytes after which a stream is busy.
const BUSY: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    full: VecDeque<Bytes>,
    tail: BytesMut,
    /// `tail` is a large chunk.
    large: bool,
    length: usize,
    appended: u64,
}

impl ReadBuffer {
    pub(super) fn append(&mut self, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        if self.tail.capacity() - self.tail.len() < payload.len() {
            self.seal();
            self.large = self.appended >= BUSY;
            self.tail = match self.large {
                true => spares::take(),
                false => BytesMut::with_capacity(SMALL_CHUNK.max(payload.len())),
            };
        }
        self.tail.extend_from_slice(payload);
        self.length += payload.len();
        self.appended += payload.len() as u64;
    }

    /// Up to `max` bytes; none if there are none.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        if self.length == 0 || max == 0 {
            return None;
        }
        let bytes = match self.full.front_mut() {
            Some(front) if front.len() > max => front.split_to(max),
            Some(_) => self.full.pop_front()?,
            None => self.tail.split_to(max.min(self.tail.len())).freeze(),
        };
        self.length -= bytes.len();
        if self.length == 0 {
            self.rest();
        }
        Some(bytes)
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    fn seal(&mut self) {
        let mut tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            self.full.push_back(tail.split().freeze());
        }
        self.keep(tail);
    }

    /// The rest of a small chunk would never be as much as a spare one must have.
    fn keep(&self, chunk: BytesMut) {
        if self.large {
            spares::keep(chunk);
        }
    }

    /// The reader caught up: a stream that now falls idle keeps no more than a small chunk.
    fn rest(&mut self) {
        if self.appended >= BUSY {
            let tail = std::mem::take(&mut self.tail);
            self.keep(tail);
        }
        if self.full.capacity() > 64 {
            self.full = VecDeque::new();
        }
    }
}

/// Large chunks that were used up, of all streams of a thread: once the readers are done with their bytes they are
/// filled again. Fresh memory would cost a page fault for every 4 KiB, a quarter of a fast receiver's time; keeping
/// it with each stream would cost every idle one.
mod spares {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use bytes::BytesMut;

    use super::LARGE_CHUNK;
    use crate::limits::UDX_SPARE_CHUNKS;

    thread_local! {
        static SPARES: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
    }

    /// Looked at before memory is allocated; a reader may hold on to the oldest one.
    const TRIES: usize = 3;

    /// An empty chunk.
    pub(super) fn take() -> BytesMut {
        SPARES.with_borrow_mut(|spares| {
            for _ in 0..TRIES {
                let Some(mut spare) = spares.pop_front() else { break };
                if spare.try_reclaim(LARGE_CHUNK) {
                    return spare;
                }
                spares.push_back(spare);
            }
            BytesMut::with_capacity(LARGE_CHUNK)
        })
    }

    /// Keeps a chunk whose bytes were handed out; what does not fit is freed when its readers are done.
    pub(super) fn keep(chunk: BytesMut) {
        // An empty handle keeps nothing.
        if chunk.capacity() == 0 && chunk.is_empty() {
            return;
        }
        SPARES.with_borrow_mut(|spares| {
            if spares.len() < UDX_SPARE_CHUNKS {
                spares.push_back(chunk);
            }
        });
    }

    #[cfg(test)]
    pub(super) fn count() -> usize {
        SPARES.with_borrow(VecDeque::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::UDX_SPARE_CHUNKS;

    /// A buffer of a stream that is busy, with everything read.
    fn busy() -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        while buffer.appended < BUSY {
            buffer.append(&[0; 1000]);
        }
        while buffer.read(usize::MAX).is_some() {}
        buffer
    }

    #[test]
    fn a_busy_stream_fills_the_same_memory_again_once_its_readers_are_done() {
        let mut buffer = busy();
        buffer.append(&[1; 1000]);
        let first = buffer.read(usize::MAX).unwrap();
        let place = first.as_ptr();
        buffer.append(&[2; 1000]);
        let second = buffer.read(usize::MAX).unwrap();
        assert_ne!(second.as_ptr(), place, "the first bytes are still in use");
        assert!(first.iter().all(|byte| *byte == 1));
        drop((first, second));
        buffer.append(&[3; 1000]);
        assert_eq!(buffer.read(usize::MAX).unwrap().as_ptr(), place);
    }

    #[test]
    fn small_chunks_are_no_spares() {
        busy();
        assert_eq!(spares::count(), 0);
    }

    #[test]
    fn no_more_spare_chunks_are_kept_than_the_limit() {
        let mut buffer = busy();
        let mut held = Vec::new();
        for expected in 1..=UDX_SPARE_CHUNKS + 1 {
            buffer.append(&[0; 1000]);
            held.extend(buffer.read(usize::MAX));
            assert_eq!(spares::count(), expected.min(UDX_SPARE_CHUNKS));
        }
    }

    #[test]
    fn bytes_come_out_in_order_whatever_is_read_at_a_time() {
        for max in [1, 700, 5000, 100_000, usize::MAX] {
            let (mut buffer, mut next) = (ReadBuffer::default(), 0_u64);
            let mut expected = 0_u64;
            for length in (1..400).map(|step| step * 8) {
                let payload: Vec<u8> = (0..length)
                    .flat_map(|_| {
                        next += 1;
                        next.to_le_bytes()
                    })
                    .collect();
                buffer.append(&payload);
                if length % 3 == 0 {
                    let mut bytes = Vec::new();
                    while let Some(chunk) = buffer.read(max) {
                        bytes.extend_from_slice(&chunk);
                    }
                    for word in bytes.chunks_exact(8) {
                        expected += 1;
                        assert_eq!(word, expected.to_le_bytes());
                    }
                }
            }
        }
    }
}
