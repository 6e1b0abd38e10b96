//! Bytes in order, waiting for the reader: appended once, handed out without copying.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes allocated at a time for a quiet stream: what it can hold on to while idle.
const SMALL_CHUNK: usize = 16 * 1024;
/// Bytes allocated at a time for a busy stream, so that large frames are mostly in one piece.
const LARGE_CHUNK: usize = 256 * 1024;
/// Bytes after which a stream is busy.
const BUSY: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    full: VecDeque<Bytes>,
    tail: BytesMut,
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
            let chunk = if self.appended < BUSY { SMALL_CHUNK } else { LARGE_CHUNK };
            self.tail = BytesMut::with_capacity(chunk.max(payload.len()));
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
        if !self.tail.is_empty() {
            self.full.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// The reader caught up: a stream that now falls idle keeps no more than a small chunk.
    fn rest(&mut self) {
        if self.tail.capacity() > SMALL_CHUNK {
            self.tail = BytesMut::new();
        }
        if self.full.capacity() > 64 {
            self.full = VecDeque::new();
        }
    }
}
