//! Bytes as they arrive, cut into frames.

use bytes::{Buf, Bytes};

use super::Error;
use crate::limits::{MAX_SECRET_FRAME_BYTES, SECRET_FRAME_HEADROOM};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 3;

/// Collects bytes until a frame is complete. Frames that arrive in one piece are not copied.
///
/// A peer that announces a frame of 16 MiB has made us reserve little: memory is at most twice what arrived of the
/// frame, or 64 times as much while that is below [`SECRET_FRAME_HEADROOM`].
#[derive(Debug)]
pub struct Frames {
    /// Received, and not yet looked at.
    chunk: Bytes,
    /// The beginning of a frame, its length included, whose rest is not here yet.
    partial: Vec<u8>,
    limit: usize,
}

impl Frames {
    /// Takes frames of up to `limit` bytes, at most 16,777,215.
    pub fn new(limit: usize) -> Self {
        Self { chunk: Bytes::new(), partial: Vec::new(), limit: limit.min(MAX_SECRET_FRAME_BYTES) }
    }

    /// Adds received bytes. Call [`next_with`](Self::next_with) until it has nothing before adding more: what is not
    /// looked at yet is copied then.
    pub fn receive(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [&self.chunk[..], &chunk[..]].concat().into();
        }
    }

    /// Hands the body of the next frame to `read`; `None` until it is complete.
    pub fn next_with<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Error> {
        if self.partial.is_empty() {
            let Some(length) = self.length(&self.chunk)? else { return Ok(self.keep_rest()) };
            let end = LENGTH_BYTES.saturating_add(length);
            let Some(body) = self.chunk.get(LENGTH_BYTES..end) else { return Ok(self.keep_rest()) };
            let outcome = read(body);
            self.chunk.advance(end);
            return Ok(Some(outcome));
        }
        self.fill(LENGTH_BYTES);
        let Some(length) = self.length(&self.partial)? else { return Ok(None) };
        let end = LENGTH_BYTES.saturating_add(length);
        self.fill(end);
        if self.partial.len() < end {
            return Ok(None);
        }
        let outcome = self.partial.get(LENGTH_BYTES..).map(read);
        self.partial.clear();
        if self.chunk.is_empty() || self.partial.capacity() > 4 * SECRET_FRAME_HEADROOM {
            // Nothing more for now, or a frame out of the ordinary: an idle stream keeps no buffer.
            self.partial = Vec::new();
        }
        Ok(outcome)
    }

    /// Whether all bytes received so far were whole frames.
    pub fn is_empty(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    /// What was received and did not make a whole frame, or was not looked at.
    pub fn into_rest(self) -> Bytes {
        if self.partial.is_empty() {
            self.chunk
        } else {
            [&self.partial[..], &self.chunk[..]].concat().into()
        }
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.chunk.len() + self.partial.capacity()
    }

    /// The length a frame begins with, once its three bytes are there.
    fn length(&self, frame: &[u8]) -> Result<Option<usize>, Error> {
        let Some(&[a, b, c]) = frame.first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if length > self.limit {
            return Err(Error::FrameTooLong { length, limit: self.limit });
        }
        Ok(Some(length))
    }

    /// Puts the unfinished frame at the end of the chunk aside.
    fn keep_rest<T>(&mut self) -> Option<T> {
        let rest = std::mem::take(&mut self.chunk);
        if let Ok(Some(length)) = self.length(&rest) {
            self.reserve(LENGTH_BYTES.saturating_add(length), rest.len());
        }
        self.partial.extend_from_slice(&rest);
        None
    }

    /// Moves bytes from the chunk until there are `end` of the frame, or no more.
    fn fill(&mut self, end: usize) {
        let missing = end.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.reserve(end, missing);
        self.partial.extend_from_slice(&self.chunk.split_to(missing));
    }

    /// Makes room for `more` bytes of a frame of `end`, and some headroom so that it need not grow with every chunk.
    fn reserve(&mut self, end: usize, more: usize) {
        let arrived = self.partial.len().saturating_add(more);
        if arrived > self.partial.capacity() {
            let headroom = arrived.saturating_mul(64).min(SECRET_FRAME_HEADROOM);
            let room = end.min(arrived.saturating_mul(2).max(headroom)).max(arrived);
            self.partial.reserve_exact(room.saturating_sub(self.partial.len()));
        }
    }
}
