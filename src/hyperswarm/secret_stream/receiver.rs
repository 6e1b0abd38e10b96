use bytes::Bytes;
use zeroize::Zeroizing;

use super::{Error, Frames, HEADER_FRAME_BYTES, stream_id};
use crate::crypto::equal_in_constant_time;
use crate::crypto::noise::Keys;
use crate::crypto::secretstream::{HEADER_BYTES, OVERHEAD, Pull};

/// Opens the other side's frames.
pub struct Receiver {
    frames: Frames,
    stage: Stage,
    opened: u64,
    failed: Option<Error>,
}

enum Stage {
    /// Before the header.
    Header {
        id: [u8; 32],
        key: Zeroizing<[u8; 32]>,
    },
    Messages(Pull),
}

impl Receiver {
    /// Takes frames of up to `max_frame_bytes`.
    pub fn new(keys: &Keys, max_frame_bytes: usize) -> Self {
        let stage = Stage::Header { id: stream_id(keys, !keys.initiator), key: keys.rx.clone() };
        Self { frames: Frames::new(max_frame_bytes), stage, opened: 0, failed: None }
    }

    /// Adds received bytes. Take all messages before adding more.
    pub fn receive(&mut self, chunk: Bytes) {
        if self.failed.is_none() {
            self.frames.receive(chunk);
        }
    }

    /// The next message, decrypted into memory of its own; `None` until more bytes arrive. After an error there are
    /// only errors. An empty message is a keep-alive, to be discarded by a side that sends keep-alives itself.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let message = self.advance();
        if let Err(error) = message {
            self.failed = Some(error);
            self.frames = Frames::new(0);
        }
        message
    }

    /// True if the bytes may end here: not inside a frame, and not before the header.
    pub fn end(&self) -> Result<(), Error> {
        match (&self.stage, self.failed) {
            (_, Some(error)) => Err(error),
            (Stage::Messages(_), None) if self.frames.is_empty() => Ok(()),
            _ => Err(Error::Cut),
        }
    }

    /// Messages opened so far, keep-alives included.
    pub fn frames(&self) -> u64 {
        self.opened
    }

    /// Bytes of memory held for frames that are not complete.
    pub fn memory(&self) -> usize {
        self.frames.memory()
    }

    fn advance(&mut self) -> Result<Option<Bytes>, Error> {
        if let Stage::Header { id, key } = &self.stage {
            let Some(pull) = self.frames.next_with(|header| open_header(header, id, key))? else {
                return Ok(None);
            };
            self.stage = Stage::Messages(pull?);
        }
        let Stage::Messages(pull) = &mut self.stage else { return Ok(None) };
        let number = self.opened;
        let Some(message) = self.frames.next_with(|frame| open(frame, pull, number))? else {
            return Ok(None);
        };
        let message = message?;
        self.opened += 1;
        Ok(Some(message))
    }
}

fn open_header(header: &[u8], id: &[u8; 32], key: &Zeroizing<[u8; 32]>) -> Result<Pull, Error> {
    if header.len() != HEADER_FRAME_BYTES {
        return Err(Error::HeaderLength(header.len()));
    }
    let (theirs, rest) = header.split_at(32);
    let secretstream_header = rest.first_chunk::<HEADER_BYTES>().ok_or(Error::HeaderLength(header.len()))?;
    if !equal_in_constant_time(theirs, id) {
        return Err(Error::ForeignHeader);
    }
    Ok(Pull::new(key, secretstream_header))
}

fn open(frame: &[u8], pull: &mut Pull, number: u64) -> Result<Bytes, Error> {
    let Some(length) = frame.len().checked_sub(OVERHEAD) else {
        return Err(Error::FrameTooShort(frame.len()));
    };
    let mut message = vec![0; length];
    pull.open(frame, &mut message).map_err(|_| Error::Forged(number))?;
    Ok(message.into())
}
