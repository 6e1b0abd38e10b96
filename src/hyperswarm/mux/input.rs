use bytes::{Buf, Bytes};

use super::Error;
use crate::codec::compact::{DecodeError, Reader};
use crate::limits::MUX_BATCH_DEPTH;

/// The received message that is being worked on: itself, and the batches it consists of.
#[derive(Debug, Default)]
pub(super) struct Input {
    levels: Vec<Level>,
    /// Of the whole message.
    length: usize,
}

#[derive(Debug)]
struct Level {
    rest: Bytes,
    /// The sender's channel the next items are for.
    channel: u64,
    corked: bool,
    /// A message outside any batch has no item length.
    single: bool,
}

/// What comes next in the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Type and body of a frame for a channel. `cork`: it is the first of several in a batch.
    Frame { channel: u64, rest: Bytes, cork: bool },
    /// A batch of several frames is over.
    EndOfCork,
    /// Nothing.
    None,
}

impl Input {
    /// Starts with the next message. The one before must be finished.
    pub(super) fn start(&mut self, message: Bytes) {
        self.length = message.len();
        self.levels.push(Level { rest: message, channel: 0, corked: false, single: true });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Bytes of the message that is being worked on.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn clear(&mut self) {
        self.levels.clear();
    }

    /// Continues with the items of a batch (`_onbatch`). The original recurses and lets a hostile sender overflow
    /// its stack; it never sends a batch inside a batch, so a small depth is enough.
    pub(super) fn enter_batch(&mut self, mut rest: Bytes) -> Result<(), Error> {
        if self.levels.len() >= MUX_BATCH_DEPTH {
            return Err(Error::BatchTooDeep);
        }
        let channel = take_uint(&mut rest, "batch: channel id")?;
        self.levels.push(Level { rest, channel, corked: false, single: false });
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<Item, DecodeError> {
        while let Some(level) = self.levels.last_mut() {
            if level.rest.is_empty() {
                let corked = level.corked;
                self.levels.pop();
                if corked {
                    return Ok(Item::EndOfCork);
                }
            } else if level.single {
                let mut rest = std::mem::take(&mut level.rest);
                self.levels.pop();
                let channel = take_uint(&mut rest, "channel id")?;
                return Ok(Item::Frame { channel, rest, cork: false });
            } else if let Some(frame) = level.next_item()? {
                return Ok(frame);
            }
        }
        Ok(Item::None)
    }
}

impl Level {
    fn next_item(&mut self) -> Result<Option<Item>, DecodeError> {
        let length = take_uint(&mut self.rest, "batch: item length")?;
        if length == 0 {
            self.channel = take_uint(&mut self.rest, "batch: channel id")?;
            return Ok(None);
        }
        // A length beyond the end is cut, as upstream.
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.rest.len());
        let rest = self.rest.split_to(length);
        let cork = !self.corked && !self.rest.is_empty();
        self.corked |= cork;
        Ok(Some(Item::Frame { channel: self.channel, rest, cork }))
    }
}

/// Takes a `uint` off the front.
pub(super) fn take_uint(rest: &mut Bytes, field: &'static str) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(rest);
    let value = reader.uint(field)?;
    let used = rest.len() - reader.remaining();
    rest.advance(used);
    Ok(value)
}
