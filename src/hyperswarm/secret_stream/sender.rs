use bytes::Bytes;

use super::{HEADER_FRAME_BYTES, stream_id};
use crate::crypto::noise::Keys;
use crate::crypto::secretstream::{HEADER_BYTES, OVERHEAD, Push};
use crate::limits::MAX_SECRET_FRAME_BYTES;

/// Bytes of the longest message: JavaScript refuses longer ones as well.
pub const MAX_MESSAGE_BYTES: usize = MAX_SECRET_FRAME_BYTES - OVERHEAD;
/// Bytes of plaintext per frame where only their order matters and not how they are cut: enough to make the cost per
/// frame vanish, small enough to stay in the processor's cache.
pub const BULK_FRAME_BYTES: usize = 64 * 1024;

/// A message that does not fit a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message of {0} bytes, more than {MAX_MESSAGE_BYTES}")]
pub struct MessageTooLong(pub usize);

/// Seals messages into frames.
pub struct Sender {
    push: Push,
    frames: u64,
}

impl Sender {
    /// Starts with 24 fresh random bytes. The second value is the header, which must be sent first, at once.
    pub fn new(keys: &Keys, header: &[u8; HEADER_BYTES]) -> (Self, Bytes) {
        let mut frame = Vec::with_capacity(3 + HEADER_FRAME_BYTES);
        frame.extend_from_slice(&[HEADER_FRAME_BYTES as u8, 0, 0]);
        frame.extend_from_slice(&stream_id(keys, keys.initiator));
        frame.extend_from_slice(header);
        (Self { push: Push::new(&keys.tx, header), frames: 0 }, frame.into())
    }

    /// Appends `message` as one frame to `out`. An empty message is a keep-alive, which the other side may discard.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), MessageTooLong> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(MessageTooLong(message.len()));
        }
        self.seal_frame(message, out);
        Ok(())
    }

    /// Appends `plaintext` to `out`, cut into frames of [`BULK_FRAME_BYTES`].
    pub fn seal_bytes(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        out.reserve_exact(Self::sealed_bytes(plaintext.len()));
        for part in plaintext.chunks(BULK_FRAME_BYTES) {
            self.seal_frame(part, out);
        }
    }

    /// Frames sealed so far, keep-alives included.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes that [`seal_bytes`](Self::seal_bytes) makes of this many.
    fn sealed_bytes(plaintext: usize) -> usize {
        plaintext.saturating_add(plaintext.div_ceil(BULK_FRAME_BYTES).saturating_mul(3 + OVERHEAD))
    }

    /// For messages that fit.
    fn seal_frame(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let [a, b, c, ..] = (message.len() + OVERHEAD).to_le_bytes();
        out.extend_from_slice(&[a, b, c]);
        let start = out.len();
        out.resize(start + message.len() + OVERHEAD, 0);
        if let Some(sealed) = out.get_mut(start..) {
            self.push.seal(message, sealed);
        }
        self.frames += 1;
    }
}
