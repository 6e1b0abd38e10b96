use bytes::Bytes;

use super::{Error, Frames};
use crate::crypto::noise::{Handshake, HandshakeError, Keys};
use crate::limits::MAX_NOISE_MESSAGE_BYTES;

/// The handshake at the beginning of a stream that has no keys yet: Noise messages without payloads, in frames.
pub struct Opening {
    handshake: Handshake,
    frames: Frames,
}

impl Opening {
    /// Starts with a handshake of an empty prologue. The second value is what to send first, if it is our turn.
    pub fn new(handshake: Handshake) -> Result<(Self, Option<Bytes>), Error> {
        let mut opening = Self { handshake, frames: Frames::new(MAX_NOISE_MESSAGE_BYTES) };
        let first = opening.write()?;
        Ok((opening, first))
    }

    /// Takes received bytes and returns what to send. Call [`is_finished`](Self::is_finished) afterwards.
    pub fn receive(&mut self, chunk: Bytes) -> Result<Option<Bytes>, Error> {
        self.frames.receive(chunk);
        // It is their turn; they send one message and then wait for ours, or it was the last one. What comes behind
        // the last one belongs to the stream.
        let handshake = &mut self.handshake;
        match self.frames.next_with(|message| handshake.read(message))? {
            Some(read) => {
                read?;
                self.write()
            }
            None => Ok(None),
        }
    }

    /// True if there are keys.
    pub fn is_finished(&self) -> bool {
        self.handshake.is_finished()
    }

    /// The keys, and bytes that came behind the handshake, for [`Receiver::receive`](super::Receiver::receive).
    pub fn finish(self) -> Result<(Keys, Bytes), Error> {
        Ok((self.handshake.finish()?, self.frames.into_rest()))
    }

    fn write(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.handshake.is_our_turn() {
            return Ok(None);
        }
        let message = self.handshake.write(&[])?;
        // A message without payload has at most 96 bytes.
        let length = u8::try_from(message.len()).map_err(|_| HandshakeError::TooLong(message.len()))?;
        let mut frame = vec![length, 0, 0];
        frame.extend_from_slice(&message);
        Ok(Some(frame.into()))
    }
}
