//! Frames of npm `json-socket` 0.3.0: decimal byte length, `#`, JSON text.

use bytes::{Bytes, BytesMut};

use crate::limits;

/// Why a stream of frames cannot go on. The stream is out of step after it: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No digits before the `#`, or none of the first characters is a `#`.
    #[error("frame length: not a number")]
    Length,
    /// Longer than [`limits::FRAME_MAX`].
    #[error("frame length: more than {} bytes", limits::FRAME_MAX)]
    TooLong,
}

/// Cuts a byte stream into frames, counting bytes.
#[derive(Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
    /// Of the frame whose length was already read.
    length: Option<usize>,
}

impl FrameDecoder {
    /// Where received bytes go: read from the socket straight into it (`read_buf`), or `extend_from_slice`.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The JSON text of the next complete frame, without copying; None: more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let length = match self.length {
            Some(length) => length,
            None => match self.read_length()? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Reads `digits#`. Like the original's parseInt, junk between digits and `#` is passed over, within the bound.
    fn read_length(&mut self) -> Result<Option<usize>, FrameError> {
        let head = self.buffer.iter().take(limits::FRAME_MAX_LENGTH_DIGITS + 1);
        let Some(end) = head.clone().position(|b| *b == b'#') else {
            return match head.len() > limits::FRAME_MAX_LENGTH_DIGITS {
                true => Err(FrameError::Length),
                false => Ok(None),
            };
        };
        let mut length = None;
        for byte in head.take(end).take_while(|b| b.is_ascii_digit()) {
            let value = length.unwrap_or(0usize).saturating_mul(10).saturating_add(usize::from(byte - b'0'));
            length = Some(value);
        }
        let length = length.ok_or(FrameError::Length)?;
        if length > limits::FRAME_MAX {
            return Err(FrameError::TooLong);
        }
        let _prefix = self.buffer.split_to(end + 1);
        Ok(Some(length))
    }
}

/// A frame of this JSON text, which must be ASCII (see [`super::json::escape_non_ascii`]).
pub fn encode(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 8);
    out.extend_from_slice(format!("{}#", text.len()).as_bytes());
    out.extend_from_slice(text);
    out.into()
}
